//! The benchmark of scheduler decisions: how long one takes.
//!
//! Hosts of different fullness, half of them with an instance type's capabilities, with the filters and
//! weighers that run by default; each decision is charged to the host that it takes. Prints a JSON object
//! for each number of hosts. `decisions HOSTS[,HOSTS]… [SECONDS]`

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use cumulet_scheduler::{Fleet, HostInfo, HostState, Profile, Request, Settings, pick};

/// The least number of decisions that is measured.
const LEAST: usize = 1000;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let sizes = arguments.next().unwrap_or_else(|| "100,1000,5000,10000".into());
    let seconds: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);
    for size in sizes.split(',') {
        let size = size.parse().map_err(io::Error::other)?;
        let measured = measure(size, Duration::from_secs(seconds));
        writeln!(io::stdout(), "{measured}")?;
    }
    Ok(())
}

fn measure(size: u32, least: Duration) -> serde_json::Value {
    let mut fleet = Fleet::new((0..size).map(host).collect());
    let (request, settings) = (request(), Settings::default());
    let mut decide = || {
        let at = pick(&fleet, &request, &settings, |_| 0);
        if let Ok(at) = at {
            fleet.charge(at, request.vcpus, request.memory_mib, request.disk_gib);
        }
        at.is_ok()
    };
    for _ in 0..100 {
        decide();
    }
    let (start, mut times, mut placed) = (Instant::now(), Vec::new(), 0_usize);
    while times.len() < LEAST || start.elapsed() < least {
        let one = Instant::now();
        placed += usize::from(decide());
        times.push(one.elapsed());
    }
    let total: Duration = times.iter().sum();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000].as_secs_f64() * 1e6;
    let rate = times.len() as f64 / total.as_secs_f64();
    serde_json::json!({
        "hosts": size, "decisions": times.len(), "placed": placed, "rate": rate,
        "p50_us": at(500), "p99_us": at(990), "p999_us": at(999),
    })
}

/// A host: what it has free goes up and down over the fleet, and never ends while it is measured.
fn host(number: u32) -> HostInfo {
    let mixed = i64::from(number.wrapping_mul(2_654_435_761) >> 8);
    let mut profile = Profile {
        availability_zone: "us-east-1a".into(),
        architecture: Some("x86_64".into()),
        hypervisor: "qemu".into(),
        ..Profile::default()
    };
    let ssd = if number.is_multiple_of(2) { "true" } else { "false" };
    profile.capabilities = Arc::new([("ssd".to_owned(), ssd.to_owned())].into());
    HostInfo {
        id: format!("host-{number:05}"),
        not_ready: None,
        state: HostState {
            enabled: true,
            last_seen: 1000,
            free_vcpus: 1_000_000 + mixed % 997,
            free_memory_mib: 1_000_000_000 + mixed % 99_991,
            free_disk_gib: 100_000_000 + mixed % 9973,
            ..HostState::default()
        },
        profile,
    }
}

fn request() -> Request {
    Request {
        availability_zone: "us-east-1a".into(),
        vcpus: 2,
        memory_mib: 512,
        disk_gib: 8,
        heard_after: 1,
        account: "000000000001".into(),
        architecture: Some("x86_64".into()),
        extra_specs: std::sync::Arc::new([("capabilities:ssd".into(), "true".into())].into()),
        ..Request::default()
    }
}
