//! Devices of simulated guests: they come at once, and go at once unless the plan says that guests keep them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cumulet_domain::{id::InstanceId, message::Power, spec::Throttle};

use super::{FakeHypervisor, Guest};
use crate::{
    ACTION, Device, DeviceKey, Devices, Error, Hypervisor as _, QUESTION, Result, Unplugged, outstanding::For,
};

impl FakeHypervisor {
    pub(super) async fn devices_of(&self, instance: InstanceId) -> Result<Devices> {
        let see = move |host: &FakeHypervisor| {
            let state = host.state();
            let found = state.guests.get(&instance).map(|guest| guest.devices.clone());
            found.ok_or(Error::NotFound(instance))
        };
        self.look(For::Process(instance), QUESTION, see).await
    }

    pub(super) async fn disks_in_hand(&self) -> Result<Vec<(InstanceId, PathBuf)>> {
        let see = |host: &FakeHypervisor| {
            let state = host.state();
            let on = state.guests.iter().filter(|(_, guest)| guest.on);
            let open =
                on.flat_map(|(id, guest)| guest.devices.disks.iter().map(|disk| (*id, disk.path.clone())));
            Ok(open.collect())
        };
        self.look(For::Host, QUESTION, see).await
    }

    pub(super) async fn plug_in(&self, instance: InstanceId, device: &Device) -> Result<()> {
        let device = device.clone();
        let plug = move |guest: &mut Option<Guest>| {
            let guest = guest.as_mut().ok_or(Error::NotFound(instance))?;
            guest.devices.put(&device);
            Ok(())
        };
        self.act(For::Process(instance), ACTION, plug).await
    }

    pub(super) async fn unplug_from(
        &self,
        instance: InstanceId,
        key: &DeviceKey,
        patience: Duration,
    ) -> Result<Unplugged> {
        let keeps = self.plan().keeps_devices;
        if keeps
            && self.status(instance).await?.power == Power::On
            && self.devices_of(instance).await?.has(key)
        {
            tokio::time::sleep(patience).await;
            return Ok(Unplugged::Busy);
        }
        let key = key.clone();
        let unplug = move |guest: &mut Option<Guest>| {
            if let Some(guest) = guest {
                guest.devices.take(&key);
            }
            Ok(Unplugged::Gone)
        };
        self.act(For::Process(instance), ACTION, unplug).await
    }

    pub(super) async fn grow(&self, instance: InstanceId, path: &Path, bytes: u64) -> Result<()> {
        let path = path.to_owned();
        self.on_disk(instance, move |devices| devices.grow(&path, bytes))
            .await
    }

    pub(super) async fn slow_down(&self, instance: InstanceId, path: &Path, most: Throttle) -> Result<()> {
        let path = path.to_owned();
        self.on_disk(instance, move |devices| devices.throttle(&path, most))
            .await
    }

    /// Something is done to a disk of a guest that runs; `what` says whether there is such a disk.
    async fn on_disk(
        &self,
        instance: InstanceId,
        what: impl Fn(&mut Devices) -> bool + Send + Sync + 'static,
    ) -> Result<()> {
        let done = move |guest: &mut Option<Guest>| {
            let guest = guest.as_mut().filter(|guest| guest.on);
            let guest = guest.ok_or(Error::NotFound(instance))?;
            match what(&mut guest.devices) {
                true => Ok(()),
                false => Err(Error::Unavailable(format!("{instance} has no such disk"))),
            }
        };
        self.act(For::Process(instance), ACTION, done).await
    }
}
