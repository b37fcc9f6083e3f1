//! Launches that fail on a host and go on to another; members of a group that are placed at once.

use std::collections::BTreeMap;

use cumulet_bus::{Bus, Delivery, HostMailbox};
use cumulet_compute::instances::{self, LaunchSpec};
use cumulet_domain::{
    id::{HostId, InstanceId},
    instance::{State, StateReason},
    message::{
        Action, Command, Heartbeat, HostResources, InstanceReport, Outcome, Power, Report, ReportContent,
    },
    placement::Strategy,
};
use cumulet_store::{
    entity::{
        columns::{Count, Key, Named, Owner},
        host, instance, placement_group, placement_group_host,
    },
    placement,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::tests::*;

fn is_destroy(action: &Action) -> bool {
    matches!(action, Action::Destroy { .. })
}

/// Several hosts that the test plays.
struct Hosts {
    rig: Rig,
    mailboxes: BTreeMap<HostId, HostMailbox>,
}

impl Hosts {
    async fn start(names: &[&str]) -> Hosts {
        let rig = Rig::start().await;
        let mut mailboxes = BTreeMap::new();
        for name in names {
            let id = HostId((*name).into());
            mailboxes.insert(id.clone(), rig.bus.host_mailbox(&id).await.unwrap());
            let content = ReportContent::Heartbeat(Box::new(Heartbeat {
                resources: HostResources {
                    vcpus: 16,
                    memory_mib: 65_536,
                    disk_gib: 100,
                },
                hypervisor: "fake".into(),
                availability_zone: "us-east-1a".into(),
                ..Heartbeat::default()
            }));
            let report = Report {
                host: id.clone(),
                at: rig.cloud.now(),
                content,
            };
            rig.bus.report(report).await.unwrap();
            until("the host is registered", async || {
                let conn = rig.cloud.store.read();
                host::Entity::find_by_id(*name).one(conn).await.unwrap().is_some()
            })
            .await;
        }
        // The rig's own host takes nothing.
        let write = rig.cloud.store.write(|txn| {
            Box::pin(async move {
                let update = host::Entity::update_many()
                    .col_expr(host::Column::Enabled, sea_orm::sea_query::Expr::value(0))
                    .filter(host::Column::Id.eq(this_host().0));
                update.exec(txn).await.map(drop).map_err(cumulet_store::failed)
            })
        });
        write.await.unwrap();
        Hosts { rig, mailboxes }
    }

    async fn say(&self, host: &HostId, content: ReportContent) {
        let report = Report {
            host: host.clone(),
            at: self.rig.cloud.now(),
            content,
        };
        self.rig.bus.report(report).await.unwrap();
    }

    async fn row(&self, id: &HostId) -> Option<host::Model> {
        host::Entity::find_by_id(id.0.as_str())
            .one(self.rig.cloud.store.read())
            .await
            .unwrap()
    }

    async fn instance(&self, id: InstanceId) -> instance::Model {
        instance::Entity::find_by_id(Key(id))
            .one(self.rig.cloud.store.read())
            .await
            .unwrap()
            .unwrap()
    }

    /// The next command to any of the hosts that passes `wanted`.
    async fn command(&mut self, wanted: impl Fn(&Action) -> bool) -> (HostId, Command) {
        let wanted = &wanted;
        let any = self.mailboxes.iter_mut().map(|(id, mailbox)| {
            Box::pin(async move {
                loop {
                    match mailbox.next().await {
                        Some(Delivery::Command(command)) if wanted(&command.action) => {
                            return (id.clone(), command.accept());
                        }
                        Some(_) => {}
                        None => panic!("the bus has closed"),
                    }
                }
            })
        });
        tokio::time::timeout(SOON, futures::future::select_all(any))
            .await
            .expect("a command should have come")
            .0
    }

    async fn answer(&mut self, host: &HostId, command: &Command, power: Power, failure: Option<&str>) {
        let (instance, generation) = command.action.instance().unwrap();
        let report = InstanceReport {
            instance,
            generation,
            power,
            off_reason: None,
        };
        let outcome = Outcome {
            operation: command.operation.unwrap(),
            report,
            failure: failure.map(str::to_owned),
            permanent: true,
            kept: Vec::new(),
            root: None,
        };
        self.say(host, ReportContent::Done(outcome)).await;
    }

    /// A launch fails on the host that it was sent to; the command to clear it away there.
    async fn fail(&mut self, text: &str) -> (HostId, Command, Command) {
        let (host, run) = self.command(is_run).await;
        self.answer(&host, &run, Power::Absent, Some(text)).await;
        let (same, destroy) = self.command(is_destroy).await;
        assert_eq!(same, host, "what is left is where it failed");
        assert!(
            destroy.action.instance() > run.action.instance(),
            "its generation is higher"
        );
        (host, run, destroy)
    }

    async fn nothing_is_claimed(&self) {
        let conn = self.rig.cloud.store.read();
        for row in host::Entity::find().all(conn).await.unwrap() {
            assert_eq!(
                (row.vcpus_used, row.memory_mib_used, row.disk_gib_used),
                (0, 0, 0),
                "{row:?}"
            );
        }
        assert!(
            placement_group_host::Entity::find()
                .all(conn)
                .await
                .unwrap()
                .is_empty()
        );
    }

    async fn reason(&self, id: InstanceId) -> StateReason {
        self.rig.view(id).await.state_reason().unwrap()
    }
}

#[tokio::test]
async fn a_launch_that_fails_on_one_host_runs_on_another() {
    let mut hosts = Hosts::start(&["one", "two"]).await;
    let id = hosts.rig.launch(|_| ()).await;
    let (first, run, destroy) = hosts.fail("the disk is broken").await;
    // The failure is told again, as a bus may: it changes nothing.
    hosts
        .answer(&first, &run, Power::Absent, Some("the disk is broken"))
        .await;
    assert_eq!(
        hosts.instance(id).await.host.as_deref(),
        Some(first.0.as_str()),
        "not elsewhere before"
    );
    hosts.answer(&first, &destroy, Power::Absent, None).await;
    let (second, run) = hosts.command(is_run).await;
    assert_ne!(second, first);
    // So is the destruction; by now it is about nothing.
    hosts.answer(&first, &destroy, Power::Absent, None).await;
    hosts.answer(&second, &run, Power::On, None).await;
    hosts.rig.until_state(id, State::Running).await;
    assert_eq!(hosts.instance(id).await.host.as_deref(), Some(second.0.as_str()));
    assert_eq!(hosts.row(&first).await.unwrap().vcpus_used, 0);
    assert_eq!(hosts.row(&second).await.unwrap().vcpus_used, 2);
}

#[tokio::test]
async fn a_host_that_can_not_clear_away_is_asked_again() {
    let mut hosts = Hosts::start(&["one", "two"]).await;
    let id = hosts.rig.launch(|_| ()).await;
    let (first, _, destroy) = hosts.fail("no tap").await;
    hosts
        .answer(&first, &destroy, Power::On, Some("libvirt hangs"))
        .await;
    let (again, destroy) = hosts.command(is_destroy).await;
    assert_eq!(again, first);
    assert_eq!(hosts.instance(id).await.host.as_deref(), Some(first.0.as_str()));
    hosts.answer(&first, &destroy, Power::Absent, None).await;
    let (second, run) = hosts.command(is_run).await;
    hosts.answer(&second, &run, Power::On, None).await;
    hosts.rig.until_state(id, State::Running).await;
}

#[tokio::test]
async fn a_launch_that_fails_on_every_host_says_what_happened_on_each() {
    for names in [&["one", "two"][..], &["one", "two", "three", "four"]] {
        let mut hosts = Hosts::start(names).await;
        let id = hosts.rig.launch(|_| ()).await;
        let tries = names.len().min(3);
        for number in 0..tries {
            let (host, _, destroy) = hosts.fail(&format!("broken {number}")).await;
            hosts.answer(&host, &destroy, Power::Absent, None).await;
        }
        hosts.rig.until_state(id, State::Terminated).await;
        let reason = hosts.reason(id).await;
        for number in 0..tries {
            assert!(
                reason.message.contains(&format!(": broken {number}")),
                "{reason:?}"
            );
        }
        let last = if names.len() > 3 {
            "3 hosts, which is the limit"
        } else {
            "; no other host is enabled"
        };
        assert!(reason.message.contains(last), "{reason:?}");
        assert!(
            reason.message.starts_with("Server.InternalError: host "),
            "{reason:?}"
        );
        hosts.nothing_is_claimed().await;
    }
}

#[tokio::test]
async fn a_terminate_wins_at_every_step_of_going_elsewhere() {
    // While what failed is cleared away, and while the second host is told.
    for cleared in [false, true] {
        let mut hosts = Hosts::start(&["one", "two"]).await;
        let id = hosts.rig.launch(|_| ()).await;
        let (first, _, clear) = hosts.fail("the disk is broken").await;
        if cleared {
            hosts.answer(&first, &clear, Power::Absent, None).await;
            hosts.command(is_run).await;
        }
        instances::terminate(&hosts.rig.cloud, &hosts.rig.who, &[id])
            .await
            .unwrap();
        let (host, destroy) = hosts.command(is_destroy).await;
        assert_eq!(host == first, !cleared);
        hosts.answer(&first, &clear, Power::Absent, None).await; // too late
        hosts.answer(&host, &destroy, Power::Absent, None).await;
        hosts.rig.until_state(id, State::Terminated).await;
        hosts.nothing_is_claimed().await;
    }
}

/// A group of the rig's account.
async fn group(rig: &Rig, strategy: Strategy) -> i64 {
    let id = 77;
    let row = placement_group::Model {
        id: Key::from_db(id),
        account: Owner(rig.who.account),
        name: "web".into(),
        strategy: Named(strategy),
        partition_count: (strategy == Strategy::Partition).then_some(Count(2)),
        spread_level: None,
        created_at: 0,
    };
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let insert = placement_group::Entity::insert(placement_group::ActiveModel::from(row));
            insert
                .exec_without_returning(txn)
                .await
                .map(drop)
                .map_err(cumulet_store::failed)
        })
    });
    write.await.unwrap();
    id
}

#[tokio::test]
async fn a_spread_groups_members_are_on_hosts_of_their_own_and_leave_room() {
    let mut hosts = Hosts::start(&["one", "two"]).await;
    group(&hosts.rig, Strategy::Spread).await;
    let spread = |spec: &mut LaunchSpec| {
        (spec.min, spec.max) = (1, 3);
        spec.placement_group = Some("web".into());
    };
    hosts.rig.launch(spread).await;
    let (a, first) = hosts.command(is_run).await;
    hosts.answer(&a, &first, Power::On, None).await;
    let (b, second) = hosts.command(is_run).await;
    hosts.answer(&b, &second, Power::On, None).await;
    assert_ne!(a, b);
    let conn = hosts.rig.cloud.store.read().clone();
    let ended = async || {
        let rows = instance::Entity::find().all(&conn).await.unwrap();
        rows.into_iter().find(|row| row.state.0 == State::Terminated)
    };
    until("the third ends", async || ended().await.is_some()).await;
    let message = ended().await.unwrap().reason_message.unwrap();
    assert!(
        message.ends_with("no host is enabled and is free of the group's other members"),
        "{message}"
    );
    // Who leaves makes room.
    let gone = first.action.instance().unwrap().0;
    instances::terminate(&hosts.rig.cloud, &hosts.rig.who, &[gone])
        .await
        .unwrap();
    let (_, destroy) = hosts.command(is_destroy).await;
    hosts.answer(&a, &destroy, Power::Absent, None).await;
    hosts.rig.until_state(gone, State::Terminated).await;
    hosts
        .rig
        .launch(|spec| spec.placement_group = Some("web".into()))
        .await;
    assert_eq!(hosts.command(is_run).await.0, a);
}

#[tokio::test]
async fn who_joins_at_the_same_time_is_kept_apart_by_the_key() {
    use cumulet_scheduler::Policy::{Affinity, AntiAffinity, Partition};
    let rig = Rig::start().await;
    let join = async |group, policy, host: &'static str| {
        let write = rig
            .cloud
            .store
            .write(move |txn| Box::pin(async move { placement::join(txn, group, policy, host).await }));
        write.await.is_ok()
    };
    // Two engines that chose by the same picture: one of them wins.
    let (a, b) = tokio::join!(join(1, AntiAffinity, "h1"), join(1, AntiAffinity, "h1"));
    assert!(a != b);
    assert!(join(1, AntiAffinity, "h2").await);
    let (a, b) = tokio::join!(join(2, Affinity, "h1"), join(2, Affinity, "h2"));
    assert!(a != b, "the first members of a cluster are on one host");
    let (a, b) = tokio::join!(join(3, Partition(1), "h1"), join(3, Partition(2), "h1"));
    assert!(a != b, "no host is in two partitions");
    assert!(join(3, Partition(if a { 1 } else { 2 }), "h1").await);
}
