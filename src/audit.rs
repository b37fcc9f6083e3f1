//! The audit: a comparison of the database with what is on this host (guests, disks, network devices,
//! firewall, DHCP), and of the database's counters with its own rows. Every difference is a line; none is a
//! healthy cloud. `cumulet audit` runs it; the log of calls is the audit *log*, `backend::api::audit_log`.
//!
//! A cloud that is busy changes while it is looked at, and rows and host never in the same instant. So what
//! differs is looked at again: it is reported once it has stayed for a moment while the rows that it is
//! about were at the same generation and nothing was under way for them.

mod compare;
mod rows;
mod snapshots;
mod volumes;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use cumulet_backend::{
    bootstrap,
    store::{schema, settings, snapshots as database_of_one_moment},
};
use sea_orm::DatabaseConnection;
use serde::Serialize;

use crate::{config::Config, state::StateDir, wiring};
use compare::{Difference, compare};
use rows::{Rows, Version};

/// How long a difference has to stay.
const STAYS: Duration = Duration::from_secs(2);

/// How long one may be looked at that keeps changing, or whose operation does not end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks. Nothing tells another process of a change.
const PAUSE: Duration = Duration::from_millis(250);

/// What an audit found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit {
    /// How many things were compared.
    pub(crate) compared: usize,
    /// What does not agree, in words.
    pub(crate) differences: Vec<String>,
}

/// What the operator has asked for in so many words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// The configuration's driver was named; otherwise the one that the cloud last ran with is used.
    pub(crate) driver: bool,
    /// Only what the database has on this host is compared; counters are the whole cloud's all the same.
    pub(crate) host: Option<String>,
}

/// Audits this host. Nothing is made or changed, neither here nor in the database, and no key is needed.
pub(crate) async fn run(state: &StateDir, mut config: Config, asked: &Asked) -> Result<Audit> {
    let database = open(state, &config).await?;
    let driver = settings::get(&database, wiring::DRIVER).await?;
    config.driver.replace(driver.filter(|_| !asked.driver));
    let first = bootstrap::existing(&database).await?;
    let first =
        first.ok_or_else(|| anyhow::anyhow!("the cloud has not been started yet; `cumulet up` first"))?;
    let (host, simulated) = (asked.host.as_deref(), config.driver.text() == "fake");
    let (began, mut doubts) = (Instant::now(), Doubts::default());
    loop {
        let found = wiring::inventory(state, &config, &first.cloud_id, host).await?;
        let mut rows = Rows::load(&database).await?;
        if let Some(host) = host {
            rows.keep(host);
        }
        let mut differences = compare(&rows, &found, simulated);
        if !simulated {
            differences.extend(snapshots::compare(&state.snapshots(), &rows.snapshots));
        }
        let now = Instant::now();
        let open = doubts.weigh(&rows, differences, now);
        if !open || now - began >= PATIENCE {
            return Ok(Audit {
                compared: rows.instances.len() + found.len(),
                differences: doubts.certain(now),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The database, whose schema must be this program's: it is not brought up to date for a look.
async fn open(state: &StateDir, config: &Config) -> Result<DatabaseConnection> {
    let options = state.existing(config, 1)?;
    let pending = schema(&options).await?.into_iter().find(|(_, applied)| !applied);
    if let Some((name, _)) = pending {
        anyhow::bail!(
            "the database's schema is older than this program ({name} is missing): `cumulet db migrate`"
        );
    }
    Ok(database_of_one_moment(&options).await?)
}

/// The differences of the last look: at which version of their rows each was seen, and since when.
#[derive(Debug, Default)]
struct Doubts(HashMap<Difference, (Version, Instant)>);

impl Doubts {
    /// Takes a look's differences in. True while one of them may still be a change on its way.
    fn weigh(&mut self, rows: &Rows, differences: Vec<Difference>, now: Instant) -> bool {
        let mut before = std::mem::take(&mut self.0);
        for difference in differences {
            let version = rows.version(difference.about);
            let since = before.remove(&difference).filter(|(then, _)| *then == version);
            let since = since.map_or(now, |(_, since)| since);
            self.0.insert(difference, (version, since));
        }
        let certain = |(difference, (version, since)): (&Difference, &(Version, Instant))| {
            difference.is_of_rows() || (!version.changing && now - *since >= STAYS)
        };
        !self.0.iter().all(certain)
    }

    /// What has stayed, in words. What was new with every look is the cloud at its work.
    fn certain(self, now: Instant) -> Vec<String> {
        let stays = |difference: &Difference, since: Instant| difference.is_of_rows() || now - since >= STAYS;
        let mut words: Vec<String> = self
            .0
            .into_iter()
            .filter(|(difference, (_, since))| stays(difference, *since))
            .map(|(difference, _)| difference.words)
            .collect();
        words.sort();
        words
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{id::InstanceId, instance::State};

    use super::*;

    fn id() -> InstanceId {
        InstanceId::new(1 << 40)
    }

    /// The rows of one instance at a generation, with or without an operation under way.
    fn rows(generation: i64, busy: bool) -> Rows {
        let mut rows = Rows::of(id(), State::Running, generation);
        if busy {
            rows.active.insert(id());
        }
        rows
    }

    fn no_guest() -> Vec<Difference> {
        vec![Difference::of(id(), "no guest".into())]
    }

    #[test]
    fn what_stays_at_one_generation_is_certain_after_a_moment() {
        let (began, mut doubts) = (Instant::now(), Doubts::default());
        assert!(doubts.weigh(&rows(1, false), no_guest(), began));
        assert!(doubts.weigh(&rows(1, false), no_guest(), began + STAYS / 2));
        assert!(!doubts.weigh(&rows(1, false), no_guest(), began + STAYS));
        assert_eq!(doubts.certain(began + STAYS), ["no guest"]);
    }

    #[test]
    fn what_changes_or_is_under_way_is_looked_at_again() {
        let (began, mut doubts) = (Instant::now(), Doubts::default());
        for look in 0..10_u32 {
            assert!(doubts.weigh(&rows(look.into(), false), no_guest(), began + STAYS * look));
        }
        let now = began + STAYS * 9;
        assert!(doubts.weigh(&rows(9, true), no_guest(), now + STAYS));
        assert!(doubts.weigh(&rows(9, true), no_guest(), now + STAYS * 2));
        assert!(
            !doubts.weigh(&rows(9, false), Vec::new(), now + STAYS * 3),
            "it has gone"
        );
        assert_eq!(doubts.certain(now + STAYS * 3), [""; 0]);
    }

    #[test]
    fn an_operation_that_does_not_end_hides_nothing() {
        let (began, mut doubts) = (Instant::now(), Doubts::default());
        doubts.weigh(&rows(1, true), no_guest(), began);
        doubts.weigh(&rows(1, true), no_guest(), began + PATIENCE);
        assert_eq!(doubts.certain(began + PATIENCE), ["no guest"]);
    }

    #[test]
    fn what_rows_say_of_each_other_is_certain_at_once() {
        let (now, mut doubts) = (Instant::now(), Doubts::default());
        let leak = vec![Difference::of_rows("a counter".into())];
        assert!(!doubts.weigh(&rows(1, true), leak, now));
        assert_eq!(doubts.certain(now), ["a counter"]);
    }
}
