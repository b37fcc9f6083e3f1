//! The simulated hypervisor: guests that boot at once and do nothing, with latency and failures as planned. What
//! happens to a guest depends on the seed, the guest and how often it was called, never on timing. A call that takes
//! longer than libvirt's would be waited for is late here too, and has its effect all the same.

mod call;
mod console;
mod copies;
mod devices;
mod journal;
mod plan;
mod witness;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cumulet_domain::{
    console::ConsoleKind,
    host::HostProfile,
    id::InstanceId,
    message::{OffReason, Power},
    spec::Throttle,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast};

use crate::{
    ACTION, Capabilities, ConsoleStream, Copying, Device, DeviceKey, Devices, Diagnosis, DiskCopy,
    DomainSpec, DomainStatus, Error, Event, Hypervisor, MEASUREMENT, Prepared, QUESTION, Result, Unplugged,
    outstanding::{For, Outstanding},
};
use journal::Journal;
pub use plan::FaultPlan;
use witness::{How, Watched};
pub use witness::{Seen, Witness};

/// The events that a receiver may be behind, where nothing else is said.
const EVENTS: usize = 4096;

/// A picture of one black pixel, as JPEG: what every simulated screen shows.
const SCREEN: &[u8] = include_bytes!("screen.jpg");

/// How a simulated host is.
#[derive(Clone, Debug)]
pub struct FakeConfig {
    /// Decides latencies and failures.
    pub seed: u64,
    /// What the host has.
    pub vcpus: u32,
    /// What the host has.
    pub memory_mib: u64,
    /// What its processors are, as AWS spells it.
    pub architecture: String,
    /// What it tells of itself besides, or instead of what every simulated host tells.
    pub capabilities: BTreeMap<String, String>,
    /// What goes wrong.
    pub plan: FaultPlan,
    /// Events that a slow receiver may be behind before it has to list again: room for so many is there from the
    /// beginning.
    pub events: usize,
    /// Where guests are kept, so that they "run on" while the process is away; nowhere if `None`.
    pub state_file: Option<PathBuf>,
}

impl Default for FakeConfig {
    fn default() -> Self {
        FakeConfig {
            seed: 0,
            vcpus: 65_536,
            memory_mib: 1 << 28,
            architecture: "x86_64".into(),
            capabilities: BTreeMap::new(),
            plan: FaultPlan::default(),
            events: EVENTS,
            state_file: None,
        }
    }
}

/// One simulated guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Guest {
    on: bool,
    paused: bool,
    off_reason: Option<OffReason>,
    boots: u32,
    /// None are known of guests of before.
    #[serde(default)]
    devices: Devices,
    /// Copies of its disks were made, and nobody has been told yet.
    #[serde(default)]
    copied: bool,
}

impl Guest {
    fn status(&self, instance: InstanceId) -> DomainStatus {
        DomainStatus {
            instance,
            power: if self.on { Power::On } else { Power::Off },
            paused: self.on && self.paused,
            off_reason: self.off_reason.filter(|_| !self.on),
        }
    }
}

/// The simulated host.
#[derive(Debug)]
pub struct FakeHypervisor {
    config: FakeConfig,
    profile: Arc<HostProfile>,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    plan: Mutex<Arc<FaultPlan>>,
    /// How often the power was cut: calls of before have no effect any more.
    cuts: AtomicU64,
    /// Plan or power has changed. Calls hear of it in the order in which they were made: in every run of a seed the same.
    moved: Notify,
    witness: Watched,
    outstanding: Arc<Outstanding>,
    /// For calls that go on when nobody waits for them any more.
    this: Weak<FakeHypervisor>,
}

#[derive(Debug)]
struct State {
    /// In the order of their numbers, so that whatever goes through all does the same each time.
    guests: BTreeMap<InstanceId, Guest>,
    calls: HashMap<InstanceId, u32>,
    journal: Option<Journal>,
}

impl FakeHypervisor {
    /// A host; with a state file, its guests of before are still there.
    ///
    /// # Errors
    /// When the state file can't be read or written.
    pub fn new(config: FakeConfig) -> std::io::Result<Arc<Self>> {
        let (journal, guests) = match &config.state_file {
            Some(path) => {
                let (journal, guests) = Journal::open(path)?;
                (Some(journal), guests)
            }
            None => (None, BTreeMap::new()),
        };
        Ok(Arc::new_cyclic(|this| FakeHypervisor {
            outstanding: Arc::default(),
            this: this.clone(),
            plan: Mutex::new(Arc::new(config.plan.clone())),
            cuts: AtomicU64::new(0),
            moved: Notify::new(),
            witness: Watched::default(),
            events: broadcast::Sender::new(config.events.max(1)),
            profile: Arc::new(profile(&config)),
            config,
            state: Mutex::new(State {
                guests,
                calls: HashMap::new(),
                journal,
            }),
        }))
    }

    /// From now on this goes wrong, also with the calls that are under way: what hangs or is slow by the old plan
    /// and not by the new one comes back.
    pub fn set_plan(&self, plan: FaultPlan) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
        self.moved.notify_waiters();
    }

    /// From now on the witness is told of all that comes to pass; only the first one is.
    pub fn watched_by(&self, witness: Arc<dyn Witness>) {
        self.witness.by(witness);
    }

    /// The host's power is cut: no guest is left that runs, and what was asked for and has not come back never does
    /// anything.
    pub fn lose_power(&self) {
        self.cuts.fetch_add(1, Ordering::AcqRel);
        self.moved.notify_waiters();
        let ids: Vec<InstanceId> = self.state().guests.keys().copied().collect();
        for id in ids {
            self.power_off(id, OffReason::Crashed);
        }
    }

    /// Every guest as it is now with what it has, asked of nobody.
    pub fn guests(&self) -> Vec<(DomainStatus, Devices)> {
        let state = self.state();
        let each = state.guests.iter();
        each.map(|(id, guest)| (guest.status(*id), guest.devices.clone()))
            .collect()
    }

    /// The guest powers itself off, or its process dies. Nothing happens if it does not run.
    pub fn power_off(&self, instance: InstanceId, reason: OffReason) {
        self.change(instance, |guest| {
            if guest.as_ref().is_some_and(|g| g.on) {
                off(guest, reason);
            }
        });
    }

    fn plan(&self) -> Arc<FaultPlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one guest, keeps it, and tells if its power changed.
    fn change(&self, instance: InstanceId, change: impl FnOnce(&mut Option<Guest>)) {
        let mut state = self.state();
        let mut guest = state.guests.remove(&instance);
        let was = How::of(guest.as_ref());
        change(&mut guest);
        if let Some(journal) = &mut state.journal {
            journal.append(instance, guest.as_ref());
        }
        let (is, now) = (How::of(guest.as_ref()), status(instance, guest.as_ref()));
        match guest {
            Some(guest) => drop(state.guests.insert(instance, guest)),
            None => drop(state.calls.remove(&instance)),
        }
        drop(state);
        self.witness.changed(instance, was, is);
        if was.on != is.on {
            drop(self.events.send(Event::Changed(now)));
        }
    }
}

/// What every simulated host tells of itself, and what is configured.
fn profile(config: &FakeConfig) -> HostProfile {
    let cores = config.vcpus.to_string();
    let told = [
        ("hypervisor_type", "fake"),
        ("hypervisor_version", "1"),
        ("cpu_info:arch", &config.architecture),
        ("cpu_info:topology:sockets", "1"),
        ("cpu_info:topology:cores", &cores),
        ("cpu_info:topology:threads", "1"),
    ];
    let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut capabilities = BTreeMap::from(told);
    capabilities.extend(config.capabilities.clone());
    HostProfile {
        architecture: Some(config.architecture.clone()),
        capabilities,
    }
}

fn off(guest: &mut Option<Guest>, reason: OffReason) {
    if let Some(guest) = guest {
        guest.on = false;
        guest.paused = false;
        guest.off_reason = Some(reason);
        guest.copied = false;
    }
}

fn status(instance: InstanceId, guest: Option<&Guest>) -> DomainStatus {
    guest.map_or(
        DomainStatus {
            instance,
            power: Power::Absent,
            paused: false,
            off_reason: None,
        },
        |guest| guest.status(instance),
    )
}

#[async_trait]
impl Hypervisor for FakeHypervisor {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn service(&self) -> &'static str {
        "the simulated hypervisor"
    }

    async fn measure(&self) -> Result<()> {
        self.look(For::Host, MEASUREMENT, |_| Ok(())).await
    }

    fn diagnose(&self) -> Diagnosis {
        Diagnosis {
            cause: Some("its plan says so".into()),
            cure: "wait".into(),
        }
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        let has = Capabilities {
            vcpus: self.config.vcpus,
            memory_mib: self.config.memory_mib,
        };
        self.look(For::Host, QUESTION, move |_| Ok(has)).await
    }

    async fn profile(&self) -> Result<Arc<HostProfile>> {
        Ok(self.profile.clone())
    }

    async fn prepare(&self, spec: &DomainSpec) -> Result<Prepared> {
        let devices = Devices::of(spec);
        let prepare = move |guest: &mut Option<Guest>| match guest {
            Some(guest) if guest.on && !guest.paused => Ok(Prepared::Running),
            Some(guest) if guest.on => Ok(Prepared::Paused),
            _ => {
                *guest = Some(Guest {
                    on: true,
                    paused: true,
                    off_reason: None,
                    boots: guest.as_ref().map_or(0, |g| g.boots) + 1,
                    devices: devices.clone(),
                    copied: false,
                });
                Ok(Prepared::Paused)
            }
        };
        self.act(For::Process(spec.instance), ACTION, prepare).await
    }

    async fn devices(&self, instance: InstanceId) -> Result<Devices> {
        self.devices_of(instance).await
    }

    async fn open_disks(&self) -> Result<Vec<(InstanceId, PathBuf)>> {
        self.disks_in_hand().await
    }

    async fn plug(&self, instance: InstanceId, device: &Device) -> Result<()> {
        self.plug_in(instance, device).await
    }

    async fn unplug(
        &self,
        instance: InstanceId,
        device: &DeviceKey,
        patience: Duration,
    ) -> Result<Unplugged> {
        self.unplug_from(instance, device, patience).await
    }

    async fn resize(&self, instance: InstanceId, disk: &Path, bytes: u64) -> Result<()> {
        self.grow(instance, disk, bytes).await
    }

    async fn copy_disks(&self, instance: InstanceId, copies: &[DiskCopy]) -> Result<()> {
        self.begin_copies(instance, copies).await
    }

    async fn copying(&self, instance: InstanceId) -> Result<Copying> {
        self.copies_of(instance).await
    }

    async fn stop_copying(&self, instance: InstanceId) -> Result<()> {
        self.end_copies(instance).await
    }

    async fn throttle(&self, instance: InstanceId, disk: &Path, own: Throttle) -> Result<()> {
        self.slow_down(instance, disk, own).await
    }

    async fn resume(&self, instance: InstanceId) -> Result<()> {
        let resume = move |guest: &mut Option<Guest>| {
            let on = guest.as_mut().filter(|g| g.on);
            on.map(|guest| guest.paused = false)
                .ok_or(Error::NotFound(instance))
        };
        self.act(For::Process(instance), ACTION, resume).await
    }

    async fn ensure_off(&self, instance: InstanceId, grace: Duration) -> Result<()> {
        let deaf = self.plan().is_deaf(self.config.seed, instance);
        if deaf && !grace.is_zero() {
            self.act(For::Process(instance), QUESTION, |_| Ok(())).await?;
            if self.status(instance).await?.power == Power::On {
                tokio::time::sleep(grace).await;
            }
        }
        let cut = |guest: &mut Option<Guest>| {
            if guest.as_ref().is_some_and(|g| g.on) {
                off(guest, OffReason::Commanded);
            }
            Ok(())
        };
        self.for_good(instance, cut).await
    }

    async fn reboot(&self, instance: InstanceId, grace: Duration) -> Result<()> {
        let deaf = self.plan().is_deaf(self.config.seed, instance);
        if deaf {
            tokio::time::sleep(grace).await;
        }
        let reset = move |guest: &mut Option<Guest>| {
            let on = guest.as_mut().filter(|g| g.on);
            on.map(|guest| guest.boots += 1).ok_or(Error::NotFound(instance))
        };
        self.act(For::Process(instance), QUESTION, reset).await
    }

    async fn ensure_absent(&self, instance: InstanceId) -> Result<()> {
        let leaves = self.plan().leaves_guests;
        let remove = move |guest: &mut Option<Guest>| {
            if !leaves {
                *guest = None;
            }
            Ok(())
        };
        self.for_good(instance, remove).await
    }

    async fn status(&self, instance: InstanceId) -> Result<DomainStatus> {
        let see = move |host: &FakeHypervisor| Ok(status(instance, host.state().guests.get(&instance)));
        self.look(For::Guest(instance), QUESTION, see).await
    }

    async fn list(&self) -> Result<Vec<DomainStatus>> {
        let see = |host: &FakeHypervisor| {
            let state = host.state();
            Ok(state.guests.iter().map(|(id, guest)| guest.status(*id)).collect())
        };
        self.look(For::Host, ACTION, see).await
    }

    async fn console_tail(&self, instance: InstanceId, max: usize) -> Result<Vec<u8>> {
        let boots = self.state().guests.get(&instance).map(|guest| guest.boots);
        let boots = boots.ok_or(Error::NotFound(instance))?;
        let mut text: Vec<u8> = Vec::new();
        for boot in 1..=boots.min(100) {
            let line = format!(
                "[    0.000000] simulated guest {instance}, boot {boot}\ncumulet-fake ready: {instance}\n"
            );
            text.extend_from_slice(line.as_bytes());
        }
        text.drain(..text.len().saturating_sub(max));
        Ok(text)
    }

    async fn screenshot(&self, instance: InstanceId) -> Result<Vec<u8>> {
        let on = self.state().guests.get(&instance).is_some_and(|g| g.on);
        on.then(|| SCREEN.to_vec()).ok_or(Error::NotFound(instance))
    }

    async fn open_console(&self, instance: InstanceId, kind: ConsoleKind) -> Result<Box<dyn ConsoleStream>> {
        // Before the look, so that an end in between is heard.
        let events = self.events.subscribe();
        let on = self.state().guests.get(&instance).is_some_and(|g| g.on);
        match kind {
            _ if !on => Err(Error::NotFound(instance)),
            ConsoleKind::Serial => Ok(Box::new(console::serial(instance, events))),
            ConsoleKind::Vnc => Err(Error::NoConsole(instance, kind)),
        }
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
