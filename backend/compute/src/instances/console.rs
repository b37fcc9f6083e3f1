//! Console output and screenshots, read from the instance's host.

use cumulet_bus::BusError;
use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::{HostId, InstanceId},
    instance::State,
    message::Query,
    time::Timestamp,
};
use cumulet_store::{
    authority::Permission,
    entity::instance,
    instances,
    resource::{self, Lock},
};

use crate::boxed;

/// Console output at the most, in bytes.
const OUTPUT: usize = 64 << 10;

/// A picture at the most, in bytes.
const PICTURE: usize = 4 << 20;

/// The words of a refusal at the most, in characters.
const WORDS: usize = 500;

/// The last bytes that an instance wrote to its serial console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleOutput {
    /// At most 64 KiB.
    pub bytes: Vec<u8>,
    /// When it was read.
    pub at: Timestamp,
}

/// An instance's console output; empty before it has a host and after its end.
///
/// # Errors
/// `NotFound`; `Unavailable` when its host does not answer.
#[boxed]
pub async fn console_output(cx: &RequestContext, who: &Principal, id: InstanceId) -> Result<ConsoleOutput> {
    let row = row(cx, who, Permission::GET_CONSOLE_OUTPUT, id).await?;
    let bytes = match row.host {
        Some(host) => tail(ask(cx, host, Query::ConsoleOutput(id)).await?),
        None => Vec::new(),
    };
    Ok(ConsoleOutput { bytes, at: cx.now() })
}

/// A picture of a running instance's screen, as JPEG.
///
/// # Errors
/// `NotFound`; `IncorrectState` when it does not run; `Unavailable` when its host does not answer.
#[boxed]
pub async fn console_screenshot(cx: &RequestContext, who: &Principal, id: InstanceId) -> Result<Vec<u8>> {
    let row = row(cx, who, Permission::GET_CONSOLE_SCREENSHOT, id).await?;
    match (row.state.0, row.host.clone()) {
        (State::Running, Some(host)) => picture(ask(cx, host, Query::Screenshot(id)).await?),
        _ => Err(instances::incorrect_state(&row, "running")),
    }
}

async fn row(
    cx: &RequestContext,
    who: &Principal,
    permission: Permission,
    id: InstanceId,
) -> Result<instance::Model> {
    let grant = cx.authorise(who, permission)?;
    resource::find::<instance::Entity>(cx.store.read(), &grant, id, Lock::None).await
}

/// What of an answer is shown as console output, whatever the host has sent.
fn tail(mut bytes: Vec<u8>) -> Vec<u8> {
    let long = bytes.len().saturating_sub(OUTPUT);
    drop(bytes.drain(..long));
    bytes
}

/// An answer that is a picture, as a host's has to be: clients open what they are given.
fn picture(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if bytes.len() > PICTURE || !bytes.starts_with(b"\xff\xd8\xff") {
        return Err(Error::Unavailable("the host's answer is not a picture".into()));
    }
    Ok(bytes)
}

async fn ask(cx: &RequestContext, host: String, query: Query) -> Result<Vec<u8>> {
    let answer = cx.bus.query(&HostId(host), query).await;
    answer.map_err(|error| match error {
        BusError::NoSuchHost(_) | BusError::Unavailable(_) | BusError::Refused(_) => {
            // Its words may be a host's.
            let shown = error.to_string().chars().take(WORDS).collect::<String>();
            Error::Unavailable(shown.replace(char::is_control, " "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_answer_is_what_was_asked_for_or_none() {
        let long: Vec<u8> = (0..=255).cycle().take(OUTPUT + 9).collect();
        assert_eq!(tail(long.clone()), long[9..]);
        assert_eq!(tail(b"login:".to_vec()), b"login:");
        let good = b"\xff\xd8\xff\xe0...".to_vec();
        assert_eq!(picture(good.clone()), Ok(good.clone()));
        let large = [good, vec![0; PICTURE]].concat();
        for bad in [Vec::new(), b"<svg onload=x>".to_vec(), large] {
            assert!(picture(bad).is_err());
        }
    }
}
