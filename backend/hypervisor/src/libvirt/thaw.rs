//! Guests' agents by libvirt's calls, and the task that thaws what was left frozen: by a process of before, which was
//! killed between a freeze and its thaw, or because an agent did not answer. The driver runs it from its start.

use std::{sync::Arc, time::Duration};

use cumulet_domain::{id::InstanceId, message::Power};
use tokio::{task::JoinSet, time::timeout};
use virt::{
    connect::Connect,
    domain::Domain,
    error::{Error as LibvirtError, ErrorNumber},
    sys,
};

use super::{
    For, Known,
    driver::status_of,
    ffi, find, is,
    pool::Pool,
    quiesce::{ANSWER, Agent, FREEZE, Freeze, Freezes, thaw_marked},
    tree, xml,
};
use crate::{ACTION, Result};

/// How soon it is tried again, at first and in the end.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Whether an agent listens at the channel, as a domain's XML has it.
fn is_connected(live: &str) -> bool {
    let root = tree::parse(live).unwrap_or_default();
    let all = root.at(&["devices"]).map_or(&[][..], |devices| &devices.children);
    let targets = all.iter().filter_map(|device| device.at(&["target"]));
    let mut agents = targets.filter(|target| target.attribute("name") == Some(xml::AGENT));
    agents.any(|target| target.attribute("state") == Some("connected"))
}

/// Whether an agent has answered with that error, as libvirt says it.
fn is_an_answer(error: &LibvirtError) -> bool {
    is(error, ErrorNumber::AgentCommandFailed)
        || error.message().contains("unable to execute QEMU agent command")
}

/// Whether the guest is marked.
fn is_marked(domain: &Domain) -> Result<bool, LibvirtError> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
    match domain.metadata(kind, Some(xml::FROZEN), sys::VIR_DOMAIN_AFFECT_LIVE) {
        Ok(_) => Ok(true),
        // It may have gone off meanwhile.
        Err(error)
            if is(&error, ErrorNumber::NoDomainMetadata) || is(&error, ErrorNumber::OperationInvalid) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A guest that has a process.
pub(super) struct Guest<'d> {
    pub(super) domain: &'d Domain,
    pub(super) instance: InstanceId,
}

fn text(error: LibvirtError) -> String {
    error.message().to_owned()
}

impl Agent for Guest<'_> {
    fn answers(&self) -> Result<bool, String> {
        // One whose processors stand still writes nothing, and answers nothing.
        if status_of(self.domain, self.instance).map_err(text)?.paused
            || !is_connected(&self.domain.xml_desc(0).map_err(text)?)
        {
            return Ok(false);
        }
        ffi::agent_timeout(self.domain, ANSWER).map_err(text)?;
        match self.domain.time(0) {
            Err(error) if !is_an_answer(&error) => Err(text(error)),
            _ => Ok(true),
        }
    }

    fn is_marked(&self) -> Result<bool, String> {
        is_marked(self.domain).map_err(text)
    }

    fn mark(&self, may_be_frozen: bool) -> Result<(), String> {
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
        let mark = may_be_frozen.then_some("<frozen/>");
        let marked = self.domain.set_metadata(
            kind,
            mark,
            mark.map(|_| "cumulet-frozen"),
            Some(xml::FROZEN),
            sys::VIR_DOMAIN_AFFECT_LIVE,
        );
        marked.map_err(text)
    }

    fn freeze(&self) -> Freeze {
        let done = ffi::agent_timeout(self.domain, FREEZE).and_then(|()| ffi::freeze(self.domain));
        match done {
            Ok(count) => Freeze::Done(count),
            Err(error) if is_an_answer(&error) => Freeze::Refused(text(error)),
            Err(error) => Freeze::Unanswered(text(error)),
        }
    }

    fn thaw(&self) -> Result<(), String> {
        let done = ffi::agent_timeout(self.domain, ANSWER).and_then(|()| ffi::thaw(self.domain));
        done.map_err(text)
    }
}

/// The task's part of the driver.
#[derive(Clone)]
pub(super) struct Thawing {
    pub(super) pool: Arc<Pool>,
    pub(super) known: Arc<Known>,
    pub(super) cloud: String,
    pub(super) freezes: Arc<Freezes>,
}

impl Thawing {
    /// Thaws what is left, for as long as the driver is there.
    pub(super) async fn run(self) {
        while let Err(error) = self.look().await {
            tracing::warn!(%error, "can't look for guests that were left frozen");
            tokio::time::sleep(PAUSES.0).await;
        }
        let mut pause = PAUSES.0;
        loop {
            let left = self.freezes.left();
            if left.is_empty() {
                self.freezes.more.notified().await;
                pause = PAUSES.0;
                continue;
            }
            let mut tries = JoinSet::new();
            for instance in left {
                tries.spawn(self.clone().thaw(instance));
            }
            tries.join_all().await;
            pause = match timeout(pause, self.freezes.more.notified()).await {
                Ok(()) => PAUSES.0,
                Err(_) => PAUSES.1.min(pause * 2),
            };
        }
    }

    /// Looks for what a process of before has left.
    async fn look(&self) -> Result<()> {
        let look = |connection: &Connect| {
            let mut marked = Vec::new();
            for domain in connection.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
                let Ok(instance) = domain.name()?.parse::<InstanceId>() else {
                    continue;
                };
                match is_marked(&domain) {
                    Ok(true) => marked.push(instance),
                    Err(error) if !is(&error, ErrorNumber::NoDomain) => return Err(error),
                    _ => {}
                }
            }
            Ok(marked)
        };
        for instance in self.pool.call(For::Host, ACTION, look).await? {
            self.freezes.add(instance);
        }
        Ok(())
    }

    /// Thaws a guest of this cloud, if it is still marked.
    async fn thaw(self, instance: InstanceId) {
        let (cloud, known, freezes) = (self.cloud, self.known, self.freezes.clone());
        let work = move |connection: &Connect| {
            let Some(domain) = find(connection, instance, &cloud, &known)?.ours() else {
                return Ok(Ok(false));
            };
            if status_of(&domain, instance)?.power != Power::On {
                return Ok(Ok(false));
            }
            let guest = Guest {
                domain: &domain,
                instance,
            };
            Ok(freezes.alone(instance, || thaw_marked(&guest)))
        };
        let thawed = self.pool.call(For::Process(instance), ACTION, work).await;
        match thawed {
            Ok(Ok(was_frozen)) => {
                self.freezes.remove(instance);
                if was_frozen {
                    tracing::info!(%instance, "thawed the guest's file systems, which may have been left frozen");
                }
            }
            Ok(Err(why)) => tracing::debug!(%instance, why, "the guest can't be thawed yet"),
            Err(error) => tracing::debug!(%instance, %error, "the guest can't be thawed yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_there_where_libvirt_says_that_it_has_opened_its_end() {
        let live = "<domain><devices><console><target type='serial'/></console>\
            <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>\
            </devices></domain>";
        assert!(is_connected(live));
        let others = [
            live.replace("'connected'", "'disconnected'"),
            live.replace(" state='connected'", ""),
            live.replace("guest_agent", "other"),
            include_str!("domain.golden.xml").to_owned(),
            "<".to_owned(),
        ];
        for other in others {
            assert!(!is_connected(&other), "{other}");
        }
    }
}
