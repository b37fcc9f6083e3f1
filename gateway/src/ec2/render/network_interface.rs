//! The EC2 shape of a network interface. What it shares with the interface of a described instance is the same
//! there: `super::instance`.

use std::net::Ipv4Addr;

use cumulet_backend::api::{network_interfaces::NetworkInterfaceView, regions};
use cumulet_domain::dns;
use cumulet_wire::{Timestamp, ec2::network_interfaces as shapes};

use super::instance::{groups, v4};
use crate::ec2::ctx::shown_tags;

/// An interface.
pub(crate) fn network_interface(region: &str, view: &NetworkInterfaceView) -> shapes::NetworkInterface {
    let nic = &view.interface;
    let owner = nic.row.account.0.to_string();
    let associated = nic.public_ip().map(|ip| association(ip, region));
    shapes::NetworkInterface {
        attachment: Some(shapes::NetworkInterfaceAttachment {
            attach_time: Some(Timestamp(nic.row.created_at)),
            attachment_id: Some(nic.attachment().to_string()),
            delete_on_termination: Some(true),
            device_index: i32::try_from(nic.row.device_index.0).ok(),
            network_card_index: Some(0),
            instance_id: Some(view.instance().to_string()),
            instance_owner_id: Some(owner.clone()),
            status: Some("attached".into()),
            ..Default::default()
        }),
        availability_zone: Some(view.availability_zone.clone()),
        availability_zone_id: Some(regions::zone_id(&view.availability_zone)),
        description: Some(nic.row.description.clone()),
        groups: groups(nic),
        interface_type: Some("interface".into()),
        mac_address: Some(nic.mac().to_string()),
        network_interface_id: Some(nic.id().to_string()),
        owner_id: Some(owner),
        private_dns_name: Some(dns::private_name(nic.private_ip(), region)),
        public_dns_name: associated.as_ref().and_then(|a| a.public_dns_name.clone()),
        private_ip_address: Some(nic.private_ip().to_string()),
        private_ip_addresses: v4(nic)
            .map(|(ip, public, primary)| shapes::NetworkInterfacePrivateIpAddress {
                association: public.map(|ip| association(ip, region)),
                primary: Some(primary),
                private_dns_name: Some(dns::private_name(ip, region)),
                private_ip_address: Some(ip.to_string()),
            })
            .collect(),
        association: associated,
        requester_managed: Some(false),
        source_dest_check: Some(true),
        status: Some("in-use".into()),
        subnet_id: Some(nic.subnet().to_string()),
        tag_set: shown_tags(&nic.tags),
        vpc_id: Some(nic.vpc().to_string()),
        ..Default::default()
    }
}

/// A public address that is lent, which is Amazon's in the words of the API.
fn association(ip: Ipv4Addr, region: &str) -> shapes::NetworkInterfaceAssociation {
    shapes::NetworkInterfaceAssociation {
        ip_owner_id: Some("amazon".into()),
        public_dns_name: Some(dns::public_name(ip, region)),
        public_ip: Some(ip.to_string()),
        ..Default::default()
    }
}
