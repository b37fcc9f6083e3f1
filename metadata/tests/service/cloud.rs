//! A host with a service under a clock that stands still, and instances on it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
};

use cumulet_certs::MasterKey;
use cumulet_domain::{
    account::AccountId,
    id::{ImageId, InstanceId, NetworkInterfaceId, ReservationId, SecurityGroupId, SubnetId, VpcId},
    metadata::{InstanceMetadata, InterfaceMetadata, MetadataOptions, PublicKey},
    network::{Cidr, Mac},
    tag::Tag,
    time::{ManualClock, Timestamp},
};
use cumulet_metadata::{Config, MetadataService, TokenSecret};
use rand::{SeedableRng, rngs::StdRng};

use crate::client::{Connection, Reply};

pub(crate) const VPC: VpcId = VpcId::new(0x3_0000_0003);
pub(crate) const OTHER_VPC: VpcId = VpcId::new(0x3_0000_0004);
/// The first guest's address.
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 5);
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 6);
pub(crate) const START: Timestamp = Timestamp(1_767_323_045_000);

pub(crate) struct Host {
    pub(crate) service: MetadataService,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) address: SocketAddr,
}

impl Host {
    /// A host that serves `VPC` and has one instance in it, number 1 at `GUEST`.
    pub(crate) fn start() -> Host {
        Host::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Host {
        let clock = Arc::new(ManualClock::new(START));
        let secret = TokenSecret {
            master: MasterKey::from_bytes([7; 32]),
            epoch: 0,
        };
        let mut rng = StdRng::seed_from_u64(1);
        let service = MetadataService::start(config, secret, clock.clone(), &mut rng).unwrap();
        let mut host = Host {
            service,
            clock,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        host.address = host.serve(VPC);
        assert!(host.service.put(&instance(1, VPC, GUEST)));
        host
    }

    /// Serves a VPC on a port of its own.
    pub(crate) fn serve(&self, vpc: VpcId) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        self.service.serve(vpc, listener).unwrap();
        address
    }

    pub(crate) fn connect(&self, from: Ipv4Addr) -> Connection {
        Connection::open(from, self.address)
    }

    pub(crate) fn get(&self, from: Ipv4Addr, path: &str) -> Reply {
        self.connect(from).ask("GET", path, &[])
    }

    /// Changes the options of instance 1.
    pub(crate) fn set(&self, options: MetadataOptions) {
        let mut metadata = instance(1, VPC, GUEST);
        metadata.options = options;
        metadata.revision = self.service.revision(metadata.instance).unwrap() + 1;
        assert!(self.service.put(&metadata));
    }
}

/// An instance with one interface and one of everything.
pub(crate) fn instance(number: u64, vpc: VpcId, private_ip: Ipv4Addr) -> InstanceMetadata {
    let interface = NetworkInterfaceId::new(0x5_0000_0000 + number);
    InstanceMetadata {
        instance: InstanceId::new(number),
        revision: 1,
        options: MetadataOptions {
            tags: true,
            ..MetadataOptions::default()
        },
        account: AccountId(123_456_789_012),
        reservation: ReservationId::new(0x7_0000_0007),
        image: ImageId::new(0x2_0000_0002),
        instance_type: "t3.micro".into(),
        architecture: "x86_64".into(),
        launch_index: 0,
        private_dns_name: "ip-127-0-1-5.ec2.internal".into(),
        public_dns_name: Some("ec2-203-0-113-7.compute.test".into()),
        region: "local-1".into(),
        availability_zone: "local-1a".into(),
        availability_zone_id: "loc1-az1".into(),
        placement_group: None,
        partition_number: None,
        public_keys: vec![PublicKey {
            name: "key".into(),
            openssh: "ssh-ed25519 AAAA key\n".into(),
        }],
        interfaces: vec![InterfaceMetadata {
            id: interface,
            device_index: 0,
            mac: Mac::of(interface),
            private_ip,
            public_ip: Some(Ipv4Addr::new(203, 0, 113, 7)),
            subnet: SubnetId::new(0x4_0000_0004),
            subnet_cidr: Cidr::new(private_ip, 24),
            vpc,
            vpc_cidr: Cidr::new(private_ip, 16),
            security_groups: vec![(SecurityGroupId::new(0x6_0000_0006), "default".into())],
        }],
        root_device: "/dev/xvda".into(),
        data_devices: Vec::new(),
        user_data: Some(b"#!/bin/sh\n\xff\x00\n".to_vec()),
        pending_time: START,
        tags: vec![Tag {
            key: "a=b".into(),
            value: "c".into(),
        }],
    }
}
