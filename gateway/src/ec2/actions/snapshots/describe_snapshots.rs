//! DescribeSnapshots: those that the account may make volumes of.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    snapshots::{self, Grantees, SnapshotQuery, SnapshotView},
};
use cumulet_backend::store::disk_keys;
use cumulet_domain::account::AccountId;
use cumulet_wire::{
    Timestamp,
    ec2::snapshots::{DescribeSnapshots, DescribeSnapshotsRequest, Snapshot},
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, kms_key, tags_if_any},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<i64, Snapshot>;

#[async_trait]
impl Describe for DescribeSnapshots {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeSnapshotsRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let owners = owners(ctx, &input.owner_ids);
        if owners.is_empty() && !input.owner_ids.is_empty() {
            // Of Amazon's aliases, which own nothing here.
            return Ok(Page {
                rows: Vec::new(),
                next: None,
            });
        }
        let query = SnapshotQuery {
            ids: ids(&input.snapshot_ids)?,
            // For the database to look for.
            volumes: filters.ids("volume-id"),
            own: owners == [ctx.who.account],
            owners,
            restorers: restorers(ctx, &input.restorable_by_user_ids)?,
        };
        let page = snapshots::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view| Row::new(view.row.id.to_db(), listed(ctx, &view))))
    }
}

/// `Owner.N`: accounts' numbers, or `self`.
fn owners(ctx: &Ctx, wanted: &[String]) -> Vec<AccountId> {
    let account = |owner: &String| match owner.as_str() {
        "self" => Some(ctx.who.account),
        other => other.parse().ok(),
    };
    wanted.iter().filter_map(account).collect()
}

/// `RestorableBy.N`: `all` for what everybody may make volumes of, `self` or an account's number for what it owns or was
/// given.
fn restorers(ctx: &Ctx, wanted: &[String]) -> Result<Option<Grantees>, Fault> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut found = Grantees::default();
    for user in wanted {
        match user.as_str() {
            "all" => found.all = true,
            "self" => found.accounts.extend([ctx.who.account]),
            other => {
                let reason = "expecting all, self or the 12 digits of an account";
                let account = other.parse();
                found
                    .accounts
                    .insert(account.map_err(|_| Fault::invalid("RestorableBy", other, reason))?);
            }
        }
    }
    Ok(Some(found))
}

/// A snapshot as the listing alone shows it: with the name of its data key, which those of one line have.
fn listed(ctx: &Ctx, view: &SnapshotView) -> Snapshot {
    let key = view.row.data_key.as_ref();
    Snapshot {
        data_encryption_key_id: key.map(|key| disk_keys::name(key).to_owned()),
        ..shown(ctx, view)
    }
}

/// How far a snapshot has come.
pub(super) fn progress(view: &SnapshotView) -> String {
    view.row.state.0.progress(view.row.progress.map(|told| told.0))
}

/// A snapshot as the answers show it.
pub(super) fn shown(ctx: &Ctx, view: &SnapshotView) -> Snapshot {
    let row = &view.row;
    let text = |text: &str| Some(text.to_owned());
    Snapshot {
        snapshot_id: Some(view.id().to_string()),
        volume_id: Some(row.volume.0.to_string()),
        volume_size: i32::try_from(row.size_gib.0).ok(),
        state: text(row.state.0.name()),
        state_message: row.state_message.clone(),
        progress: Some(progress(view)),
        start_time: Some(Timestamp(row.created_at)),
        completion_time: row.completed_at.map(Timestamp),
        owner_id: Some(row.account.0.to_string()),
        description: Some(row.description.clone()),
        encrypted: Some(row.encrypted.0),
        kms_key_id: row.encrypted.0.then(|| kms_key(ctx, row.account.0)),
        storage_tier: text("standard"),
        full_snapshot_size_in_bytes: row.bytes.map(|bytes| bytes.to_db()),
        tags: tags_if_any(&view.tags),
        ..Default::default()
    }
}
