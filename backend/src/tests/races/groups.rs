//! Security groups and their rules.

use cumulet_compute::instances::{self, AttributeChange, LaunchSpec, ReservationView};
use cumulet_domain::{
    Error, Result,
    error::Limit,
    id::{InstanceId, SecurityGroupId, marker::SecurityGroup},
    network::{Direction, Traffic},
};
use cumulet_network::security_groups::{
    self, GroupName, MAX_GROUPS, MAX_RULES, NewGroup, NewRule, PeerSpec, RuleView,
};
use cumulet_store::{
    entity::{
        columns::{Flag, Key},
        interface_group, security_group, security_group_rule,
    },
    failed,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::{
    Cloud,
    test_support::{Rig, cloud},
};

impl Rig {
    async fn group(&self, name: &str) -> SecurityGroupId {
        self.create(&self.cloud, name).await.unwrap()
    }

    async fn create(&self, cloud: &Cloud, name: &str) -> Result<SecurityGroupId> {
        let new = NewGroup {
            name: name.into(),
            description: "d".into(),
            ..NewGroup::default()
        };
        let made = security_groups::create(cloud, &self.who, new).await;
        made.map(|made| made.id())
    }

    async fn delete(&self, cloud: &Cloud, id: SecurityGroupId) -> Result<SecurityGroupId> {
        security_groups::delete(cloud, &self.who, &GroupName::Id(id)).await
    }

    async fn launch_into(&self, cloud: &Cloud, id: SecurityGroupId) -> Result<ReservationView> {
        let spec = LaunchSpec {
            groups: vec![id],
            ..self.spec()
        };
        instances::launch(cloud, &self.who, spec).await
    }

    async fn regroup(&self, cloud: &Cloud, instance: InstanceId, id: SecurityGroupId) -> Result<()> {
        let change = AttributeChange::Groups(vec![id]);
        instances::modify_attribute(cloud, &self.who, instance, change).await
    }

    async fn allow(
        &self,
        cloud: &Cloud,
        id: SecurityGroupId,
        ports: std::ops::Range<u16>,
        peer: PeerSpec,
    ) -> Result<Vec<RuleView>> {
        let rules = ports.map(|port| NewRule {
            traffic: Traffic::Tcp { from: port, to: port },
            peer: peer.clone(),
            description: String::new(),
        });
        let (group, ingress) = (GroupName::Id(id), Direction::Ingress);
        security_groups::authorize(cloud, &self.who, &group, ingress, rules.collect(), Vec::new()).await
    }

    /// Members and rules of groups that are not there.
    async fn dangling(&self) -> (usize, usize) {
        let conn = self.cloud.store.read();
        let groups = security_group::Entity::find().all(conn).await.unwrap();
        let gone = |id: Key<SecurityGroup>| !groups.iter().any(|group| group.id == id);
        let members = interface_group::Entity::find().all(conn).await.unwrap();
        let rules = security_group_rule::Entity::find().all(conn).await.unwrap();
        let rules = rules
            .iter()
            .filter(|rule| gone(rule.security_group) || rule.peer_group.is_some_and(gone));
        (
            members
                .iter()
                .filter(|member| gone(member.security_group))
                .count(),
            rules.count(),
        )
    }
}

fn everywhere() -> PeerSpec {
    PeerSpec::Cidr("0.0.0.0/0".parse().unwrap())
}

fn not_found<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::NotFound { .. }))
}

fn in_use<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::InUse { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_a_launch_goes_into_is_not_deleted_and_one_that_is_deleted_is_not_gone_into() {
    let rig = cloud().await;
    let id = rig.group("web").await;
    let launch = async |cloud: &Cloud| rig.launch_into(cloud, id).await;
    let (launched, deleted) = rig
        .overlap(launch, async |cloud| rig.delete(cloud, id).await)
        .await;
    assert!(launched.is_ok() && in_use(&deleted), "{launched:?} {deleted:?}");

    let other = rig.group("other").await;
    let delete = async |cloud: &Cloud| rig.delete(cloud, other).await;
    let launch = async |cloud: &Cloud| rig.launch_into(cloud, other).await;
    let (deleted, launched) = rig.overlap(delete, launch).await;
    assert!(
        deleted.is_ok() && not_found(&launched),
        "{deleted:?} {launched:?}"
    );
    assert_eq!(
        (rig.dangling().await, rig.account().await.instances_used),
        ((0, 0), 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_changes_its_groups_does_not_come_to_be_in_one_that_is_gone() {
    let rig = cloud().await;
    let (id, other) = (rig.group("web").await, rig.group("other").await);
    let made = instances::launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let instance = made.instances[0].id();
    let regroup = async |cloud: &Cloud| rig.regroup(cloud, instance, id).await;
    let (changed, deleted) = rig
        .overlap(regroup, async |cloud| rig.delete(cloud, id).await)
        .await;
    assert!(changed.is_ok() && in_use(&deleted), "{changed:?} {deleted:?}");

    let delete = async |cloud: &Cloud| rig.delete(cloud, other).await;
    let regroup = async |cloud: &Cloud| rig.regroup(cloud, instance, other).await;
    let (deleted, changed) = rig.overlap(delete, regroup).await;
    assert!(deleted.is_ok() && not_found(&changed), "{deleted:?} {changed:?}");
    assert_eq!(rig.dangling().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_a_new_rule_names_is_not_deleted_and_a_rule_names_none_that_is_gone() {
    let rig = cloud().await;
    let (id, peer, other) = (
        rig.group("web").await,
        rig.group("peer").await,
        rig.group("other").await,
    );
    let allow = async |cloud: &Cloud| rig.allow(cloud, id, 1..2, PeerSpec::Group(peer)).await;
    let (allowed, deleted) = rig
        .overlap(allow, async |cloud| rig.delete(cloud, peer).await)
        .await;
    assert!(allowed.is_ok() && in_use(&deleted), "{allowed:?} {deleted:?}");

    let delete = async |cloud: &Cloud| rig.delete(cloud, other).await;
    let allow = async |cloud: &Cloud| rig.allow(cloud, id, 1..2, PeerSpec::Group(other)).await;
    let (deleted, allowed) = rig.overlap(delete, allow).await;
    assert!(deleted.is_ok() && not_found(&allowed), "{deleted:?} {allowed:?}");
    assert_eq!(rig.dangling().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_with_the_rules_that_it_gets_at_that_time() {
    let rig = cloud().await;
    let (id, other) = (rig.group("web").await, rig.group("other").await);
    let allow = async |cloud: &Cloud| rig.allow(cloud, id, 1..3, everywhere()).await;
    let (allowed, deleted) = rig
        .overlap(allow, async |cloud| rig.delete(cloud, id).await)
        .await;
    assert!(allowed.is_ok() && deleted.is_ok(), "{allowed:?} {deleted:?}");

    let delete = async |cloud: &Cloud| rig.delete(cloud, other).await;
    let allow = async |cloud: &Cloud| rig.allow(cloud, other, 1..3, everywhere()).await;
    let (deleted, allowed) = rig.overlap(delete, allow).await;
    assert!(deleted.is_ok() && not_found(&allowed), "{deleted:?} {allowed:?}");
    assert_eq!(rig.dangling().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_add_the_last_rule_or_the_same_one() {
    let rig = cloud().await;
    let id = rig.group("web").await;
    let most = u16::try_from(MAX_RULES).unwrap();
    let add = async |cloud: &Cloud, port: u16| rig.allow(cloud, id, port..port + 1, everywhere()).await;
    let (one, same) = rig
        .overlap(
            async |cloud| add(cloud, 9).await,
            async |cloud| add(cloud, 9).await,
        )
        .await;
    assert!(one.is_ok(), "{one:?}");
    let told = |error: &Error| matches!(error, Error::DuplicateRule { rule } if rule.contains("port: 9"));
    assert!(same.as_ref().is_err_and(told), "{same:?}");

    rig.allow(&rig.cloud, id, 100..100 + most - 2, everywhere())
        .await
        .unwrap();
    let (last, beyond) = rig
        .overlap(
            async |cloud| add(cloud, 1).await,
            async |cloud| add(cloud, 2).await,
        )
        .await;
    assert!(last.is_ok(), "{last:?}");
    let limit = Error::LimitExceeded {
        limit: Limit::RulesPerSecurityGroup,
        max: MAX_RULES,
    };
    assert_eq!(beyond.unwrap_err(), limit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_make_a_vpcs_last_group() {
    let rig = cloud().await;
    let conn = rig.cloud.store.read();
    let own = security_group::Column::Account.eq(rig.who.account.to_db());
    let template = security_group::Entity::find().filter(own).one(conn).await;
    let template = template.unwrap().unwrap();
    let rows: Vec<_> = (0..MAX_GROUPS.cast_signed() - 2)
        .map(|n| {
            security_group::ActiveModel::from(security_group::Model {
                id: Key::from_db(n),
                name: format!("g{n}"),
                is_default: Flag(false),
                ..template.clone()
            })
        })
        .collect();
    let fill = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let insert = security_group::Entity::insert_many(rows).exec_without_returning(txn);
            insert.await.map(drop).map_err(failed)
        })
    });
    fill.await.unwrap();
    let one = async |cloud: &Cloud| rig.create(cloud, "one").await;
    let (last, beyond) = rig
        .overlap(one, async |cloud| rig.create(cloud, "two").await)
        .await;
    assert!(last.is_ok(), "{last:?}");
    let limit = Error::LimitExceeded {
        limit: Limit::SecurityGroups,
        max: MAX_GROUPS,
    };
    assert_eq!(beyond.unwrap_err(), limit);
}
