//! What hosts tell of themselves with each heartbeat: architecture, capabilities, metrics.

use std::sync::Arc;

use cumulet_bus::Bus;
use cumulet_domain::{
    host::{HostProfile, MAX_CAPABILITIES, MAX_METRICS, MAX_NAME, Metrics},
    id::HostId,
    message::{Heartbeat, HostResources, Report, ReportContent},
};
use cumulet_operator::hosts;
use cumulet_store::entity::{columns::Amount, host};
use sea_orm::EntityTrait;

use crate::tests::*;

fn heartbeat(architecture: &str, pairs: &[(&str, &str)]) -> Heartbeat {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Heartbeat {
        profile: Some(Arc::new(HostProfile {
            architecture: Some(architecture.into()),
            capabilities: pairs.iter().map(pair).collect(),
        })),
        ..plain()
    }
}

/// A heartbeat as an older worker sends it.
fn plain() -> Heartbeat {
    Heartbeat {
        resources: HostResources {
            vcpus: 4,
            memory_mib: 65_536,
            disk_gib: 100,
        },
        hypervisor: "fake".into(),
        availability_zone: "us-east-1a".into(),
        ..Heartbeat::default()
    }
}

impl Rig {
    /// A host's row when a heartbeat of it has been applied: each one has more vCPUs than the one before.
    async fn after_heartbeat(&self, host: &str, vcpus: u32, mut heartbeat: Heartbeat) -> host::Model {
        heartbeat.resources.vcpus = vcpus;
        let report = Report {
            host: HostId(host.into()),
            at: self.cloud.now(),
            content: ReportContent::Heartbeat(Box::new(heartbeat)),
        };
        self.bus.report(report).await.unwrap();
        until("the heartbeat is applied", async || {
            self.row(host)
                .await
                .is_some_and(|row| row.vcpus == Amount(vcpus.into()))
        })
        .await;
        self.row(host).await.unwrap()
    }

    pub(super) async fn row(&self, host: &str) -> Option<host::Model> {
        let conn = self.cloud.store.read();
        host::Entity::find_by_id(host).one(conn).await.unwrap()
    }
}

fn told(row: &host::Model) -> (Option<&str>, Option<&str>, Option<&str>) {
    (
        row.architecture.as_deref(),
        row.capabilities.as_deref(),
        row.metrics.as_deref(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_tells_what_it_is_and_an_older_worker_takes_nothing_back() {
    let rig = Rig::start().await;
    let mut new = heartbeat("arm64", &[("ssd", "true"), ("cpu_info:model", "Neoverse-N1")]);
    new.metrics = [("cpu.percent".to_owned(), 12)].into();
    let capabilities = r#"{"cpu_info:model":"Neoverse-N1","ssd":"true"}"#;
    let row = rig.after_heartbeat("host-a", 11, new.clone()).await;
    let all = (Some("arm64"), Some(capabilities), Some(r#"{"cpu.percent":12}"#));
    assert_eq!(told(&row), all);
    // What it is stays; how busy it was is no longer so.
    let row = rig.after_heartbeat("host-a", 12, plain()).await;
    assert_eq!(told(&row), (Some("arm64"), Some(capabilities), None));
    // The same for a host that is new with its first heartbeat.
    assert_eq!(told(&rig.after_heartbeat("host-b", 11, new).await), all);
    let row = rig
        .after_heartbeat("host-b", 12, heartbeat("x86_64", &[("ssd", "false")]))
        .await;
    assert_eq!(told(&row), (Some("x86_64"), Some(r#"{"ssd":"false"}"#), None));
    assert_eq!(
        told(&rig.after_heartbeat("host-b", 13, heartbeat("x86_64", &[])).await),
        (Some("x86_64"), None, None)
    );
    // No host speaks for another.
    assert_eq!(told(&rig.row("host-a").await.unwrap()).1, Some(capabilities));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_pool_for_a_cloud_until_it_is_forgotten() {
    let rig = Rig::start().await;
    let [ours, other] =
        ["cumulet", "other"].map(|pool| format!("8a3c1f0e-1111-4222-8333-0123456789ab/{pool}"));
    let tells = |host, vcpus, pool: Option<&String>| {
        let heartbeat = Heartbeat {
            rbd: pool.cloned(),
            ..plain()
        };
        rig.after_heartbeat(host, vcpus, heartbeat)
    };
    let row = tells("host-a", 11, Some(&ours)).await;
    assert_eq!((row.rbd.as_ref(), row.problems), (Some(&ours), None));
    let row = tells("host-b", 11, Some(&other)).await;
    let problem = row.problems.unwrap();
    let names = problem.contains(&ours) && problem.contains(&other) && problem.contains("forget-pool");
    assert!(row.rbd.is_none() && names, "{problem}");
    // It has been corrected, and is away at times.
    for (vcpus, pool) in [(12, Some(&ours)), (13, None), (14, Some(&ours))] {
        let row = tells("host-b", vcpus, pool).await;
        assert_eq!((row.rbd.as_ref(), row.problems), (pool, None));
    }
    let parts = rig.cloud.parts();
    assert_eq!(hosts::forget_pool(&parts).await.unwrap(), Some(ours));
    for host in ["host-a", "host-b"] {
        assert_eq!(rig.row(host).await.unwrap().rbd, None);
    }
    assert_eq!(hosts::forget_pool(&parts).await.unwrap(), None);
    assert_eq!(tells("host-b", 15, Some(&other)).await.rbd, Some(other));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_not_taken_and_the_host_is_there_all_the_same() {
    let rig = Rig::start().await;
    let good = rig
        .after_heartbeat("host-a", 11, heartbeat("x86_64", &[("ssd", "true")]))
        .await;
    let mut many = plain();
    many.profile = Some(Arc::new(HostProfile {
        architecture: Some("arm64".into()),
        capabilities: (0..=MAX_CAPABILITIES)
            .map(|n| (n.to_string(), "x".into()))
            .collect(),
    }));
    many.metrics = (0..=MAX_METRICS).map(|n| (n.to_string(), 1)).collect::<Metrics>();
    let row = rig.after_heartbeat("host-a", 12, many.clone()).await;
    assert_eq!(told(&row), told(&good));
    assert_eq!(
        told(&rig.after_heartbeat("host-c", 11, many).await),
        (None, None, None)
    );
    // A name that no column holds is no heartbeat at all, and holds up nothing that comes after it.
    let long = Heartbeat {
        hypervisor: "x".repeat(MAX_NAME + 1),
        ..heartbeat("arm64", &[])
    };
    rig.say(ReportContent::Heartbeat(Box::new(long))).await;
    let row = rig.after_heartbeat("host-a", 13, plain()).await;
    assert_eq!((row.hypervisor.as_str(), told(&row)), ("fake", told(&good)));
}
