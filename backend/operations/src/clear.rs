//! The step `clear`: removal of a failed launch from its host, before it is tried on another. The host is
//! told to destroy what there is, at the new generation, so that no command of the old one can start the
//! guest there any more. Only the host's report that nothing is left gives back what the instance took of it.

use cumulet_domain::{Result, id::HostId, message::Power};
use cumulet_journal::{self as journal, Next};
use cumulet_store::{entity::operation, instances};

use crate::{
    Driver,
    driver::{Heard, OfInstance},
    instance::instance_of,
    launch::Launch,
    release,
    steps::{CLEAR, PLACE, command, driven::backoff, failure::tried, give_up, round::Round},
};

/// The step: the operation's next look is set, then the host that is answered is to be told.
pub(crate) async fn run(round: &Round, operation: &operation::Model) -> Result<Next> {
    let row = round.instance(operation)?;
    if row.generation != operation.generation {
        return Ok(Next::Wait); // superseded between the lease and the look at the instance
    }
    if round.is_overdue(operation) {
        let hosts = journal::state::<Launch>(operation)?.tried;
        let failure = tried(&hosts, "what is left there could not be cleared away in time");
        let end = give_up::<Launch>(&round.driver, operation.clone(), failure);
        return end.await.map(|()| Next::Wait);
    }
    let store = &round.driver.store;
    let Some(host) = row.host.clone().map(HostId) else {
        let next = journal::go_on(store, operation, &PLACE, 0, round.now);
        return next.await.map(|_| Next::Wait);
    };
    let next = round.now.after(command::RESEND);
    let waiting = journal::go_on(store, operation, &CLEAR, operation.attempts.0, next).await?;
    Ok(if waiting { Next::Tell(host) } else { Next::Wait })
}

/// The host has answered: when nothing is left there, the launch goes on elsewhere.
pub(crate) async fn heard(driver: &Driver, operation: operation::Model, heard: Heard) -> Result<()> {
    let Heard::Instance(of) = heard else {
        return Ok(());
    };
    let OfInstance { outcome, row, .. } = *of;
    let now = driver.clock.now();
    if outcome.failure.is_some() || outcome.report.power != Power::Absent {
        tracing::warn!(
            operation.instance = instance_of(&operation),
            failure = ?outcome.failure,
            "a failed launch could not be cleared away"
        );
        let attempts = operation.attempts.0 + 1;
        let next = now.after(backoff(attempts));
        let again = journal::go_on(&driver.store, &operation, &CLEAR, attempts, next);
        return again.await.map(drop);
    }
    let write = driver.store.write(move |txn| {
        Box::pin(async move {
            instances::lock(txn, &[row.id.to_db()]).await?;
            if journal::proceed(txn, &operation, &PLACE, 0, now).await? {
                release::unplaced(txn, &row).await?;
            }
            Ok(())
        })
    });
    write.await?;
    driver.wake.now();
    Ok(())
}
