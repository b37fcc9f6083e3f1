//! The standing of an instance to a host: whether what the host says of it is its to say.

use cumulet_domain::{Result, id::HostId, instance::State};
use cumulet_store::entity::instance;

/// What an instance is to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The database has it there.
    Here,
    /// It has ended, and is nobody's any more: a host that has a guest of it is told to destroy that.
    Ended,
    /// It is elsewhere, or nowhere yet.
    Elsewhere,
}

/// What an instance is to a host, by its row.
///
/// # Errors
/// `Internal` where the row is damaged.
pub fn standing(row: &instance::Model, host: &HostId) -> Result<Standing> {
    Ok(match &row.host {
        Some(here) if *here == host.0 => Standing::Here,
        None if row.state.0 == State::Terminated => Standing::Ended,
        _ => Standing::Elsewhere,
    })
}
