//! A VPC on two hosts: each is told of the other's instances, when they come and when they go.

use std::net::Ipv4Addr;

use cumulet_bus::{Bus, Delivery, HostMailbox};
use cumulet_compute::instances::{self};
use cumulet_domain::{
    id::HostId,
    message::{
        Action, Command, Heartbeat, HostResources, InstanceReport, Outcome, Power, Report, ReportContent,
    },
    network::{TunnelPeer, VpcPolicy},
};
use cumulet_operator::hosts;
use cumulet_store::entity::{
    columns::{Amount, Count, Ipv4},
    host, vpc,
};
use sea_orm::EntityTrait;

use crate::tests::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);

/// The policy that a command carries.
fn policy(command: &Command) -> Option<&VpcPolicy> {
    match &command.action {
        Action::Run { policy, .. } | Action::Network(policy) => Some(policy),
        _ => None,
    }
}

fn peers(policy: &VpcPolicy) -> &[TunnelPeer] {
    policy.tunnel.as_ref().map_or(&[], |tunnel| &tunnel.peers)
}

async fn alive(rig: &Rig, host: &str, address: Option<Ipv4Addr>) {
    let content = ReportContent::Heartbeat(Box::new(Heartbeat {
        resources: HostResources {
            vcpus: 2,
            memory_mib: 65_536,
            disk_gib: 100,
        },
        hypervisor: "fake".into(),
        availability_zone: "us-east-1a".into(),
        tunnel_address: address,
        ..Heartbeat::default()
    }));
    let (host, at) = (HostId(host.into()), rig.cloud.now());
    let report = Report { host, at, content };
    rig.bus.report(report).await.unwrap();
}

/// The host has told of its address, which leads nobody there before the operator has confirmed it.
async fn confirmed(rig: &Rig, host: &str, address: Ipv4Addr) {
    let told = async || {
        let row = host::Entity::find_by_id(host).one(rig.cloud.store.read()).await;
        row.unwrap().and_then(|row| row.tunnel_address) == Some(Ipv4(address))
    };
    until("the host has told of its address", told).await;
    let row = host::Entity::find_by_id(host).one(rig.cloud.store.read()).await;
    assert_ne!(row.unwrap().unwrap().confirmed_tunnel, Some(Ipv4(address)));
    let id = HostId(host.into());
    hosts::confirm(&rig.cloud.parts(), &id, hosts::Given::default())
        .await
        .unwrap();
}

async fn next(mailbox: &mut HostMailbox, wanted: impl Fn(&Command) -> bool) -> Command {
    let found = async {
        loop {
            match mailbox.next().await {
                Some(Delivery::Command(command)) if wanted(&command) => return command.accept(),
                Some(_) => {}
                None => panic!("the bus has closed"),
            }
        }
    };
    tokio::time::timeout(SOON, found)
        .await
        .expect("a command should have come")
}

#[tokio::test]
async fn each_host_is_told_of_the_others() {
    // Room for one instance on each host.
    let mut rig = Rig::with_vcpus(2).await;
    let b = HostId("host-b".into());
    let mut on_b = rig.bus.host_mailbox(&b).await.unwrap();
    alive(&rig, "host-a", Some(A)).await;
    confirmed(&rig, "host-a", A).await;
    let first = rig.running(|_| ()).await;
    let first_ip = rig.view(first).await.interfaces[0].private_ip();
    alive(&rig, "host-b", Some(B)).await;
    let store = rig.cloud.store.clone();
    confirmed(&rig, "host-b", B).await;
    let second = rig.launch(|_| ()).await;
    let run = next(&mut on_b, |command| is_run(&command.action)).await;
    let told = policy(&run).unwrap();
    assert_eq!(told.interfaces.len(), 1);
    let expected = |host, ip| {
        vec![TunnelPeer {
            host,
            addresses: vec![ip],
        }]
    };
    assert_eq!(peers(told), expected(A, first_ip));
    let second_ip = told.interfaces[0].private_ip;
    // The first host hears of it before it even runs.
    let tunnel = rig
        .command(|action| matches!(action, Action::Network(policy) if policy.tunnel.is_some()))
        .await;
    let told = policy(&tunnel).unwrap();
    assert_eq!(peers(told), expected(B, second_ip));
    let row = vpc::Entity::find().one(store.read()).await.unwrap().unwrap();
    let vni = told.tunnel.as_ref().map(|tunnel| Count(tunnel.vni));
    assert_eq!(vni, row.vni);
    // Group members are the VPC's, wherever they are.
    let mut all = vec![first_ip, second_ip];
    all.sort();
    assert_eq!(told.groups[0].members, all);
    // A host's tunnels end elsewhere: the others hear of it.
    let moved = Ipv4Addr::new(10, 200, 0, 9);
    alive(&rig, "host-b", Some(moved)).await;
    confirmed(&rig, "host-b", moved).await;
    rig.command(|action| matches!(action, Action::Network(p) if peers(p) == expected(moved, second_ip)))
        .await;
    // It ends: the first host is alone again.
    let (instance, generation) = run.action.instance().unwrap();
    assert_eq!(instance, second);
    instances::terminate(&rig.cloud, &rig.who, &[second])
        .await
        .unwrap();
    let end = next(&mut on_b, |c| matches!(c.action, Action::Destroy { .. })).await;
    let report = InstanceReport {
        instance,
        generation: generation + 1,
        power: Power::Absent,
        off_reason: None,
    };
    let outcome = Outcome {
        operation: end.operation.unwrap(),
        report,
        failure: None,
        permanent: false,
        kept: Vec::new(),
        root: None,
    };
    let (host, at) = (b, rig.cloud.now());
    let content = ReportContent::Done(outcome);
    rig.bus.report(Report { host, at, content }).await.unwrap();
    rig.command(
        |action| matches!(action, Action::Network(p) if p.tunnel.is_none() && !p.interfaces.is_empty()),
    )
    .await;
}

#[tokio::test]
async fn hosts_without_an_address_have_no_tunnels() {
    let mut rig = Rig::with_vcpus(2).await;
    let b = HostId("host-b".into());
    let mut on_b = rig.bus.host_mailbox(&b).await.unwrap();
    rig.running(|_| ()).await;
    alive(&rig, "host-b", Some(B)).await;
    confirmed(&rig, "host-b", B).await;
    rig.launch(|_| ()).await;
    let run = next(&mut on_b, |command| is_run(&command.action)).await;
    assert_eq!(policy(&run).unwrap().tunnel, None);
}

/// A heartbeat of a host that is no simulation, and what it comes to.
async fn real(rig: &Rig, host: &str, vcpus: u32, address: Option<Ipv4Addr>) -> Option<String> {
    let heartbeat = Heartbeat {
        resources: HostResources {
            vcpus,
            memory_mib: 65_536,
            disk_gib: 100,
        },
        hypervisor: "kvm".into(),
        availability_zone: "us-east-1a".into(),
        tunnel_address: address,
        ..Heartbeat::default()
    };
    let report = Report {
        host: HostId(host.into()),
        at: rig.cloud.now(),
        content: ReportContent::Heartbeat(Box::new(heartbeat)),
    };
    rig.bus.report(report).await.unwrap();
    until("the heartbeat is applied", async || {
        rig.row(host)
            .await
            .is_some_and(|row| row.vcpus == Amount(vcpus.into()))
    })
    .await;
    rig.row(host).await.unwrap().not_ready_reason
}

#[tokio::test]
async fn a_host_without_a_tunnel_address_takes_launches_as_long_as_none_is_needed() {
    let without = "it has no tunnel address, and the cloud has other hosts";
    let mut rig = Rig::with_vcpus(2).await;
    // The one host there is needs none.
    assert_eq!(real(&rig, "host-a", 4, None).await, None);
    rig.running(|_| ()).await;
    // Another one without is not ready, and takes nothing away from the first.
    assert_eq!(real(&rig, "host-b", 2, None).await.as_deref(), Some(without));
    assert_eq!(real(&rig, "host-b", 3, None).await.as_deref(), Some(without));
    assert_eq!(real(&rig, "host-a", 5, None).await, None);
    let cure = rig.row("host-b").await.unwrap().not_ready_cure.unwrap();
    assert!(
        cure.contains("network.tunnel_address") && cure.contains("host confirm host-b"),
        "{cure}"
    );
    let listed = hosts::list(&rig.cloud.parts()).await.unwrap();
    assert_eq!(listed[1].row.not_ready_reason.as_deref(), Some(without));
    // Nothing goes there.
    let second = rig.running(|_| ()).await;
    assert_eq!(rig.view(second).await.row.host.as_deref(), Some("host-a"));
    // With an address that is confirmed the second one is ready, and the first one needs one too.
    assert!(real(&rig, "host-b", 4, Some(B)).await.is_some());
    confirmed(&rig, "host-b", B).await;
    assert_eq!(real(&rig, "host-b", 5, Some(B)).await, None);
    assert_eq!(real(&rig, "host-a", 6, None).await.as_deref(), Some(without));
    confirmed_after(&rig, "host-a", A).await;
    assert_eq!(real(&rig, "host-a", 8, Some(A)).await, None);
    // Alone again, it needs none.
    hosts::remove(&rig.cloud.parts(), &HostId("host-b".into()))
        .await
        .unwrap();
    assert_eq!(real(&rig, "host-c", 1, None).await.as_deref(), Some(without));
    hosts::remove(&rig.cloud.parts(), &HostId("host-c".into()))
        .await
        .unwrap();
}

async fn confirmed_after(rig: &Rig, host: &str, address: Ipv4Addr) {
    assert!(real(rig, host, 7, Some(address)).await.is_some());
    confirmed(rig, host, address).await;
}
