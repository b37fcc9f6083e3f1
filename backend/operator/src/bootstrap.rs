//! The bootstrap of a new cloud: settings, catalogue, account, network. Idempotent: a later start changes
//! nothing, except that it adds what a wider configuration needs, and seals what an earlier program had not.

use cumulet_certs::generate_account_id;
use cumulet_compute::catalogue;
use cumulet_core::Parts;
use cumulet_domain::{
    Error, Result,
    account::{AccountId, Role},
    network::Cidr,
    rng::SharedRng,
    time::Timestamp,
};
use cumulet_identity::{accounts, key_proof};
use cumulet_network::default_network as network;
use cumulet_store::{settings, user_data};
use sea_orm::DatabaseTransaction;

use crate::boxed;

/// What the configuration wants of the first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstPlan {
    /// The zones that the default network has a subnet in.
    pub availability_zones: Vec<String>,
    /// Where public addresses come from, unless an earlier start has fixed that.
    pub public_pool: Cidr,
}

/// What the first start has made, or an earlier one had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstStart {
    /// Names this cloud on hosts that several clouds share: 8 lower-case hexadecimal digits.
    pub cloud_id: String,
    /// Where public addresses come from.
    pub public_pool: Cidr,
    /// The first account.
    pub account: AccountId,
    /// The administrator's access key; `accounts::access_key_secret` tells its secret.
    pub access_key_id: String,
    /// Whether it was this start.
    pub created: bool,
}

/// Makes what is not there, in one transaction.
///
/// # Errors
/// `Internal` where the database is damaged; those of the database.
#[boxed]
pub async fn bootstrap(parts: &Parts, plan: &FirstPlan) -> Result<FirstStart> {
    if let Some(first) = existing(parts.store.read()).await? {
        user_data::seal_kept(&parts.store, &parts.rng, &parts.sealer).await?;
        let (rng, now, zones) = (
            parts.rng.clone(),
            parts.clock.now(),
            plan.availability_zones.clone(),
        );
        let parts_of = parts.clone();
        let write = parts.store.write(move |txn| {
            Box::pin(async move {
                key_proof::add(txn, &parts_of, &first.cloud_id).await?;
                network::add_zones(txn, &rng, now, first.account, &zones)
                    .await
                    .map(|()| first)
            })
        });
        return write.await;
    }
    let (parts_of, plan) = (parts.clone(), plan.clone());
    let made = parts
        .store
        .write(move |txn| Box::pin(async move { create(txn, &parts_of, &plan).await }));
    match made.await {
        // Another process was first, after this one had looked: what it has made was in the way.
        Err(error) => existing(parts.store.read()).await?.ok_or(error),
        made => made,
    }
}

/// What an earlier start has made; `None` before the first one. `cumulet env` asks this.
///
/// # Errors
/// `Internal` where the database is damaged; those of the database.
pub async fn existing(conn: &impl sea_orm::ConnectionTrait) -> Result<Option<FirstStart>> {
    let Some(cloud_id) = settings::get(conn, settings::CLOUD_ID).await? else {
        return Ok(None);
    };
    let mut rest = Vec::with_capacity(3);
    for name in [
        settings::PUBLIC_POOL,
        settings::FIRST_ACCOUNT,
        settings::FIRST_ACCESS_KEY,
    ] {
        let missing = || Error::Internal(format!("the setting {name} is missing"));
        rest.push(settings::get(conn, name).await?.ok_or_else(missing)?);
    }
    let [pool, account, access_key_id] = rest.try_into().unwrap_or_default();
    Ok(Some(FirstStart {
        cloud_id,
        public_pool: pool.parse()?,
        account: account.parse()?,
        access_key_id,
        created: false,
    }))
}

async fn create(txn: &DatabaseTransaction, parts: &Parts, plan: &FirstPlan) -> Result<FirstStart> {
    if let Some(first) = existing(txn).await? {
        return Ok(first);
    }
    let (rng, now) = (&parts.rng, parts.clock.now());
    catalogue::fill(txn).await?;
    let account: AccountId = rng.with(generate_account_id::<rand::rngs::StdRng>).parse()?;
    let access_key_id = administrator(txn, parts, account, now).await?;
    network::create(txn, rng, now, account, &plan.availability_zones).await?;
    let first = FirstStart {
        cloud_id: cloud_id(rng),
        public_pool: plan.public_pool,
        account,
        access_key_id,
        created: true,
    };
    settings::put(txn, settings::CLOUD_ID, &first.cloud_id).await?;
    settings::put(txn, settings::PUBLIC_POOL, &first.public_pool.to_string()).await?;
    settings::put(txn, settings::FIRST_ACCOUNT, &first.account.to_string()).await?;
    settings::put(txn, settings::FIRST_ACCESS_KEY, &first.access_key_id).await?;
    key_proof::add(txn, parts, &first.cloud_id).await?;
    Ok(first)
}

fn cloud_id(rng: &SharedRng) -> String {
    use rand::Rng as _;
    format!("{:08x}", rng.with(|rng| rng.next_u32()))
}

/// The account, its administrator and the administrator's key.
async fn administrator(
    txn: &DatabaseTransaction,
    parts: &Parts,
    account: AccountId,
    now: Timestamp,
) -> Result<String> {
    accounts::insert_account(txn, account, "default", now.0).await?;
    let id = parts.rng.with(accounts::user_id);
    let user = accounts::insert_user(txn, account, id, "admin", Role::Administrator, now.0).await?;
    let key = accounts::insert_access_key(txn, &parts.rng, &parts.sealer, &user, now).await?;
    Ok(key.id)
}
