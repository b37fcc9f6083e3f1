//! Hosts that are there and take no launches for now, and operations that are not done in time.

use std::time::Duration;

use cumulet_compute::instances::{self, LaunchSpec};
use cumulet_domain::{
    Error, Result,
    host::NotReady,
    id::InstanceId,
    instance::State,
    message::{Action, Command, Heartbeat, HostResources, InstanceReport, Outcome, Power, ReportContent},
};
use cumulet_store::{entity::operation, failed};
use sea_orm::{EntityTrait, sea_query::Expr};

use crate::tests::*;

const SLOW: &str = "libvirt takes 31 s for a call: /dev/kvm can't be opened by the group kvm";

fn heartbeat(not_ready: Option<&str>, vcpus: u32) -> Heartbeat {
    let resources = HostResources {
        vcpus,
        memory_mib: 65_536,
        disk_gib: 100,
    };
    let told = |reason: &str| NotReady {
        reason: reason.into(),
        cure: Some("chgrp kvm /dev/kvm".into()),
    };
    Heartbeat {
        resources: if vcpus == 0 {
            HostResources::default()
        } else {
            resources
        },
        hypervisor: "fake".into(),
        availability_zone: "us-east-1a".into(),
        not_ready: not_ready.map(told),
        ..Heartbeat::default()
    }
}

impl Rig {
    /// The host says that it is not ready, or that it is.
    async fn is_ready(&self, not_ready: Option<&str>) {
        self.say(ReportContent::Heartbeat(Box::new(heartbeat(not_ready, 16))))
            .await;
        until("the heartbeat is applied", async || {
            self.host().await.unwrap().not_ready_reason.as_deref() == not_ready
        })
        .await;
    }

    async fn try_launch(&self) -> Result<InstanceId> {
        let spec = LaunchSpec::new(self.image, "t3.nano");
        let made = instances::launch(&self.cloud, &self.who, spec).await?;
        Ok(made.instances[0].id())
    }

    /// The operation under way has to be done in so many milliseconds, and is looked at now.
    async fn hurry(&self, millis: u64) {
        let now = self.cloud.now();
        let deadline = now.after(Duration::from_millis(millis));
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                use operation::Column as C;
                let update = operation::Entity::update_many()
                    .col_expr(C::Deadline, Expr::value(deadline.0))
                    .col_expr(C::NextAt, Expr::value(now.0));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
        self.cloud.wake.now();
    }

    async fn fails_for_now(&self, command: &Command, failure: &str) {
        let (instance, generation) = command.action.instance().unwrap();
        let report = InstanceReport {
            instance,
            generation,
            power: Power::Absent,
            off_reason: None,
        };
        self.say(ReportContent::Done(Outcome {
            operation: command.operation.unwrap(),
            report,
            failure: Some(failure.into()),
            permanent: false,
            kept: Vec::new(),
            root: None,
        }))
        .await;
    }
}

#[tokio::test]
async fn launches_are_refused_with_the_hosts_reason_until_it_is_ready() {
    let mut rig = Rig::start().await;
    rig.is_ready(Some(SLOW)).await;
    let refused = rig.try_launch().await.unwrap_err();
    let Error::InsufficientCapacity { reason } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(reason, format!("host host-a: {SLOW}; no host is ready"));
    let listed = cumulet_operator::hosts::list(&rig.cloud.parts()).await.unwrap();
    let row = &listed[0].row;
    assert!(listed[0].alive && listed[0].standing == cumulet_operator::hosts::Standing::Enabled);
    assert_eq!(row.not_ready_reason.as_deref(), Some(SLOW));
    assert_eq!(row.not_ready_cure.as_deref(), Some("chgrp kvm /dev/kvm"));
    rig.is_ready(None).await;
    assert_eq!(rig.host().await.unwrap().not_ready_cure, None);
    rig.running(|_| ()).await;
}

/// It is not known yet what the host has: that is no word that it has nothing.
#[tokio::test]
async fn a_host_that_is_not_ready_keeps_what_it_had() {
    let rig = Rig::start().await;
    let mut silent = heartbeat(Some(SLOW), 0);
    silent.availability_zone = "us-east-1b".into();
    rig.say(ReportContent::Heartbeat(Box::new(silent))).await;
    until("the heartbeat is applied", async || {
        rig.host().await.unwrap().availability_zone == "us-east-1b"
    })
    .await;
    let host = rig.host().await.unwrap();
    assert_eq!((host.vcpus.0, host.vcpus_max.0, host.disk_gib.0), (16, 16, 100));
}

#[tokio::test]
async fn a_start_waits_for_its_host_to_be_ready() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    instances::stop(&rig.cloud, &rig.who, &[id], true).await.unwrap();
    let stop = rig.command(|action| matches!(action, Action::Stop { .. })).await;
    rig.answer(&stop, Power::Off, None).await;
    rig.until_state(id, State::Stopped).await;
    rig.is_ready(Some(SLOW)).await;
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(1500), rig.command(is_run));
    assert!(early.await.is_err(), "the host is not ready");
    assert_eq!(rig.view(id).await.state(), State::Pending);
    rig.is_ready(None).await;
    let run = rig.command(is_run).await;
    rig.answer(&run, Power::On, None).await;
    rig.until_state(id, State::Running).await;
}

#[tokio::test]
async fn a_start_whose_host_is_never_ready_ends_with_the_reason() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    instances::stop(&rig.cloud, &rig.who, &[id], true).await.unwrap();
    let stop = rig.command(|action| matches!(action, Action::Stop { .. })).await;
    rig.answer(&stop, Power::Off, None).await;
    rig.until_state(id, State::Stopped).await;
    rig.is_ready(Some(SLOW)).await;
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    rig.hurry(0).await;
    let view = rig.until_state(id, State::Stopped).await;
    let told = format!("Server.InsufficientInstanceCapacity: host host-a: {SLOW}; no host is ready");
    assert_eq!(view.state_reason().unwrap().message, told);
}

#[tokio::test]
async fn what_is_not_done_in_time_ends_with_what_is_the_matter_with_the_host() {
    let late = "the launch did not end within 300 s";
    for (not_ready, told) in [
        (None, format!("host host-a: {late}")),
        (Some(SLOW), format!("host host-a: {SLOW}; {late}")),
    ] {
        let mut rig = Rig::start().await;
        let id = rig.launch(|_| ()).await;
        rig.command(is_run).await;
        rig.is_ready(not_ready).await;
        rig.hurry(0).await;
        let destroy = rig
            .command(|action| matches!(action, Action::Destroy { .. }))
            .await;
        rig.answer(&destroy, Power::Absent, None).await;
        let view = rig.until_state(id, State::Terminated).await;
        let reason = view.state_reason().unwrap();
        assert_eq!(reason.message, format!("Server.InternalError: {told}"));
    }
}

/// The host's own words are better than that it is too late, and there would be no time for another try.
#[tokio::test]
async fn a_failure_at_the_end_of_the_time_is_the_reason() {
    let mut rig = Rig::start().await;
    let id = rig.launch(|_| ()).await;
    let run = rig.command(is_run).await;
    rig.hurry(1500).await;
    rig.fails_for_now(&run, "the hypervisor did not answer within 40 s")
        .await;
    let destroy = rig
        .command(|action| matches!(action, Action::Destroy { .. }))
        .await;
    rig.answer(&destroy, Power::Absent, None).await;
    let view = rig.until_state(id, State::Terminated).await;
    assert_eq!(
        view.state_reason().unwrap().message,
        "Server.InternalError: host host-a: the hypervisor did not answer within 40 s; \
         the launch did not end within 300 s"
    );
}
