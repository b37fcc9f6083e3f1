//! Network interfaces, over a whole cloud.

use std::net::{IpAddr, Ipv4Addr};

use cumulet_compute::instances::launch;
use cumulet_core::PageRequest;
use cumulet_domain::{
    Error,
    id::{InstanceId, NetworkInterfaceId, SecurityGroupId, SubnetId},
};
use cumulet_network::{interface_view::InterfaceView, network_interfaces::*};
use cumulet_store::{
    addresses::{self, InterfaceAddress, InterfaceAddresses},
    entity::{
        columns::{Address, Count, Key},
        interface_address, subnet,
    },
    failed, is_taken,
};
use sea_orm::EntityTrait;

use crate::test_support::{ZONE, cloud};

#[tokio::test]
async fn interfaces_are_found_by_what_they_belong_to_and_by_their_account_alone() {
    let rig = cloud().await;
    let mut spec = rig.spec();
    spec.max = 3;
    let launched = launch(&rig.cloud, &rig.who, spec).await.unwrap().instances;
    let first = launched[0].interfaces[0].clone();
    let found = async |query: &InterfaceQuery| {
        describe(&rig.cloud, &rig.who, query, PageRequest::default())
            .await
            .map(|page| page.rows)
    };
    let everything = found(&InterfaceQuery::default()).await.unwrap();
    assert_eq!(everything.len(), 3);
    assert!(everything.iter().all(|view| view.availability_zone == ZONE));
    assert!(
        everything
            .windows(2)
            .all(|two| two[0].interface.row.id < two[1].interface.row.id)
    );
    for (query, count) in [
        (
            InterfaceQuery {
                ids: vec![first.id(), first.id()],
                ..Default::default()
            },
            1,
        ),
        (
            InterfaceQuery {
                instances: vec![launched[1].id()],
                ..Default::default()
            },
            1,
        ),
        (
            InterfaceQuery {
                instances: vec![InstanceId::new(9)],
                ..Default::default()
            },
            0,
        ),
        (
            InterfaceQuery {
                groups: vec![first.groups[0].id],
                ..Default::default()
            },
            3,
        ),
        (
            InterfaceQuery {
                groups: vec![SecurityGroupId::new(9)],
                ..Default::default()
            },
            0,
        ),
        (
            InterfaceQuery {
                vpcs: vec![first.vpc()],
                ..Default::default()
            },
            3,
        ),
        (
            InterfaceQuery {
                subnets: vec![first.subnet()],
                ..Default::default()
            },
            3,
        ),
        (
            InterfaceQuery {
                subnets: vec![SubnetId::new(9)],
                ..Default::default()
            },
            0,
        ),
    ] {
        assert_eq!(found(&query).await.unwrap().len(), count, "{query:?}");
    }
    let of_first = InterfaceQuery {
        ids: vec![first.id()],
        ..Default::default()
    };
    assert_eq!(found(&of_first).await.unwrap()[0].interface, first);
    assert_eq!(found(&of_first).await.unwrap()[0].instance(), launched[0].id());

    let any = InterfaceQuery::default();
    let others = describe(&rig.cloud, &rig.stranger, &any, PageRequest::default()).await;
    assert!(others.unwrap().rows.is_empty());
    let theirs = describe(&rig.cloud, &rig.stranger, &of_first, PageRequest::default()).await;
    assert!(matches!(theirs, Err(Error::NotFound { .. })), "{theirs:?}");

    let unknown = [NetworkInterfaceId::new(7), NetworkInterfaceId::new(8)];
    let ids = vec![unknown[0], first.id(), unknown[1]];
    let missing = found(&InterfaceQuery {
        ids,
        ..Default::default()
    })
    .await;
    let Err(Error::NotFound { id, .. }) = missing else {
        panic!("{missing:?}")
    };
    assert_eq!(id, format!("{}, {}", unknown[0], unknown[1]));
}

/// A row of an interface's address.
fn row(of: &InterfaceView, index: u32, address: IpAddr, public: Option<IpAddr>) -> interface_address::Model {
    interface_address::Model {
        address: Address(address),
        address_index: Count(index),
        public_address: public.map(Address),
        ..addresses::primary(&of.row, Ipv4Addr::UNSPECIFIED, None)
    }
}

/// Rows hold more than any call gives out yet.
#[tokio::test]
async fn an_interface_has_addresses_of_both_families_and_each_is_its_own() {
    let rig = cloud().await;
    let mut spec = rig.spec();
    spec.max = 2;
    let launched = launch(&rig.cloud, &rig.who, spec).await.unwrap().instances;
    let (one, other) = (&launched[0].interfaces[0], &launched[1].interfaces[0]);
    let public = one.public_ip().expect("the default subnet maps public addresses");
    let conn = rig.cloud.store.read();
    let place = subnet::Entity::find_by_id(one.row.subnet).one(conn).await;
    // One that no launch is given.
    let v4 = place.unwrap().unwrap().cidr.0.nth(1).unwrap();
    let [v6, public_v4, public_v6, free]: [IpAddr; 4] =
        ["2001:db8::7", "203.0.113.7", "2001:db8:1::7", "2001:db8::8"].map(|text| text.parse().unwrap());
    let insert = async |row: interface_address::Model| {
        let write = rig.cloud.store.write(move |txn| {
            Box::pin(async move {
                let inserted = addresses::insert(txn, std::slice::from_ref(&row)).await;
                inserted.map_err(|error| match is_taken(&error) {
                    true => Error::AddressInUse {
                        address: String::new(),
                    },
                    false => failed(error),
                })
            })
        });
        write.await
    };
    // Not in their order: that is the index's.
    insert(row(one, 2, v6, Some(public_v6))).await.unwrap();
    insert(row(one, 1, v4.into(), Some(public_v4))).await.unwrap();

    let secondary = |private, public| InterfaceAddress {
        private,
        public: Some(public),
    };
    let wanted = InterfaceAddresses {
        private: one.private_ip(),
        public: Some(public),
        secondary: vec![secondary(v4.into(), public_v4), secondary(v6, public_v6)],
    };
    let rows = [one.row.clone(), other.row.clone()];
    let both = async || addresses::of(conn, &rows).await.unwrap();
    let read = both().await;
    assert_eq!(read[&one.id().to_db()], wanted);
    assert_eq!(read[&other.id().to_db()], other.addresses);
    let query = InterfaceQuery {
        ids: vec![one.id()],
        ..Default::default()
    };
    let page = describe(&rig.cloud, &rig.who, &query, PageRequest::default()).await;
    assert_eq!(page.unwrap().rows[0].interface.addresses, wanted);
    // What hosts let in for a group's members is of IPv4 alone.
    let members = addresses::of_members(conn, one.groups[0].id).await.unwrap();
    let mut all = [one.private_ip(), other.private_ip(), v4];
    all.sort_unstable();
    assert_eq!(members, all);

    for (row, why) in [
        (row(other, 1, v4.into(), None), "another interface has it"),
        (row(other, 1, v6, None), "another interface has it, of IPv6"),
        (
            row(other, 1, v4.to_ipv6_mapped().into(), None),
            "it is the same in IPv6's words",
        ),
        (
            row(one, 3, one.private_ip().into(), None),
            "it is its own primary address",
        ),
        (row(one, 2, free, None), "its place is another's"),
        (row(one, 0, free, None), "there is one primary address"),
        (
            row(other, 1, free, Some(public_v4)),
            "the public address is another's",
        ),
        (row(other, 1, free, Some(public_v6)), "so is that of IPv6"),
        (
            row(other, 1, free, Some(public.into())),
            "so is that of a primary address",
        ),
    ] {
        let refused = insert(row).await;
        assert!(
            matches!(refused, Err(Error::AddressInUse { .. })),
            "{why}: {refused:?}"
        );
    }
    assert_eq!(both().await, read);
    // Another subnet is another network.
    let elsewhere = interface_address::Model {
        subnet: Key::from_db(9),
        ..row(other, 1, v6, None)
    };
    insert(elsewhere).await.unwrap();
}
