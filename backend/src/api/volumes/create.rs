//! CreateVolume: a row, and nothing on any host yet. The first host that has an instance with it makes its file, which
//! takes no longer than a command takes anyway; so it is available at once, though the answer says `creating`, as
//! EC2's always does.

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    error::Limit,
    id::{VolumeId, marker},
    tag::Tag,
    volume::{Provisioned, VolumeState, VolumeType},
};
use sea_orm::{
    ActiveValue::NotSet, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait as _,
    QueryFilter, QuerySelect as _, QueryTrait as _, sea_query::Expr,
};

use super::VolumeView;
use crate::{
    api::{ClientToken, Cloud, accounts::quota, tags::tag_room},
    authority::{Grant, Permission},
    boxed,
    entity::{
        account,
        columns::{Count, Flag, Key, Named, Owner},
        volume,
    },
    store::{
        Invalidates, failed, lock,
        resource::{self, Lock},
        tags,
    },
};

/// Its name, for client tokens.
const OPERATION: &str = "CreateVolume";

/// Volumes of an account at the most, those that instances start from not counted.
pub const MAX_VOLUMES: u64 = quota::MAX_VOLUMES;

/// GiB of all of them at the most.
pub const MAX_STORAGE_GIB: u64 = quota::MAX_VOLUME_GIB;

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewVolume {
    pub availability_zone: String,
    pub size_gib: u32,
    pub kind: VolumeType,
    pub provisioned: Provisioned,
    pub tags: Vec<Tag>,
    pub client_token: Option<ClientToken>,
}

/// Makes a volume.
///
/// # Errors
/// `NoZone`; `InvalidParameter`, `InvalidCombination`; `LimitExceeded`; `IdempotentParameterMismatch`.
#[boxed]
pub async fn create(cloud: &Cloud, who: &Principal, mut new: NewVolume) -> Result<VolumeView> {
    let grant = cloud.authorise(who, Permission::CREATE_VOLUME)?.present();
    if !cloud.config.availability_zones.contains(&new.availability_zone) {
        return Err(Error::NoZone {
            name: new.availability_zone.chars().take(128).collect(),
        });
    }
    new.kind.check(new.size_gib, new.provisioned)?;
    tags::validate(&new.tags)?;
    if let Some(token) = &new.client_token {
        token.validate()?;
    }
    new.tags.sort();
    let room = tag_room(cloud, who.account, new.tags.len());
    let (call, account) = (cloud.clone(), who.account);
    let write = cloud.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            if let Some(token) = &new.client_token
                && let Some(made) = token.find(txn, account, OPERATION).await?
            {
                return again(txn, &grant, &made).await;
            }
            let view = insert(txn, &call, &grant, &new).await?;
            if let Some(token) = &new.client_token {
                let made = view.id().to_string();
                token.keep(txn, account, OPERATION, made, call.now()).await?;
            }
            room.check(txn).await?;
            Ok(view)
        })
    });
    write.await
}

/// The volume that the same request has made before.
async fn again(txn: &DatabaseTransaction, grant: &Grant, made: &str) -> Result<VolumeView> {
    let gone = |_| resource::not_found::<volume::Entity>(made.to_owned());
    let id: VolumeId = made.parse().map_err(gone)?;
    let row = resource::find::<volume::Entity>(txn, grant, id, Lock::None).await?;
    let mut tags = tags::of(txn, ResourceKind::Volume, &[id.to_db()]).await?;
    Ok(VolumeView {
        row,
        attachment: None,
        tags: tags.remove(&id.to_db()).unwrap_or_default(),
    })
}

async fn insert(
    txn: &DatabaseTransaction,
    cloud: &Cloud,
    grant: &Grant,
    new: &NewVolume,
) -> Result<VolumeView> {
    let account = grant.account();
    room(txn, account, new.size_gib).await?;
    let row = volume::Model {
        id: Key(cloud.rng.id::<marker::Volume>()),
        account: Owner(account),
        availability_zone: new.availability_zone.clone(),
        size_gib: Count(new.size_gib),
        volume_type: Named(new.kind),
        state: Named(VolumeState::Available),
        state_message: None,
        image: None,
        snapshot: None,
        encrypted: Flag(false),
        iops: new.provisioned.iops.map(Count),
        throughput: new.provisioned.throughput.map(Count),
        host: None,
        generation: 1,
        created_at: cloud.now().0,
        deleted_at: None,
        made_at: None,
    };
    resource::show_new::<volume::Entity>(grant, &row, &new.tags)?;
    let made = volume::ActiveModel {
        state_message: NotSet,
        ..row.clone().into()
    };
    let insert = volume::Entity::insert(made).exec_without_returning(txn);
    insert.await.map_err(failed)?;
    cloud.made(&row.id.0);
    let kind = ResourceKind::Volume;
    tags::insert(txn, account, kind, &[row.id.to_db()], &new.tags).await?;
    Ok(VolumeView {
        row,
        attachment: None,
        tags: new.tags.clone(),
    })
}

/// Whether the account may have one more, of this size: those who count come one after the other, since each has the
/// account's lock until its own is there.
async fn room(txn: &DatabaseTransaction, account: AccountId, gib: u32) -> Result<()> {
    use volume::Column as C;
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await?;
    let gone = [VolumeState::Deleting, VolumeState::Deleted].map(Named);
    let sum = Expr::col(C::SizeGib).sum();
    let has = volume::Entity::find()
        .select_only()
        .column_as(C::Id.count(), "volumes")
        .expr_as(quota::whole(txn, sum), "gib")
        .filter(C::Account.eq(account.to_db()))
        // Those that instances start from come and go with those.
        .filter(C::Image.is_null())
        .filter(C::State.is_not_in(gone));
    let row = txn.query_one(&has.into_query()).await.map_err(failed)?;
    let (volumes, used): (i64, Option<i64>) = match row {
        Some(row) => (
            row.try_get("", "volumes").map_err(failed)?,
            row.try_get("", "gib").map_err(failed)?,
        ),
        None => (0, None),
    };
    let (volumes, used) = (volumes.unsigned_abs(), used.unwrap_or(0).unsigned_abs());
    for (limit, max, wanted) in [
        (Limit::Volumes, MAX_VOLUMES, volumes + 1),
        (Limit::VolumeStorage, MAX_STORAGE_GIB, used + u64::from(gib)),
    ] {
        if wanted > max {
            return Err(Error::LimitExceeded { limit, max });
        }
    }
    Ok(())
}
