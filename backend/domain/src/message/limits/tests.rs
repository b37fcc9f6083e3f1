//! Every kind of report, within the limits and beyond them.

use std::sync::Arc;

use super::*;
use crate::{
    host::{HostProfile, MAX_METRICS, MAX_REASON, Metrics},
    id::{HostId, InstanceId, OperationId, SnapshotId, VolumeId, VpcId},
    snapshot::TakenSnapshot,
    time::Timestamp,
};

fn report(content: ReportContent) -> Report {
    Report {
        host: HostId("node-1".into()),
        at: Timestamp(1_800_000_000_000),
        content,
    }
}

fn of(generation: u64) -> InstanceReport {
    InstanceReport {
        instance: InstanceId::new(7),
        generation,
        power: Power::Off,
        off_reason: Some(OffReason::Crashed),
    }
}

fn done(failure: Option<&str>, generation: u64) -> Outcome {
    Outcome {
        operation: OperationId::new(9),
        report: of(generation),
        failure: failure.map(str::to_owned),
        permanent: false,
        kept: vec![VolumeId::new(1)],
        root: None,
    }
}

/// What a host's public key looks like.
fn disk_key() -> String {
    "aZ09-_".chars().cycle().take(43).collect()
}

/// What a pool looks like.
fn pool() -> String {
    "8a3c1f0e-1111-4222-8333-0123456789ab/cumulet".into()
}

/// Whether each field says something, but for why the host is not ready, which has a table of its own. A field that comes
/// to be has to be named here, and is then missed in the tables below until it is said.
fn says_all(told: &Heartbeat) -> bool {
    let Heartbeat {
        resources,
        hypervisor,
        availability_zone,
        tunnel_address,
        console_address,
        profile,
        metrics,
        not_ready: _,
        disk_key,
        problems,
        rbd,
        snapshots,
    } = told;
    let addresses = tunnel_address.is_some() && console_address.is_some();
    let texts =
        !hypervisor.is_empty() && !availability_zone.is_empty() && disk_key.is_some() && rbd.is_some();
    let lists = !metrics.is_empty() && !problems.is_empty() && !snapshots.is_empty();
    *resources != HostResources::default() && profile.is_some() && addresses && texts && lists
}

fn alive(change: impl FnOnce(&mut Heartbeat)) -> ReportContent {
    let mut told = Heartbeat {
        resources: HostResources {
            vcpus: 4,
            memory_mib: 65_536,
            disk_gib: 100,
        },
        hypervisor: "qemu".into(),
        availability_zone: "us-east-1a".into(),
        tunnel_address: Some([10, 0, 0, 1].into()),
        console_address: Some("10.0.0.1:6081".into()),
        profile: Some(Arc::new(HostProfile::default())),
        metrics: [("cpu.percent".to_owned(), 3)].into(),
        not_ready: None,
        problems: vec!["one".into()],
        disk_key: Some(disk_key()),
        rbd: Some(pool()),
        snapshots: vec![SnapshotProgress {
            id: SnapshotId::new(1),
            percent: 40,
        }],
    };
    assert!(
        says_all(&told),
        "a heartbeat of these tables leaves something out"
    );
    change(&mut told);
    ReportContent::Heartbeat(Box::new(told))
}

/// A kind that is added has to be added to the tables below.
const fn kind(content: &ReportContent) -> usize {
    match content {
        ReportContent::Heartbeat(_) => 0,
        ReportContent::Changed(_) => 1,
        ReportContent::Done(_) => 2,
        ReportContent::NetworkApplied { .. } => 3,
        ReportContent::MetadataApplied { .. } => 4,
        ReportContent::Full(_) => 5,
        ReportContent::VolumeDone(_) => 6,
        ReportContent::SnapshotDone(_) => 7,
    }
}
const KINDS: usize = 8;

fn deleted(failure: Option<&str>) -> ReportContent {
    ReportContent::VolumeDone(VolumeOutcome {
        operation: OperationId::new(9),
        volume: VolumeId::new(8),
        failure: failure.map(str::to_owned),
        permanent: false,
    })
}

fn taken(manifest: &str, bytes: u64, failure: Option<&str>) -> ReportContent {
    let data = TakenSnapshot {
        id: SnapshotId::new(8),
        manifest: manifest.into(),
        fresh_bytes: 0,
        bytes,
    };
    ReportContent::SnapshotDone(SnapshotOutcome {
        operation: OperationId::new(9),
        taken: (!manifest.is_empty()).then_some(data).into_iter().collect(),
        failure: failure.map(str::to_owned),
        permanent: false,
    })
}

fn network(generation: u64) -> ReportContent {
    let vpc = VpcId::new(3);
    ReportContent::NetworkApplied { vpc, generation }
}

fn metadata(revision: u64) -> ReportContent {
    let instance = InstanceId::new(3);
    ReportContent::MetadataApplied { instance, revision }
}

#[test]
fn a_report_within_the_limits_is_what_it_was() {
    let most = i64::MAX.unsigned_abs() - 1;
    let good = [
        alive(|_| ()),
        ReportContent::Changed(of(most)),
        ReportContent::Done(done(Some("libvirt is away"), most)),
        ReportContent::Done(done(None, 0)),
        deleted(None),
        deleted(Some("the disk is full")),
        taken(&"a".repeat(64), 7, None),
        taken("", 0, Some("the disk is full")),
        network(most),
        metadata(most),
        ReportContent::Full(vec![of(1); MAX_INSTANCES]),
    ];
    let mut seen = [false; KINDS];
    for content in good {
        seen[kind(&content)] = true;
        let told = report(content);
        assert_eq!(told.clone().within_limits(), Ok((told, Vec::new())));
    }
    assert_eq!(seen, [true; KINDS]);
}

#[test]
fn a_report_that_can_not_be_true_is_none() {
    let long = "x".repeat(256);
    let wrong = [
        alive(|told| told.hypervisor.clone_from(&long)),
        alive(|told| told.availability_zone = "a\nb".into()),
        ReportContent::Changed(of(u64::MAX)),
        ReportContent::Done(done(None, i64::MAX.unsigned_abs())),
        network(u64::MAX),
        metadata(u64::MAX),
        ReportContent::Full(vec![of(1); MAX_INSTANCES + 1]),
        ReportContent::Full(vec![of(1), of(u64::MAX)]),
        taken("../../etc/passwd", 7, None),
        taken(&"a".repeat(64), u64::MAX, None),
        taken(&"a".repeat(64), 7, Some("and it failed")),
        taken("", 7, None),
    ];
    // An outcome of a volume has nothing that could not be: its words are looked at, and nothing drops it.
    let mut seen = [false, false, false, false, false, false, true, false];
    for content in wrong {
        seen[kind(&content)] = true;
        let reason = report(content).within_limits().unwrap_err();
        assert!(!reason.contains(&long) && reason.len() < 200, "{reason}");
    }
    assert_eq!(seen, [true; KINDS]);
    for name in ["", ".", "../a", "a/b", "a b", "a\0", &"x".repeat(65)] {
        let told = Report {
            host: HostId(name.into()),
            ..report(network(1))
        };
        assert!(told.within_limits().is_err(), "{name:?}");
    }
    for at in [-1, END + 1, i64::MIN, i64::MAX] {
        let told = Report {
            at: Timestamp(at),
            ..report(network(1))
        };
        assert!(told.within_limits().is_err(), "{at}");
    }
}

/// A host that tells a wrong address is not one that has none.
fn without_tunnel(told: &mut Heartbeat) {
    told.tunnel_address = None;
    told.not_ready = Some(NotReady {
        reason: "its tunnel address can't be a host's".into(),
        cure: Some("set `network.tunnel_address` there to an address that the other hosts reach".into()),
    });
}

/// What a heartbeat says too much of is left out, and the host is there all the same.
#[test]
fn what_is_too_much_of_a_heartbeat_is_left_out() {
    type Edit = fn(&mut Heartbeat);
    let edits: [(Edit, Edit); 8] = [
        (
            |t| t.resources.vcpus = u32::MAX,
            |t| t.resources = HostResources::default(),
        ),
        (
            |t| t.resources.memory_mib = u64::MAX,
            |t| t.resources = HostResources::default(),
        ),
        (
            |t| t.resources.disk_gib = u64::MAX,
            |t| t.resources = HostResources::default(),
        ),
        (|t| t.tunnel_address = Some([0, 0, 0, 0].into()), without_tunnel),
        (|t| t.tunnel_address = Some([127, 0, 0, 1].into()), without_tunnel),
        (
            |t| t.console_address = Some("127.0.0.1:22".into()),
            |t| t.console_address = None,
        ),
        (
            |t| {
                t.profile = Some(Arc::new(HostProfile {
                    architecture: Some("x".repeat(9999)),
                    ..HostProfile::default()
                }))
            },
            |t| t.profile = None,
        ),
        (
            |t| t.metrics = (0..=MAX_METRICS).map(|n| (n.to_string(), 1)).collect(),
            |t| t.metrics = Metrics::new(),
        ),
    ];
    for (number, (wrong, right)) in edits.into_iter().enumerate() {
        let (told, left_out) = report(alive(wrong)).within_limits().unwrap();
        assert_eq!(
            (told.content, left_out.len()),
            (alive(right), 1),
            "{number}: {left_out:?}"
        );
    }
    let key = disk_key();
    for wrong in [
        "",
        &key[1..],
        &format!("{key}a"),
        &format!("{}=", &key[1..]),
        &format!("{}+", &key[1..]),
        &format!("{}/", &key[1..]),
        &format!("{}\n", &key[1..]),
        &"ä".repeat(43),
        // 43 bytes.
        &format!("{}ä", &key[2..]),
        &"a".repeat(1 << 20),
    ] {
        let many = alive(|told| told.disk_key = Some(wrong.to_owned()));
        let (told, left_out) = report(many).within_limits().unwrap();
        let short = format!("{wrong:.50}");
        assert_eq!(told.content, alive(|told| told.disk_key = None), "{short}");
        assert_eq!(
            left_out,
            ["its public key: it is not 43 digits of base64url"],
            "{short}"
        );
    }
    for wrong in [
        "",
        "/",
        "cumulet",
        &pool()[1..],
        &format!("{}/a", pool()),
        &format!("{},b", pool()),
    ] {
        let many = alive(|told| told.rbd = Some(wrong.to_owned()));
        let (told, left_out) = report(many).within_limits().unwrap();
        assert_eq!(told.content, alive(|told| told.rbd = None), "{wrong}");
        assert_eq!(
            left_out,
            ["the pool that it reaches: it is not FSID/POOL"],
            "{wrong}"
        );
    }
    for (name, value) in [
        ("cpu.percent", 101),
        ("cpu.percent", -1),
        ("cpu.frequency", i64::MAX),
    ] {
        let many = alive(|told| told.metrics = [(name.to_owned(), value)].into());
        assert_eq!(report(many).within_limits().unwrap().1.len(), 1, "{name}");
    }
}

#[test]
fn a_guest_keeps_only_so_many_volumes() {
    let all = (1..=MAX_KEPT as u64 + 1).map(VolumeId::new).collect();
    let outcome = Outcome {
        kept: all,
        ..done(Some("the guest uses them"), 1)
    };
    let (told, left_out) = report(ReportContent::Done(outcome)).within_limits().unwrap();
    let ReportContent::Done(outcome) = told.content else {
        unreachable!()
    };
    assert_eq!((outcome.kept.len(), left_out.len()), (MAX_KEPT, 1));
}

/// Texts are cut, and never dropped: a failure without words would pass for a success.
#[test]
fn texts_are_one_line_and_not_too_long() {
    let text = |failure: &str| match report(ReportContent::Done(done(Some(failure), 1))).within_limits() {
        Ok((
            Report {
                content: ReportContent::Done(outcome),
                ..
            },
            _,
        )) => outcome.failure,
        other => panic!("{other:?}"),
    };
    let of_a_volume = |failure: &str| match report(deleted(Some(failure))).within_limits() {
        Ok((
            Report {
                content: ReportContent::VolumeDone(outcome),
                ..
            },
            _,
        )) => outcome.failure,
        other => panic!("{other:?}"),
    };
    for failure in [
        "a\nb\u{1b}[31m",
        "\n",
        "internal error: /var/lib",
        &"ä".repeat(1 << 20),
    ] {
        assert_eq!(of_a_volume(failure), text(failure));
    }
    assert_eq!(text("a\nb\u{1b}[31m").as_deref(), Some("a b [31m"));
    assert_eq!(text("\n").as_deref(), Some("it does not say why"));
    assert_eq!(
        text(&"ä".repeat(1 << 20)).map(|text| text.chars().count()),
        Some(MAX_FAILURE)
    );
    let many = alive(|told| {
        told.problems = vec!["x\n".repeat(MAX_REASON); 1000];
        told.not_ready = Some(NotReady {
            reason: "y".repeat(1 << 20),
            cure: None,
        });
    });
    let (told, _) = report(many).within_limits().unwrap();
    let ReportContent::Heartbeat(told) = told.content else {
        panic!("{told:?}")
    };
    assert_eq!(told.problems.len(), MAX_PROBLEMS);
    assert!(
        told.problems
            .iter()
            .all(|text| text.len() <= MAX_REASON && !text.contains('\n'))
    );
    assert_eq!(told.not_ready.map(|why| why.reason.len()), Some(MAX_REASON));
    let whole = SnapshotProgress {
        id: SnapshotId::new(1),
        percent: 255,
    };
    let (told, left_out) = report(alive(|told| told.snapshots = vec![whole; 1000]))
        .within_limits()
        .unwrap();
    let ReportContent::Heartbeat(told) = told.content else {
        panic!("{told:?}")
    };
    assert_eq!(
        (told.snapshots.len(), told.snapshots[0].percent),
        (MAX_TAKEN, MAX_PROGRESS)
    );
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    // A guest that runs is not off for a reason.
    let on = InstanceReport {
        power: Power::On,
        ..of(1)
    };
    let (told, _) = report(ReportContent::Changed(on)).within_limits().unwrap();
    assert!(matches!(
        told.content,
        ReportContent::Changed(InstanceReport { off_reason: None, .. })
    ));
}

/// What looks like the inside of a machine goes no further than to the operator.
#[test]
fn words_that_are_not_for_tenants_are_for_the_operator() {
    let said = "internal error: cannot open /var/lib/cumulet/disk";
    let told = report(ReportContent::Done(done(Some(said), 1)))
        .within_limits()
        .unwrap();
    let ReportContent::Done(outcome) = told.0.content else {
        unreachable!()
    };
    assert_eq!(outcome.failure.as_deref(), Some(UNTOLD));
    assert!(
        told.1.iter().any(|left_out| left_out.contains(said)),
        "the log has it"
    );
    let not_ready = |reason: &str, cure: Option<&str>| {
        let heartbeat = Heartbeat {
            hypervisor: "kvm".into(),
            availability_zone: "a".into(),
            not_ready: Some(NotReady {
                reason: reason.into(),
                cure: cure.map(str::to_owned),
            }),
            ..Heartbeat::default()
        };
        let told = report(ReportContent::Heartbeat(Box::new(heartbeat)))
            .within_limits()
            .unwrap();
        match told.0.content {
            ReportContent::Heartbeat(heartbeat) => heartbeat.not_ready.unwrap(),
            _ => unreachable!(),
        }
    };
    let ours = "libvirt takes 31 s for a call: /dev/kvm can't be opened by the group kvm";
    assert_eq!(not_ready(ours, Some("chgrp kvm /dev/kvm")).reason, ours);
    for cure in [None, Some("look there")] {
        let told = not_ready(said, cure);
        assert_eq!(told.reason, UNTOLD);
        let for_the_operator = told.cure.unwrap();
        assert!(for_the_operator.contains(said) && for_the_operator.ends_with(cure.unwrap_or(said)));
    }
}
