//! The proof of the master key: a sealed text in the database that only the cloud's own key opens, so that a process
//! with another key is found before it seals anything that nobody else can open.

use cumulet_certs::{Purpose, Sealer};
use cumulet_core::Parts;
use cumulet_domain::{Error, Result};
use cumulet_store::{entity::access_key, rows, settings};
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait};

use crate::{accounts, boxed};

const PROOF: Purpose = Purpose::new("master-key-proof");

/// Whether the key is the one that the cloud was first started with; true before that.
///
/// # Errors
/// Those of the database.
pub async fn has_key(conn: &impl ConnectionTrait, sealer: &Sealer) -> Result<bool> {
    let Some(cloud_id) = settings::get(conn, settings::CLOUD_ID).await? else {
        return Ok(true);
    };
    if let Some(proof) = settings::get(conn, settings::MASTER_KEY_PROOF).await? {
        return Ok(sealer.open(PROOF, cloud_id.as_bytes(), &proof).is_ok());
    }
    // A cloud of a version that kept no proof: what else it has sealed from its beginning.
    let Some(first) = settings::get(conn, settings::FIRST_ACCESS_KEY).await? else {
        return Ok(true);
    };
    let row = rows::one(access_key::Entity::find_by_id(first), conn).await?;
    Ok(row.is_none_or(|row| accounts::is_sealed_by(sealer, &row)))
}

/// Adds the proof, unless there is one.
#[boxed]
pub async fn add(txn: &DatabaseTransaction, parts: &Parts, cloud_id: &str) -> Result<()> {
    if settings::get(txn, settings::MASTER_KEY_PROOF).await?.is_some() {
        return Ok(());
    }
    let (sealer, aad) = (parts.sealer.clone(), cloud_id.as_bytes());
    let sealed = parts.rng.with(|rng| sealer.seal(rng, PROOF, aad, aad));
    let sealed = sealed.map_err(|error| Error::internal(&error))?;
    settings::put(txn, settings::MASTER_KEY_PROOF, &sealed).await
}
