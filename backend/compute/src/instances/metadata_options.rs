//! Metadata options of instances, at launch and afterwards.

use cumulet_domain::{
    Error, ResourceKind, Result, account::Principal, id::InstanceId, metadata::MetadataOptions,
    tag::all_readable,
};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::{
        columns::{Flag, Small},
        instance,
    },
    failed, instances, tags,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{
    Compute, boxed,
    instances::{InstanceView, describe::granted},
};

/// Options to set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MetadataChange {
    pub enabled: Option<bool>,
    pub tokens_required: Option<bool>,
    pub hop_limit: Option<u8>,
    pub tags: Option<bool>,
}

impl MetadataChange {
    /// Checks the hop limit.
    pub(super) fn validate(self) -> Result<()> {
        match self.hop_limit {
            Some(n) if !(1..=64).contains(&n) => {
                let reason = "the hop limit is 1 to 64";
                Err(Error::invalid("HttpPutResponseHopLimit", &n.to_string(), reason))
            }
            _ => Ok(()),
        }
    }

    /// The options after the change.
    pub(super) fn apply(self, old: MetadataOptions) -> MetadataOptions {
        MetadataOptions {
            enabled: self.enabled.unwrap_or(old.enabled),
            tokens_required: self.tokens_required.unwrap_or(old.tokens_required),
            hop_limit: self.hop_limit.unwrap_or(old.hop_limit),
            tags: self.tags.unwrap_or(old.tags),
        }
    }
}

/// Changes the options of an instance; its host serves by them within seconds.
///
/// # Errors
/// `NotFound`; `IncorrectState` for one that is ending; `InvalidParameter`; `UnreadableTagKey` where it shall
/// read its tags and can't read one of them.
#[boxed]
pub async fn modify_metadata_options(
    compute: &Compute,
    who: &Principal,
    id: InstanceId,
    change: MetadataChange,
) -> Result<InstanceView> {
    let grant = compute.authorise(who, Permission::MODIFY_INSTANCE_METADATA_OPTIONS)?;
    change.validate()?;
    let by = grant.clone();
    let write = compute
        .store
        .write_with(Invalidates::Account(who.account), move |txn| {
            Box::pin(async move {
                let row = instances::living(txn, &by, id).await?;
                if change.tags == Some(true) {
                    readable_tags(txn, row.id.to_db()).await?;
                }
                let new = change.apply(instances::metadata_options(&row));
                use instance::Column as C;
                let update = instance::Entity::update_many()
                    .col_expr(C::HttpEnabled, Expr::value(Flag(new.enabled)))
                    .col_expr(C::HttpTokensRequired, Expr::value(Flag(new.tokens_required)))
                    .col_expr(C::HttpHopLimit, Expr::value(Small(new.hop_limit)))
                    .col_expr(C::HttpTags, Expr::value(Flag(new.tags)))
                    .filter(C::Id.eq(row.id));
                update.exec(txn).await.map_err(failed)?;
                instances::bump_metadata(txn, &[row.id.to_db()]).await
            })
        });
    write.await?;
    compute.wake.hosts();
    granted(compute, &grant, id).await
}

/// The instance can read all of its tags. (Its row is locked: nobody adds one meanwhile.)
async fn readable_tags(txn: &DatabaseTransaction, instance: i64) -> Result<()> {
    let tags = tags::of(txn, ResourceKind::Instance, &[instance]).await?;
    all_readable(tags.values().flatten().map(|tag| tag.key.as_str()))
}
