//! Fixtures of this crate's tests: specifications and policies made from small numbers.

use std::{net::Ipv4Addr, sync::Arc};

use cumulet_domain::{
    account::AccountId,
    id::{
        ImageId, InstanceId, NetworkInterfaceId, ReservationId, SecurityGroupId, SubnetId, VolumeId, VpcId,
    },
    image::{DiskFormat, Firmware, ImageRef},
    metadata::{InstanceMetadata, InterfaceMetadata, MetadataOptions},
    network::{Cidr, GroupPolicy, InterfacePolicy, Mac, SubnetPolicy, VpcPolicy},
    spec::{DiskSource, DiskSpec, InstanceSpec, NicSpec, Throttle},
    time::Timestamp,
    volume::VolumeStore,
};

const BASE: u64 = 0x1000_0000_0000;
pub(crate) const VPC: VpcId = VpcId::new(BASE);
const SUBNET: SubnetId = SubnetId::new(BASE);

pub(crate) fn instance(n: u8) -> InstanceId {
    InstanceId::new(BASE | u64::from(n))
}

fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 10 + n)
}

fn block() -> Cidr {
    Cidr::new(Ipv4Addr::new(10, 0, 0, 0), 24)
}

pub(crate) fn interface(n: u8) -> InterfacePolicy {
    let id = NetworkInterfaceId::new(BASE | u64::from(n));
    InterfacePolicy {
        id,
        subnet: SUBNET,
        mac: Mac::of(id),
        private_ip: address(n),
        public_ip: None,
        hostname: format!("ip-10-0-0-{n}"),
        groups: vec![SecurityGroupId::new(BASE | u64::from(n))],
    }
}

pub(crate) fn policy(generation: u64, interfaces: &[u8]) -> VpcPolicy {
    VpcPolicy {
        vpc: VPC,
        generation,
        cidr: block(),
        subnets: vec![SubnetPolicy {
            id: SUBNET,
            cidr: block(),
        }],
        interfaces: interfaces.iter().map(|n| interface(*n)).collect(),
        groups: interfaces
            .iter()
            .map(|n| GroupPolicy {
                id: SecurityGroupId::new(BASE | u64::from(*n)),
                rules: vec![],
                members: vec![],
            })
            .collect(),
        tunnel: None,
    }
}

pub(crate) fn metadata(n: u8, revision: u64) -> InstanceMetadata {
    InstanceMetadata {
        instance: instance(n),
        revision,
        options: MetadataOptions::default(),
        account: AccountId(123_456_789_012),
        reservation: ReservationId::new(BASE),
        image: ImageId::new(BASE),
        instance_type: "t3.nano".into(),
        architecture: "x86_64".into(),
        launch_index: 0,
        private_dns_name: format!("ip-10-0-0-{n}.ec2.internal"),
        public_dns_name: None,
        region: "us-east-1".into(),
        availability_zone: "us-east-1a".into(),
        availability_zone_id: "use1-az1".into(),
        placement_group: None,
        partition_number: None,
        public_keys: vec![],
        interfaces: vec![InterfaceMetadata {
            id: interface(n).id,
            device_index: 0,
            mac: interface(n).mac,
            private_ip: address(n),
            public_ip: None,
            subnet: SUBNET,
            subnet_cidr: block(),
            vpc: VPC,
            vpc_cidr: block(),
            security_groups: vec![],
        }],
        root_device: "/dev/xvda".into(),
        data_devices: Vec::new(),
        user_data: None,
        pending_time: Timestamp(0),
        tags: vec![],
    }
}

/// A volume that may be made where it is not there.
pub(crate) fn data(n: u8, gib: u64) -> DiskSpec {
    DiskSpec {
        volume: VolumeId::new(BASE << 8 | u64::from(n)),
        device: "/dev/sdf".into(),
        source: DiskSource::Volume {
            store: VolumeStore::Local,
            format: DiskFormat::Qcow2,
            create: true,
            generation: 1,
            from: None,
        },
        size_gib: gib,
        boot_order: None,
        throttle: Throttle::default(),
        encrypted: false,
    }
}

pub(crate) fn spec(n: u8, generation: u64) -> InstanceSpec {
    InstanceSpec {
        id: instance(n),
        generation,
        instance_type: "t3.nano".into(),
        vcpus: 1,
        memory_mib: 128,
        firmware: Firmware::LegacyBios,
        disks: vec![DiskSpec {
            volume: VolumeId::new(BASE | u64::from(n)),
            device: "/dev/xvda".into(),
            source: DiskSource::Image(ImageRef {
                id: ImageId::new(BASE),
                from_snapshot: false,
                encrypted: false,
                sha256: "0".repeat(64),
                format: DiskFormat::Qcow2,
                size_bytes: 1,
                virtual_bytes: 1 << 20,
            }),
            size_gib: 1,
            boot_order: Some(1),
            throttle: Throttle::default(),
            encrypted: false,
        }],
        nics: vec![NicSpec {
            device_index: 0,
            vpc: VPC,
            interface: interface(n),
        }],
        metadata: Arc::new(metadata(n, 1)),
    }
}
