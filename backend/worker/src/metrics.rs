//! Host metrics, told with every heartbeat under the names of Nova's compute monitors: percentages of the
//! processors' time since the heartbeat before, and of the memory that is in use.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use cumulet_domain::host::Metrics;

use crate::blocking::at_once;

/// Where a host's metrics come from.
#[async_trait]
pub trait MetricsSource: Send + Sync + 'static {
    /// What is so now, or was since it was asked last; nothing where it is not known.
    async fn read(&self) -> Metrics;
}

/// The same ones each time: for simulated hosts, which have no processors of their own.
#[derive(Clone, Debug, Default)]
pub struct FixedMetrics(pub Metrics);

#[async_trait]
impl MetricsSource for FixedMetrics {
    async fn read(&self) -> Metrics {
        self.0.clone()
    }
}

/// This machine's, by the kernel's counters.
#[derive(Debug)]
pub struct ProcMetrics {
    folder: PathBuf,
    before: Mutex<Option<Ticks>>,
}

impl Default for ProcMetrics {
    fn default() -> Self {
        Self::in_folder("/proc")
    }
}

impl ProcMetrics {
    fn in_folder(folder: impl Into<PathBuf>) -> Self {
        ProcMetrics {
            folder: folder.into(),
            before: Mutex::default(),
        }
    }

    /// Processors' time since the last call; the first one has nothing to compare with.
    fn processors(&self, stat: &str) -> Option<Metrics> {
        let now = Ticks::parse(stat)?;
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let then = before.replace(now)?;
        drop(before);
        now.since(then).percentages()
    }
}

#[async_trait]
impl MetricsSource for ProcMetrics {
    async fn read(&self) -> Metrics {
        let (stat, memory) = (self.folder.join("stat"), self.folder.join("meminfo"));
        let texts = at_once(move || Ok((fs::read_to_string(stat)?, fs::read_to_string(memory)?)));
        let (stat, memory) = match texts.await {
            Ok(texts) => texts,
            Err(error) => {
                tracing::warn!(%error, "can't tell how busy the host is");
                return Metrics::new();
            }
        };
        let mut metrics = self.processors(&stat).unwrap_or_default();
        metrics.extend(memory_used(&memory).map(|percent| ("memory.percent".to_owned(), percent)));
        metrics
    }
}

/// All processors' time by what it went to, in the kernel's units. What virtual CPUs of guests use is in
/// `user`; what another hypervisor below took away is in none of them but the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    user: u64,
    kernel: u64,
    idle: u64,
    iowait: u64,
    stolen: u64,
}

impl Ticks {
    /// The line of all processors together, in proc(5): user, nice, system, idle, iowait, irq, softirq,
    /// steal, and two that are in the first two already.
    fn parse(stat: &str) -> Option<Ticks> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        let fields = fields.ok()?;
        let [user, nice, system, idle, iowait, irq, softirq, steal] = *fields.first_chunk()?;
        Some(Ticks {
            user: user.saturating_add(nice),
            kernel: system.saturating_add(irq).saturating_add(softirq),
            idle,
            iowait,
            stolen: steal,
        })
    }

    /// What came since; the kernel says itself that some of its counters may go back.
    fn since(self, then: Ticks) -> Ticks {
        Ticks {
            user: self.user.saturating_sub(then.user),
            kernel: self.kernel.saturating_sub(then.kernel),
            idle: self.idle.saturating_sub(then.idle),
            iowait: self.iowait.saturating_sub(then.iowait),
            stolen: self.stolen.saturating_sub(then.stolen),
        }
    }

    /// As Nova has them: `cpu.percent` is all that was not idle.
    fn percentages(self) -> Option<Metrics> {
        let used = [self.user, self.kernel, self.iowait, self.stolen]
            .into_iter()
            .fold(0, u64::saturating_add);
        let total = used.saturating_add(self.idle);
        let named = [
            ("cpu.percent", used),
            ("cpu.user.percent", self.user),
            ("cpu.kernel.percent", self.kernel),
            ("cpu.iowait.percent", self.iowait),
            ("cpu.idle.percent", self.idle),
        ];
        let of = |(name, part): (&str, u64)| Some((name.to_owned(), percent(part, total)?));
        named.into_iter().map(of).collect()
    }
}

/// How much of the memory can't be given to a process that asks.
fn memory_used(meminfo: &str) -> Option<i64> {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    percent(total.saturating_sub(available), total)
}

/// A part as a percentage, cut to a whole number as Nova does; `None` of nothing.
fn percent(part: u64, total: u64) -> Option<i64> {
    let percent = (u128::from(part) * 100).checked_div(u128::from(total))?;
    i64::try_from(percent).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "cpu  100 20 30 800 50 4 6 10 90 0\ncpu0 1 2 3 4 5 6 7 8 9 0\nintr 1\n";
    const MEMORY: &str = "MemTotal:       16000 kB\nMemFree:  100 kB\nMemAvailable:   4000 kB\n";

    struct Proc(tempfile::TempDir, ProcMetrics);

    impl Proc {
        fn new() -> Proc {
            let dir = tempfile::tempdir().unwrap();
            let metrics = ProcMetrics::in_folder(dir.path());
            Proc(dir, metrics)
        }

        async fn read(&self, stat: &str, memory: &str) -> Metrics {
            fs::write(self.0.path().join("stat"), stat).unwrap();
            fs::write(self.0.path().join("meminfo"), memory).unwrap();
            self.1.read().await
        }
    }

    fn named(pairs: &[(&str, i64)]) -> Metrics {
        pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    #[tokio::test]
    async fn percentages_are_of_the_time_between_two_reads() {
        let proc = Proc::new();
        let first = proc.read(STAT, MEMORY).await;
        assert_eq!(first, named(&[("memory.percent", 75)]), "nothing to compare with");
        // 200 more: user 40 and nice 20, kernel 10 + 4 + 6, idle 100, iowait 10, stolen 10.
        let stat = "cpu  140 40 40 900 60 8 12 20 190 7\n";
        let expected = [
            ("cpu.percent", 50),
            ("cpu.user.percent", 30),
            ("cpu.kernel.percent", 10),
            ("cpu.iowait.percent", 5),
            ("cpu.idle.percent", 50),
            ("memory.percent", 75),
        ];
        assert_eq!(proc.read(stat, MEMORY).await, named(&expected));
        // No time has passed; then what can't be read, and with it what it would be compared with.
        assert_eq!(proc.read(stat, MEMORY).await, named(&[("memory.percent", 75)]));
        assert_eq!(proc.read("cpu  1 2\n", "MemTotal: 0 kB\n").await, Metrics::new());
        fs::remove_file(proc.0.path().join("stat")).unwrap();
        assert_eq!(proc.1.read().await, Metrics::new());
    }

    #[tokio::test]
    async fn this_machines_are_told() {
        let source = ProcMetrics::default();
        let used = source.read().await["memory.percent"];
        assert!((0..=100).contains(&used), "{used}");
        let mut told = source.read().await;
        // Until the kernel has counted something.
        while !told.contains_key("cpu.percent") {
            told = source.read().await;
        }
        assert!(told.values().all(|n| (0..=100).contains(n)), "{told:?}");
        assert_eq!(told.len(), 6);
    }

    proptest! {
        #[test]
        fn whatever_the_counters_do_percentages_are_percentages(a in prop::array::uniform8(any::<u64>()), b in prop::array::uniform8(any::<u64>())) {
            let line = |n: [u64; 8]| format!("cpu {}\n", n.map(|n| n.to_string()).join(" "));
            let (then, now) = (Ticks::parse(&line(a)).unwrap(), Ticks::parse(&line(b)).unwrap());
            if let Some(told) = now.since(then).percentages() {
                prop_assert!(told.values().all(|n| (0..=100).contains(n)), "{:?}", told);
            }
        }

        #[test]
        fn no_text_is_a_reason_to_panic(text in "(cpu )?[0-9 a-z:\n]{0,60}") {
            let _ = (Ticks::parse(&text), memory_used(&text));
        }
    }
}
