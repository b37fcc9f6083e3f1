//! Keys of encrypted disks on their way to a host: opened when a command is sent that names such disks, and sealed for
//! that host as it runs now. Nothing else that is sent or kept has them.

use cumulet_bus::BusError;
use cumulet_certs::HostPublicKey;
use cumulet_domain::{
    Result,
    id::HostId,
    message::{Command, KeyOf, SealedKey},
};
use cumulet_store::{
    batch::load_in,
    disk_keys,
    entity::{host, secret_text::SecretText},
    rows,
};
use sea_orm::EntityTrait as _;

use crate::{Driver, boxed};

impl Driver {
    /// Hands a command over to a host, with the keys and the grant that it needs. One for which they can't be had goes
    /// without: the host refuses it, and says what it lacks.
    ///
    /// # Errors
    /// When it was not handed over.
    #[boxed]
    pub(crate) async fn command(&self, host: &HostId, mut command: Command) -> Result<(), BusError> {
        let wanted = command.encrypted();
        if !wanted.is_empty() {
            match self.keys(host, &wanted).await {
                Ok(keys) => command.keys = keys,
                Err(error) => tracing::error!(%host, %error, "keys of disks can't be given to a host"),
            }
        }
        command.storage = self.grant(host, &command).await;
        self.bus.send(host, command).await
    }

    async fn keys(&self, host: &HostId, wanted: &[KeyOf]) -> Result<Vec<SealedKey>> {
        let conn = self.store.read();
        let row = rows::one(host::Entity::find_by_id(host.0.as_str()), conn).await?;
        let public = row.and_then(|row| row.disk_key?.parse::<HostPublicKey>().ok());
        let Some(public) = public else {
            tracing::warn!(%host, "a host has told no key that keys of disks could be sealed with");
            return Ok(Vec::new());
        };
        let (mut volumes, mut snapshots) = (Vec::new(), Vec::new());
        for of in wanted {
            match of {
                KeyOf::Volume(id) => volumes.push(id.to_db()),
                KeyOf::Snapshot(id) => snapshots.push(id.to_db()),
            }
        }
        let volumes = load_in!(conn, volume, Id, &volumes).into_iter();
        let volumes = volumes.map(|row| (row.id.0.into(), row.data_key));
        let snapshots = load_in!(conn, snapshot, Id, &snapshots).into_iter();
        let snapshots = snapshots.map(|row| (row.id.0.into(), row.data_key));
        let found = volumes.chain(snapshots);
        Ok(found
            .filter_map(|(of, kept)| self.sealed(&public, of, &kept?))
            .collect())
    }

    fn sealed(&self, public: &HostPublicKey, of: KeyOf, kept: &SecretText) -> Option<SealedKey> {
        let key = match disk_keys::open(&self.sealer, of, kept) {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(%of, %error, "a key can't be opened");
                return None;
            }
        };
        let sealed = self.rng.with(|rng| public.seal(rng, &of.to_string(), &key));
        Some(SealedKey {
            of,
            sealed: sealed.ok()?,
        })
    }
}
