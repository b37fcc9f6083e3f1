//! The size of the audit log, estimated: how many entries there are, times what the newest ones take.

use cumulet_domain::{Result, time::Timestamp};
use sea_orm::{EntityTrait, PaginatorTrait as _, QueryOrder, QuerySelect};

use cumulet_store::{Store, entity::audit_event, failed, first, rows};

/// Entries by which the size of all is judged.
const SAMPLE: u64 = 100;

/// What an entry takes beside its texts: its numbers, and its place in the indexes.
const ENTRY: u64 = 160;

/// The time up to which entries have to go so that the others take no more than `most` bytes; the earliest of
/// times where none has to.
pub(super) async fn horizon(store: &Store, most: u64) -> Result<Timestamp> {
    const NONE: Timestamp = Timestamp(i64::MIN);
    if most == 0 {
        return Ok(NONE);
    }
    let (conn, all) = (store.read(), audit_event::Entity::find);
    let newest = all().order_by_desc(audit_event::Column::At).limit(SAMPLE);
    let newest = rows::sound::<_, audit_event::Model>(newest, conn).await?.rows;
    let Some(each) = newest
        .iter()
        .map(size)
        .sum::<u64>()
        .checked_div(newest.len() as u64)
    else {
        return Ok(NONE);
    };
    let fit = most / each.max(1);
    // The first one of those that don't fit, seen from the newest. It is there only if there are too many.
    let too_many = all().count(conn).await.map_err(failed)?.saturating_sub(fit);
    if too_many == 0 {
        return Ok(NONE);
    }
    let last = all()
        .select_only()
        .column(audit_event::Column::At)
        .order_by_asc(audit_event::Column::At)
        .offset(too_many - 1)
        .limit(1);
    Ok(first(last, conn).await?.map_or(NONE, Timestamp))
}

fn size(row: &audit_event::Model) -> u64 {
    let texts = [&row.user_name, &row.action, &row.outcome, &row.request_id];
    let more = [&row.resource, &row.detail];
    let texts = texts.into_iter().chain(more.into_iter().flatten());
    ENTRY + texts.map(|text| text.len() as u64).sum::<u64>()
}
