//! The rules as text, and the judgement of nft and the kernel on them, in a namespace that ends with
//! the thread that made it.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use cumulet_domain::network::{Cidr, GroupPolicy, Rule, Traffic};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;

use super::{super::testing::policy, *};

/// Whether the kernel may be asked: as root, unless that is switched off.
fn asks_the_kernel() -> bool {
    if std::env::var("CUMULET_SKIP_ROOT_TESTS").as_deref() == Ok("1") {
        println!("skipped: CUMULET_SKIP_ROOT_TESTS=1");
        return false;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "needs root, or CUMULET_SKIP_ROOT_TESTS=1"
    );
    true
}

/// Runs `work` in a new, empty network namespace.
fn in_new_namespace(work: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        work();
    });
    thread.join().unwrap();
}

fn nft(args: &[&str], text: &str) -> Result<String, String> {
    let mut child = Command::new("nft")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr)
            .chars()
            .take(2000)
            .collect())
    }
}

#[test]
fn golden() {
    let (text, _) = render(&policy(2), &Options::default(), None);
    // A test runs in its package's directory.
    let golden = "src/network/firewall/golden.nft";
    if std::env::var_os("CUMULET_BLESS").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn one_rule_each() {
    let block = Peer::Cidr("10.0.0.0/8".parse().unwrap());
    let group = Peer::Group(SecurityGroupId::new(0xab));
    let cases = [
        (
            Direction::Ingress,
            Traffic::All,
            Peer::Cidr(Cidr::new(Ipv4Addr::UNSPECIFIED, 0)),
            "accept",
        ),
        (
            Direction::Ingress,
            Traffic::All,
            group,
            "ct original ip saddr @sg_ab_a accept",
        ),
        (
            Direction::Egress,
            Traffic::All,
            block,
            "ct reply ip saddr 10.0.0.0/8 meta mark set 0x100 return",
        ),
        (
            Direction::Ingress,
            Traffic::Tcp { from: 22, to: 22 },
            block,
            "meta l4proto { icmp, tcp } ct original protocol tcp ct reply proto-src 22 ct original ip saddr 10.0.0.0/8 accept",
        ),
        (
            Direction::Ingress,
            Traffic::Udp { from: 0, to: 65535 },
            block,
            "meta l4proto { icmp, udp } ct original protocol udp ct original ip saddr 10.0.0.0/8 accept",
        ),
        (
            Direction::Ingress,
            Traffic::Icmp {
                kind: Some(8),
                code: None,
            },
            block,
            "meta l4proto icmp ct original protocol icmp ct original proto-dst 2048-2303 ct original ip saddr 10.0.0.0/8 accept",
        ),
        (
            Direction::Ingress,
            Traffic::Protocol(47),
            block,
            "ct original protocol 47 ct original ip saddr 10.0.0.0/8 accept",
        ),
    ];
    for (direction, traffic, peer, text) in cases {
        assert_eq!(
            rule(
                &Rule {
                    direction,
                    traffic,
                    peer
                },
                'a'
            ),
            text
        );
    }
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let ports = any::<(u16, u16)>().prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        Just(Traffic::All),
        ports.clone().prop_map(|(from, to)| Traffic::Tcp { from, to }),
        ports.prop_map(|(from, to)| Traffic::Udp { from, to }),
        any::<(Option<u8>, Option<u8>)>().prop_map(|(kind, code)| Traffic::Icmp { kind, code }),
        any::<u8>().prop_map(Traffic::Protocol),
    ]
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let peer = prop_oneof![
        any::<(u32, u8)>().prop_map(|(a, p)| Peer::Cidr(Cidr::new(a.into(), p % 33))),
        (0..5u64).prop_map(|n| Peer::Group(SecurityGroupId::new(n))),
    ];
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let rule = (direction, traffic(), peer).prop_map(|(direction, traffic, peer)| Rule {
        direction,
        traffic,
        peer,
    });
    proptest::collection::vec(rule, 0..6)
}

fn policies() -> impl Strategy<Value = VpcPolicy> {
    let groups = proptest::collection::vec((rules(), any::<bool>()), 1..4);
    let members = proptest::collection::vec(
        proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        0..5,
    );
    (groups, members).prop_map(|(groups, members)| {
        let mut policy = policy(u32::try_from(members.len()).unwrap());
        let all: Vec<_> = policy.interfaces.iter().map(|i| i.private_ip).collect();
        policy.groups = groups
            .into_iter()
            .enumerate()
            .map(|(n, (rules, listed))| GroupPolicy {
                id: SecurityGroupId::new(n as u64),
                rules,
                members: if listed { all.clone() } else { Vec::new() },
            })
            .collect();
        for (interface, picks) in policy.interfaces.iter_mut().zip(members) {
            interface.groups = picks
                .iter()
                .map(|p| policy.groups[p.index(policy.groups.len())].id)
                .collect();
        }
        policy
    })
}

#[test]
fn every_policy_replaces_every_other() {
    if !asks_the_kernel() {
        return;
    }
    in_new_namespace(|| {
        let mut old = None;
        let egress = Options {
            egress: true,
            connections: 100,
            rate: 1 << 20,
        };
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 48,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let old = std::cell::RefCell::new(&mut old);
        runner
            .run(&(policies(), any::<bool>()), |(policy, leave)| {
                let options = if leave { egress } else { Options::default() };
                let mut old = old.borrow_mut();
                let (text, objects) = render(&policy, &options, old.as_ref());
                nft(&["-f", "-"], &text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
                **old = Some(objects);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn an_old_edition_is_out_of_use_at_once_and_gone_with_the_next_change() {
    if !asks_the_kernel() {
        return;
    }
    in_new_namespace(|| {
        let load = |count, old: Option<&Objects>| {
            let (text, objects) = render(&policy(count), &Options::default(), old);
            nft(&["-f", "-"], &text).unwrap();
            objects
        };
        let listed = || nft(&["list", "ruleset"], "").unwrap();
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let a = load(3, None);
        let b = load(2, Some(&a));
        for chain in BASE_CHAINS {
            let rules = nft(&["list", "chain", "inet", TABLE, chain], "").unwrap();
            let old = |word: &str| word.ends_with("_a");
            assert!(
                !rules.split(|c: char| c.is_whitespace() || c == ',').any(old),
                "{rules}"
            );
        }
        let both = sorted(&listed());
        let a = load(3, Some(&b));
        load(2, Some(&a));
        assert_eq!(
            sorted(&listed()),
            both,
            "something older than the last edition is there"
        );
    });
}

/// `cargo test -p cumulet-worker -- --ignored --nocapture time_of_many`
#[test]
#[ignore = "a measurement"]
fn time_of_many() {
    in_new_namespace(|| {
        for count in [10, 100, 1000] {
            let (text, objects) = render(&policy(count), &Options::default(), None);
            let begin = Instant::now();
            nft(&["-f", "-"], &text).unwrap();
            let first = begin.elapsed();
            let (text, _) = render(&policy(count), &Options::default(), Some(&objects));
            let begin = Instant::now();
            nft(&["-f", "-"], &text).unwrap();
            println!(
                "{count} interfaces: {first:?} from nothing, {:?} again",
                begin.elapsed()
            );
        }
    });
}
