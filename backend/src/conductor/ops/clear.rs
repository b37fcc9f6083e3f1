//! The step `clear`: removal of a failed launch from its host, before it is tried on another. The host is
//! told to destroy what there is, at the new generation, so that no command of the old one can start the
//! guest there any more. Only the host's report that nothing is left gives back what the instance took of it.

use cumulet_domain::{Result, id::HostId};

use super::{Cause, Round, command, give_up};
use crate::{
    conductor::journal::{self, OperationKind, Step},
    entity::operation,
};

/// The step: the operation's next look is set, then the host that is answered is to be told.
pub(super) async fn run(
    round: &Round<'_>,
    operation: &operation::Model,
    kind: OperationKind,
) -> Result<Option<HostId>> {
    let row = round.instance(operation)?;
    if row.generation != operation.generation {
        return Ok(None); // superseded between the lease and the look at the instance
    }
    if round.is_overdue(operation) {
        let tried = journal::state(operation)?.tried;
        let cause = Cause::tried(&tried, "what is left there could not be cleared away in time");
        return give_up(round.conductor, operation, kind, cause)
            .await
            .map(|()| None);
    }
    let store = &round.conductor.store;
    let Some(host) = row.host.clone().map(HostId) else {
        let next = journal::go_on(store, operation, Step::Place, 0, round.now);
        return next.await.map(|_| None);
    };
    let next = round.now.after(command::RESEND);
    let waiting = journal::go_on(store, operation, Step::Clear, operation.attempts, next).await?;
    Ok(waiting.then_some(host))
}
