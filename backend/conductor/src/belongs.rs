//! Ownership of what a report speaks of: whether it is its host's. Whatever a report is about, it counts for nothing
//! before this has said so; transactions ask [`cumulet_operations::standing`] again, of the row that they have locked.

use cumulet_domain::{
    ResourceKind, Result,
    id::{HostId, InstanceId, VpcId},
    message::{ReportContent, SnapshotOutcome, VolumeOutcome},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, JoinType, QueryFilter, QuerySelect, RelationDef,
    sea_query::{Expr, ExprTrait as _},
};

use cumulet_journal::Operation as _;
use cumulet_operations::{
    CreateSnapshot, Launch,
    snapshot::all_of,
    standing::{Standing, standing},
};
use cumulet_store::{
    attachments,
    entity::{columns::Key, host_network, instance, operation, snapshot, volume, volume_attachment, vpc},
    first, rows, snapshots,
};

/// What a report is about, where that is its host's.
#[derive(Debug)]
pub(crate) enum Subject {
    /// The host itself, or what it has: each instance of that is looked at by itself.
    Host,
    /// An instance that is there, or has ended.
    Instance,
    /// A command to one that is there.
    Command(Box<(operation::Model, instance::Model)>),
    /// A command to delete a volume whose data is there.
    Volume(Box<(operation::Model, volume::Model)>),
    /// A command to take snapshots, which the host was told.
    Snapshots(Box<operation::Model>),
    /// A VPC that has to do with the host.
    Network,
}

/// What the report is about; `None` where that is not the host's, and it is not believed.
pub(crate) async fn subject(
    conn: &impl ConnectionTrait,
    host: &HostId,
    content: &ReportContent,
) -> Result<Option<Subject>> {
    match content {
        // The bus vouches for the name.
        ReportContent::Heartbeat(_) | ReportContent::Full(_) => Ok(Some(Subject::Host)),
        ReportContent::Changed(seen) => {
            let row = by_id(conn, seen.instance).await?;
            if row.is_none() {
                // The full reports tell of it in one line for all.
                tracing::debug!(%host, instance = %seen.instance, "a host has a guest that nobody knows");
            }
            let known = match row {
                Some(row) => standing(&row, host)? != Standing::Elsewhere,
                None => false,
            };
            Ok(known.then_some(Subject::Instance))
        }
        ReportContent::Done(outcome) => {
            let id = outcome.operation.to_db();
            let operation = rows::one(operation::Entity::find_by_id(Key::from_db(id)), conn).await?;
            let about = outcome.report.instance;
            let Some(operation) = operation else {
                return Ok(None);
            };
            if !works_on(conn, &operation, about).await? {
                return Ok(None);
            }
            let here = here(conn, host, about).await?;
            Ok(here.map(|row| Subject::Command(Box::new((operation, row)))))
        }
        ReportContent::VolumeDone(outcome) => volume_on(conn, host, outcome).await,
        ReportContent::SnapshotDone(outcome) => snapshots_on(conn, host, outcome).await,
        ReportContent::MetadataApplied { instance, revision } => {
            let here = here(conn, host, *instance).await?;
            let sent = here.filter(|row| is_at_most(*revision, row.metadata_revision.to_db()));
            Ok(sent.map(|_| Subject::Instance))
        }
        ReportContent::NetworkApplied { vpc, generation } => {
            let known = network(conn, host, *vpc, *generation).await?;
            Ok(known.then_some(Subject::Network))
        }
    }
}

/// The operation and the volume that a report is about, where the volume's data is on the host.
async fn volume_on(
    conn: &impl ConnectionTrait,
    host: &HostId,
    outcome: &VolumeOutcome,
) -> Result<Option<Subject>> {
    let operation = operation::Entity::find_by_id(Key(outcome.operation));
    let Some(operation) = rows::one(operation, conn).await? else {
        return Ok(None);
    };
    let about = (ResourceKind::Volume.resource_type(), outcome.volume.to_db());
    // A launch that has failed takes its volumes away from the host.
    let is_launched = operation.kind == Launch::NAME
        && attachments::of_volume(conn, outcome.volume.to_db())
            .await?
            .is_some_and(|attached| attached.instance.to_db() == operation.subject().1);
    if operation.subject() != about && !is_launched {
        return Ok(None);
    }
    let row = attachments::find(conn, outcome.volume.to_db()).await?;
    let here = row.filter(|row| row.host.as_ref() == Some(&host.0));
    Ok(here.map(|row| Subject::Volume(Box::new((operation, row)))))
}

/// The operation that has told the host to take snapshots: all that it says to have taken are among them, and there is
/// one that it was told to take.
async fn snapshots_on(
    conn: &impl ConnectionTrait,
    host: &HostId,
    outcome: &SnapshotOutcome,
) -> Result<Option<Subject>> {
    let operation = rows::one(operation::Entity::find_by_id(Key(outcome.operation)), conn).await?;
    let Some(operation) = operation.filter(|operation| operation.kind == CreateSnapshot::NAME) else {
        return Ok(None);
    };
    let all = all_of(&operation)?;
    let rows = snapshots::load(conn, &all).await?;
    let told = |row: &&snapshot::Model| row.host.as_ref() == Some(&host.0);
    let mut taken = outcome.taken.iter();
    let is_theirs = taken.all(|each| rows.iter().filter(told).any(|row| row.id.0 == each.id));
    let was_told = rows.iter().any(|row| told(&row));
    Ok((is_theirs && was_told).then(|| Subject::Snapshots(Box::new(operation))))
}

/// Whether an operation's command is about the instance: it works on that, or on a volume that is attached to it.
async fn works_on(
    conn: &impl ConnectionTrait,
    operation: &operation::Model,
    instance: InstanceId,
) -> Result<bool> {
    let (kind, id) = operation.subject();
    if kind == ResourceKind::Instance.resource_type() {
        return Ok(id == instance.to_db());
    }
    if kind != ResourceKind::Volume.resource_type() {
        return Ok(false);
    }
    use volume_attachment::Column as C;
    let attached = volume_attachment::Entity::find()
        .filter(C::Instance.eq(instance.to_db()))
        .filter(C::Volume.eq(id));
    Ok(!rows::all(attached, conn).await?.is_empty())
}

/// An instance that is on the host.
async fn here(conn: &impl ConnectionTrait, host: &HostId, id: InstanceId) -> Result<Option<instance::Model>> {
    Ok(match by_id(conn, id).await? {
        Some(row) if standing(&row, host)? == Standing::Here => Some(row),
        _ => None,
    })
}

async fn by_id(conn: &impl ConnectionTrait, id: InstanceId) -> Result<Option<instance::Model>> {
    let row = instance::Entity::find_by_id(Key(id));
    rows::one(row, conn).await
}

/// Whether the host has to do with the VPC, and was told a policy of that generation.
async fn network(conn: &impl ConnectionTrait, host: &HostId, vpc: VpcId, generation: u64) -> Result<bool> {
    let its_vpc: RelationDef = host_network::Entity::belongs_to(vpc::Entity)
        .from(host_network::Column::Vpc)
        .to(vpc::Column::Id)
        .into();
    // Where the VPC has gone, the pair is to go too.
    let newest = Expr::col((vpc::Entity, vpc::Column::PolicyGeneration)).if_null(i64::MAX);
    let pair = host_network::Entity::find()
        .select_only()
        .column_as(newest, "newest")
        .join(JoinType::LeftJoin, its_vpc)
        .filter(host_network::Column::Host.eq(host.0.as_str()))
        .filter(host_network::Column::Vpc.eq(vpc.to_db()));
    let newest = first(pair, conn).await?;
    Ok(newest.is_some_and(|newest| is_at_most(generation, newest)))
}

/// Whether a host may have been told of it: nothing newer than the newest there is.
fn is_at_most(told: u64, newest: i64) -> bool {
    i64::try_from(told).is_ok_and(|told| told <= newest)
}
