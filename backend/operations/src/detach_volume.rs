//! Detach: an instance lets go of a volume, which is free when its host has confirmed that. A guest that uses it is
//! asked again and again; meanwhile the attachment is busy.

use std::time::Duration;

use cumulet_domain::{
    Result, crash::Role, id::HostId, message::Change, time::Timestamp, volume::AttachmentState,
};
use cumulet_journal::{End, Next, Operation, Step};
use cumulet_store::{
    attachments,
    entity::{operation::Model, volume_attachment},
    instances,
};
use sea_orm::DatabaseTransaction;

use crate::{
    Driver,
    attach_volume::{AttachVolume, POINTS},
    driver::{Heard, OfInstance},
    modify_volume::ModifyVolume,
    plug::{self, Plug, Prepared},
    steps::{ASK, COMMAND, HEAR, Nothing, driven::backoff},
    volume::volume_of,
    volume_round::VolumeRound,
};

/// See the module.
#[derive(Debug)]
pub struct DetachVolume;

const UNPLUG: Step = Step::elsewhere("unplug", Role::Host, POINTS);

impl Operation for DetachVolume {
    type Cx = Driver;
    type State = Nothing;
    type Batch = VolumeRound;

    const NAME: &'static str = Change::DetachVolume.name();
    const STEPS: &'static [Step] = &[ASK, COMMAND, UNPLUG, HEAR];
    const DEADLINE: Duration = Duration::from_secs(300);
    const SUPERSEDES: &'static [&'static str] = &[AttachVolume::NAME, ModifyVolume::NAME];

    async fn step(round: &VolumeRound, operation: &Model) -> Result<Next> {
        plug::run::<Self>(round, operation).await
    }

    async fn tell(round: &VolumeRound, operation: &Model, host: &HostId) -> Result<()> {
        plug::tell::<Self>(round, operation, host).await
    }

    async fn heard(driver: &Driver, operation: Model, heard: Heard) -> Result<()> {
        plug::heard::<Self>(driver, operation, heard).await
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        attachments::lock_with_instance(txn, volume_of(operation)).await
    }

    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        let Some((volume, attached)) = plug::ending::<Self>(txn, operation, end).await? else {
            return Ok(());
        };
        plug::free(txn, &volume, &attached).await
    }
}

impl Plug for DetachVolume {
    const WHAT: Change = Change::DetachVolume;
    const STATES: &'static [AttachmentState] = &[AttachmentState::Detaching, AttachmentState::Busy];
    const IS_ENDLESS: bool = true;

    async fn prepared(_: &DatabaseTransaction, _: &Model, _: &str, _: Timestamp) -> Result<Prepared> {
        Ok(Prepared::Ready)
    }

    async fn failed(
        cx: &Driver,
        operation: Model,
        attached: volume_attachment::Model,
        heard: OfInstance,
    ) -> Result<()> {
        let attempts = operation.attempts.0 + 1;
        let failure = heard.outcome.failure.unwrap_or_default();
        tracing::warn!(
            volume = volume_of(&operation),
            attempts,
            failure,
            "a detach has failed; it goes on"
        );
        if heard.outcome.kept.contains(&attached.volume.0) && attached.state.0 == AttachmentState::Detaching {
            let (of, instance) = (operation.clone(), attached.instance.to_db());
            let write = cx.store.write(move |txn| {
                Box::pin(async move {
                    instances::lock(txn, &[instance]).await?;
                    let next = attachments::of_volume(txn, volume_of(&of)).await?;
                    match next.filter(|row| *row == attached) {
                        Some(row) => {
                            attachments::set_state(txn, &row, AttachmentState::Busy, row.generation).await
                        }
                        None => Ok(()),
                    }
                })
            });
            write.await?;
        }
        plug::again::<Self>(cx, &operation, attempts, backoff(attempts)).await
    }
}
