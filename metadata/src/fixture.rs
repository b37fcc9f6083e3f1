//! Snapshots for tests.

use std::net::Ipv4Addr;

use cumulet_domain::{
    account::AccountId,
    id::{ImageId, InstanceId, NetworkInterfaceId, ReservationId, SecurityGroupId, SubnetId, VpcId},
    metadata::{InstanceMetadata, InterfaceMetadata, MetadataOptions, PublicKey},
    network::{Cidr, Mac},
    tag::Tag,
    time::Timestamp,
};

pub(crate) const VPC: VpcId = VpcId::new(0x3_0000_0003);

/// An interface with an address in `VPC`.
pub(crate) fn interface(index: u32, private_ip: Ipv4Addr) -> InterfaceMetadata {
    let id = NetworkInterfaceId::new(0x5_0000_0000 + u64::from(u32::from(private_ip)));
    InterfaceMetadata {
        id,
        device_index: index,
        mac: Mac::of(id),
        private_ip,
        public_ip: None,
        subnet: SubnetId::new(0x4_0000_0004),
        subnet_cidr: Cidr::new(private_ip, 24),
        vpc: VPC,
        vpc_cidr: Cidr::new(private_ip, 16),
        security_groups: vec![(SecurityGroupId::new(0x6_0000_0006), "default".into())],
    }
}

/// A plain instance with one interface.
pub(crate) fn instance(number: u64, private_ip: Ipv4Addr) -> InstanceMetadata {
    InstanceMetadata {
        instance: InstanceId::new(number),
        revision: 1,
        options: MetadataOptions::default(),
        account: AccountId(123_456_789_012),
        reservation: ReservationId::new(0x7_0000_0007),
        image: ImageId::new(0x2_0000_0002),
        instance_type: "t3.micro".into(),
        architecture: "x86_64".into(),
        launch_index: 0,
        private_dns_name: "ip-10-0-0-5.ec2.internal".into(),
        public_dns_name: None,
        region: "local-1".into(),
        availability_zone: "local-1a".into(),
        availability_zone_id: "loc1-az1".into(),
        placement_group: None,
        partition_number: None,
        public_keys: Vec::new(),
        interfaces: vec![interface(0, private_ip)],
        root_device: "/dev/xvda".into(),
        data_devices: Vec::new(),
        user_data: None,
        pending_time: Timestamp(1_767_323_045_000),
        tags: Vec::new(),
    }
}

/// An instance with everything that a snapshot can hold.
pub(crate) fn full(number: u64, private_ip: Ipv4Addr) -> InstanceMetadata {
    let mut metadata = instance(number, private_ip);
    metadata.options.tags = true;
    metadata.placement_group = Some("racks/a b".into());
    metadata.partition_number = Some(2);
    metadata.public_dns_name = Some("ec2-203-0-113-7.local-1.compute.test".into());
    metadata.interfaces[0].public_ip = Some(Ipv4Addr::new(203, 0, 113, 7));
    let second = Ipv4Addr::from(u32::from(private_ip) + 1);
    metadata.interfaces.push(interface(1, second));
    metadata.public_keys = vec![
        PublicKey {
            name: "first".into(),
            openssh: "ssh-ed25519 AAAA first\n".into(),
        },
        PublicKey {
            name: "team/second key".into(),
            openssh: "ssh-rsa BBBB second".into(),
        },
    ];
    metadata.user_data = Some(b"#!/bin/sh\necho \xff\x00\n".to_vec());
    metadata.tags = [
        ("Name", "web"),
        ("a=b", "c"),
        ("1=a", "bricks"),
        ("with space", "x"),
    ]
    .map(|(key, value)| Tag {
        key: key.into(),
        value: value.into(),
    })
    .to_vec();
    metadata
}
