//! Filters and weighers as tables; what a choice promises as properties.

use std::{collections::HashMap, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    Group, HostInfo, HostState, Member, Multipliers, Policy, Profile, fleet::Pairs, request::HostSet,
};

const ZONE: &str = "us-east-1a";

fn pairs(text: &[(&str, &str)]) -> Pairs {
    text.iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn host(id: &str, free_vcpus: i64, free_memory_mib: i64) -> HostInfo {
    HostInfo {
        id: id.into(),
        not_ready: None,
        state: HostState {
            enabled: true,
            last_seen: 100,
            free_vcpus,
            free_memory_mib,
            free_disk_gib: 100,
            ..HostState::default()
        },
        profile: Profile {
            availability_zone: ZONE.into(),
            architecture: Some("x86_64".into()),
            hypervisor: "qemu".into(),
            ..Profile::default()
        },
    }
}

/// A host with room and something changed.
fn roomy(id: &str, change: impl FnOnce(&mut HostInfo)) -> HostInfo {
    let mut host = host(id, 64, 65_536);
    change(&mut host);
    host
}

fn request(vcpus: i64) -> Request {
    Request {
        availability_zone: ZONE.into(),
        vcpus,
        memory_mib: 512,
        disk_gib: 8,
        heard_after: 10,
        account: "000000000001".into(),
        architecture: Some("x86_64".into()),
        ..Request::default()
    }
}

fn only(weigher: impl FnOnce(&mut Multipliers)) -> Settings {
    let mut multipliers = Multipliers {
        ram: 0.0,
        cpu: 0.0,
        disk: 0.0,
        io_ops: 0.0,
        metrics: 0.0,
        soft_affinity: 0.0,
        soft_anti_affinity: 0.0,
    };
    weigher(&mut multipliers);
    Settings {
        multipliers,
        ..Settings::default()
    }
}

fn first(fleet: &Fleet, request: &Request, settings: &Settings) -> Result<u32, Refusal> {
    pick(fleet, request, settings, |_| 0)
}

/// Which of the hosts one filter, by its name, leaves.
fn left_by(filter: &str, hosts: Vec<HostInfo>, request: &Request) -> Vec<u32> {
    let settings = Settings {
        filters: Settings::filters(filter).unwrap(),
        ..Settings::default()
    };
    fitting(&Fleet::new(hosts), request, &settings, None).unwrap_or_default()
}

#[test]
fn the_host_with_the_most_free_memory_is_taken_and_the_first_of_equals() {
    let hosts = [("a", 1024), ("b", 4096), ("c", 4096), ("d", 256)];
    let fleet = Fleet::new(hosts.iter().map(|(id, memory)| host(id, 8, *memory)).collect());
    assert_eq!(first(&fleet, &request(1), &Settings::default()), Ok(1));
}

#[test]
fn a_refusal_says_what_no_host_is_and_the_log_which_filter_removed_how_many() {
    let settings = Settings::default();
    let fleet = Fleet::new(vec![host("a", 2, 4096)]);
    let full = first(&fleet, &request(8), &settings).unwrap_err();
    assert_eq!(full.to_string(), "no host has 8 free vCPUs in us-east-1a");
    assert_eq!(full.filters(), "cpu removed 1 of 1");
    assert!(!full.may_pass());
    let mut silent = host("a", 8, 4096);
    silent.state.last_seen = 10;
    let fleet = Fleet::new(vec![silent, host("b", 8, 100), host("c", 8, 100)]);
    let refusal = first(&fleet, &request(1), &settings).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "host a has not been heard of for 30 s; no host is ready and has 512 MiB of free memory in us-east-1a"
    );
    assert_eq!(refusal.filters(), "compute removed 1 of 3, ram removed 2 of 3");
    assert!(refusal.may_pass());
    let none = first(&Fleet::default(), &request(1), &settings).unwrap_err();
    assert_eq!(none.to_string(), "there is no host");
    assert!(none.may_pass());
}

#[test]
fn a_host_that_is_not_ready_takes_nothing_and_its_reason_comes_first() {
    let settings = Settings::default();
    let slow = |id: &str| roomy(id, |h| h.not_ready = Some("libvirt takes 31 s for a call".into()));
    let mut fleet = Fleet::new(vec![slow("vm")]);
    let refusal = first(&fleet, &request(1), &settings).unwrap_err();
    let expected = "host vm: libvirt takes 31 s for a call; no host is ready";
    assert_eq!(refusal.to_string(), expected);
    assert!(refusal.may_pass());
    // One that is removed for something else before it is not told of.
    let mut elsewhere = slow("there");
    elsewhere.profile.availability_zone = "us-east-1b".into();
    fleet.put(elsewhere);
    let refusal = first(&fleet, &request(1), &settings).unwrap_err();
    assert!(!refusal.to_string().contains("there:"), "{refusal}");
    for n in 0..7 {
        fleet.put(slow(&format!("vn{n}")));
    }
    let refusal = first(&fleet, &request(1), &settings).unwrap_err().to_string();
    assert_eq!(refusal.matches("libvirt").count(), 3, "{refusal}");
    assert!(
        refusal.contains("5 more hosts are not ready; no host is in us-east-1a and is ready"),
        "{refusal}"
    );
    fleet.put(roomy("vm", |_| ()));
    let at = first(&fleet, &request(1), &settings).unwrap();
    assert_eq!(fleet.id(at).unwrap().0, "vm");
    assert_eq!(fleet.not_ready(at), None);
}

#[test]
fn after_hosts_that_were_tried_the_others_are_spoken_of() {
    let settings = Settings::default();
    let ask = Request {
        tried: [0].into_iter().collect(),
        ..request(4)
    };
    let small = || roomy("b", |h| h.state.free_vcpus = 1);
    for (others, expected) in [
        (vec![], "there is no other host that could take it"),
        (vec![small()], "no other host has 4 free vCPUs in us-east-1a"),
        (
            vec![roomy("b", |h| h.not_ready = Some("libvirt is slow".into()))],
            "host b: libvirt is slow; no other host is ready",
        ),
    ] {
        let hosts = std::iter::once(roomy("a", |_| ())).chain(others);
        let refusal = first(&Fleet::new(hosts.collect()), &ask, &settings).unwrap_err();
        assert_eq!(refusal.of_others(), expected);
    }
}

/// A host that no filter leaves, and the requests for which the filters run.
fn nowhere() -> (HostInfo, Vec<Request>) {
    let mut worst = host("vm", 0, 0);
    (worst.state.enabled, worst.state.last_seen) = (false, 5);
    worst.state.free_disk_gib = 0;
    worst.profile.availability_zone = "us-east-1b".into();
    worst.profile.aggregates = vec![Arc::new(pairs(&[("filter_tenant_id", "000000000002")]))];
    let group = |policy, on_it: bool| Group {
        policy,
        members: on_it.then(|| (0, Member::default())).into_iter().collect(),
        populated: true,
    };
    let ask = |group| Request {
        tried: [0].into_iter().collect(),
        different_host: [0].into_iter().collect(),
        same_host: Some(HostSet::default()),
        architecture: Some("arm64".into()),
        extra_specs: Arc::new(pairs(&[("capabilities:gpu", "true"), ("ssd", "true")])),
        group: Some(group),
        ..request(4)
    };
    let groups = [
        group(Policy::Affinity, false),
        group(Policy::AntiAffinity, true),
        group(Policy::Partition(2), true),
    ];
    (worst, groups.map(ask).into())
}

#[test]
fn each_filters_refusal_is_a_sentence_without_internals() {
    let (worst, requests) = nowhere();
    for filter in crate::filters::ALL {
        let settings = Settings {
            filters: vec![filter],
            ..Settings::default()
        };
        let mut refused = 0;
        for request in &requests {
            let fleet = Fleet::new(vec![worst.clone()]);
            // This one runs whatever the list says.
            let needs_pool = filter.name() == "volume_store";
            let request = Request {
                needs_pool,
                ..request.clone()
            };
            let Err(refusal) = first(&fleet, &request, &settings) else {
                continue;
            };
            refused += 1;
            for text in [refusal.to_string(), refusal.of_others()] {
                assert!(text.split(' ').count() >= 4, "no sentence: {text}");
                assert!(text.starts_with(|c: char| c.is_ascii_lowercase()), "{text}");
                assert!(text.ends_with(|c: char| c.is_alphanumeric()), "{text}");
                let name = filter.name();
                let is_internal = name.contains('_') && text.contains(name) && !text.contains("hint");
                assert!(!is_internal, "the filter {name} is named: {text}");
                for internal in ["filter", "removed", "::", "Some(", "\"", "{", "["] {
                    assert!(!text.contains(internal), "{internal:?} in: {text}");
                }
            }
            assert!(refusal.filters().contains(filter.name()));
        }
        assert!(refused > 0, "{} was not tried", filter.name());
    }
}

#[test]
fn filters_on_the_hosts_numbers() {
    let ask = Request {
        tried: [1].into_iter().collect(),
        different_host: [0].into_iter().collect(),
        same_host: Some([2].into_iter().collect()),
        disk_gib: 50,
        ..request(4)
    };
    let hosts = || {
        vec![
            roomy("a", |h| {
                h.state.enabled = false;
                h.not_ready = Some("it is slow".into());
            }),
            roomy("b", |h| h.state.last_seen = 5),
            roomy("c", |h| h.state.free_vcpus = 3),
            roomy("d", |h| h.state.free_memory_mib = 511),
            roomy("e", |h| h.state.free_disk_gib = 49),
            roomy("f", |h| h.profile.availability_zone = "us-east-1b".into()),
        ]
    };
    for (filter, removed) in [
        ("retry", vec![1]),
        ("availability_zone", vec![5]),
        ("enabled", vec![0]),
        ("compute", vec![0, 1]),
        ("cpu", vec![2]),
        ("ram", vec![3]),
        ("disk", vec![4]),
        ("different_host", vec![0]),
        ("same_host", vec![0, 1, 3, 4, 5]),
    ] {
        let expected: Vec<u32> = (0..6).filter(|at| !removed.contains(at)).collect();
        assert_eq!(left_by(filter, hosts(), &ask), expected, "{filter}");
    }
}

#[test]
fn compute_capabilities_are_novas() {
    let told = pairs(&[("cpu_info:features", "aes avx"), ("cpus", "8"), ("ssd", "true")]);
    for (key, wanted, passes) in [
        ("capabilities:ssd", "true", true),
        ("capabilities:ssd", "false", false),
        ("capabilities:cpus", ">= 4", true),
        ("capabilities:cpus", "<= 4", false),
        ("capabilities:cpus", "== 8", true),
        ("capabilities:cpus", "!= 8", false),
        ("capabilities:cpus", "= 9", false),
        ("capabilities:cpu_info:features", "<in> avx", true),
        ("capabilities:cpu_info:features", "<all-in> aes avx", true),
        ("capabilities:cpu_info:features", "<all-in> aes sse", false),
        ("capabilities:hypervisor_type", "s== qemu", true),
        ("capabilities:hypervisor_type", "<or> kvm <or> qemu", true),
        ("capabilities:hypervisor_type", "s!= qemu", false),
        ("capabilities:gpu", "1", false),     // the host has not told it
        ("gpu", "1", true),                   // without a scope, what the host does not know is not asked
        ("ssd", "false", false),              // and what it knows is
        ("hw:cpu_policy", "dedicated", true), // another scope is somebody else's
    ] {
        let ask = Request {
            extra_specs: Arc::new(pairs(&[(key, wanted)])),
            ..request(1)
        };
        let hosts = vec![roomy("a", |h| h.profile.capabilities = told.clone().into())];
        let left = left_by("compute_capabilities", hosts, &ask);
        assert_eq!(left.len() == 1, passes, "{key} {wanted}");
    }
}

#[test]
fn images_want_their_architecture_and_hypervisor() {
    for (architecture, hypervisor, passes) in [
        (Some("x86_64"), None, true),
        (Some("arm64"), None, false),
        (None, Some("QEMU"), true),
        (None, Some("kvm"), false),
    ] {
        let ask = Request {
            architecture: architecture.map(str::to_owned),
            hypervisor_type: hypervisor.map(str::to_owned),
            ..request(1)
        };
        let left = left_by("image_properties", vec![roomy("a", |_| ())], &ask);
        assert_eq!(left.len() == 1, passes, "{architecture:?} {hypervisor:?}");
    }
}

#[test]
fn volumes_in_a_store_that_hosts_share_want_a_host_that_reaches_it() {
    for (needs_pool, reaches_pool, passes) in [
        (false, false, true),
        (false, true, true),
        (true, true, true),
        (true, false, false),
    ] {
        let ask = Request {
            needs_pool,
            ..request(1)
        };
        let hosts = || vec![roomy("a", |h| h.state.reaches_pool = reaches_pool)];
        let left = left_by("volume_store", hosts(), &ask);
        assert_eq!(left.len() == 1, passes, "{needs_pool} {reaches_pool}");
        let fleet = Fleet::new(hosts());
        let chosen = fitting(&fleet, &ask, &Settings::default(), None);
        let why = chosen.err().map(|refusal| refusal.to_string());
        let expected = (!passes).then(|| "no host reaches the store of its volumes".to_owned());
        assert_eq!(why, expected);
    }
}

#[test]
fn aggregates_are_novas() {
    let of = |aggregates: Vec<Pairs>| {
        vec![roomy("a", |h| {
            h.profile.aggregates = aggregates.into_iter().map(Arc::new).collect();
        })]
    };
    let both = || {
        vec![
            pairs(&[("ssd", "true")]),
            pairs(&[("rack", "7"), ("ssd", "maybe")]),
        ]
    };
    for (key, wanted, passes) in [
        ("aggregate_instance_extra_specs:ssd", "true", true),
        ("aggregate_instance_extra_specs:ssd", "maybe", true),
        ("aggregate_instance_extra_specs:ssd", "false", false),
        ("aggregate_instance_extra_specs:rack", ">= 5", true),
        ("rack", "8", false), // without a scope it counts too
        ("aggregate_instance_extra_specs:gpu", "1", false),
        ("capabilities:gpu", "1", true),
    ] {
        let ask = Request {
            extra_specs: Arc::new(pairs(&[(key, wanted)])),
            ..request(1)
        };
        let left = left_by("aggregate_instance_extra_specs", of(both()), &ask);
        assert_eq!(left.len() == 1, passes, "{key} {wanted}");
    }
    for (metadata, passes) in [
        (vec![], true),
        (vec![("ssd", "true")], true),
        (vec![("filter_tenant_id", "000000000001")], true),
        (vec![("filter_tenant_id", "000000000002, 000000000001")], true),
        (vec![("filter_tenant_id", "000000000002")], false),
        (
            vec![
                ("filter_tenant_id", "000000000002"),
                ("filter_tenant_id3", "000000000001"),
            ],
            true,
        ),
    ] {
        let left = left_by(
            "aggregate_multi_tenancy_isolation",
            of(vec![pairs(&metadata)]),
            &request(1),
        );
        assert_eq!(left.len() == 1, passes, "{metadata:?}");
    }
}

#[test]
fn groups_keep_members_apart_or_together() {
    let member = |count, partition| Member { count, partition };
    let two = HashMap::from([(0, member(1, 1)), (1, member(3, 2))]);
    let (anti, affinity) = ("server_group_anti_affinity", "server_group_affinity");
    for (filter, policy, members, left) in [
        (anti, Policy::AntiAffinity, two.clone(), vec![2]),
        (anti, Policy::AntiAffinity, HashMap::new(), vec![0, 1, 2]),
        (anti, Policy::Partition(2), two.clone(), vec![1, 2]),
        (anti, Policy::SoftAntiAffinity, two.clone(), vec![0, 1, 2]),
        (affinity, Policy::Affinity, two.clone(), vec![0, 1]),
        (affinity, Policy::Affinity, HashMap::new(), vec![0, 1, 2]),
        (affinity, Policy::SoftAffinity, two, vec![0, 1, 2]),
    ] {
        let group = Group {
            policy,
            populated: !members.is_empty(),
            members,
        };
        let ask = Request {
            group: Some(group),
            ..request(1)
        };
        let hosts = ["a", "b", "c"].map(|id| roomy(id, |_| ())).to_vec();
        assert_eq!(left_by(filter, hosts, &ask), left, "{filter} {policy:?}");
    }
}

#[test]
fn each_weigher_prefers_what_it_says_and_the_opposite_when_negative() {
    let fleet = || {
        Fleet::new(vec![
            roomy("a", |_| ()),
            roomy("b", |h| {
                h.state.free_memory_mib += 1;
                h.state.free_vcpus += 1;
                h.state.free_disk_gib += 1;
                h.state.io_ops = 1;
                h.state.metrics = 0.5;
            }),
        ])
    };
    let group = |policy| Request {
        group: Some(Group {
            policy,
            members: HashMap::from([(
                1,
                Member {
                    count: 1,
                    partition: 0,
                },
            )]),
            populated: true,
        }),
        ..request(1)
    };
    type Set = fn(&mut Multipliers, f64);
    let set: [(Set, Request, u32); 7] = [
        (|m, by| m.ram = by, request(1), 1),
        (|m, by| m.cpu = by, request(1), 1),
        (|m, by| m.disk = by, request(1), 1),
        (|m, by| m.io_ops = by, request(1), 1),
        (|m, by| m.metrics = by, request(1), 1),
        (|m, by| m.soft_affinity = by, group(Policy::SoftAffinity), 1),
        (
            |m, by| m.soft_anti_affinity = by,
            group(Policy::SoftAntiAffinity),
            0,
        ),
    ];
    for (number, (set, request, best)) in set.into_iter().enumerate() {
        let with = |by| only(|multipliers| set(multipliers, by));
        assert_eq!(first(&fleet(), &request, &with(1.0)), Ok(best), "{number}");
        assert_eq!(first(&fleet(), &request, &with(-1.0)), Ok(1 - best), "{number}");
    }
}

#[test]
fn weights_are_brought_between_0_and_1_before_they_are_added() {
    // Memory differs by much, processors by little: each counts the same.
    let fleet = Fleet::new(vec![
        host("a", 10, 1_000_000),
        host("b", 12, 1000),
        host("c", 11, 900_000),
    ]);
    let settings = only(|m| (m.ram, m.cpu) = (1.0, 1.0));
    let totals = weights::totals(&[0, 1, 2], &fleet, &request(1), &settings);
    let expected = [1.0, 1.0, 0.5 + (900_000.0 - 1000.0) / 999_000.0];
    for (total, expected) in totals.iter().zip(expected) {
        assert!((total - expected).abs() < 1e-9, "{totals:?}");
    }
    assert_eq!(first(&fleet, &request(1), &settings), Ok(2));
}

#[test]
fn a_subset_is_drawn_from_the_best() {
    let memory = [900, 1000, 600, 800, 700];
    let hosts = memory
        .iter()
        .enumerate()
        .map(|(i, m)| host(&format!("h{i}"), 8, *m));
    let fleet = Fleet::new(hosts.collect());
    let settings = Settings {
        host_subset_size: 3,
        ..only(|m| m.ram = 1.0)
    };
    for (drawn, expected) in [(0, 1), (1, 0), (2, 3), (9, 3)] {
        let picked = pick(&fleet, &request(1), &settings, |n| {
            assert_eq!(n, 3);
            drawn
        });
        assert_eq!(picked, Ok(expected), "{drawn}");
    }
}

#[test]
fn the_room_of_hosts_is_what_their_scarcest_has() {
    let fleet = Fleet::new(vec![host("a", 9, 1 << 20), host("b", 100, 1600)]);
    let ask = request(2);
    assert_eq!(room(&fleet, &ask, &[0, 1], 100), 4 + 3);
    assert_eq!(room(&fleet, &ask, &[0, 1], 5), 5);
}

fn some_hosts() -> impl Strategy<Value = Vec<HostInfo>> {
    let one = (
        0_i64..16,
        0_i64..8192,
        0_i64..20,
        any::<bool>(),
        0_i64..20,
        0_u8..3,
    );
    prop::collection::vec(one, 0..40).prop_map(|hosts| {
        let numbered = hosts.into_iter().enumerate();
        numbered
            .map(|(i, (vcpus, memory, disk, enabled, seen, zone))| {
                let mut host = host(&format!("h{i:03}"), vcpus, memory);
                host.state.free_disk_gib = disk;
                host.state.enabled = enabled;
                host.state.last_seen = seen + 3;
                host.profile.availability_zone =
                    ["us-east-1a", "us-east-1a", "us-east-1b"][usize::from(zone)].into();
                host
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn only_hosts_that_fit_are_picked_and_refusals_add_up(
        hosts in some_hosts(), vcpus in 1_i64..16, size in 1_usize..5, draw in 0_usize..5,
        tried in prop::collection::vec(0_u32..40, 0..5),
    ) {
        let tried: HostSet = tried.into_iter().collect();
        let ask = Request { tried: tried.clone(), ..request(vcpus) };
        let fits = |(at, h): &(usize, &HostInfo)| {
            let s = &h.state;
            s.enabled && s.last_seen > 10 && s.free_vcpus >= vcpus && s.free_memory_mib >= 512
                && s.free_disk_gib >= 8 && h.profile.availability_zone == ZONE
                && !tried.contains(u32::try_from(*at).unwrap())
        };
        let fitting: Vec<usize> = hosts.iter().enumerate().filter(fits).map(|(at, _)| at).collect();
        let fleet = Fleet::new(hosts.clone());
        let settings = Settings { host_subset_size: size, ..Settings::default() };
        match pick(&fleet, &ask, &settings, |n| draw % n) {
            Ok(at) => prop_assert!(fitting.contains(&(at as usize))),
            Err(refusal) => {
                prop_assert!(fitting.is_empty());
                prop_assert_eq!(refusal.hosts, hosts.len());
                let sum: usize = refusal.removed.iter().map(|removed| removed.hosts).sum();
                prop_assert_eq!(sum, hosts.len());
            }
        }
    }

    #[test]
    fn a_negative_multiplier_stacks(count in 2_usize..10, launches in 1_usize..6) {
        let place = |by: f64| {
            let hosts = (0..count).map(|i| host(&format!("h{i}"), 64, 65_536)).collect();
            let (mut fleet, settings) = (Fleet::new(hosts), only(|m| m.ram = by));
            let mut used = std::collections::HashSet::new();
            for _ in 0..launches {
                let at = first(&fleet, &request(1), &settings).unwrap();
                fleet.charge(at, 1, 512, 8);
                used.insert(at);
            }
            used.len()
        };
        prop_assert_eq!(place(-1.0), 1);
        prop_assert_eq!(place(1.0), launches.min(count));
    }
}
