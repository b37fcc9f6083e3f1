//! What goes wrong between the conductor and a host, and must not leave an instance astray.

use std::{collections::HashSet, time::Duration};

use cumulet_compute::instances::{self, AttributeChange, MetadataChange};
use cumulet_domain::{
    id::{InstanceId, NetworkInterfaceId},
    instance::State,
    message::{Action, Command, Heartbeat, HostResources, InstanceReport, OffReason, Power, ReportContent},
};
use cumulet_store::entity::{columns::Amount, host_network, operation, vpc};
use sea_orm::EntityTrait;

use crate::tests::*;

fn is_stop(action: &Action) -> bool {
    matches!(action, Action::Stop { .. })
}

impl Rig {
    /// A stopped instance.
    async fn stopped(&mut self) -> InstanceId {
        let id = self.running(|_| ()).await;
        instances::stop(&self.cloud, &self.who, &[id], false)
            .await
            .unwrap();
        let stop = self.command(is_stop).await;
        self.answer(&stop, Power::Off, None).await;
        self.until_state(id, State::Stopped).await;
        id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn launches_that_come_together_find_themselves_in_the_policy() {
    const MANY: u32 = 200; // more than share one commit
    let mut rig = Rig::start().await;
    let resources = HostResources {
        vcpus: 1024,
        memory_mib: 1 << 20,
        disk_gib: 1024,
    };
    rig.say(ReportContent::Heartbeat(Box::new(Heartbeat {
        resources,
        hypervisor: "fake".into(),
        availability_zone: "us-east-1a".into(),
        ..Heartbeat::default()
    })))
    .await;
    until("the host has grown", async || {
        rig.host().await.unwrap().vcpus == Amount(1024)
    })
    .await;
    rig.launch(|spec| (spec.min, spec.max) = (MANY, MANY)).await;
    for _ in 0..MANY {
        let Action::Run { spec, policy } = rig.command(is_run).await.action else {
            unreachable!()
        };
        let known: HashSet<NetworkInterfaceId> = policy.interfaces.iter().map(|i| i.id).collect();
        assert!(
            known.contains(&spec.nics[0].interface.id),
            "{} has no network",
            spec.id
        );
    }
}

#[tokio::test]
async fn a_reboot_of_a_guest_that_had_gone_off_ends_stopped() {
    let mut rig = Rig::start().await;
    let (id, reboot) = rebooting(&mut rig).await;
    rig.changed(id, 1, Power::Off, OffReason::GuestShutdown).await; // the reboot is under way: not now
    rig.answer(&reboot, Power::Off, Some("it does not run")).await;
    let stop = rig.command(is_stop).await;
    rig.answer(&stop, Power::Off, None).await;
    rig.until_state(id, State::Stopped).await;
}

#[tokio::test]
async fn a_reboot_that_never_reached_the_host_makes_no_report_old() {
    let mut rig = Rig::start().await;
    let (id, reboot) = rebooting(&mut rig).await;
    rig.answer(&reboot, Power::On, Some("the guest does not listen"))
        .await;
    until("the reboot is given up", async || {
        let open = operation::Entity::find()
            .all(rig.cloud.store.read())
            .await
            .unwrap();
        open.iter().all(|row| row.active_instance.is_none())
    })
    .await;
    // The host has never begun the reboot: the last that it carried out is the launch.
    rig.changed(id, 1, Power::Off, OffReason::GuestShutdown).await;
    let stop = rig.command(is_stop).await;
    rig.answer(&stop, Power::Off, None).await;
    rig.until_state(id, State::Stopped).await;
}

#[tokio::test]
async fn a_start_right_after_a_failed_one_is_not_stuck_and_charges_once() {
    let mut rig = Rig::start().await;
    let id = rig.stopped().await;
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let run = rig.command(is_run).await;
    rig.answer(&run, Power::Off, Some("no")).await;
    rig.until_state(id, State::Stopped).await;
    // The host has not yet said that nothing is left of the first try: the claim still stands.
    let resized = AttributeChange::InstanceType("t3.small".into());
    let refused = instances::modify_attribute(&rig.cloud, &rig.who, id, resized).await;
    assert!(refused.is_err(), "what is claimed can't change its size");
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let run = rig.command(is_run).await;
    assert_eq!(rig.host().await.unwrap().vcpus_used, 2);
    rig.answer(&run, Power::On, None).await;
    rig.until_state(id, State::Running).await;
    instances::terminate(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let destroy = rig
        .command(|action| matches!(action, Action::Destroy { .. }))
        .await;
    rig.answer(&destroy, Power::Absent, None).await;
    rig.until_state(id, State::Terminated).await;
    let host = rig.host().await.unwrap();
    assert_eq!(
        (host.vcpus_used, host.memory_mib_used, host.disk_gib_used),
        (0, 0, 0)
    );
}

/// A guest that is found after its instance's end is destroyed at the generation of that end; one that is
/// newer, or that nobody knows, is left alone.
#[tokio::test]
async fn the_guest_of_a_terminated_instance_is_destroyed_and_no_other() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    instances::terminate(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let is_destroy = |action: &Action| matches!(action, Action::Destroy { .. });
    let destroy = rig.command(is_destroy).await;
    let (_, end) = destroy.action.instance().unwrap();
    rig.answer(&destroy, Power::Absent, None).await;
    rig.until_state(id, State::Terminated).await;
    let used = rig.host().await.unwrap().vcpus_used;
    let there = |instance, generation| InstanceReport {
        instance,
        generation,
        power: Power::On,
        off_reason: None,
    };
    tokio::time::sleep(Duration::from_millis(2)).await; // reports of the same moment are of before the end
    let seen = vec![there(id, end + 1), there(InstanceId::new(1 << 50), 1)];
    rig.say(ReportContent::Full(seen)).await;
    rig.say(ReportContent::Full(vec![there(id, end - 1)])).await;
    let again = rig.command(is_destroy).await;
    assert_eq!(again.action.instance(), Some((id, end)));
    assert_eq!(again.operation, None);
    rig.say(ReportContent::Changed(InstanceReport {
        power: Power::Absent,
        ..there(id, end)
    }))
    .await;
    rig.say(ReportContent::Full(vec![there(id, 0)])).await;
    // As often as it is seen, and what was given back is not given back again.
    assert_eq!(rig.command(is_destroy).await.action.instance(), Some((id, end)));
    assert_eq!(rig.host().await.unwrap().vcpus_used, used);
    assert_eq!(rig.view(id).await.state(), State::Terminated);
    let more = tokio::time::timeout(Duration::from_millis(200), rig.command(is_destroy));
    assert!(more.await.is_err(), "neither the newer one nor the unknown one");
}

#[tokio::test]
async fn a_stopped_instance_leaves_the_policy() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    let vpc = rig.view(id).await.row.vpc;
    let row = vpc::Entity::find_by_id(vpc)
        .one(rig.cloud.store.read())
        .await
        .unwrap();
    rig.say(ReportContent::NetworkApplied {
        vpc: vpc.0,
        generation: row.unwrap().policy_generation.0,
    })
    .await;
    until("the host has the policy of the launch", async || {
        let pairs = host_network::Entity::find()
            .all(rig.cloud.store.read())
            .await
            .unwrap();
        pairs.iter().all(|pair| pair.applied_generation > Amount(0))
    })
    .await;
    instances::stop(&rig.cloud, &rig.who, &[id], true).await.unwrap();
    let stop = rig.command(is_stop).await;
    rig.answer(&stop, Power::Off, None).await;
    rig.command(|action| matches!(action, Action::Network(policy) if policy.interfaces.is_empty()))
        .await;
}

#[tokio::test]
async fn snapshots_that_are_not_confirmed_hold_up_no_other() {
    const MANY: usize = 6; // more than one look takes in a test
    let mut rig = Rig::with_vcpus(64).await;
    let mut ids = Vec::new();
    for _ in 0..MANY {
        ids.push(rig.running(|_| ()).await);
    }
    let change = MetadataChange {
        tokens_required: Some(true),
        ..MetadataChange::default()
    };
    for id in &ids {
        instances::modify_metadata_options(&rig.cloud, &rig.who, *id, change)
            .await
            .unwrap();
    }
    let mut told = HashSet::new();
    let all = async {
        while told.len() < MANY {
            let command = rig.command(|action| matches!(action, Action::Metadata(_))).await;
            if let Action::Metadata(snapshot) = command.action {
                told.insert(snapshot.instance);
            }
        }
    };
    let told_all = tokio::time::timeout(SOON, all).await;
    assert!(told_all.is_ok(), "{} of {MANY} were told", told.len());
}

/// A running instance, and the command that reboots it.
async fn rebooting(rig: &mut Rig) -> (InstanceId, Command) {
    let id = rig.running(|_| ()).await;
    instances::reboot(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let is_reboot = |action: &Action| matches!(action, Action::Reboot { .. });
    (id, rig.command(is_reboot).await)
}
