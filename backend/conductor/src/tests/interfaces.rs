//! Instances whose interfaces are in more than one VPC: each of these has to do with the instance's host. (No call makes
//! such an interface yet, and workers refuse to run a guest with it.)

use std::collections::{BTreeMap, BTreeSet};

use cumulet_compute::instances;
use cumulet_domain::{
    id::{InstanceId, VpcId},
    instance::State,
    message::{Action, Power, ReportContent},
};
use cumulet_operations::release;
use cumulet_store::{
    entity::{columns::Key, host_network, vpc},
    failed,
};
use sea_orm::{ConnectionTrait as _, EntityTrait};

use crate::tests::*;

/// The VPC of a second interface.
pub(super) const SECOND: VpcId = VpcId::new(777);

async fn execute(rig: &Rig, all: Vec<String>) {
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            for sql in all {
                txn.execute_unprepared(&sql).await.map_err(failed)?;
            }
            Ok(())
        })
    });
    write.await.unwrap();
}

/// Gives an instance a second interface, with two addresses, in another VPC.
pub(super) async fn second_interface(rig: &Rig, id: InstanceId) {
    let (instance, account) = (id.to_db(), rig.view(id).await.row.account);
    let address = |last: u8| format!("00000000000000000000ffff0a4200{last:02x}");
    let mut all = vec![
        format!(
            "INSERT INTO vpcs (id, account, cidr, is_default, policy_generation, created_at) \
             VALUES (777, {account}, '10.66.0.0/16', 0, 1, 0)"
        ),
        format!(
            "INSERT INTO subnets (id, account, vpc, cidr, availability_zone, is_default, map_public_ip, created_at) \
             VALUES (778, {account}, 777, '10.66.0.0/24', 'us-east-1a', 0, 0, 0)"
        ),
        format!(
            "INSERT INTO interfaces (id, account, instance, device_index, attachment, vpc, subnet, mac, private_ip, \
             description, created_at) VALUES (779, {account}, {instance}, 1, 779, 777, 778, 779, 172097545, '', 0)"
        ),
    ];
    for (index, last) in [(0, 9), (1, 10)] {
        let address = address(last);
        all.push(format!(
            "INSERT INTO interface_addresses (subnet, address, interface, address_index, account, vpc) \
             VALUES (778, '{address}', 779, {index}, {account}, 777)"
        ));
    }
    execute(rig, all).await;
}

async fn stop(rig: &mut Rig, id: InstanceId) {
    instances::stop(&rig.cloud, &rig.who, &[id], false).await.unwrap();
    let stop = rig.command(|action| matches!(action, Action::Stop { .. })).await;
    rig.answer(&stop, Power::Off, None).await;
    rig.until_state(id, State::Stopped).await;
}

/// The VPCs that have to do with the host, each with the generation that it has confirmed.
async fn networks(rig: &Rig) -> BTreeMap<VpcId, u64> {
    let rows = host_network::Entity::find().all(rig.cloud.store.read()).await;
    let pair = |row: host_network::Model| (row.vpc.0, row.applied_generation.0);
    rows.unwrap().into_iter().map(pair).collect()
}

async fn generation(rig: &Rig, id: VpcId) -> u64 {
    let row = vpc::Entity::find_by_id(Key(id));
    let row = row.one(rig.cloud.store.read()).await.unwrap().unwrap();
    row.policy_generation.0
}

async fn generations(rig: &Rig, [a, b]: [VpcId; 2]) -> [u64; 2] {
    [generation(rig, a).await, generation(rig, b).await]
}

/// The host confirms the newest policy of a VPC; its generation.
async fn confirm(rig: &Rig, vpc: VpcId) -> u64 {
    let generation = generation(rig, vpc).await;
    rig.say(ReportContent::NetworkApplied { vpc, generation }).await;
    generation
}

/// The host confirms the newest policy of a VPC, and the two have to do with each other all the same.
async fn is_kept(rig: &Rig, vpc: VpcId) {
    let generation = confirm(rig, vpc).await;
    until("what is confirmed is noted", async || {
        networks(rig).await.get(&vpc) == Some(&generation)
    })
    .await;
}

#[tokio::test]
async fn a_host_has_to_do_with_every_vpc_that_its_instances_have_interfaces_in() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    stop(&mut rig, id).await;
    let first = rig.view(id).await.vpc().unwrap();
    let both = [first, SECOND];
    second_interface(&rig, id).await;
    // What its own row says of its launch decides nothing.
    let launch = format!(
        "UPDATE instances SET vpc = 1, subnet = 1 WHERE id = {}",
        id.to_db()
    );
    execute(&rig, vec![launch]).await;
    let view = rig.view(id).await;
    assert_eq!(
        (view.vpc(), view.subnet()),
        (Some(first), Some(view.interfaces[0].subnet()))
    );
    let there = networks(&rig).await;
    assert_eq!(there.into_keys().collect::<Vec<_>>(), [first]);

    // It is placed: the host is to know both.
    let before = generations(&rig, both).await;
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let run = rig.command(is_run).await;
    let Action::Run { spec, policy } = &run.action else {
        unreachable!()
    };
    assert_eq!((policy.vpc, spec.nics.len()), (first, 2));
    let there = networks(&rig).await;
    assert_eq!(there.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from(both));
    assert_eq!(generations(&rig, both).await, before.map(|one| one + 1));
    rig.answer(&run, Power::On, None).await;
    rig.until_state(id, State::Running).await;
    is_kept(&rig, SECOND).await;

    // It is stopped: both change, and both are kept for the next start.
    let before = generations(&rig, both).await;
    stop(&mut rig, id).await;
    assert_eq!(generations(&rig, both).await, before.map(|one| one + 1));
    is_kept(&rig, SECOND).await;
    is_kept(&rig, first).await;

    // It has ended: both change, and nothing of either is left here.
    let before = generations(&rig, both).await;
    instances::terminate(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let destroy = rig
        .command(|action| matches!(action, Action::Destroy { .. }))
        .await;
    rig.answer(&destroy, Power::Absent, None).await;
    let view = rig.until_state(id, State::Terminated).await;
    assert_eq!((view.vpc(), view.subnet()), (None, None));
    assert_eq!(generations(&rig, both).await, before.map(|one| one + 1));
    assert_eq!(networks(&rig).await.len(), 2);
    for vpc in both {
        confirm(&rig, vpc).await;
    }
    until("both are forgotten", async || networks(&rig).await.is_empty()).await;
}

#[tokio::test]
async fn a_vpc_is_forgotten_with_the_last_interface_in_it() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    stop(&mut rig, id).await;
    let first = rig.view(id).await.vpc().unwrap();
    second_interface(&rig, id).await;
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let run = rig.command(is_run).await;
    rig.answer(&run, Power::On, None).await;
    rig.until_state(id, State::Running).await;
    let gone = [
        "interface_addresses WHERE interface = 779",
        "interfaces WHERE id = 779",
    ];
    execute(&rig, gone.map(|rows| format!("DELETE FROM {rows}")).into()).await;
    confirm(&rig, SECOND).await;
    until("it is forgotten", async || {
        let there = networks(&rig).await;
        there.into_keys().collect::<Vec<_>>() == [first]
    })
    .await;
    is_kept(&rig, first).await;
}

#[tokio::test]
async fn a_launch_that_is_cleared_away_changes_the_policy_of_every_vpc_that_it_was_in() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    second_interface(&rig, id).await;
    let view = rig.view(id).await;
    let both = [view.vpc().unwrap(), SECOND];
    let before = generations(&rig, both).await;
    let row = view.row.clone();
    let write = rig
        .cloud
        .store
        .write(move |txn| Box::pin(async move { release::unplaced(txn, &row).await }));
    write.await.unwrap();
    assert_eq!(generations(&rig, both).await, before.map(|one| one + 1));
}

/// Its host can't be told of it, and is to know its networks when it can.
#[tokio::test]
async fn an_instance_that_cannot_be_specified_is_placed_with_all_of_its_networks() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    stop(&mut rig, id).await;
    second_interface(&rig, id).await;
    execute(
        &rig,
        vec!["UPDATE interfaces SET mac = -1 WHERE id = 779".to_owned()],
    )
    .await;
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    until("it is placed", async || {
        networks(&rig).await.contains_key(&SECOND)
    })
    .await;
}
