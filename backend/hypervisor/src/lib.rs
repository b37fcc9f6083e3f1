//! The hypervisor driver trait: idempotent methods that state the desired state of a guest.
//! Behind it are libvirt (feature `libvirt`) and a simulation; everything above it is shared. The worker
//! calls it.

#[cfg(feature = "contract")]
pub mod contract;
mod copies;
mod devices;
pub mod fake;
#[cfg(feature = "libvirt")]
pub mod libvirt;
mod outstanding;
pub mod probe;
mod quiesced;
mod rbd;
pub mod slow;
mod spec;

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
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::broadcast,
};

pub use copies::{Copying, DiskCopy};
pub use devices::{Device, DeviceKey, Devices, PluggedDisk, PluggedNic, Unplugged, free_target};
pub use quiesced::Quiesced;
pub use rbd::{CephClient, RbdImage};
pub use slow::Diagnosis;
pub use spec::{Backing, DiskSecret, DomainDisk, DomainNic, DomainSpec};

/// How long a question may take.
const QUESTION: Duration = Duration::from_secs(10);

/// How long a start or an end may take: libvirt itself waits up to 15 s for a process to go.
const ACTION: Duration = Duration::from_secs(40);

/// How long a measurement may take. Whoever measures need not wait for its end to know that it is long.
const MEASUREMENT: Duration = Duration::from_secs(600);

/// What a driver answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a driver could not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing of the instance here.
    #[error("there is no guest of {0}")]
    NotFound(InstanceId),
    /// A guest with the instance's name is there and is not this cloud's: it is never touched.
    #[error("a guest named {0} belongs to somebody else")]
    Foreign(InstanceId),
    /// An earlier call for the same guest has still not come back: the guest's process, or the hypervisor, hangs.
    #[error("an earlier call for the guest of {0} has not come back from the hypervisor")]
    Hung(InstanceId),
    /// The call did not come back in time. It may have its effect yet.
    #[error("the hypervisor did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The hypervisor can't be reached.
    #[error("the hypervisor can't be reached: {0}")]
    Away(String),
    /// The hypervisor has failed; trying again later may help.
    #[error("the hypervisor could not do it: {0}")]
    Unavailable(String),
    /// The hypervisor refused; trying the same again here will not help.
    #[error("the hypervisor refused: {0}")]
    Refused(String),
    /// The guest is to be started by UEFI, which the host does not have.
    #[error("the image asks for UEFI, and this host has none")]
    NoFirmware,
    /// The guest has nothing of that kind.
    #[error("the guest of {0} has no {1} console")]
    NoConsole(InstanceId, ConsoleKind),
}

impl Error {
    /// Whether trying again here can't help.
    pub const fn is_permanent(&self) -> bool {
        matches!(
            self,
            Error::Foreign(_) | Error::Refused(_) | Error::NoFirmware | Error::NoConsole(..)
        )
    }

    /// Whether nothing is known of what was asked: no answer has come, so the guest has to be looked at again.
    pub const fn is_unanswered(&self) -> bool {
        matches!(self, Error::Hung(_) | Error::Late(_) | Error::Away(_))
    }
}

/// What the host can give to guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Capabilities {
    pub vcpus: u32,
    pub memory_mib: u64,
}

/// How a prepared guest stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Its process is there and waits for [`Hypervisor::resume`].
    Paused,
    /// It ran already and was left alone.
    Running,
}

/// A guest as its driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainStatus {
    /// Whose guest.
    pub instance: InstanceId,
    /// On (also while paused), off, or absent.
    pub power: Power,
    /// Its process is there and its CPUs stand still.
    pub paused: bool,
    /// Why it is off, where the driver knows.
    pub off_reason: Option<OffReason>,
}

/// The bytes of a console, both ways; it ends when the guest's process does.
pub trait ConsoleStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ConsoleStream for T {}

/// What a driver tells by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A guest went on or off.
    Changed(DomainStatus),
    /// Events may have been lost: list again.
    Resync,
}

/// A driver. Every method may be called again with the same outcome, also after a crash in between.
///
/// Starting a guest has two phases, because a network device can only be moved into its network when the
/// guest's process has opened it: [`Hypervisor::prepare`], then the move, then [`Hypervisor::resume`].
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// The driver's name: `qemu`, `kvm` or `fake`.
    fn name(&self) -> &'static str;

    /// What its calls go to, as it is named in reasons: `libvirt`.
    fn service(&self) -> &'static str;

    /// A call that needs of the hypervisor what a launch needs, and keeps nothing: how long it takes is how slow the
    /// hypervisor is.
    async fn measure(&self) -> Result<()>;

    /// Why its calls are slow, by a look at the host.
    fn diagnose(&self) -> Diagnosis;

    /// What the host can give.
    async fn capabilities(&self) -> Result<Capabilities>;

    /// What the host is, for the scheduler. Asked often: a driver keeps the answer for as long as it holds.
    async fn profile(&self) -> Result<Arc<HostProfile>>;

    /// The guest's process shall be there, with its disks and devices open. One that runs is left alone: what of
    /// its devices is not as in `spec` is the caller's to see ([`Hypervisor::devices`]). One that is off is defined
    /// anew from `spec`.
    async fn prepare(&self, spec: &DomainSpec) -> Result<Prepared>;

    /// The disks and interfaces that the guest has: in its process while it runs, else those that it is defined with.
    async fn devices(&self, instance: InstanceId) -> Result<Devices>;

    /// The disks of all guests of this cloud that run, by their files: these are in a process's hands.
    async fn open_disks(&self) -> Result<Vec<(InstanceId, PathBuf)>> {
        let mut open = Vec::new();
        for guest in self.list().await?.iter().filter(|guest| guest.power == Power::On) {
            match self.devices(guest.instance).await {
                Ok(has) => open.extend(has.disks.into_iter().map(|disk| (guest.instance, disk.path))),
                // It has gone meanwhile, and its disks with it.
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(open)
    }

    /// The guest shall have the device, at once if it runs. A disk whose name on the bus is another's gets a free one.
    async fn plug(&self, instance: InstanceId, device: &Device) -> Result<()>;

    /// The guest shall not have the device. One that runs is asked for it, and has to let go of it itself, within
    /// `patience`; one that is off, or not there, has it no more.
    async fn unplug(&self, instance: InstanceId, device: &DeviceKey, patience: Duration)
    -> Result<Unplugged>;

    /// The disk of a guest that runs shall be so large, and the guest see it. A larger one is left alone.
    async fn resize(&self, instance: InstanceId, disk: &Path, bytes: u64) -> Result<()>;

    /// Copies of disks of a guest that runs are begun, all as the disks are at one moment before this returns. The
    /// guest goes on. One has copies made once at a time. Where the guest has an agent that answers, its file systems
    /// are frozen for that moment; an agent is waited for no longer than some seconds, and can't make this fail.
    async fn copy_disks(&self, instance: InstanceId, copies: &[DiskCopy]) -> Result<()>;

    /// How the copies stand.
    async fn copying(&self, instance: InstanceId) -> Result<Copying>;

    /// No copies are being made any more. What there is of their files is the caller's.
    async fn stop_copying(&self, instance: InstanceId) -> Result<()>;

    /// What came of guests' agents that were asked to freeze file systems.
    fn quiesced(&self) -> Quiesced {
        Quiesced::default()
    }

    /// What a disk may do in a second whose own bound is this: no more than the host lets every disk do.
    fn bounded(&self, own: Throttle) -> Throttle {
        own
    }

    /// The disk of a guest that runs shall do no more in a second than this, or what the host lets every disk do.
    async fn throttle(&self, instance: InstanceId, disk: &Path, own: Throttle) -> Result<()>;

    /// The guest's CPUs shall run.
    async fn resume(&self, instance: InstanceId) -> Result<()>;

    /// No process of the guest shall be left. It is asked first and cut after `grace`; at once if that
    /// is zero. No guest at all is fine too.
    async fn ensure_off(&self, instance: InstanceId, grace: Duration) -> Result<()>;

    /// The guest shall start over: asked first and reset after `grace`.
    async fn reboot(&self, instance: InstanceId, grace: Duration) -> Result<()>;

    /// Nothing of the guest shall be left; it is cut if it runs. Disks are not the driver's.
    async fn ensure_absent(&self, instance: InstanceId) -> Result<()>;

    /// How the guest stands; [`Power::Absent`] if there is none.
    async fn status(&self, instance: InstanceId) -> Result<DomainStatus>;

    /// Every guest of this cloud, and no others.
    async fn list(&self) -> Result<Vec<DomainStatus>>;

    /// The last bytes of the serial console, `max` at the most.
    async fn console_tail(&self, instance: InstanceId, max: usize) -> Result<Vec<u8>>;

    /// A picture of the screen, as JPEG.
    async fn screenshot(&self, instance: InstanceId) -> Result<Vec<u8>>;

    /// A console of a guest that runs. Whether several can be open at once depends on its kind.
    async fn open_console(&self, instance: InstanceId, kind: ConsoleKind) -> Result<Box<dyn ConsoleStream>>;

    /// What changes from now on. A receiver that lags has lost events, as with [`Event::Resync`].
    fn events(&self) -> broadcast::Receiver<Event>;
}
