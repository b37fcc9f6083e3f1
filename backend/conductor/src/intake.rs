//! Fair intake of reports: each host has a lane and a budget of its own, so that what one sends without measure costs
//! that one alone. What is over a budget is dropped as a bus may drop it: commands are sent again, heartbeats and full
//! reports come again. `reports::run` puts in what comes and takes out what is applied next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cumulet_bus::Delivered;
use cumulet_domain::{
    id::HostId,
    message::{Report, ReportContent},
    time::Timestamp,
};

/// What a host may report in a second for long: several times what a host does that launches and ends instances all the
/// time.
const RATE: u64 = 500;

/// What it may report at once: the outcomes of 10,000 launches with their networks and metadata, and all their ends.
const BURST: u64 = 50_000;

/// Reports of one host that wait at the most: what may come at once, twice.
const LANE: usize = 100_000;

/// Reports that wait at the most of a host that has overdrawn its budget. A broker hands out so many and no more until
/// some are acknowledged (RabbitMQ: 1,000 for all hosts together): what waits of a flood keeps the others' from coming.
const LANE_OVERDRAWN: usize = 256;

/// What a heartbeat weighs: it is a transaction that waits for a host's row, and one comes every few seconds.
const HEARTBEAT: u64 = 20;

/// So many instances of a full report weigh as much as a report about one: most of them cost a part of a query.
const FULL: usize = 20;

/// Reports of one host that are taken before it is another host's turn. One that reports too much has one turn among
/// those that are applied side by side: with more, its reports would take every connection to the database that
/// operations wait for.
const TURN: usize = 16;

/// How often the log has a line about one host at the most.
const TOLD: Duration = Duration::from_secs(60);

/// From so many hosts on those are forgotten that have said nothing lately.
const HOSTS: usize = 1024;

/// Reports that were dropped since the start: shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped(Arc<AtomicU64>);

impl Dropped {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a report weighs. A kind that comes to be has to be named here.
fn weight(content: &ReportContent) -> u64 {
    match content {
        ReportContent::Heartbeat(told) => HEARTBEAT + u64::try_from(told.snapshots.len()).unwrap_or(u64::MAX),
        ReportContent::Full(all) => 1 + u64::try_from(all.len() / FULL).unwrap_or(u64::MAX),
        ReportContent::Changed(_)
        | ReportContent::Done(_)
        | ReportContent::VolumeDone(_)
        | ReportContent::SnapshotDone(_)
        | ReportContent::NetworkApplied { .. }
        | ReportContent::MetadataApplied { .. } => 1,
    }
}

/// A budget that fills up with time.
#[derive(Debug)]
struct Budget {
    left: u64,
    at: Timestamp,
    /// Whether there was too much, until it is half full again.
    overdrawn: bool,
}

impl Budget {
    fn full(at: Timestamp) -> Self {
        Budget {
            left: BURST,
            at,
            overdrawn: false,
        }
    }

    fn fill(&mut self, now: Timestamp) {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let more = passed.saturating_mul(RATE) / 1000;
        // Less than one is kept for the next time; a clock that was set back begins anew.
        if more > 0 || now < self.at {
            self.left = self.left.saturating_add(more).min(BURST);
            self.at = now;
        }
        self.overdrawn &= self.left < BURST / 2;
    }

    fn take(&mut self, weight: u64, now: Timestamp) -> bool {
        self.fill(now);
        match self.left.checked_sub(weight) {
            Some(left) => self.left = left,
            None => {
                self.overdrawn = true;
                return false;
            }
        }
        true
    }
}

/// What waits of one host.
#[derive(Debug)]
struct Lane {
    budget: Budget,
    /// The newest of each: an older one that has not been looked at yet says nothing more.
    heartbeat: Option<Delivered<Report>>,
    full: Option<Delivered<Report>>,
    rest: VecDeque<Delivered<Report>>,
    /// Dropped since the log was told.
    dropped: u64,
    told: Option<Timestamp>,
}

impl Lane {
    fn new(now: Timestamp) -> Self {
        Lane {
            budget: Budget::full(now),
            heartbeat: None,
            full: None,
            rest: VecDeque::new(),
            dropped: 0,
            told: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.heartbeat.is_none() && self.full.is_none() && self.rest.is_empty()
    }

    /// Whether a report can wait here. None can where a host's reports are applied more slowly, for long, than its
    /// budget fills up.
    fn has_room(&self, content: &ReportContent) -> bool {
        let replaces = matches!(content, ReportContent::Heartbeat(_) | ReportContent::Full(_));
        let room = match self.budget.overdrawn {
            true => LANE_OVERDRAWN,
            false => LANE,
        };
        replaces || self.rest.len() < room
    }

    /// Whether it has one turn only: its host reports more than it may, or than is applied of it.
    fn is_too_much(&self) -> bool {
        self.budget.overdrawn || self.rest.len() > LANE / 2
    }

    fn put(&mut self, report: Delivered<Report>) {
        let newest = match report.content {
            ReportContent::Heartbeat(_) => &mut self.heartbeat,
            ReportContent::Full(_) => &mut self.full,
            _ => return self.rest.push_back(report),
        };
        if let Some(older) = newest.replace(report) {
            older.ack();
        }
    }

    fn take(&mut self) -> Option<Delivered<Report>> {
        let newest = self.heartbeat.take().or_else(|| self.full.take());
        newest.or_else(|| self.rest.pop_front())
    }

    /// Counts what is dropped; the number to be told of now, if it is time to.
    fn drop_one(&mut self, now: Timestamp) -> Option<u64> {
        self.dropped += 1;
        if self
            .told
            .is_some_and(|told| now >= told && now.since(told) < TOLD)
        {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.dropped))
    }
}

/// What has come and is not applied yet.
#[derive(Debug)]
pub(super) struct Intake {
    lanes: BTreeMap<HostId, Lane>,
    /// The hosts of which something waits, in the order of their turns.
    turns: VecDeque<HostId>,
    dropped: Dropped,
    /// So many hosts may be known before idle ones are looked for.
    room: usize,
}

impl Intake {
    pub(super) fn new(dropped: Dropped) -> Self {
        Intake {
            lanes: BTreeMap::new(),
            turns: VecDeque::new(),
            dropped,
            room: HOSTS,
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Puts a report in its host's lane, or drops it where the host has no budget left.
    pub(super) fn put(&mut self, report: Delivered<Report>, now: Timestamp) {
        let host = report.host.clone();
        if !self.lanes.contains_key(&host) && self.lanes.len() >= self.room {
            self.forget_idle(now);
        }
        let lane = self.lanes.entry(host.clone()).or_insert_with(|| Lane::new(now));
        // What is dropped for want of room is paid for all the same: a flood is no smaller for it.
        if !(lane.budget.take(weight(&report.content), now) && lane.has_room(&report.content)) {
            // It is not to come again: it would be as much then.
            report.ack();
            self.dropped.0.fetch_add(1, Ordering::Relaxed);
            if let Some(dropped) = lane.drop_one(now) {
                tracing::warn!(%host, dropped, "a host reports far more than any does: what is too much is dropped");
            }
            return;
        }
        if lane.is_empty() {
            self.turns.push_back(host);
        }
        lane.put(report);
    }

    /// The next reports, `limit` at the most, a few of each host in turn.
    pub(super) fn take(&mut self, limit: usize) -> Vec<Delivered<Report>> {
        let (mut taken, mut had_theirs) = (Vec::new(), Vec::new());
        while taken.len() < limit
            && let Some(host) = self.turns.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&host) else {
                continue;
            };
            let turn = TURN.min(limit - taken.len());
            taken.extend(std::iter::from_fn(|| lane.take()).take(turn));
            match (lane.is_empty(), lane.is_too_much()) {
                (true, _) => {}
                (false, true) => had_theirs.push(host),
                (false, false) => self.turns.push_back(host),
            }
        }
        self.turns.extend(had_theirs);
        taken
    }

    /// Forgets hosts of which nothing waits and whose budget is whole: as new ones they would have the same.
    fn forget_idle(&mut self, now: Timestamp) {
        self.lanes.retain(|_, lane| {
            lane.budget.fill(now);
            !lane.is_empty() || lane.budget.left < BURST
        });
        self.room = HOSTS.max(2 * self.lanes.len());
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{
        id::InstanceId,
        message::{InstanceReport, Power},
    };

    use super::*;

    fn report(host: &str, content: ReportContent) -> Delivered<Report> {
        Delivered::loose(Report {
            host: HostId(host.into()),
            at: Timestamp(0),
            content,
        })
    }

    fn of(n: u64) -> InstanceReport {
        InstanceReport {
            instance: InstanceId::new((1 << 50) + n),
            generation: 1,
            power: Power::On,
            off_reason: None,
        }
    }

    fn changed(host: &str, n: u64) -> Delivered<Report> {
        report(host, ReportContent::Changed(of(n)))
    }

    fn full(host: &str, instances: u64) -> Delivered<Report> {
        report(host, ReportContent::Full((0..instances).map(of).collect()))
    }

    fn heartbeat(host: &str) -> Delivered<Report> {
        report(host, ReportContent::Heartbeat(Box::default()))
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_800_000_000_000).after(Duration::from_secs(seconds))
    }

    /// How many of each host are among the next.
    fn next(intake: &mut Intake, limit: usize) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for report in intake.take(limit) {
            *count.entry(report.host.0.clone()).or_default() += 1;
        }
        count
    }

    /// Takes all that waits: how many of each host.
    fn all(intake: &mut Intake) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::<String, usize>::new();
        while !intake.is_empty() {
            for (host, count) in next(intake, usize::MAX) {
                *all.entry(host).or_default() += count;
            }
        }
        all
    }

    #[test]
    fn an_honest_report_does_not_wait_for_a_flood() {
        let mut intake = Intake::new(Dropped::default());
        (0..10_000).for_each(|n| intake.put(changed("bad", n), at(0)));
        intake.put(changed("good", 1), at(0));
        let counted = next(&mut intake, 32);
        assert_eq!(counted.get("good"), Some(&1), "{counted:?}");
        assert_eq!(counted.values().sum::<usize>(), 32);
    }

    #[test]
    fn what_is_over_a_budget_is_dropped_and_only_of_that_host() {
        let dropped = Dropped::default();
        let mut intake = Intake::new(dropped.clone());
        (0..BURST + 70).for_each(|n| intake.put(changed("bad", n), at(0)));
        assert_eq!(dropped.count(), 70);
        (0..100).for_each(|n| intake.put(changed("good", n), at(0)));
        assert_eq!(dropped.count(), 70);
        let waited = all(&mut intake);
        assert_eq!((waited["bad"], waited["good"]), (BURST as usize, 100));
        // A second later there is room for what a second has, of which no more waits than is needed to go on with.
        let few = LANE_OVERDRAWN as u64;
        (0..few).for_each(|n| intake.put(changed("bad", n), at(1)));
        assert_eq!((dropped.count(), all(&mut intake)["bad"]), (70, LANE_OVERDRAWN));
        (few..RATE + 5).for_each(|n| intake.put(changed("bad", n), at(1)));
        assert_eq!(dropped.count(), 75);
        // A clock that is set back takes nothing away.
        all(&mut intake);
        intake.put(changed("bad", 1), at(0));
        (0..few).for_each(|n| intake.put(changed("bad", n), at(1)));
        assert_eq!(dropped.count(), 76);
    }

    /// What hosts do in their worst hours, all at once and then for an hour.
    #[test]
    fn no_honest_host_meets_its_budget() {
        let dropped = Dropped::default();
        let mut intake = Intake::new(dropped.clone());
        // A storm of launches on one host: outcome, metadata and network of each, and its end.
        (0..40_000).for_each(|n| intake.put(changed("storm", n), at(0)));
        for second in 0..3600 {
            let now = at(second);
            intake.put(heartbeat("busy"), now);
            intake.put(full("busy", 1000), now);
            intake.put(heartbeat("storm"), now);
            intake.put(full("storm", 1000), now);
            (0..100).for_each(|n| intake.put(changed("busy", n), now));
            next(&mut intake, 4096);
        }
        intake.put(full("large", 100_000), at(0));
        intake.put(full("large", 100_000), at(60));
        assert_eq!(dropped.count(), 0);
    }

    #[test]
    fn of_heartbeats_and_full_reports_the_newest_is_applied() {
        let mut intake = Intake::new(Dropped::default());
        for n in 0..5 {
            intake.put(full("a", n), at(0));
            intake.put(heartbeat("a"), at(0));
            intake.put(changed("a", n), at(0));
        }
        let taken = intake.take(100);
        let sizes: Vec<usize> = taken
            .iter()
            .filter_map(|report| match &report.content {
                ReportContent::Full(all) => Some(all.len()),
                _ => None,
            })
            .collect();
        assert_eq!((taken.len(), sizes), (7, vec![4]));
        let expensive = [heartbeat("a"), full("a", 1000)].map(|report| weight(&report.content));
        assert!(expensive.iter().all(|weight| *weight >= 20), "{expensive:?}");
    }

    /// Where the database is so slow that a host's turns don't keep up with what it may report.
    #[test]
    fn what_waits_of_a_host_is_bounded() {
        let dropped = Dropped::default();
        let mut intake = Intake::new(dropped.clone());
        let seconds = 3 * BURST / RATE;
        for second in 0..seconds {
            (0..RATE).for_each(|n| intake.put(changed("bad", n), at(second)));
        }
        let lane = &intake.lanes[&HostId("bad".into())];
        assert_eq!(lane.rest.len(), LANE);
        // It is no more than it may, and yet more than is applied.
        assert!(!lane.budget.overdrawn && lane.is_too_much());
        assert_eq!(dropped.count(), seconds * RATE - u64::try_from(LANE).unwrap());
        intake.put(heartbeat("bad"), at(seconds));
        assert!(intake.lanes[&HostId("bad".into())].heartbeat.is_some());
    }

    /// Of a flood no more is held than is needed to go on with: a broker gives the others' when it is let go of.
    #[test]
    fn little_waits_of_a_host_that_has_overdrawn() {
        let dropped = Dropped::default();
        let mut intake = Intake::new(dropped.clone());
        (0..=BURST).for_each(|n| intake.put(changed("bad", n), at(0)));
        // What came within the budget is applied, whatever else comes.
        assert_eq!(all(&mut intake)["bad"], BURST as usize);
        (0..RATE).for_each(|n| intake.put(changed("bad", n), at(1)));
        assert_eq!(all(&mut intake)["bad"], LANE_OVERDRAWN);
        assert_eq!(dropped.count(), 1 + RATE - LANE_OVERDRAWN as u64);
    }

    #[test]
    fn a_host_that_reports_too_much_has_one_turn_of_those_side_by_side() {
        let mut intake = Intake::new(Dropped::default());
        (0..BURST).for_each(|n| intake.put(changed("bad", n), at(0)));
        (0..1000).for_each(|n| intake.put(changed("good", n), at(0)));
        // Within its budget it may be a host that launches much: it has all there is.
        assert_eq!(next(&mut intake, 256).values().collect::<Vec<_>>(), [&128, &128]);
        intake.put(changed("bad", BURST), at(0));
        let counted = next(&mut intake, 256);
        assert_eq!(
            (counted["bad"], counted["good"]),
            (TURN, 256 - TURN),
            "{counted:?}"
        );
        // Its turn comes again each time, and all that it may report is applied.
        let counted = next(&mut intake, 256);
        assert_eq!(
            (counted["bad"], counted["good"]),
            (TURN, 256 - TURN),
            "{counted:?}"
        );
        next(&mut intake, 1000);
        assert_eq!(next(&mut intake, 256), BTreeMap::from([("bad".into(), TURN)]));
        // Half a budget later it is a host as any.
        intake.put(changed("bad", 0), at(BURST / RATE / 2));
        assert_eq!(next(&mut intake, 256)["bad"], 256);
    }

    #[test]
    fn the_log_has_a_line_a_minute_with_the_number() {
        let mut lane = Lane::new(at(0));
        let told: Vec<(u64, u64)> = (0..125)
            .filter_map(|second| Some((second, lane.drop_one(at(second))?)))
            .collect();
        assert_eq!(told, [(0, 1), (60, 60), (120, 60)]);
    }

    #[test]
    fn hosts_that_say_nothing_are_forgotten() {
        let mut intake = Intake::new(Dropped::default());
        let hosts = u64::try_from(3 * HOSTS).unwrap();
        for n in 0..hosts {
            intake.put(changed(&format!("host-{n}"), n), at(n));
            next(&mut intake, 10);
        }
        assert!(intake.lanes.len() <= HOSTS, "{}", intake.lanes.len());
    }
}
