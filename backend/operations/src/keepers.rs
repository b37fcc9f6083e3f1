//! The keepers of volumes in a store that hosts share: the host that is told what is to be done with one that no guest has.
//! It is the one that a guest had it on last, as long as that is to be had; else another that reaches the store.

use cumulet_domain::{Result, time::Timestamp};
use cumulet_scheduler::heard_after;
use cumulet_store::{entity::volume, pool};
use sea_orm::ConnectionTrait;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keepers {
    /// The hosts that could be one, in their order; none where no volume of the round is of such a store.
    able: Vec<String>,
    /// All that reach the store, whether they are to be had now or not.
    reaching: Vec<String>,
}

impl Keepers {
    /// Looks for them, where one of these volumes needs one.
    pub(crate) async fn load(
        conn: &impl ConnectionTrait,
        volumes: &[volume::Model],
        now: Timestamp,
    ) -> Result<Self> {
        if !volumes.iter().any(volume::Model::is_shared) {
            return Ok(Keepers::default());
        }
        let able = pool::keepers(conn, heard_after(now)).await?;
        let reaching = pool::reaching(conn).await?;
        Ok(Keepers { able, reaching })
    }

    /// Whether a host could be given work on a volume of that store now.
    pub(crate) fn is_able(&self, host: &str) -> bool {
        self.able.iter().any(|able| able == host)
    }

    /// Who is told of a volume that this host keeps. Of a file that is its host and nobody else, and it is waited for; as it
    /// is where no other reaches the store. Each volume has its own among the others. `None`: for now nobody; a keeper that
    /// reaches another pool by now would find no image there, and say that it is gone.
    pub(crate) fn of<'r>(&'r self, row: &volume::Model, host: &'r str) -> Option<&'r str> {
        if !row.is_shared() || self.is_able(host) {
            return Some(host);
        }
        let nth = row.id.to_db().unsigned_abs().checked_rem(self.able.len() as u64);
        let other = nth.and_then(|nth| self.able.get(usize::try_from(nth).ok()?));
        let itself = self.reaching.iter().find(|reaches| *reaches == host);
        other.or(itself).map(String::as_str)
    }
}
