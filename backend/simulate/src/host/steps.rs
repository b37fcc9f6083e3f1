//! The steps of each command, in the worker's order, with the worker's notes between them. The worker may be
//! killed after any of them.

use std::time::Duration;

use cumulet_domain::{
    id::InstanceId,
    message::{InstanceReport, OffReason, Power},
};
use cumulet_worker::decisions::{Changes, Devices, DomainSpec, Record, changes};

use super::{
    Host, Life, Stop,
    machine::{Guest, Kept},
    obey::{Attempt, absent},
};
use crate::run::Sabotage;

impl Host {
    pub(super) async fn launch(&self, life: &Life, attempt: &Attempt) -> Result<InstanceReport, Stop> {
        self.at(life, attempt.name, "received").await?;
        let Some(launch) = &attempt.launch else {
            return Err(Stop::Failed("what to launch from is lost", false));
        };
        let is_change = attempt.pending.kind.is_change();
        if is_change && self.machine().power(attempt.id) != Power::On {
            return Err(Stop::Failed("the instance does not run", false));
        }
        let interfaces = &launch.record.interfaces;
        self.machine().remember(&launch.policy, interfaces);
        let revision = self.begin_launch(attempt, launch);
        self.at(life, attempt.name, "begun").await?;
        self.machine().served.insert(attempt.id, revision);
        self.at(life, attempt.name, "metadata").await?;
        {
            let mut machine = self.machine();
            let newest = machine.remember(&launch.policy, interfaces);
            machine.enforce(&newest);
        }
        self.volumes(&launch.volumes)?;
        self.at(life, attempt.name, "disk").await?;
        self.prepared(life, attempt, &launch.domain).await?;
        let (plugged, asked) = if is_change {
            ("plugged", "unplugged")
        } else {
            ("defined", "started")
        };
        self.at(life, attempt.name, plugged).await?;
        {
            let mut machine = self.machine();
            let newest = machine.remember(&launch.policy, interfaces);
            for interface in interfaces {
                if !machine.attach(&newest, *interface) {
                    return Err(Stop::Failed("the interface is not in the policy", false));
                }
            }
        }
        self.at(life, attempt.name, "firewall").await?;
        let (id, generation) = (attempt.id, attempt.generation);
        if !is_change {
            let start = move |host: &Host| host.start(id, generation);
            self.hypervisor(life, id, start).await?;
        }
        if self.machine().power(id) != Power::On {
            return Err(Stop::Failed("there is no guest", false));
        }
        self.at(life, attempt.name, asked).await?;
        self.finish(life, attempt, Power::On, None).await
    }

    /// Keeps what a launch that has begun needs; the revision to serve.
    fn begin_launch(&self, attempt: &Attempt, launch: &super::obey::Launch) -> u64 {
        let mut machine = self.machine();
        let kept = machine.kept.entry(attempt.id).or_insert_with(|| Kept {
            record: launch.record.clone(),
            revision: launch.revision,
            domain: launch.domain.clone(),
            volumes: launch.volumes.clone(),
        });
        kept.volumes.clone_from(&launch.volumes);
        kept.domain.clone_from(&launch.domain);
        kept.revision = kept.revision.max(launch.revision);
        kept.record.vpc = launch.record.vpc;
        kept.record.interfaces.clone_from(&launch.record.interfaces);
        kept.record.begin(attempt.generation, attempt.pending);
        kept.revision
    }

    /// The guest's process is there, with what it is to have: one that was there before gets the difference.
    async fn prepared(&self, life: &Life, attempt: &Attempt, domain: &DomainSpec) -> Result<(), Stop> {
        let id = attempt.id;
        let is_change = attempt.pending.kind.is_change();
        let has = {
            let machine = self.machine();
            let is_on = machine.power(id) == Power::On;
            machine.devices.get(&id).filter(|_| is_on).cloned()
        };
        if is_change && has.is_none() {
            return Err(Stop::Failed("the instance does not run", false));
        }
        let all = Devices::of(domain);
        if !is_change {
            self.hypervisor(life, id, move |host| host.prepare(id, all))
                .await?;
        }
        let difference = has.map_or_else(Changes::default, |has| changes(&has, domain));
        let Changes { plug, resize, unplug } = difference;
        for device in plug {
            let put = move |host: &Host| host.change_devices(id, |devices| devices.put(&device));
            self.hypervisor(life, id, put).await?;
        }
        for (disk, bytes) in resize {
            let grow = move |host: &Host| {
                host.change_devices(id, |devices| {
                    devices.grow(&disk, bytes);
                })
            };
            self.hypervisor(life, id, grow).await?;
        }
        for key in unplug {
            let take = move |host: &Host| host.change_devices(id, |devices| devices.take(&key));
            self.hypervisor(life, id, take).await?;
        }
        Ok(())
    }

    fn change_devices(&self, id: InstanceId, change: impl FnOnce(&mut Devices)) -> Option<InstanceId> {
        if let Some(devices) = self.machine().devices.get_mut(&id) {
            change(devices);
        }
        None
    }

    /// The guest's process is there, and its CPUs stand still, if it was not there before.
    fn prepare(&self, id: InstanceId, devices: Devices) -> Option<InstanceId> {
        let deaf = self.world.dice.chance(self.world.faults().deaf_guests);
        let mut machine = self.machine();
        if machine.power(id) != Power::On {
            let guest = Guest {
                on: true,
                paused: true,
                off_reason: None,
                deaf,
            };
            machine.guests.insert(id, guest);
            machine.devices.insert(id, devices);
            drop(machine);
            self.world.guest_on(id, &self.id);
        }
        None
    }

    /// The guest's CPUs run; the guest, if they did not before.
    fn start(&self, id: InstanceId, generation: u64) -> Option<InstanceId> {
        {
            let mut machine = self.machine();
            let guest = machine.guests.get_mut(&id).filter(|guest| guest.on)?;
            if !std::mem::take(&mut guest.paused) {
                return None;
            }
        }
        self.world
            .note(format_args!("{}: {id} runs at {generation}", self.id));
        Some(id)
    }

    /// Remembers that an attempt has been carried out; the report of it.
    async fn finish(
        &self,
        life: &Life,
        attempt: &Attempt,
        power: Power,
        off_reason: Option<OffReason>,
    ) -> Result<InstanceReport, Stop> {
        let report = {
            let mut machine = self.machine();
            let kept = machine.kept.get_mut(&attempt.id);
            let Some(Kept { record, .. }) = kept else {
                return Ok(absent(attempt.id, attempt.generation));
            };
            (record.power, record.off_reason) = (power, off_reason);
            record.applied = attempt.generation;
            record.pending = None;
            record.report()
        };
        self.at(life, attempt.name, "done").await?;
        Ok(report)
    }

    fn begin(&self, attempt: &Attempt) {
        if let Some(kept) = self.machine().kept.get_mut(&attempt.id) {
            kept.record.begin(attempt.generation, attempt.pending);
        }
    }

    pub(super) async fn stop(
        &self,
        life: &Life,
        attempt: &Attempt,
        record: Option<Record>,
        force: bool,
    ) -> Result<InstanceReport, Stop> {
        self.at(life, attempt.name, "received").await?;
        let id = attempt.id;
        let Some(record) = record else {
            let now = self.now();
            self.machine().forget(id, attempt.generation, false, now);
            let cut = move |host: &Host| host.cut(id, OffReason::Commanded);
            self.hypervisor(life, id, cut).await?;
            return Ok(absent(id, attempt.generation));
        };
        let was = self.machine().power(id);
        self.begin(attempt);
        self.at(life, attempt.name, "begun").await?;
        self.step(life).await?;
        if !force {
            self.ask(life, attempt).await?;
        }
        let cut = move |host: &Host| host.cut(id, OffReason::Commanded);
        self.call(life, id, cut).await?;
        self.at(life, attempt.name, "off").await?;
        self.machine().detach(record.vpc, &record.interfaces);
        self.at(life, attempt.name, "network").await?;
        let off = {
            let mut machine = self.machine();
            machine.served.remove(&id);
            let seen = machine.guests.get(&id).and_then(|guest| guest.off_reason);
            match was {
                Power::On => Some(OffReason::Commanded),
                Power::Off | Power::Absent => record.off_reason.or(seen),
            }
        };
        self.finish(life, attempt, Power::Off, off).await
    }

    /// Asks a guest to go off, and waits for it as long as may be.
    async fn ask(&self, life: &Life, attempt: &Attempt) -> Result<(), Stop> {
        let deaf = self
            .machine()
            .guests
            .get(&attempt.id)
            .is_some_and(|guest| guest.on && guest.deaf);
        let until = self.world.clock.elapsed() + u64::try_from(self.grace(attempt).as_millis()).unwrap_or(0);
        while deaf && self.world.clock.elapsed() < until && !life.queues.is_urgent(attempt.id) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.alive(life, 0..1).await?;
        }
        Ok(())
    }

    /// No process of the guest is left.
    fn cut(&self, id: InstanceId, reason: OffReason) -> Option<InstanceId> {
        if let Some(guest) = self.machine().guests.get_mut(&id)
            && guest.on
        {
            (guest.on, guest.paused, guest.off_reason) = (false, false, Some(reason));
        }
        self.world.guest_off(id, &self.id);
        None
    }

    pub(super) async fn reboot(
        &self,
        life: &Life,
        attempt: &Attempt,
        record: Option<Record>,
    ) -> Result<InstanceReport, Stop> {
        self.at(life, attempt.name, "received").await?;
        if record.is_none() {
            return Err(Stop::Failed("the instance is not on this host", false));
        }
        if self.machine().power(attempt.id) != Power::On {
            return Err(Stop::Failed("the instance does not run", false));
        }
        self.begin(attempt);
        self.at(life, attempt.name, "begun").await?;
        self.hypervisor(life, attempt.id, |_| None).await?;
        self.ask(life, attempt).await?;
        if life.queues.is_urgent(attempt.id) {
            return Err(Stop::Failed("something newer is to be done", false));
        }
        if self.machine().power(attempt.id) != Power::On {
            return Err(Stop::Failed("there is no guest", false));
        }
        self.world.reset(attempt.id);
        self.at(life, attempt.name, "reset").await?;
        self.finish(life, attempt, Power::On, None).await
    }

    pub(super) async fn destroy(
        &self,
        life: &Life,
        attempt: &Attempt,
        record: Option<Record>,
    ) -> Result<InstanceReport, Stop> {
        self.at(life, attempt.name, "received").await?;
        let id = attempt.id;
        self.begin(attempt);
        self.at(life, attempt.name, "begun").await?;
        let remove = move |host: &Host| {
            if host.world.sabotage != Some(Sabotage::KeepGuests) {
                let mut machine = host.machine();
                machine.guests.remove(&id);
                machine.devices.remove(&id);
                drop(machine);
                host.world.guest_off(id, &host.id);
            }
            None
        };
        self.hypervisor(life, id, remove).await?;
        self.at(life, attempt.name, "absent").await?;
        if let Some(record) = record {
            self.machine().detach(record.vpc, &record.interfaces);
        }
        self.at(life, attempt.name, "network").await?;
        self.machine().served.remove(&id);
        self.at(life, attempt.name, "metadata").await?;
        let now = self.now();
        self.machine().forget(id, attempt.generation, true, now);
        self.at(life, attempt.name, "removed").await?;
        Ok(absent(id, attempt.generation))
    }
}
