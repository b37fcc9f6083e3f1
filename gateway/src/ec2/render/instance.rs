//! The EC2 shape of an instance: everything that the AWS CLI, boto3, euca2ools and Terraform read. What this
//! cloud has only one value of is written with that value, since clients compare it.

use std::{
    iter,
    net::{IpAddr, Ipv4Addr},
};

use cumulet_backend::api::{
    Cloud,
    instances::{DiskView, InstanceView, InterfaceAddress, InterfaceView, ReservationView, StateChange},
    regions,
};
use cumulet_domain::{
    dns,
    id::PlacementGroupId,
    instance::{State, StateReason},
};
use cumulet_wire::{
    Timestamp,
    ec2::{instances as shapes, shared},
};

use crate::ec2::ctx::tags_if_any;

/// A reservation and its instances.
pub(crate) fn reservation(cloud: &Cloud, view: &ReservationView) -> shapes::Reservation {
    shapes::Reservation {
        instances: view.instances.iter().map(|view| instance(cloud, view)).collect(),
        ..bare_reservation(view)
    }
}

/// A reservation without its instances.
pub(crate) fn bare_reservation(view: &ReservationView) -> shapes::Reservation {
    shapes::Reservation {
        reservation_id: Some(view.id.to_string()),
        owner_id: Some(view.account.to_string()),
        ..Default::default()
    }
}

/// A state with its code.
pub(crate) fn state(state: State) -> shapes::InstanceState {
    shapes::InstanceState {
        code: Some(i32::from(state.code())),
        name: Some(state.name().into()),
    }
}

/// What Start-, Stop- and TerminateInstances answer.
pub(crate) fn changes(changes: &[StateChange]) -> Vec<shapes::InstanceStateChange> {
    let one = |change: &StateChange| shapes::InstanceStateChange {
        instance_id: Some(change.instance.to_string()),
        current_state: Some(state(change.current)),
        previous_state: Some(state(change.previous)),
    };
    changes.iter().map(one).collect()
}

/// An instance.
pub(crate) fn instance(cloud: &Cloud, view: &InstanceView) -> shapes::Instance {
    let region = &cloud.config.region;
    let ended = view.state() == State::Terminated;
    let private_ip = view.private_ip().filter(|_| !ended);
    let public_ip = view.public_ip().filter(|_| !ended);
    let interfaces: &[InterfaceView] = if ended { &[] } else { &view.interfaces };
    let row = &view.row;
    shapes::Instance {
        instance_id: Some(view.id().to_string()),
        image_id: Some(view.image_id().to_string()),
        state: Some(state(view.state())),
        state_reason: view.state_reason().map(state_reason),
        state_transition_reason: Some(row.transition_reason.clone().unwrap_or_default()),
        instance_type: Some(row.instance_type.clone()),
        launch_time: Some(Timestamp(row.launched_at)),
        ami_launch_index: i32::try_from(row.launch_index.0).ok(),
        key_name: row.key_name.clone(),
        client_token: Some(row.client_token.clone().unwrap_or_default()),
        placement: Some(placement(view)),
        vpc_id: view.vpc().filter(|_| !ended).map(|id| id.to_string()),
        subnet_id: view.subnet().filter(|_| !ended).map(|id| id.to_string()),
        private_ip_address: private_ip.map(|ip| ip.to_string()),
        public_ip_address: public_ip.map(|ip| ip.to_string()),
        private_dns_name: Some(private_ip.map_or_else(String::new, |ip| dns::private_name(ip, region))),
        public_dns_name: Some(public_ip.map_or_else(String::new, |ip| dns::public_name(ip, region))),
        source_dest_check: Some(true).filter(|_| !ended),
        security_groups: interfaces.first().map(groups).unwrap_or_default(),
        network_interfaces: interfaces
            .iter()
            .map(|nic| interface(view, nic, region))
            .collect(),
        block_device_mappings: view.disks.iter().map(disk).collect(),
        root_device_name: Some(view.root_device().into()),
        tags: tags_if_any(&view.tags),
        architecture: Some(view.architecture().into()),
        boot_mode: Some(view.boot_mode().name().into()),
        current_instance_boot_mode: Some(view.boot_mode().firmware().name().into()),
        metadata_options: Some(metadata_options(view)),
        cpu_options: Some(shapes::CpuOptions {
            core_count: i32::try_from(row.vcpus.0).ok(),
            threads_per_core: Some(1),
            ..Default::default()
        }),
        ..constants()
    }
}

/// What is the same for every instance of this cloud.
fn constants() -> shapes::Instance {
    let text = |text: &str| Some(text.to_owned());
    shapes::Instance {
        ebs_optimized: Some(false),
        ena_support: Some(true),
        hypervisor: text("xen"), // the word that Amazon's KVM-based instances use too
        virtualization_type: text("hvm"),
        root_device_type: text("ebs"),
        platform_details: text("Linux/UNIX"),
        usage_operation: text("RunInstances"),
        monitoring: Some(shapes::Monitoring {
            state: text("disabled"),
            ..Default::default()
        }),
        capacity_reservation_specification: Some(shapes::CapacityReservationSpecificationResponse {
            capacity_reservation_preference: text("open"),
            ..Default::default()
        }),
        hibernation_options: Some(shapes::HibernationOptions {
            configured: Some(false),
        }),
        enclave_options: Some(shapes::EnclaveOptions { enabled: Some(false) }),
        private_dns_name_options: Some(shapes::PrivateDnsNameOptionsResponse {
            hostname_type: text("ip-name"),
            enable_resource_name_dns_a_record: Some(false),
            enable_resource_name_dns_aaaa_record: Some(false),
        }),
        maintenance_options: Some(shapes::InstanceMaintenanceOptions {
            auto_recovery: text("default"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn state_reason(reason: StateReason) -> shared::StateReason {
    shared::StateReason {
        code: Some(reason.code),
        message: Some(reason.message),
    }
}

fn placement(view: &InstanceView) -> shapes::Placement {
    let zone = view.row.availability_zone.as_str();
    let group = view
        .row
        .placement_group
        .filter(|_| view.placement_group.is_some());
    shapes::Placement {
        availability_zone: Some(zone.into()),
        availability_zone_id: Some(regions::zone_id(zone)),
        group_name: Some(view.placement_group.clone().unwrap_or_default()),
        group_id: group.map(|id| PlacementGroupId::from_db(id.to_db()).to_string()),
        partition_number: view
            .row
            .partition_number
            .and_then(|number| i32::try_from(number.0).ok()),
        tenancy: Some("default".into()),
        ..Default::default()
    }
}

/// The options, and whether the instance's host follows them yet. Without a host there is nothing that
/// could follow: they are in force at the next start.
pub(crate) fn metadata_options(view: &InstanceView) -> shapes::InstanceMetadataOptionsResponse {
    let options = view.metadata_options();
    let switch = |on: bool| Some(if on { "enabled" } else { "disabled" }.to_owned());
    let pending = view.state() == State::Running && view.metadata_pending;
    shapes::InstanceMetadataOptionsResponse {
        state: Some(if pending { "pending" } else { "applied" }.into()),
        http_tokens: Some(
            if options.tokens_required {
                "required"
            } else {
                "optional"
            }
            .into(),
        ),
        http_put_response_hop_limit: Some(i32::from(options.hop_limit)),
        http_endpoint: switch(options.enabled),
        http_protocol_ipv6: switch(false),
        instance_metadata_tags: switch(options.tags),
    }
}

/// A disk.
pub(crate) fn disk(disk: &DiskView) -> shapes::InstanceBlockDeviceMapping {
    shapes::InstanceBlockDeviceMapping {
        device_name: Some(disk.device.clone()),
        ebs: Some(shapes::EbsInstanceBlockDevice {
            attach_time: Some(Timestamp(disk.attached_at.0)),
            delete_on_termination: Some(disk.delete_on_termination),
            status: Some(disk.state.name().into()),
            volume_id: Some(disk.volume.to_string()),
            ..Default::default()
        }),
    }
}

/// The groups of an interface.
pub(crate) fn groups(interface: &InterfaceView) -> Vec<shared::GroupIdentifier> {
    let group = |group: &cumulet_backend::api::instances::GroupRef| shared::GroupIdentifier {
        group_id: Some(group.id.to_string()),
        group_name: Some(group.name.clone()),
    };
    interface.groups.iter().map(group).collect()
}

/// The IPv4 addresses of an interface, the primary one first: each with the public one that is translated to it.
pub(crate) fn v4(nic: &InterfaceView) -> impl Iterator<Item = (Ipv4Addr, Option<Ipv4Addr>, bool)> {
    let of = |address: IpAddr| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    let other = move |one: &InterfaceAddress| Some((of(one.private)?, one.public.and_then(of), false));
    let primary = (nic.private_ip(), nic.public_ip(), true);
    iter::once(primary).chain(nic.addresses.secondary.iter().filter_map(other))
}

fn interface(view: &InstanceView, nic: &InterfaceView, region: &str) -> shapes::InstanceNetworkInterface {
    let owner = view.row.account.0.to_string();
    shapes::InstanceNetworkInterface {
        attachment: Some(shapes::InstanceNetworkInterfaceAttachment {
            attach_time: Some(Timestamp(nic.row.created_at)),
            attachment_id: Some(nic.attachment().to_string()),
            delete_on_termination: Some(true),
            device_index: i32::try_from(nic.row.device_index.0).ok(),
            status: Some("attached".into()),
            network_card_index: Some(0),
            ..Default::default()
        }),
        description: Some(nic.row.description.clone()),
        groups: groups(nic),
        mac_address: Some(nic.mac().to_string()),
        network_interface_id: Some(nic.id().to_string()),
        owner_id: Some(owner),
        private_dns_name: Some(dns::private_name(nic.private_ip(), region)),
        private_ip_address: Some(nic.private_ip().to_string()),
        private_ip_addresses: v4(nic)
            .map(|(ip, public, primary)| shapes::InstancePrivateIpAddress {
                association: public.map(|ip| association(ip, region)),
                primary: Some(primary),
                private_dns_name: Some(dns::private_name(ip, region)),
                private_ip_address: Some(ip.to_string()),
            })
            .collect(),
        association: nic.public_ip().map(|ip| association(ip, region)),
        source_dest_check: Some(true),
        status: Some("in-use".into()),
        subnet_id: Some(nic.subnet().to_string()),
        vpc_id: Some(nic.vpc().to_string()),
        interface_type: Some("interface".into()),
        ..Default::default()
    }
}

fn association(ip: Ipv4Addr, region: &str) -> shapes::InstanceNetworkInterfaceAssociation {
    shapes::InstanceNetworkInterfaceAssociation {
        ip_owner_id: Some("amazon".into()),
        public_dns_name: Some(dns::public_name(ip, region)),
        public_ip: Some(ip.to_string()),
        ..Default::default()
    }
}
