//! The libvirt driver: real guests under QEMU.

mod console;
mod copies;
mod devices;
mod disk_io;
mod disk_xml;
mod driver;
mod events;
mod ffi;
mod guests;
mod kept;
mod pool;
mod profile;
mod quiesce;
mod screen;
mod secrets;
mod slots;
mod terminal;
mod thaw;
mod tree;
mod xml;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use cumulet_domain::{host::HostProfile, id::InstanceId};
use tokio::{sync::broadcast, task::JoinSet};
use virt::{
    connect::Connect,
    domain::Domain,
    error::{Error as LibvirtError, ErrorNumber},
    sys,
};

use crate::{CephClient, Error, Event, Result, outstanding::For, probe};
use disk_io::HostIo;
use events::Signal;
pub use guests::{Bounds, Confinement, GuestUser, Guests, confinement};
use kept::Kept;
use pool::Pool;
use quiesce::Freezes;
use thaw::Thawing;
use xml::Ownership;

/// The emulator that the probe guest is run with.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// Events that a slow receiver may be behind before it has to list again.
const EVENTS: usize = 1024;

/// How long the first answer of libvirtd is waited for. Whether one is there at all is known within moments; one that
/// is there and slow is measured later, by the worker.
const FIRST: Duration = Duration::from_secs(10);

/// Hardware virtualisation or emulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accel {
    /// KVM if a probe guest runs, else emulation.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// Emulation.
    Qemu,
}

impl FromStr for Accel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Accel::Auto),
            "kvm" => Ok(Accel::Kvm),
            "qemu" => Ok(Accel::Qemu),
            other => Err(format!("{other:?}; expecting auto, kvm or qemu")),
        }
    }
}

/// Which libvirt, for whom.
#[derive(Clone, Debug)]
pub struct LibvirtConfig {
    /// For instance `qemu:///system`.
    pub uri: String,
    /// Whose guests: those of other clouds at the same libvirt are not seen and not touched.
    pub cloud: String,
    /// Hardware virtualisation or emulation.
    pub accel: Accel,
    /// As whom guests run, and what they may use of the host.
    pub guests: Guests,
    /// What guests' processes reach the pool of volumes with; `None`: none does.
    pub ceph: Option<CephClient>,
}

/// The driver.
pub struct Libvirt {
    config: LibvirtConfig,
    kvm: bool,
    io: HostIo,
    pool: Arc<Pool>,
    profile: Arc<Kept<HostProfile>>,
    known: Arc<Known>,
    freezes: Arc<Freezes>,
    signals: broadcast::Sender<Signal>,
    events: broadcast::Sender<Event>,
    /// Dropped with the driver, which ends its listener.
    _stop: mpsc::Sender<()>,
    /// It ends with the driver, too.
    _thawing: JoinSet<()>,
}

/// The guests known to be this cloud's, and where their consoles go.
#[derive(Default)]
struct Known(Mutex<HashMap<InstanceId, PathBuf>>);

impl Known {
    fn guests(&self) -> MutexGuard<'_, HashMap<InstanceId, PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Libvirt {
    /// Connects, finds out what there is, and listens.
    ///
    /// # Errors
    /// When libvirt does not answer, or KVM is asked for and runs no guest.
    pub async fn start(config: LibvirtConfig) -> Result<Arc<Libvirt>> {
        events::start_loop().map_err(|e| Error::Unavailable(e.message().to_owned()))?;
        let pool = Pool::new(config.uri.clone());
        match pool.call(For::Host, FIRST, |c| c.node_info().map(drop)).await {
            Err(Error::Late(_)) => tracing::warn!("libvirt is slow: its first answer has not come"),
            answered => answered?,
        }
        let kvm = match config.accel {
            Accel::Qemu => false,
            Accel::Auto | Accel::Kvm => probe::kvm_works(Path::new(QEMU)).await,
        };
        if config.accel == Accel::Kvm && !kvm {
            return Err(Error::Refused("KVM runs no guest here".into()));
        }
        let uring = probe::io_uring(Path::new(QEMU)).await.is_ok();
        let (stop, stopped) = mpsc::channel();
        let (known, freezes) = (Arc::<Known>::default(), Arc::<Freezes>::default());
        let thawing = Thawing {
            pool: pool.clone(),
            known: known.clone(),
            cloud: config.cloud.clone(),
            freezes: freezes.clone(),
        };
        let driver = Arc::new(Libvirt {
            kvm,
            io: HostIo { uring },
            pool,
            profile: Arc::default(),
            known,
            freezes,
            signals: broadcast::Sender::new(EVENTS),
            events: broadcast::Sender::new(EVENTS),
            _stop: stop,
            _thawing: JoinSet::from_iter([thawing.run()]),
            config,
        });
        let tell = driver.teller();
        let uri = driver.config.uri.clone();
        let body = move || events::keep_listening(&uri, tell, &stopped);
        let thread = std::thread::Builder::new()
            .name("libvirt-listen".into())
            .spawn(body);
        thread.map_err(|e| Error::Unavailable(format!("no thread: {e}")))?;
        Ok(driver)
    }

    /// What is done with a signal: the call that waits for it is told, and, if the guest is ours, the rest.
    fn teller(&self) -> Arc<dyn Fn(Signal) + Send + Sync> {
        let (known, signals, events) = (self.known.clone(), self.signals.clone(), self.events.clone());
        let profile = self.profile.clone();
        Arc::new(move |signal| {
            let event = match signal {
                Signal::Status(status) if known.guests().contains_key(&status.instance) => {
                    Some(Event::Changed(status))
                }
                Signal::Reconnected => {
                    // It may be another version, on a machine with other processors or firmware.
                    profile.forget();
                    Some(Event::Resync)
                }
                Signal::Status(_) | Signal::Rebooted(_) | Signal::Unplugged(_) => None,
            };
            // Nobody need listen.
            drop(signals.send(signal));
            if let Some(event) = event {
                drop(events.send(event));
            }
        })
    }

    /// A call for a guest of this cloud; there is none if no guest, or another cloud's, has its name.
    async fn call<T: Send + 'static>(
        &self,
        whom: For,
        deadline: Duration,
        work: impl Fn(Option<Domain>) -> Result<T, LibvirtError> + Send + 'static,
    ) -> Result<T> {
        let (cloud, known) = (self.config.cloud.clone(), self.known.clone());
        let call = move |connection: &Connect| match whom {
            For::Guest(id) | For::Process(id) => work(find(connection, id, &cloud, &known)?.ours()),
            For::Host => work(None),
        };
        self.pool.call(whom, deadline, call).await
    }
}

/// How long libvirt takes for a call such as a launch makes, or that it takes longer than `most`, which is an error of
/// the kind [`Error::Late`]. For a process that has no driver.
///
/// # Errors
/// That, or when libvirt can't be reached or refuses.
pub async fn measure(uri: &str, most: Duration) -> Result<Duration> {
    let (pool, began) = (Pool::new(uri.to_owned()), Instant::now());
    pool.call(For::Host, most, |connection| emulator(connection, false))
        .await?;
    Ok(began.elapsed())
}

/// Has libvirt look up what the emulator can do, as the definition and the start of each guest do. Where what it
/// remembers of that is not valid it runs the emulator several times to find out.
fn emulator(connection: &Connect, kvm: bool) -> Result<(), LibvirtError> {
    let kind = if kvm { "kvm" } else { "qemu" };
    let (architecture, machine) = (Some(xml::ARCHITECTURE), Some(xml::MACHINE));
    let told = connection.domain_capabilities(None, architecture, machine, Some(kind), 0);
    told.map(drop)
}

/// A domain with an instance's name.
enum Found {
    Nothing,
    Ours(Domain),
    Foreign,
}

impl Found {
    fn ours(self) -> Option<Domain> {
        match self {
            Found::Ours(domain) => Some(domain),
            Found::Nothing | Found::Foreign => None,
        }
    }
}

fn find(
    connection: &Connect,
    instance: InstanceId,
    cloud: &str,
    known: &Known,
) -> Result<Found, LibvirtError> {
    let domain = match connection.lookup_domain_by_name(&instance.to_string()) {
        Ok(domain) => domain,
        Err(error) if is(&error, ErrorNumber::NoDomain) => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let ours = owns(&domain, instance, cloud, known)?;
    Ok(if ours { Found::Ours(domain) } else { Found::Foreign })
}

/// Whether a domain is this cloud's, by what its metadata says.
fn owns(domain: &Domain, instance: InstanceId, cloud: &str, known: &Known) -> Result<bool, LibvirtError> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
    let text = match domain.metadata(kind, Some(xml::NAMESPACE), 0) {
        Ok(text) => text,
        Err(error) if is(&error, ErrorNumber::NoDomainMetadata) => return Ok(false),
        Err(error) => return Err(error),
    };
    match xml::read_ownership(&text) {
        Some(Ownership { cloud: of, console }) if of == cloud => {
            known.guests().insert(instance, console);
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn is(error: &LibvirtError, number: ErrorNumber) -> bool {
    error.code().is_known_and(|known| known == number)
}
