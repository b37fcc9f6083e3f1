//! An instance that runs while others die, and must notice nothing of it.

use cumulet_backend::{
    entity::{columns::Key, instance},
    store::failed,
};
use cumulet_domain::{Error, Result, id::InstanceId, instance::State};
use sea_orm::EntityTrait as _;

use super::script::{Script, answered};
use crate::run;

pub(super) struct Bystander {
    id: InstanceId,
    before: instance::Model,
}

impl Bystander {
    /// Launches it, and waits until it runs.
    pub(super) async fn launch(script: &mut Script<'_>) -> Result<Self> {
        let made = answered(script.launch(1, "bystander").await)?;
        let id = *made
            .first()
            .ok_or_else(|| Error::Internal("no bystander".into()))?;
        run::settle(script.world, script.cloud).await?;
        let bystander = Bystander {
            id,
            before: look(script, id).await?,
        };
        bystander.check(script).await?;
        Ok(bystander)
    }

    /// It is as it was, and has run all the time.
    pub(super) async fn check(&self, script: &mut Script<'_>) -> Result<()> {
        let now = look(script, self.id).await?;
        if now != self.before {
            script.wrong(format!("a bystander was {:?} and is {now:?}", self.before));
        }
        let boots = script.world.boots(self.id);
        if now.state.0 != State::Running || boots != (1, 0) {
            let state = now.state;
            script.wrong(format!(
                "a bystander is {state}, has started and was reset {boots:?} times"
            ));
        }
        Ok(())
    }
}

async fn look(script: &Script<'_>, id: InstanceId) -> Result<instance::Model> {
    let row = instance::Entity::find_by_id(Key(id));
    let row = row.one(script.cloud.store.read()).await.map_err(failed)?;
    row.ok_or_else(|| Error::Internal(format!("{id} is gone")))
}
