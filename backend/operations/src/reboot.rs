//! Reboot: it resets a running guest. One that fails leaves the instance as it is; one that finds the guest off
//! leaves it to what follows from that.

use std::time::Duration;

use cumulet_domain::{
    Result,
    crash::Role,
    id::HostId,
    message::{Action, InstanceReport, Power},
};
use cumulet_journal::{End, Next, Operation, Step};
use cumulet_store::entity::{instance, operation::Model};
use sea_orm::DatabaseTransaction;

use crate::{
    Driver,
    changes::changed,
    driver::{Heard, OfInstance},
    instance::{id_of, lock},
    steps::{
        ASK, COMMAND, HEAR, Nothing, command,
        driven::{self, Driven},
        failure::on_host,
        give_up,
        round::Round,
    },
};

/// See the module.
#[derive(Debug)]
pub struct Reboot;

const RESET: Step = Step::elsewhere(
    "reset",
    Role::Host,
    &["received", "begun", "reset", "done", "reported"],
);

impl Operation for Reboot {
    type Cx = Driver;
    type State = Nothing;
    type Batch = Round;

    const NAME: &'static str = "reboot";
    const STEPS: &'static [Step] = &[ASK, COMMAND, RESET, HEAR];
    const DEADLINE: Duration = Duration::from_secs(180);
    const SUPERSEDES: &'static [&'static str] = &[Reboot::NAME];

    async fn step(round: &Round, operation: &Model) -> Result<Next> {
        command::run::<Self>(round, operation).await
    }

    async fn tell(round: &Round, operation: &Model, host: &HostId) -> Result<()> {
        command::tell::<Self>(round, operation, host).await
    }

    async fn heard(driver: &Driver, operation: Model, heard: Heard) -> Result<()> {
        let of = match heard {
            Heard::Instance(of) if of.outcome.report.power != Power::On => of,
            other => return driven::heard::<Self>(driver, operation, other).await,
        };
        let Some(failure) = of.outcome.failure.clone() else {
            return driven::heard::<Self>(driver, operation, Heard::Instance(of)).await;
        };
        // It had gone off before it could be asked to start over: that is what is to be dealt with.
        // A call that wanted it to run loses nothing for good: it stops, whatever made it go off.
        let OfInstance {
            host, at, outcome, ..
        } = *of;
        give_up::<Self>(driver, operation, on_host(&host, failure)).await?;
        let seen = InstanceReport {
            off_reason: None,
            ..outcome.report
        };
        changed(driver, host, at, seen).await
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        lock(txn, operation).await
    }

    /// The instance stays as it was. Its host may never have heard of the new generation, which
    /// `changes::react` knows.
    async fn ended(_: &DatabaseTransaction, _: &Model, _: &End) -> Result<()> {
        Ok(())
    }
}

impl Driven for Reboot {
    async fn action(_: &Round, operation: &Model, _: &instance::Model, _: &HostId) -> Result<Action> {
        Ok(Action::Reboot {
            instance: id_of(operation),
            generation: operation.generation.0,
        })
    }

    fn is_reached(power: Power) -> bool {
        power == Power::On
    }
}
