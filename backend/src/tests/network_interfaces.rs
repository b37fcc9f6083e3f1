//! Network interfaces, over a whole cloud.

use cumulet_compute::instances::launch;
use cumulet_core::PageRequest;
use cumulet_domain::{
    Error,
    id::{InstanceId, NetworkInterfaceId, SecurityGroupId, SubnetId},
};
use cumulet_network::network_interfaces::*;

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
