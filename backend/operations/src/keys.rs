//! Keys of encrypted disks on their way to a host: opened when a command is sent that names such disks, and sealed for
//! that host as it runs now. Nothing else that is sent or kept has them.

use cumulet_bus::BusError;
use cumulet_certs::HostPublicKey;
use cumulet_domain::{
    Result,
    id::{HostId, VolumeId},
    message::{Command, SealedKey},
};
use cumulet_store::{batch::load_in, disk_keys, entity::host, rows};
use sea_orm::EntityTrait as _;

use crate::{Driver, boxed};

impl Driver {
    /// Hands a command over to a host, with the keys that it needs. One whose keys can't be had goes without them: the
    /// host refuses it, and says which it lacks.
    ///
    /// # Errors
    /// When it was not handed over.
    #[boxed]
    pub(crate) async fn command(&self, host: &HostId, mut command: Command) -> Result<(), BusError> {
        let volumes = command.encrypted();
        if !volumes.is_empty() {
            match self.keys(host, &volumes).await {
                Ok(keys) => command.keys = keys,
                Err(error) => tracing::error!(%host, %error, "keys of disks can't be given to a host"),
            }
        }
        self.bus.send(host, command).await
    }

    async fn keys(&self, host: &HostId, volumes: &[VolumeId]) -> Result<Vec<SealedKey>> {
        let conn = self.store.read();
        let row = rows::one(host::Entity::find_by_id(host.0.as_str()), conn).await?;
        let public = row.and_then(|row| row.disk_key?.parse::<HostPublicKey>().ok());
        let Some(public) = public else {
            tracing::warn!(%host, "a host has told no key that keys of disks could be sealed with");
            return Ok(Vec::new());
        };
        let ids: Vec<i64> = volumes.iter().map(|id| id.to_db()).collect();
        let found = load_in!(conn, volume, Id, &ids);
        let sealed = found.iter().filter_map(|row| {
            let (id, kept) = (row.id.0, row.data_key.as_ref()?);
            let key = match disk_keys::open(&self.sealer, id, kept) {
                Ok(key) => key,
                Err(error) => {
                    tracing::error!(volume = %id, %error, "a key can't be opened");
                    return None;
                }
            };
            let sealed = self.rng.with(|rng| public.seal(rng, &id.to_string(), &key));
            Some(SealedKey {
                volume: id,
                sealed: sealed.ok()?,
            })
        });
        Ok(sealed.collect())
    }
}
