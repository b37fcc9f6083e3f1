//! Filters of DescribeInstances, on instances of one reservation.

use cumulet_wire::ec2::operations;

use super::*;
use crate::{Rate, Share};

#[tokio::test]
async fn a_reservation_shows_only_what_passes() {
    let world = World::new().await;
    let ids = world.run(3, "").await;
    world
        .ask(&format!(
            "Action=CreateTags&ResourceId.1={}&Tag.1.Key=role&Tag.1.Value=db*1",
            ids[1]
        ))
        .await;
    let nic = all(&world.ask("Action=DescribeInstances").await, "networkInterfaceId").swap_remove(2);
    world
        .ask(&format!(
            "Action=CreateTags&ResourceId.1={nic}&Tag.1.Key=side&Tag.1.Value=out"
        ))
        .await;
    for (filter, expected) in [
        ("tag:role=db%5C*1", vec![1]),
        ("tag:role=db%5C*2", vec![]),
        ("tag-key=ro*", vec![1]),
        ("launch-index=2", vec![2]),
        ("instance-state-name=pending", vec![0, 1, 2]),
        ("instance-state-name=running", vec![]),
        ("instance-state-name=nonsense", vec![]),
        ("instance-state-code=0", vec![0, 1, 2]),
        ("image-id=ami-*", vec![0, 1, 2]),
        ("vpc-id=nonsense", vec![]),
        ("instance.group-name=default", vec![0, 1, 2]),
        ("network-interface.status=in-use", vec![0, 1, 2]),
        ("network-interface.tag-key=side", vec![2]),
        ("network-interface.tag-value=o*", vec![2]),
        ("network-interface.tag-key=role", vec![]),
        ("launch-time=2026-11-21T*", vec![0, 1, 2]),
        ("availability-zone=us-east-1?", vec![0, 1, 2]),
        ("outpost-arn=*", vec![]),
    ] {
        let (name, value) = filter.split_once('=').unwrap();
        let xml = world
            .ask(&format!(
                "Action=DescribeInstances&Filter.1.Name={name}&Filter.1.Value.1={value}"
            ))
            .await;
        let expected: Vec<&String> = expected.iter().map(|i: &usize| &ids[*i]).collect();
        assert_eq!(
            all(&xml, "instanceId").iter().collect::<Vec<_>>(),
            expected,
            "{filter}"
        );
        assert_eq!(xml.contains("<reservationSet/>"), expected.is_empty(), "{filter}");
    }
    let both = format!(
        "Action=DescribeInstances&Filter.1.Name=instance-id&Filter.1.Value.1={}&Filter.1.Value.2={}&\
         Filter.2.Name=launch-index&Filter.2.Value.1=0",
        ids[0], ids[2]
    );
    assert_eq!(all(&world.ask(&both).await, "instanceId"), ids[..1]);
}

/// Filters of listings whose values are ids of this cloud, by the last parts of their names; and others.
const IDS: &[&str] = &[
    "attachment-id",
    "group-id",
    "image-id",
    "instance-id",
    "key-pair-id",
    "network-interface-id",
    "reservation-id",
    "resource-id",
    "security-group-rule-id",
    "subnet-id",
    "volume-id",
    "vpc-id",
];
const OTHERS: &[&str] = &[
    "allocation-id",
    "association-id",
    "availability-zone-id",
    "capacity-reservation-id",
    "dhcp-options-id",
    "event-id",
    "host-id",
    "instance-event-id",
    "instance-owner-id",
    "ip-owner-id",
    "kernel-id",
    "owner-id",
    "parent-zone-id",
    "prefix-list-id",
    "ramdisk-id",
    "requester-id",
    "snapshot-id",
    "source-image-id",
    "source-instance-id",
    "spot-instance-request-id",
    "user-id",
    "zone-id",
];

/// What is no id finds nothing, in every filter of every listing, and costs next to nothing.
#[tokio::test]
async fn a_filter_by_ids_that_has_none_reads_nothing() {
    let mut world = World::new().await;
    let ids = world.run(20, "").await;
    let resources: String = (1..=20)
        .map(|n| format!("&ResourceId.{n}={}", ids[n - 1]))
        .collect();
    let tags: String = (1..=50).map(|n| format!("&Tag.{n}.Key=k{n}")).collect();
    world.ask(&format!("Action=CreateTags{resources}{tags}")).await;
    let mut count = 0;
    for info in operations::OPERATIONS {
        for name in info.filters.map_or(&[][..], |filters| filters.names) {
            let last = name.rsplit('.').next().unwrap();
            if !last.ends_with("-id") || OTHERS.contains(&last) {
                continue;
            }
            assert!(IDS.contains(&last), "{} {name} is in one of the lists", info.name);
            for text in ["nonsense", "vpc-", "i-0123456789ABCDEF0", "eipalloc-<b>", ""] {
                let body = format!(
                    "Action={}&Filter.1.Name={name}&Filter.1.Value.1={text}",
                    info.name
                );
                let xml = world.ask(&body).await;
                assert!(!xml.contains("<item>"), "{body}: {xml}");
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count}");
    // A thousand tags take ten units to read.
    let rate = Rate {
        per_second: 1,
        burst: 30,
    };
    world.fences = Fences::new(RequestLimits {
        key: Share { in_flight: 0, rate },
        ..RequestLimits::UNLIMITED
    });
    for _ in 0..10 {
        for rest in [".Value.1=nonsense", ".Value.1=i-&Filter.1.Value.2=x", ""] {
            let body = format!("Action=DescribeTags&Filter.1.Name=resource-id&Filter.1{rest}");
            let body = body.trim_end_matches("&Filter.1").to_owned();
            assert!(!world.ask(&body).await.contains("<item>"));
        }
    }
    assert_eq!(world.refused("Action=DescribeTags").await, "RequestLimitExceeded");
}
