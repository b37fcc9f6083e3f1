//! Domain events: the process's one event loop, a connection that is kept up, and what comes over it.

use std::{
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use cumulet_domain::{
    id::InstanceId,
    message::{OffReason, Power},
};
use virt::{connect::Connect, error::Error as LibvirtError, event, sys};

use super::ffi::{self, Kind};
use crate::DomainStatus;

/// How often the connection is looked at, and how soon it is opened again.
const LOOK: Duration = Duration::from_secs(1);

/// libvirtd is asked for a sign of life this often, and given up after so many questions.
const KEEP_ALIVE: (i32, u32) = (5, 3);

/// What libvirt tells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    /// A domain with the name of an instance is so now. It may be another cloud's.
    Status(DomainStatus),
    /// The guest of an instance started over.
    Rebooted(InstanceId),
    /// The guest of an instance has let go of a device.
    Unplugged(InstanceId),
    /// The connection was opened again: something may have been missed.
    Reconnected,
}

/// Starts the process's event loop, once. It has to run before a connection is opened.
pub(super) fn start_loop() -> Result<(), LibvirtError> {
    static LOOP: OnceLock<Result<(), LibvirtError>> = OnceLock::new();
    let started = LOOP.get_or_init(|| {
        virt::error::clear_error_callback();
        event::event_register_default_impl()?;
        let body = || {
            loop {
                if let Err(error) = event::event_run_default_impl() {
                    tracing::error!(%error, "libvirt's event loop");
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("libvirt-events".into())
            .spawn(body);
        if let Err(error) = thread {
            tracing::error!(%error, "no thread for libvirt's events");
        }
        Ok(())
    });
    started.clone()
}

/// Keeps a connection for events up until `stop` is dropped. `tell` is called from the event loop.
pub(super) fn keep_listening(uri: &str, tell: Arc<dyn Fn(Signal) + Send + Sync>, stop: &Receiver<()>) {
    let mut again = false;
    loop {
        match listen(uri, &tell) {
            Ok(connection) => {
                if again {
                    tracing::info!("connected to libvirt again");
                    tell(Signal::Reconnected);
                }
                again = true;
                while stop.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout)
                    && connection.is_alive().unwrap_or(false)
                {}
                tracing::warn!("libvirt has gone");
            }
            Err(error) => {
                again = true;
                tracing::warn!(%error, "can't listen to libvirt");
            }
        }
        if stop.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn listen(uri: &str, tell: &Arc<dyn Fn(Signal) + Send + Sync>) -> Result<Connect, LibvirtError> {
    let connection = Connect::open(Some(uri))?;
    connection.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)?;
    for kind in [Kind::Lifecycle, Kind::Reboot, Kind::Unplug] {
        let tell = tell.clone();
        ffi::listen(
            &connection,
            kind,
            Box::new(move |name, event, detail| {
                if let Ok(instance) = name.parse()
                    && let Some(signal) = read(kind, instance, event, detail)
                {
                    tell(signal);
                }
            }),
        )?;
    }
    Ok(connection)
}

/// What an event means.
fn read(kind: Kind, instance: InstanceId, event: u32, detail: u32) -> Option<Signal> {
    let on = |paused| {
        Some(Signal::Status(DomainStatus {
            instance,
            power: Power::On,
            paused,
            off_reason: None,
        }))
    };
    let gone = |power, off_reason| {
        Some(Signal::Status(DomainStatus {
            instance,
            power,
            paused: false,
            off_reason,
        }))
    };
    match (kind, event) {
        (Kind::Reboot, _) => Some(Signal::Rebooted(instance)),
        (Kind::Unplug, _) => Some(Signal::Unplugged(instance)),
        (Kind::Lifecycle, sys::VIR_DOMAIN_EVENT_STARTED | sys::VIR_DOMAIN_EVENT_SUSPENDED) => on(true),
        (Kind::Lifecycle, sys::VIR_DOMAIN_EVENT_RESUMED) => on(false),
        (Kind::Lifecycle, sys::VIR_DOMAIN_EVENT_STOPPED) => gone(
            Power::Off,
            Some(match detail {
                sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => OffReason::GuestShutdown,
                sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => OffReason::Commanded,
                _ => OffReason::Crashed,
            }),
        ),
        (Kind::Lifecycle, sys::VIR_DOMAIN_EVENT_UNDEFINED) => gone(Power::Absent, None),
        (Kind::Lifecycle, _) => None,
    }
}
