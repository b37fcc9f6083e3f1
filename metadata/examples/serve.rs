//! Serves one instance's metadata on an address, to try clients against it:
//! `cargo run -p cumulet-metadata --example serve -- 127.0.0.1:1338 --tokens-required`

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Parser;
use cumulet_certs::MasterKey;
use cumulet_domain::{
    account::AccountId,
    id::{ImageId, InstanceId, NetworkInterfaceId, ReservationId, SecurityGroupId, SubnetId, VpcId},
    metadata::{InstanceMetadata, InterfaceMetadata, MetadataOptions, PublicKey},
    network::{Cidr, Mac},
    tag::Tag,
    time::{Clock as _, SystemClock},
};
use cumulet_metadata::{Config, Hosts, Limits, MetadataService, TokenSecret};

/// Serves one instance's metadata.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    listen: SocketAddr,
    /// The address that the instance's requests come from; by default the one that is listened on.
    #[arg(long)]
    client: Option<Ipv4Addr>,
    /// A snapshot in JSON instead of the built-in one.
    #[arg(long)]
    snapshot: Option<PathBuf>,
    /// Demand session tokens.
    #[arg(long)]
    tokens_required: bool,
    /// Lift the limits on requests and connections, for benchmarks.
    #[arg(long)]
    unlimited: bool,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let SocketAddr::V4(listen) = arguments.listen else {
        bail!("an IPv4 address is needed");
    };
    let mut snapshot = match &arguments.snapshot {
        Some(path) => serde_json::from_slice(&std::fs::read(path).context("reading the snapshot")?)?,
        None => example(arguments.client.unwrap_or(*listen.ip())),
    };
    snapshot.options.tokens_required |= arguments.tokens_required;
    let mut config = Config {
        hosts: Hosts::Any,
        threads: arguments.threads,
        ..Config::default()
    };
    if arguments.unlimited {
        config.limits = Limits {
            requests_per_second: 0,
            connections: 100_000,
            ..config.limits
        };
    }
    let mut rng = rand::rng();
    let secret = TokenSecret {
        master: MasterKey::generate(&mut rng),
        epoch: 0,
    };
    let service = MetadataService::start(config, secret, Arc::new(SystemClock), &mut rng)?;
    service.put(&snapshot);
    let vpc = snapshot
        .interfaces
        .first()
        .context("the snapshot has no interface")?
        .vpc;
    service.serve(vpc, TcpListener::bind(listen).context("listening")?)?;
    loop {
        std::thread::park();
    }
}

fn example(private_ip: Ipv4Addr) -> InstanceMetadata {
    let interface = NetworkInterfaceId::new(0x0123_4567_89ab_cdef);
    let vpc = VpcId::new(0x1000_0000_0000_0001);
    InstanceMetadata {
        instance: InstanceId::new(0x0123_4567_89ab_cdef),
        revision: 1,
        options: MetadataOptions {
            tags: true,
            ..MetadataOptions::default()
        },
        account: AccountId(123_456_789_012),
        reservation: ReservationId::new(0x1000_0000_0000_0002),
        image: ImageId::new(0x1000_0000_0000_0003),
        instance_type: "t3.micro".into(),
        architecture: "x86_64".into(),
        launch_index: 0,
        private_dns_name: "ip-10-0-0-5.ec2.internal".into(),
        public_dns_name: Some("ec2-203-0-113-7.compute.test".into()),
        region: "local-1".into(),
        availability_zone: "local-1a".into(),
        availability_zone_id: "loc1-az1".into(),
        placement_group: None,
        partition_number: None,
        public_keys: vec![PublicKey {
            name: "example".into(),
            openssh: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample example".into(),
        }],
        interfaces: vec![InterfaceMetadata {
            id: interface,
            device_index: 0,
            mac: Mac::of(interface),
            private_ip,
            public_ip: Some(Ipv4Addr::new(203, 0, 113, 7)),
            subnet: SubnetId::new(0x1000_0000_0000_0004),
            subnet_cidr: Cidr::new(private_ip, 24),
            vpc,
            vpc_cidr: Cidr::new(private_ip, 16),
            security_groups: vec![(SecurityGroupId::new(0x1000_0000_0000_0005), "default".into())],
        }],
        root_device: "/dev/xvda".into(),
        data_devices: Vec::new(),
        user_data: Some(b"#cloud-config\nhostname: example\n".to_vec()),
        pending_time: SystemClock.now(),
        tags: vec![
            Tag {
                key: "Name".into(),
                value: "example".into(),
            },
            Tag {
                key: "1=hidden".into(),
                value: "x".into(),
            },
        ],
    }
}
