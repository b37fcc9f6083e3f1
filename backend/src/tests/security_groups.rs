//! Tests of the family over a real database.

use cumulet_compute::instances;
use cumulet_core::PageRequest;
use cumulet_domain::{
    Error,
    id::{SecurityGroupId, VpcId},
    network::{Cidr, Direction, Peer, Traffic},
};
use cumulet_network::security_groups::*;
use cumulet_store::entity::{columns::Key, security_group, vpc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};

use crate::test_support::{Rig, cloud, pages};

fn tcp(port: u16, block: &str) -> NewRule {
    NewRule {
        traffic: Traffic::Tcp { from: port, to: port },
        peer: PeerSpec::Cidr(block.parse().unwrap()),
        description: String::new(),
    }
}

async fn group(rig: &Rig, name: &str) -> GroupView {
    let new = NewGroup {
        name: name.into(),
        description: "a group".into(),
        ..NewGroup::default()
    };
    create(&rig.cloud, &rig.who, new).await.unwrap()
}

async fn open(rig: &Rig, id: SecurityGroupId, rules: Vec<NewRule>) -> cumulet_domain::Result<Vec<RuleView>> {
    authorize(
        &rig.cloud,
        &rig.who,
        &GroupName::Id(id),
        Direction::Ingress,
        rules,
        Vec::new(),
    )
    .await
}

async fn rules(rig: &Rig, id: SecurityGroupId) -> Vec<RuleView> {
    let query = GroupQuery {
        ids: vec![id],
        ..GroupQuery::default()
    };
    let page = describe(&rig.cloud, &rig.who, &query, PageRequest::default())
        .await
        .unwrap();
    page.rows.into_iter().next().unwrap().rules
}

/// Makes a VPC one that is not the default.
async fn default_no_more(rig: &Rig, id: VpcId) {
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let update = vpc::Entity::update_many()
                .col_expr(vpc::Column::IsDefault, Expr::value(0_i64))
                .filter(vpc::Column::Id.eq(id.to_db()));
            update.exec(txn).await.map(drop).map_err(cumulet_store::failed)
        })
    });
    write.await.unwrap();
}

async fn generation(rig: &Rig, id: VpcId) -> i64 {
    let row = vpc::Entity::find_by_id(Key(id))
        .one(rig.cloud.store.read())
        .await
        .unwrap();
    row.unwrap().policy_generation.to_db()
}

#[tokio::test]
async fn a_new_group_lets_out_and_not_in() {
    let rig = cloud().await;
    let made = group(&rig, "web").await;
    assert_eq!(made.rules.len(), 1);
    assert_eq!(made.rules[0].rule.direction, Direction::Egress);
    assert_eq!(
        made.rules[0].rule.peer,
        Peer::Cidr(Cidr::new([0, 0, 0, 0].into(), 0))
    );
}

#[tokio::test]
async fn names_are_checked() {
    let rig = cloud().await;
    group(&rig, "web").await;
    for (name, description, ok) in [
        ("fine ._-:/()#,@[]+=&;{}!$*", "d", true),
        ("web", "d", false),
        ("WEB", "d", false),
        ("wEb", "d", false),
        ("", "d", false),
        ("x", "", false),
        (&*"x".repeat(256), "d", false),
        ("sg-web", "d", false),
        ("default", "d", false),
        ("tab\t", "d", false),
        ("naïve", "d", false),
        ("x", "line\nbreak", false),
    ] {
        let new = NewGroup {
            name: name.into(),
            description: description.into(),
            ..NewGroup::default()
        };
        assert_eq!(
            create(&rig.cloud, &rig.who, new).await.is_ok(),
            ok,
            "{name:?} {description:?}"
        );
    }
}

#[tokio::test]
async fn authorize_is_all_or_nothing() {
    let rig = cloud().await;
    let made = group(&rig, "web").await;
    let before = generation(&rig, made.vpc()).await;
    assert_eq!(
        open(&rig, made.id(), vec![tcp(22, "10.0.0.0/8")])
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(generation(&rig, made.vpc()).await, before + 1);
    let twice = open(&rig, made.id(), vec![tcp(80, "0.0.0.0/0"), tcp(22, "10.0.0.0/8")]).await;
    assert!(matches!(twice, Err(Error::DuplicateRule { .. })));
    let within = open(&rig, made.id(), vec![tcp(80, "0.0.0.0/0"), tcp(80, "0.0.0.0/0")]).await;
    assert_eq!(within, Err(Error::RepeatedRule));
    let mut unknown = tcp(80, "0.0.0.0/0");
    unknown.peer = PeerSpec::Group(SecurityGroupId::new(1 << 40));
    let unknown = open(&rig, made.id(), vec![tcp(81, "0.0.0.0/0"), unknown]).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    assert!(open(&rig, made.id(), vec![]).await.is_err());
    assert_eq!(rules(&rig, made.id()).await.len(), 2);
    assert_eq!(generation(&rig, made.vpc()).await, before + 1);
}

#[tokio::test]
async fn a_group_has_at_most_sixty_rules_in_a_direction() {
    let rig = cloud().await;
    let made = group(&rig, "web").await;
    let many = |ports: std::ops::Range<u16>| ports.map(|port| tcp(port, "0.0.0.0/0")).collect();
    let sixty_one = open(&rig, made.id(), many(0..61)).await;
    assert!(matches!(sixty_one, Err(Error::LimitExceeded { max: 60, .. })));
    open(&rig, made.id(), many(0..60)).await.unwrap();
    assert!(open(&rig, made.id(), many(60..61)).await.is_err());
}

#[tokio::test]
async fn revoke_takes_exactly_what_is_named() {
    let rig = cloud().await;
    let made = group(&rig, "web").await;
    let name = GroupName::Id(made.id());
    default_no_more(&rig, made.vpc()).await;
    let added = open(&rig, made.id(), vec![tcp(22, "10.0.0.0/8"), tcp(80, "0.0.0.0/0")])
        .await
        .unwrap();
    let take = async |direction, what| revoke(&rig.cloud, &rig.who, &name, direction, what).await;
    let rule = |port, block: &str| {
        let rule = tcp(port, block);
        (rule.traffic, rule.peer)
    };
    let unknown = take(
        Direction::Ingress,
        Revoke::Rules(vec![rule(80, "0.0.0.0/0"), rule(81, "0.0.0.0/0")]),
    )
    .await;
    assert!(matches!(unknown, Err(Error::RuleNotFound { .. })));
    let other_way = take(Direction::Egress, Revoke::Rules(vec![rule(80, "0.0.0.0/0")])).await;
    assert!(matches!(other_way, Err(Error::RuleNotFound { .. })));
    let by_id = take(Direction::Egress, Revoke::Ids(vec![added[0].id])).await;
    assert!(matches!(by_id, Err(Error::NotFound { .. })));
    assert_eq!(rules(&rig, made.id()).await.len(), 3);
    let gone = take(Direction::Ingress, Revoke::Rules(vec![rule(80, "0.0.0.0/0")]))
        .await
        .unwrap();
    assert_eq!((gone.rules[0].id, gone.unknown), (added[1].id, Vec::new()));
    take(Direction::Ingress, Revoke::Ids(vec![added[0].id]))
        .await
        .unwrap();
    assert_eq!(rules(&rig, made.id()).await.len(), 1);
    open(&rig, made.id(), vec![tcp(80, "0.0.0.0/0")]).await.unwrap();
}

#[tokio::test]
async fn the_default_vpc_tells_what_was_not_there() {
    let rig = cloud().await;
    let (made, name) = (group(&rig, "web").await, GroupName::Name("WEB".into()));
    let added = open(&rig, made.id(), vec![tcp(22, "10.0.0.0/8")]).await.unwrap();
    let traffic = Traffic::All;
    let named = vec![
        (traffic, PeerSpec::Foreign("::/0".into())),
        (
            added[0].rule.traffic,
            PeerSpec::Cidr("10.0.0.0/8".parse().unwrap()),
        ),
        (traffic, PeerSpec::Group(made.id())),
        (
            added[0].rule.traffic,
            PeerSpec::Cidr("10.0.0.0/8".parse().unwrap()),
        ),
    ];
    let take = async |what| revoke(&rig.cloud, &rig.who, &name, Direction::Ingress, what).await;
    let gone = take(Revoke::Rules(named.clone())).await.unwrap();
    assert_eq!((gone.rules.len(), gone.unknown), (1, vec![0, 2]));
    assert_eq!(gone.rules[0].id, added[0].id);
    let nothing = take(Revoke::Rules(named)).await.unwrap();
    assert_eq!((nothing.rules.len(), nothing.unknown), (0, vec![0, 1, 2, 3]));
    let by_id = take(Revoke::Ids(vec![added[0].id])).await;
    assert!(matches!(by_id, Err(Error::NotFound { .. })));
    let mut foreign = tcp(1, "0.0.0.0/0");
    foreign.peer = PeerSpec::Foreign("::/0".into());
    let added = open(&rig, made.id(), vec![foreign]).await;
    assert!(matches!(added, Err(Error::Unsupported { .. })));
}

#[tokio::test]
async fn a_protocol_that_has_ports_is_never_kept_without_them() {
    let rig = cloud().await;
    let made = group(&rig, "web").await;
    for (number, fine) in [
        (1, false),
        (6, false),
        (17, false),
        (58, false),
        (0, true),
        (50, true),
        (255, true),
    ] {
        let rule = NewRule {
            traffic: Traffic::Protocol(number),
            ..tcp(1, "0.0.0.0/0")
        };
        assert_eq!(open(&rig, made.id(), vec![rule]).await.is_ok(), fine, "{number}");
    }
}

/// Groups from before names were the same in any case.
#[tokio::test]
async fn of_two_groups_alike_the_exact_name_is_meant_or_the_older() {
    let rig = cloud().await;
    let older = group(&rig, "web").await;
    let younger = group(&rig, "other").await;
    let id = younger.id().to_db();
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let update = security_group::Entity::update_many()
                .col_expr(security_group::Column::Name, Expr::value("Web"))
                .col_expr(security_group::Column::CreatedAt, Expr::value(i64::MAX))
                .filter(security_group::Column::Id.eq(id));
            update.exec(txn).await.map(drop).map_err(cumulet_store::failed)
        })
    });
    write.await.unwrap();
    for (name, expected) in [("web", older.id()), ("Web", younger.id()), ("WEB", older.id())] {
        let query = GroupQuery {
            names: vec![name.into()],
            ..GroupQuery::default()
        };
        let page = describe(&rig.cloud, &rig.who, &query, PageRequest::default())
            .await
            .unwrap();
        let found: Vec<_> = page.rows.iter().map(GroupView::id).collect();
        assert_eq!(found, [expected], "{name}");
    }
}

#[tokio::test]
async fn a_group_in_use_stays() {
    let rig = cloud().await;
    let (web, db) = (group(&rig, "web").await, group(&rig, "db").await);
    let mut rule = tcp(5432, "0.0.0.0/0");
    rule.peer = PeerSpec::GroupName("web".into());
    let added = open(&rig, db.id(), vec![rule]).await.unwrap();
    assert_eq!(added[0].peer_name.as_deref(), Some("web"));
    let gone = async |id| delete(&rig.cloud, &rig.who, &GroupName::Id(id)).await;
    assert!(matches!(gone(web.id()).await, Err(Error::InUse { .. })));
    let mut spec = rig.spec();
    spec.groups = vec![db.id()];
    instances::launch(&rig.cloud, &rig.who, spec).await.unwrap();
    assert!(matches!(gone(db.id()).await, Err(Error::InUse { .. })));
    revoke(
        &rig.cloud,
        &rig.who,
        &GroupName::Id(db.id()),
        Direction::Ingress,
        Revoke::Ids(vec![added[0].id]),
    )
    .await
    .unwrap();
    assert_eq!(gone(web.id()).await, Ok(web.id()));
    assert!(matches!(gone(web.id()).await, Err(Error::NotFound { .. })));
    let default = delete(&rig.cloud, &rig.who, &GroupName::Name("default".into())).await;
    assert!(matches!(default, Err(Error::Protected { .. })));
}

#[tokio::test]
async fn a_group_that_names_itself_can_go() {
    let rig = cloud().await;
    let made = group(&rig, "mesh").await;
    let mut rule = tcp(1, "0.0.0.0/0");
    rule.peer = PeerSpec::Group(made.id());
    open(&rig, made.id(), vec![rule]).await.unwrap();
    delete(&rig.cloud, &rig.who, &GroupName::Id(made.id()))
        .await
        .unwrap();
}

#[tokio::test]
async fn strangers_find_nothing_and_readers_change_nothing() {
    let rig = cloud().await;
    let made = group(&rig, "web").await;
    let which = GroupName::Id(made.id());
    let new = || vec![tcp(22, "0.0.0.0/0")];
    let ids = || Revoke::Ids(vec![made.rules[0].id]);
    for (who, expected) in [(&rig.stranger, "NotFound"), (&rig.reader(), "Unauthorized")] {
        let cloud = &rig.cloud;
        let answers = [
            authorize(cloud, who, &which, Direction::Ingress, new(), Vec::new())
                .await
                .map(drop),
            revoke(cloud, who, &which, Direction::Egress, ids())
                .await
                .map(drop),
            delete(cloud, who, &which).await.map(drop),
        ];
        for answer in answers {
            assert!(format!("{:?}", answer.unwrap_err()).starts_with(expected));
        }
    }
    let query = GroupQuery {
        ids: vec![made.id()],
        ..GroupQuery::default()
    };
    assert!(
        describe(&rig.cloud, &rig.stranger, &query, PageRequest::default())
            .await
            .is_err()
    );
    let query = RuleQuery {
        ids: vec![made.rules[0].id],
        ..RuleQuery::default()
    };
    assert!(
        describe_rules(&rig.cloud, &rig.stranger, &query, PageRequest::default())
            .await
            .is_err()
    );
    assert_eq!(
        describe_rules(&rig.cloud, &rig.who, &query, PageRequest::default())
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
}

#[tokio::test]
async fn groups_come_in_pages() {
    let rig = cloud().await;
    for i in 0..7 {
        group(&rig, &format!("g{i}")).await;
    }
    let list = async |page| describe(&rig.cloud, &rig.who, &GroupQuery::default(), page).await;
    let found = pages(3, list).await;
    let mut seen: Vec<_> = found.iter().flatten().map(|group| &group.row.name).collect();
    seen.sort();
    assert_eq!(seen, ["default", "g0", "g1", "g2", "g3", "g4", "g5", "g6"]);
}
