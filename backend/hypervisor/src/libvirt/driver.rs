//! The driver trait, implemented with libvirt's calls.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
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
use tokio::sync::broadcast;
use virt::{
    domain::{Domain, DomainShutoffReason as Shutoff, DomainState, DomainStateReason, DomainStateReasonEnum},
    error::{Error as LibvirtError, ErrorNumber},
    stream::Stream,
    sys,
};

use super::{
    For, Found, Libvirt, Signal, console,
    devices::FULL,
    disk_xml, emulator, find, is, owns, profile, screen,
    secrets::{Access, Lent},
    slots::Slots,
    terminal, xml,
};
use crate::{
    ACTION, Capabilities, ConsoleStream, Copying, Device, DeviceKey, Devices, Diagnosis, DiskCopy,
    DomainSpec, DomainStatus, Error, Event, Hypervisor, MEASUREMENT, Prepared, QUESTION, Quiesced, Result,
    Unplugged, slow,
};

/// How long a picture may take.
const PICTURE: Duration = Duration::from_secs(4);

/// The largest picture that is taken.
const PICTURE_BYTES: usize = 64 << 20;

/// How often the power button is pressed: a guest that still boots does not feel the first time.
const PRESS: Duration = Duration::from_secs(5);

/// The XML that defines a guest; what it has had before keeps its slots.
fn described(spec: &DomainSpec, before: &Slots, host: &xml::HostFacts<'_>) -> Result<String, String> {
    let slots = Slots::of(spec, before).ok_or(FULL)?;
    xml::domain(spec, &slots, host).map_err(|error| error.to_string())
}

/// As libvirt says that no package with UEFI is installed.
const NO_FIRMWARE: &str = "any firmware to satisfy 'efi'";

/// How a domain stands.
pub(super) fn status_of(domain: &Domain, instance: InstanceId) -> Result<DomainStatus, LibvirtError> {
    let (state, reason) = domain.state()?;
    let off = state.is_known_and(|s| matches!(s, DomainState::Shutoff | DomainState::Crashed));
    let off_reason = match reason {
        DomainStateReasonEnum::Known(DomainStateReason::Shutoff(reason)) => [
            (Shutoff::Shutdown, OffReason::GuestShutdown),
            (Shutoff::Destroyed, OffReason::Commanded),
            (Shutoff::Crashed, OffReason::Crashed),
            (Shutoff::Failed, OffReason::Crashed),
            (Shutoff::Daemon, OffReason::Crashed),
        ]
        .into_iter()
        .find(|(known, _)| reason.is_known_and(|r| r == *known))
        .map(|(_, reason)| reason),
        DomainStateReasonEnum::Known(DomainStateReason::Crashed(_)) => Some(OffReason::Crashed),
        _ => None,
    };
    Ok(DomainStatus {
        instance,
        power: if off { Power::Off } else { Power::On },
        paused: state.is_known_and(|s| s == DomainState::Paused),
        off_reason: off_reason.filter(|_| off),
    })
}

const fn absent(instance: InstanceId) -> DomainStatus {
    DomainStatus {
        instance,
        power: Power::Absent,
        paused: false,
        off_reason: None,
    }
}

/// Ends a domain's process; one that is off is fine.
fn cut(domain: &Domain) -> Result<(), LibvirtError> {
    match domain.destroy() {
        Err(error) if is(&error, ErrorNumber::OperationInvalid) && !domain.is_active()? => Ok(()),
        other => other,
    }
}

impl Libvirt {
    /// A call that needs the guest to run.
    async fn on_running(
        &self,
        instance: InstanceId,
        deadline: Duration,
        work: impl Fn(&Domain, DomainStatus) -> Result<(), LibvirtError> + Send + 'static,
    ) -> Result<()> {
        let done = self.call(For::Process(instance), deadline, move |domain| {
            let Some(domain) = domain else {
                return Ok(Err(Error::NotFound(instance)));
            };
            let status = status_of(&domain, instance)?;
            if status.power != Power::On {
                return Ok(Err(Error::Unavailable(format!("the guest of {instance} is off"))));
            }
            work(&domain, status).map(Ok)
        });
        done.await?
    }

    /// A call that ends a guest, also one that an outstanding call is about to start: that call is waited for (what is
    /// ended lets it go), and what it has made is ended too.
    async fn for_good(
        &self,
        instance: InstanceId,
        work: impl Fn(Option<Domain>) -> Result<(), LibvirtError> + Copy + Send + 'static,
    ) -> Result<()> {
        let outstanding = &self.pool.outstanding;
        loop {
            let is_clear = outstanding.is_clear(instance);
            self.call(For::Guest(instance), ACTION, work).await?;
            if is_clear {
                return Ok(());
            }
            let end = tokio::time::Instant::now() + ACTION;
            outstanding.turn(For::Process(instance), end).await?;
        }
    }

    /// Waits for a signal about a guest; false if it does not come in time. What is lost to a receiver that
    /// lags does not come.
    pub(super) async fn wait(
        signals: &mut broadcast::Receiver<Signal>,
        time: Duration,
        wanted: impl Fn(&Signal) -> bool,
    ) -> bool {
        let waited = async {
            loop {
                match signals.recv().await {
                    Ok(signal) if wanted(&signal) => return true,
                    Err(broadcast::error::RecvError::Closed) => return false,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                }
            }
        };
        tokio::time::timeout(time, waited).await.unwrap_or(false)
    }

    /// Asks a guest to go off until it does or the time is over; whether it did.
    async fn ask_off(&self, instance: InstanceId, grace: Duration) -> Result<bool> {
        let mut signals = self.signals.subscribe();
        let is_off = |signal: &Signal| matches!(signal, Signal::Status(s) if s.instance == instance && s.power != Power::On);
        let end = tokio::time::Instant::now() + grace;
        loop {
            let press = |domain: &Domain, status: DomainStatus| match status.paused {
                true => Ok(()),
                false => domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN),
            };
            let pressed = self.on_running(instance, QUESTION, press).await;
            let status = self.status(instance).await?;
            if status.power != Power::On {
                return Ok(true);
            }
            if let Err(error) = pressed {
                tracing::warn!(%instance, %error, "the guest can't be asked to go off");
                return Ok(false);
            }
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() || status.paused {
                return Ok(false);
            }
            if Self::wait(&mut signals, left.min(PRESS), is_off).await {
                return Ok(true);
            }
        }
    }
}

#[async_trait]
impl Hypervisor for Libvirt {
    fn name(&self) -> &'static str {
        if self.kvm { "kvm" } else { "qemu" }
    }

    fn service(&self) -> &'static str {
        "libvirt"
    }

    async fn measure(&self) -> Result<()> {
        let kvm = self.kvm;
        let work = move |connection: &virt::connect::Connect| emulator(connection, kvm);
        self.pool.call(For::Host, MEASUREMENT, work).await
    }

    fn diagnose(&self) -> Diagnosis {
        slow::diagnose()
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        let node = self
            .pool
            .call(For::Host, QUESTION, virt::connect::Connect::node_info)
            .await?;
        Ok(Capabilities {
            vcpus: node.cpus,
            memory_mib: node.memory / 1024,
        })
    }

    async fn profile(&self) -> Result<Arc<HostProfile>> {
        if let Some(profile) = self.profile.get() {
            return Ok(profile);
        }
        let (kept, kvm, turn) = (self.profile.clone(), self.kvm, self.profile.turn());
        // Kept also when it comes too late for this call.
        let work = move |connection: &virt::connect::Connect| {
            Ok(profile::read(connection, kvm)?.map(|profile| kept.keep(turn, profile)))
        };
        let read = self.pool.call(For::Host, QUESTION, work).await?;
        read.map_err(|error| Error::Unavailable(error.to_string()))
    }

    async fn prepare(&self, spec: &DomainSpec) -> Result<Prepared> {
        let guests = &self.config.guests;
        let user = guests.user(spec)?;
        let (bounds, kvm, io, instance) = (guests.bounds, self.kvm, self.io, spec.instance);
        let ceph = self.config.ceph.clone();
        let (spec, cloud, known) = (spec.clone(), self.config.cloud.clone(), self.known.clone());
        let work = move |connection: &virt::connect::Connect| {
            let mut before = Slots::default();
            match find(connection, instance, &cloud, &known)? {
                Found::Foreign => return Ok(Err(Error::Foreign(instance))),
                Found::Nothing => {}
                Found::Ours(domain) => {
                    let status = status_of(&domain, instance)?;
                    if status.power == Power::On {
                        return Ok(Ok(if status.paused {
                            Prepared::Paused
                        } else {
                            Prepared::Running
                        }));
                    }
                    let definition = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
                    before = Slots::read(&definition).unwrap_or_default();
                }
            }
            let access = Access::to(spec.disks.iter(), ceph.as_ref(), instance);
            let host = xml::HostFacts {
                cloud: &cloud,
                kvm,
                user,
                bounds,
                io,
                access,
            };
            let text = match described(&spec, &before, &host) {
                Ok(text) => text,
                Err(why) => return Ok(Err(Error::Refused(why))),
            };
            known.guests().insert(instance, spec.console_log.clone());
            let domain = connection.define_domain_xml(&text)?;
            let secrets = spec.disks.iter().filter_map(|disk| disk.secret.as_ref());
            let _lent = Lent::to(connection, secrets)?.with_pool(connection, access)?;
            match domain.create_with_flags(sys::VIR_DOMAIN_START_PAUSED) {
                Err(error) if error.message().contains(NO_FIRMWARE) => Ok(Err(Error::NoFirmware)),
                started => started.map(|_| Ok(Prepared::Paused)),
            }
        };
        self.pool.call(For::Process(instance), ACTION, work).await?
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

    fn quiesced(&self) -> Quiesced {
        self.freezes.counts()
    }

    fn bounded(&self, own: Throttle) -> Throttle {
        disk_xml::bounded(self.config.guests.bounds, own)
    }

    async fn throttle(&self, instance: InstanceId, disk: &Path, own: Throttle) -> Result<()> {
        self.slow_down(instance, disk, self.bounded(own)).await
    }

    async fn resume(&self, instance: InstanceId) -> Result<()> {
        let wake = |domain: &Domain, status: DomainStatus| {
            if status.paused { domain.resume() } else { Ok(()) }
        };
        self.on_running(instance, ACTION, wake).await
    }

    async fn ensure_off(&self, instance: InstanceId, grace: Duration) -> Result<()> {
        if self.status(instance).await?.power != Power::On {
            return Ok(());
        }
        if !grace.is_zero() && self.ask_off(instance, grace).await? {
            return Ok(());
        }
        self.for_good(instance, |domain| domain.as_ref().map_or(Ok(()), cut))
            .await
    }

    async fn reboot(&self, instance: InstanceId, grace: Duration) -> Result<()> {
        let mut signals = self.signals.subscribe();
        let asked = |domain: &Domain, _| domain.reboot(sys::VIR_DOMAIN_REBOOT_ACPI_POWER_BTN);
        self.on_running(instance, ACTION, asked).await?;
        let rebooted = |signal: &Signal| matches!(signal, Signal::Rebooted(id) if *id == instance);
        if !Self::wait(&mut signals, grace, rebooted).await {
            tracing::info!(%instance, "the guest does not start over by itself: reset");
            self.on_running(instance, ACTION, |domain, _| domain.reset())
                .await?;
        }
        Ok(())
    }

    async fn ensure_absent(&self, instance: InstanceId) -> Result<()> {
        let work = |domain: Option<Domain>| {
            let Some(domain) = domain else { return Ok(()) };
            cut(&domain)?;
            let flags = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
            match domain.undefine_flags(flags) {
                Err(error) if is(&error, ErrorNumber::NoDomain) => Ok(()),
                other => other,
            }
        };
        self.for_good(instance, work).await?;
        self.known.guests().remove(&instance);
        Ok(())
    }

    async fn status(&self, instance: InstanceId) -> Result<DomainStatus> {
        let work = move |domain: Option<Domain>| {
            domain.map_or(Ok(absent(instance)), |domain| status_of(&domain, instance))
        };
        self.call(For::Guest(instance), QUESTION, work).await
    }

    async fn list(&self) -> Result<Vec<DomainStatus>> {
        let (cloud, known) = (self.config.cloud.clone(), self.known.clone());
        let work = move |connection: &virt::connect::Connect| {
            let mut listed = Vec::new();
            for domain in connection.list_all_domains(0)? {
                let Ok(instance) = domain.name()?.parse::<InstanceId>() else {
                    continue;
                };
                // One that is undefined meanwhile is not there.
                let status = || -> Result<Option<DomainStatus>, LibvirtError> {
                    let ours = owns(&domain, instance, &cloud, &known)?;
                    if ours {
                        status_of(&domain, instance).map(Some)
                    } else {
                        Ok(None)
                    }
                };
                match status() {
                    Ok(status) => listed.extend(status),
                    Err(error) if is(&error, ErrorNumber::NoDomain) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(listed)
        };
        self.pool.call(For::Host, ACTION, work).await
    }

    async fn console_tail(&self, instance: InstanceId, max: usize) -> Result<Vec<u8>> {
        let mut path = self.known.guests().get(&instance).cloned();
        if path.is_none() && self.status(instance).await?.power != Power::Absent {
            path = self.known.guests().get(&instance).cloned();
        }
        let path = path.ok_or(Error::NotFound(instance))?;
        let read = tokio::task::spawn_blocking(move || console::tail(&path, max)).await;
        match read {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(Error::Unavailable(error.to_string())),
            Err(error) => Err(Error::Unavailable(error.to_string())),
        }
    }

    async fn screenshot(&self, instance: InstanceId) -> Result<Vec<u8>> {
        let (cloud, known) = (self.config.cloud.clone(), self.known.clone());
        let work = move |connection: &virt::connect::Connect| {
            let Some(domain) = find(connection, instance, &cloud, &known)?.ours() else {
                return Ok(Err(Error::NotFound(instance)));
            };
            if status_of(&domain, instance)?.power != Power::On {
                return Ok(Err(Error::Unavailable(format!("the guest of {instance} is off"))));
            }
            let stream = Stream::new(connection, 0)?;
            domain.screenshot(&stream, 0, 0)?;
            let mut picture = Vec::new();
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let read = usize::try_from(stream.recv(&mut buffer)?).unwrap_or(0);
                if read == 0 {
                    break;
                }
                picture.extend_from_slice(&buffer[..read.min(buffer.len())]);
                if picture.len() > PICTURE_BYTES {
                    stream.abort()?;
                    return Ok(Err(Error::Refused("the screen is too large".into())));
                }
            }
            stream.finish()?;
            Ok(Ok(picture))
        };
        let picture = self.pool.call(For::Process(instance), PICTURE, work).await??;
        let jpeg = tokio::task::spawn_blocking(move || screen::to_jpeg(&picture)).await;
        let jpeg = jpeg.map_err(|e| Error::Unavailable(e.to_string()))?;
        jpeg.map_err(|e| Error::Unavailable(e.to_owned()))
    }

    async fn open_console(&self, instance: InstanceId, kind: ConsoleKind) -> Result<Box<dyn ConsoleStream>> {
        let open = move |domain: Option<Domain>| {
            let Some(domain) = domain else {
                return Ok(Err(Error::NotFound(instance)));
            };
            if status_of(&domain, instance)?.power != Power::On {
                return Ok(Err(Error::NotFound(instance)));
            }
            terminal::open(&domain, instance, kind)
        };
        let opened = self.call(For::Process(instance), QUESTION, open).await??;
        let stream = opened.stream();
        stream.map_err(|error| Error::Unavailable(error.to_string()))
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
