//! Readiness of the host: how long its hypervisor takes for a call, measured again and again beside the work, and what
//! that means. A host that is too slow stays where it is and says why it takes no launches, as a disabled one would.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cumulet_domain::host::{HostProfile, NotReady};
use cumulet_hypervisor::{Capabilities, Diagnosis};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{Worker, failure::Failure};

/// How long the first heartbeat waits for the first measurement, so that a host whose hypervisor is quick is ready from
/// the beginning; of a slow one it is told by then why it is not.
const FIRST: Duration = Duration::from_secs(2);

/// What is known of how long a call takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measurement {
    /// How long the last one took, or why it failed.
    pub(crate) last: Option<Result<Duration, NotReady>>,
    /// How long the one that is under way has taken so far.
    pub(crate) so_far: Option<Duration>,
}

/// Why a host with such a hypervisor is not ready, if it is not. `service` is what calls go to, and from `slow` on they
/// are too slow.
pub(crate) fn judge(
    measurement: &Measurement,
    slow: Duration,
    service: &str,
    diagnosis: &Diagnosis,
) -> Option<NotReady> {
    let because = |reason: String| NotReady {
        reason: match &diagnosis.cause {
            Some(cause) => format!("{reason}: {cause}"),
            None => reason,
        },
        cure: Some(diagnosis.cure.clone()).filter(|cure| !cure.is_empty()),
    };
    let plain = |reason: String| NotReady { reason, cure: None };
    if let Some(so_far) = measurement.so_far.filter(|so_far| *so_far >= slow) {
        return Some(because(format!(
            "{service} takes more than {} s for a call",
            so_far.as_secs()
        )));
    }
    match &measurement.last {
        Some(Ok(took)) if *took >= slow => Some(because(format!(
            "{service} takes {:.0} s for a call",
            took.as_secs_f64()
        ))),
        Some(Ok(_)) => None,
        Some(Err(why)) => Some(why.clone()),
        None => Some(plain(format!("{service} has not answered its first call yet"))),
    }
}

/// Why a call has failed: tenants read the reason, and the hypervisor's own words are for the operator.
fn failed(error: cumulet_hypervisor::Error) -> NotReady {
    let Failure { reason, detail, .. } = Failure::from(error);
    NotReady {
        reason,
        cure: detail.map(|said| format!("look into what it said: {said}")),
    }
}

/// What is known of the host, for its heartbeats. They ask nobody themselves: a slow hypervisor does not keep them.
#[derive(Debug)]
pub(crate) struct Readiness {
    slow: Duration,
    state: Mutex<State>,
    /// Whether the host is ready; `None` before that is known.
    is_ready: watch::Sender<Option<bool>>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Result<Duration, NotReady>>,
    began: Option<Instant>,
    diagnosis: Diagnosis,
    capabilities: Option<Capabilities>,
    profile: Option<Arc<HostProfile>>,
}

impl Readiness {
    pub(crate) fn new(slow: Duration) -> Self {
        Readiness {
            slow,
            state: Mutex::default(),
            is_ready: watch::Sender::new(None),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the host has and is, as far as it is known.
    pub(crate) fn known(&self) -> (Option<Capabilities>, Option<Arc<HostProfile>>) {
        let state = self.state();
        (state.capabilities, state.profile.clone())
    }

    /// Tells when the host comes to be ready or not.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<bool>> {
        self.is_ready.subscribe()
    }

    /// Waits until it is known whether the host is ready, for a moment.
    pub(crate) async fn settle(&self) {
        let mut is_ready = self.subscribe();
        // Either it is known, or it is not and a heartbeat says so.
        drop(timeout(FIRST, is_ready.wait_for(Option::is_some)).await);
    }

    pub(crate) fn not_ready(&self, service: &str) -> Option<NotReady> {
        let state = self.state();
        let measurement = Measurement {
            last: state.last.clone(),
            so_far: state.began.map(|began| began.elapsed()),
        };
        judge(&measurement, self.slow, service, &state.diagnosis)
    }

    /// Tells of a change, if there is one.
    fn tell(&self, service: &str) {
        let not_ready = self.not_ready(service);
        let is_ready = not_ready.is_none();
        let changed = self
            .is_ready
            .send_if_modified(|told| told.replace(is_ready) != Some(is_ready));
        match not_ready {
            Some(NotReady { reason, cure }) if changed => {
                tracing::error!(
                    reason,
                    cure,
                    "the host is not ready: it takes no launches for now"
                );
            }
            None if changed => tracing::info!("the host is ready"),
            _ => {}
        }
    }
}

impl Worker {
    /// Measures the hypervisor and looks at what the host has and is, again and again.
    pub(crate) async fn keep_measuring(self: Arc<Self>) {
        loop {
            tokio::join!(self.measure(), self.describe());
            self.readiness.tell(self.deps.hypervisor.service());
            sleep(self.config.heartbeat).await;
        }
    }

    /// How long a call takes. What is too slow is told before it is known how slow.
    async fn measure(&self) {
        let (began, slow) = (Instant::now(), self.readiness.slow);
        self.readiness.state().began = Some(began);
        let mut call = std::pin::pin!(self.deps.hypervisor.measure());
        let answered = match timeout(slow, &mut call).await {
            Ok(answered) => answered,
            Err(_) => {
                self.diagnose().await;
                self.readiness.tell(self.deps.hypervisor.service());
                call.await
            }
        };
        let took = match answered {
            // It has taken its deadline at least.
            Err(cumulet_hypervisor::Error::Late(_)) | Ok(()) => Ok(began.elapsed()),
            Err(error) => Err(failed(error)),
        };
        let mut state = self.readiness.state();
        (state.began, state.last) = (None, Some(took));
    }

    async fn diagnose(&self) {
        let hypervisor = self.deps.hypervisor.clone();
        let asked = self.layout.at_once(move || Ok(hypervisor.diagnose()));
        if let Ok(found) = asked.await {
            self.readiness.state().diagnosis = found;
        }
    }

    /// Keeps what the host has and is; what can't be told now is as it was.
    async fn describe(&self) {
        let hypervisor = &self.deps.hypervisor;
        match hypervisor.capabilities().await {
            Ok(has) => self.readiness.state().capabilities = Some(has),
            Err(error) => tracing::warn!(%error, "the hypervisor can't tell what the host has"),
        }
        match hypervisor.profile().await {
            Ok(profile) => self.readiness.state().profile = Some(profile),
            Err(error) => tracing::warn!(%error, "the hypervisor can't tell what the host is"),
        }
    }

    /// Asks the hypervisor something that has to be known before anything else, until it answers.
    pub(crate) async fn until_answered<T, F>(&self, ask: impl Fn() -> F) -> cumulet_hypervisor::Result<T>
    where
        F: Future<Output = cumulet_hypervisor::Result<T>>,
    {
        loop {
            match ask().await {
                Err(error) if error.is_unanswered() => {
                    tracing::warn!(%error, "the hypervisor is asked again");
                    sleep(crate::retry::PAUSE).await;
                }
                answered => return answered,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_the_time_then_the_cause() {
        let second = Duration::from_secs(1);
        let slow = 15 * second;
        let took = |seconds: u32| Some(Ok(second * seconds));
        let diagnosis = Diagnosis {
            cause: Some("/dev/kvm can't be opened by the group kvm".into()),
            cure: "chgrp kvm /dev/kvm".into(),
        };
        let cause = ": /dev/kvm can't be opened by the group kvm";
        for (last, so_far, reason) in [
            (took(1), None, None),
            (took(1), Some(14 * second), None),
            (
                took(1),
                Some(15 * second),
                Some(format!("libvirt takes more than 15 s for a call{cause}")),
            ),
            (
                took(31),
                None,
                Some(format!("libvirt takes 31 s for a call{cause}")),
            ),
            (
                took(31),
                Some(second),
                Some(format!("libvirt takes 31 s for a call{cause}")),
            ),
            (
                took(31),
                Some(40 * second),
                Some(format!("libvirt takes more than 40 s for a call{cause}")),
            ),
            (
                Some(Err(failed(cumulet_hypervisor::Error::Away(
                    "/run/x: gone".into(),
                )))),
                None,
                Some("the hypervisor can't be reached".into()),
            ),
            (
                None,
                Some(second),
                Some("libvirt has not answered its first call yet".into()),
            ),
        ] {
            let measurement = Measurement { last, so_far };
            let told = judge(&measurement, slow, "libvirt", &diagnosis);
            assert_eq!(told.clone().map(|told| told.reason), reason, "{measurement:?}");
            let has_cure = told.is_some_and(|told| told.cure.is_some());
            let is_away = matches!(measurement.last, Some(Err(_)));
            assert_eq!(
                has_cure,
                is_away || reason.is_some_and(|reason| reason.contains(cause))
            );
        }
        let unknown = Diagnosis {
            cause: None,
            cure: "look into the log".into(),
        };
        let measurement = Measurement {
            last: took(31),
            so_far: None,
        };
        let told = judge(&measurement, slow, "libvirt", &unknown).unwrap();
        assert_eq!(told.reason, "libvirt takes 31 s for a call");
        assert_eq!(told.cure.as_deref(), Some("look into the log"));
    }
}
