//! Console output and screenshots, read from the instance's host.

use cumulet_bus::BusError;
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::{HostId, InstanceId},
    instance::State,
    message::Query,
    time::Timestamp,
};

use crate::{api::Cloud, authority::authorise, store::instances};

use crate::boxed;

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
pub async fn console_output(cloud: &Cloud, who: &Principal, id: InstanceId) -> Result<ConsoleOutput> {
    authorise(who, "GetConsoleOutput", false)?;
    let row = instances::by_id(cloud.store.read(), cloud.visibility(who.account), id).await?;
    let bytes = match row.host {
        Some(host) => ask(cloud, host, Query::ConsoleOutput(id)).await?,
        None => Vec::new(),
    };
    Ok(ConsoleOutput {
        bytes,
        at: cloud.now(),
    })
}

/// A picture of a running instance's screen, as JPEG.
///
/// # Errors
/// `NotFound`; `IncorrectState` when it does not run; `Unavailable` when its host does not answer.
#[boxed]
pub async fn console_screenshot(cloud: &Cloud, who: &Principal, id: InstanceId) -> Result<Vec<u8>> {
    authorise(who, "GetConsoleScreenshot", false)?;
    let row = instances::by_id(cloud.store.read(), cloud.visibility(who.account), id).await?;
    match (instances::state(&row)?, row.host.clone()) {
        (State::Running, Some(host)) => ask(cloud, host, Query::Screenshot(id)).await,
        _ => Err(instances::incorrect_state(&row, "running")),
    }
}

async fn ask(cloud: &Cloud, host: String, query: Query) -> Result<Vec<u8>> {
    let answer = cloud.bus.query(&HostId(host), query).await;
    answer.map_err(|error| match error {
        BusError::NoSuchHost(_) | BusError::Unavailable(_) | BusError::Refused(_) => {
            Error::Unavailable(error.to_string())
        }
    })
}
