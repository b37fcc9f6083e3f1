//! Answers without `MaxResults`: whole, however long, and never held as a whole.

use cumulet_backend::api::instances::InstanceCache;
use futures::StreamExt as _;

use super::*;
use crate::reply::Body;

/// Several of everything that can be listed.
async fn filled() -> World {
    let world = World::new().await;
    let tags: String = (1..=5)
        .map(|n| format!("&TagSpecification.1.Tag.{n}.Key=k{n}"))
        .collect();
    for _ in 0..9 {
        world
            .run(2, &format!("&TagSpecification.1.ResourceType=instance{tags}"))
            .await;
    }
    for n in 0..9 {
        world
            .ask(&format!("Action=CreateKeyPair&KeyName=k{n}&KeyType=ed25519"))
            .await;
        world
            .ask(&format!("Action=CreatePlacementGroup&GroupName=p{n}"))
            .await;
        let group = format!("Action=CreateSecurityGroup&GroupName=g{n}&GroupDescription=d");
        let group = one(&world.ask(&group).await, "groupId");
        for port in 1..4 {
            let rule = format!(
                "IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort={port}&IpPermissions.1.ToPort={port}&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8"
            );
            world
                .ask(&format!(
                    "Action=AuthorizeSecurityGroupIngress&GroupId={group}&{rule}"
                ))
                .await;
        }
    }
    world
}

async fn body(world: &World, body: &str) -> Body {
    let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
    let caller = Caller::pretended(world.who.clone(), &world.fences);
    let asked = Asked::Form(query);
    rpc::serve(&EC2, &world.cloud.clone().into(), caller, &asked, "req-1")
        .await
        .unwrap()
}

/// In tests pieces are small, so that every listing comes in some.
#[tokio::test]
async fn what_is_written_in_pieces_is_what_is_written_at_once() {
    let world = filled().await;
    let mut in_pieces = 0;
    for info in cumulet_wire::ec2::operations::OPERATIONS {
        let listing = info.name.starts_with("Describe") && !info.name.ends_with("Attribute");
        if !listing || info.name == "DescribeAccountAttributes" {
            continue;
        }
        for filter in ["", "&Filter.1.Name=tag-key&Filter.1.Value.1=k?"] {
            if !filter.is_empty() && !info.filters.is_some_and(|filters| filters.knows("tag-key")) {
                continue;
            }
            let action = format!("Action={}{filter}", info.name);
            let answer = body(&world, &action).await;
            in_pieces += usize::from(matches!(answer, Body::Pieces(_)));
            let whole = answer.text().await.unwrap();
            assert!(
                whole.ends_with(&format!("</{}Response>", info.name)),
                "{action}: {whole}"
            );
            let Some(paging) = info.paging else { continue };
            let page = world.ask(&format!("{action}&MaxResults={}", paging.max)).await;
            if page.contains("<nextToken>") {
                continue; // a page of this call is smaller than the list
            }
            assert_eq!(whole, page, "{action}");
        }
    }
    assert!(in_pieces >= 8, "{in_pieces}");
    // Calls that have no pages.
    assert_eq!(
        all(&world.ask("Action=DescribeKeyPairs").await, "keyName").len(),
        9
    );
    assert_eq!(
        all(&world.ask("Action=DescribePlacementGroups").await, "groupName").len(),
        9
    );
}

#[tokio::test]
async fn of_a_long_answer_a_piece_at_a_time_is_held() {
    let world = filled().await;
    let Body::Pieces(mut pieces) = body(&world, "Action=DescribeTags").await else {
        panic!("it is long");
    };
    let mut sizes = Vec::new();
    while let Some(piece) = pieces.next().await {
        sizes.push(piece.unwrap().len());
    }
    let (first, rest) = sizes.split_first().unwrap();
    // In tests: 1,200 bytes, then 700, and two rows more.
    assert!(
        *first < 2200 && rest.len() > 5 && rest.iter().all(|size| *size < 1700),
        "{sizes:?}"
    );
}

/// Of instances there may be more than their quota says, since those that have ended are in sight for a while.
#[tokio::test]
async fn of_more_instances_than_can_be_kept_a_chunk_at_a_time_is_held() {
    let mut world = World::new().await;
    for _ in 0..9 {
        world.run(6, "").await;
    }
    let filter = "Filter.1.Name=instance-type&Filter.1.Value.1=t3.*";
    let calls = [
        "Action=DescribeInstances".to_owned(),
        format!("Action=DescribeInstances&{filter}"),
        "Action=DescribeInstanceStatus&IncludeAllInstances=true".to_owned(),
    ];
    let mut at_once = Vec::new();
    for call in &calls {
        at_once.push(world.ask(call).await);
    }
    world.cloud.compute.instances = InstanceCache::with_room(13);
    for (call, at_once) in calls.iter().zip(&at_once) {
        let Body::Pieces(mut pieces) = body(&world, call).await else {
            panic!("it is long");
        };
        let mut whole = String::new();
        while let Some(piece) = pieces.next().await {
            let piece = String::from_utf8(piece.unwrap().to_vec()).unwrap();
            // In tests two are enough for a piece; those of one launch are in one.
            assert!(all(&piece, "instanceId").len() <= 6, "{call}: {piece}");
            whole += &piece;
        }
        assert_eq!(all(&whole, "instanceId").len(), 54, "{call}");
        assert_eq!(whole, *at_once, "{call}");
    }
    assert_eq!(
        world.cloud.compute.instances.bytes(),
        0,
        "nothing was read all at once, to be kept"
    );
}

/// A page has whole reservations, and ends early where these have very many instances.
#[tokio::test]
async fn a_page_of_large_reservations_ends_early() {
    let world = World::new().await;
    let mut launched = Vec::new();
    for _ in 0..4 {
        launched.extend(world.run(50, "").await);
        world.advance(1);
    }
    // Read page by page, and then out of what is kept of all.
    for _ in 0..2 {
        // In tests 120 instances are enough for a page.
        let first = world.ask("Action=DescribeInstances&MaxResults=5").await;
        assert_eq!(all(&first, "instanceId"), launched[..150]);
        let rest = format!(
            "Action=DescribeInstances&MaxResults=5&NextToken={}",
            one(&first, "nextToken")
        );
        let rest = world.ask(&rest).await;
        assert_eq!(all(&rest, "instanceId"), launched[150..]);
        assert!(!rest.contains("nextToken"));
        world.ask("Action=DescribeInstances").await;
    }
}

/// A4: a request whose filters take too long is refused, and others are answered meanwhile.
#[tokio::test]
async fn filters_have_a_budget_and_let_others_go_first() {
    let world = World::new().await;
    let ids = world.run(25, "").await;
    let resources: String = (1..)
        .zip(&ids)
        .map(|(n, id)| format!("&ResourceId.{n}={id}"))
        .collect();
    let value = "a".repeat(250);
    let tags: String = (1..=50)
        .map(|n| format!("&Tag.{n}.Key=k{n}&Tag.{n}.Value={value}{n}"))
        .collect();
    world.ask(&format!("Action=CreateTags{resources}{tags}")).await;
    let worst = "%3Fa".repeat(240);
    let patterns = |count: usize| -> String {
        (1..=count)
            .map(|n| format!("&Filter.1.Value.{n}=*{worst}"))
            .collect()
    };
    let ask = |count: usize, rest: &str| {
        format!("Action=DescribeTags&Filter.1.Name=value{}{rest}", patterns(count))
    };
    let refusal = world.try_as(&world.who, &ask(200, "")).await.unwrap_err();
    assert_eq!(
        (&*refusal.code, refusal.status),
        ("FilterLimitExceeded", 400),
        "{refusal:?}"
    );
    // A page ends early and tells where the next one begins.
    let page = world.ask(&ask(200, "&MaxResults=1000")).await;
    assert!(all(&page, "nextToken").len() == 1, "{page}");
    // Who asks for little is not kept waiting by one who asks for much.
    let ended = std::cell::RefCell::new(Vec::new());
    let (much, little) = (ask(20, ""), "Action=DescribeRegions");
    let asked = async |body: &str| {
        world.ask(body).await;
        ended.borrow_mut().push(body.len());
    };
    tokio::join!(asked(&much), asked(little));
    assert_eq!(*ended.borrow(), [little.len(), much.len()]);
}
