//! The ends of operations: what a finished one writes into the instance, and what it gives back. Operations
//! call it, in the transaction that ends them.

use std::collections::BTreeSet;

use cumulet_domain::{
    Error, ResourceKind, Result, crash_point,
    id::{VolumeId, marker::Vpc},
    instance::{Event, State, StateReason, transition},
    time::Timestamp,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait,
    FromQueryResult, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};

use cumulet_store::{
    addresses, attachments,
    entity::{
        account,
        columns::{Amount, Count, Flag, Key, Named},
        host, instance, interface, interface_group, operation, volume, volume_attachment,
    },
    failed, groups, interfaces, placement, rows, tags,
};

/// The state after an event, by the one transition function.
pub fn moved(row: &instance::Model, event: Event) -> Result<State> {
    transition(row.state.0, event).map_err(|illegal| Error::IncorrectState {
        kind: cumulet_domain::ResourceKind::Instance,
        id: row.id.0.to_string(),
        state: illegal.state.name().into(),
        expected: format!("open to {:?}", illegal.event),
    })
}

/// The instance of an operation, if that still speaks for it.
pub async fn subject(
    conn: &impl ConnectionTrait,
    operation: &operation::Model,
) -> Result<Option<instance::Model>> {
    let (_, id) = operation.subject();
    let row = rows::one(instance::Entity::find_by_id(Key::from_db(id)), conn).await?;
    Ok(row.filter(|row| row.generation == operation.generation))
}

/// A launch or a start has ended well. One statement, without a read: nothing but the operation's own generation
/// and the states that may come to this decide.
pub async fn running(
    conn: &impl ConnectionTrait,
    operation: &operation::Model,
    now: Timestamp,
) -> Result<()> {
    use instance::Column as C;
    let launched = |state: &State| transition(*state, Event::Launched) == Ok(State::Running);
    let before = State::ALL.into_iter().filter(launched).map(State::name);
    // What else it said is no reason any more when it runs.
    let kept = |column: C| Expr::case(C::ReasonCode.is_in(StateReason::OUTLIVING), Expr::col(column));
    let (_, id) = operation.subject();
    let moved_on = instance::Entity::update_many()
        .col_expr(C::State, Expr::value(State::Running.name()))
        .col_expr(C::RunningSince, Expr::value(now.0))
        .col_expr(C::ReasonMessage, kept(C::ReasonMessage).into())
        .col_expr(C::ReasonCode, kept(C::ReasonCode).into())
        .col_expr(C::TransitionReason, Expr::value(Option::<String>::None))
        .filter(C::Id.eq(id))
        .filter(C::Generation.eq(operation.generation))
        .filter(C::State.is_in(before))
        .exec(conn)
        .await
        .map_err(failed)?;
    if moved_on.rows_affected == 1 {
        return Ok(());
    }
    match subject(conn, operation).await? {
        Some(row) => moved(&row, Event::Launched).map(drop),
        None => Ok(()),
    }
}

/// A stop has ended: the disk stays on its host, vCPUs and memory are free again.
pub async fn stopped(
    conn: &impl ConnectionTrait,
    row: instance::Model,
    reason: Option<StateReason>,
) -> Result<()> {
    let state = moved(&row, Event::Halted)?;
    give_back(conn, &row, 0).await?;
    // Its interfaces are no part of what its host enforces any more.
    policies_change(conn, &row).await?;
    let mut change = row.into_active_model();
    change.state = Set(Named(state));
    change.claimed = Set(Flag(false));
    change.running_since = Set(None);
    explain(&mut change, reason);
    change.update(conn).await.map_err(failed).map(drop)
}

/// A terminate has ended: nothing of the instance is left on any host, and everything that it took is
/// given back. The row stays to be seen for a while. What is answered are volumes that end with it and whose data is
/// still to be deleted. `root` is what the host keeps of it.
pub async fn terminated(
    conn: &impl ConnectionTrait,
    row: instance::Model,
    reason: Option<StateReason>,
    root: Option<VolumeId>,
    now: Timestamp,
) -> Result<Vec<volume::Model>> {
    let state = moved(&row, Event::Destroyed)?;
    let disks = attachments::of_instance(conn, row.id.to_db()).await?;
    let promised = attachments::kept_among(conn, &disks).await?;
    let promised = promised.into_values().map(|root| root.volume).next();
    let kept = promised.filter(|volume| root == Some(*volume));
    if let (Some(volume), None) = (promised, kept) {
        tracing::error!(instance = %row.id, %volume, host = row.host, "a root that was to be kept has gone with its instance");
    }
    let kept = kept.zip(row.host.as_deref());
    // What a root that is kept takes of the host is the volume's from now on.
    let disk_gib = if kept.is_some() { 0 } else { row.disk_gib.0 };
    give_back(conn, &row, disk_gib.into()).await?;
    placement::leave(conn, &row).await?;
    crash_point!("terminate", "freed");
    let usage = account::Column::InstancesUsed;
    account::Entity::update_many()
        .col_expr(usage, Expr::col(usage).sub(1))
        .col_expr(
            account::Column::VcpusUsed,
            Expr::col(account::Column::VcpusUsed).sub(row.vcpus),
        )
        .filter(account::Column::Id.eq(row.account))
        .exec(conn)
        .await
        .map_err(failed)?;
    // After the account: a launch that asks for one of the addresses has that, and waits for this.
    let vpcs = drop_interfaces(conn, row.id.to_db()).await?;
    let deleting = drop_volumes(conn, &disks, kept, now).await?;
    crash_point!("terminate", "released");
    groups::bump_policy(conn, vpcs).await?;
    let mut change = row.into_active_model();
    change.state = Set(Named(state));
    change.host = Set(None);
    change.claimed = Set(Flag(false));
    change.running_since = Set(None);
    change.terminated_at = Set(Some(now.0));
    explain(&mut change, reason);
    change.update(conn).await.map_err(failed)?;
    Ok(deleting)
}

/// A launch that failed on its host has been cleared away there: what it took of the host is given back,
/// and the instance is nowhere again. It must be of the operation's generation, and on that host.
pub async fn unplaced(conn: &impl ConnectionTrait, row: &instance::Model) -> Result<()> {
    use instance::Column as C;
    let moved = instance::Entity::update_many()
        .col_expr(C::Host, Expr::value(Option::<String>::None))
        .col_expr(C::Claimed, Expr::value(0_i64))
        .filter(C::Id.eq(row.id))
        .filter(C::Generation.eq(row.generation))
        .filter(C::Host.eq(row.host.clone()))
        .filter(C::Claimed.eq(row.claimed))
        .exec(conn)
        .await
        .map_err(failed)?;
    if moved.rows_affected != 1 {
        let text = format!("instance {} has changed while it was cleared away", row.id);
        return Err(Error::Unavailable(text));
    }
    give_back(conn, row, i64::from(row.disk_gib.0)).await?;
    placement::leave(conn, row).await?;
    policies_change(conn, row).await
}

/// What hosts enforce in each VPC that the instance has an interface in is another from now on.
async fn policies_change(conn: &impl ConnectionTrait, row: &instance::Model) -> Result<()> {
    let vpcs = interfaces::vpcs(conn, row.id.to_db()).await?;
    groups::bump_policy(conn, vpcs).await
}

fn explain(change: &mut instance::ActiveModel, reason: Option<StateReason>) {
    if let Some(reason) = reason {
        change.reason_code = Set(Some(reason.code));
        change.reason_message = Set(Some(reason.message));
    }
}

/// Gives a host's vCPUs and memory back where they are claimed, and `disk_gib` where the instance has a
/// host at all.
async fn give_back(conn: &impl ConnectionTrait, row: &instance::Model, disk_gib: i64) -> Result<()> {
    use host::Column as C;
    let Some(id) = &row.host else { return Ok(()) };
    let (vcpus, memory_mib) = if row.claimed.0 {
        (row.vcpus, row.memory_mib)
    } else {
        (Count(0), Amount(0))
    };
    host::Entity::update_many()
        .col_expr(C::VcpusUsed, Expr::col(C::VcpusUsed).sub(vcpus))
        .col_expr(C::MemoryMibUsed, Expr::col(C::MemoryMibUsed).sub(memory_mib))
        .col_expr(C::DiskGibUsed, Expr::col(C::DiskGibUsed).sub(disk_gib))
        .filter(C::Id.eq(id.as_str()))
        .exec(conn)
        .await
        .map_err(failed)
        .map(drop)
}

/// An interface that goes.
#[derive(FromQueryResult)]
struct Dropped {
    id: i64,
    vpc: Key<Vpc>,
}

/// Deletes the interfaces of an instance, with all that they have; the VPCs that they were in, each once.
async fn drop_interfaces(conn: &impl ConnectionTrait, instance: i64) -> Result<BTreeSet<Key<Vpc>>> {
    use interface::Column as I;
    // Locked: a call that tags one of them at this time is either done, or finds it gone.
    let theirs = interface::Entity::find()
        .select_only()
        .columns([I::Id, I::Vpc])
        .filter(I::Instance.eq(instance))
        .order_by_asc(I::Id)
        .lock_exclusive();
    let dropped: Vec<Dropped> = rows::selected(theirs, conn).await?;
    let theirs: Vec<i64> = dropped.iter().map(|row| row.id).collect();
    interface_group::Entity::delete_many()
        .filter(interface_group::Column::Interface.is_in(theirs.iter().copied()))
        .exec(conn)
        .await
        .map_err(failed)?;
    // What is gone has no tags.
    tags::remove(conn, ResourceKind::NetworkInterface, &theirs).await?;
    addresses::release(conn, &theirs).await?;
    interface::Entity::delete_many()
        .filter(I::Instance.eq(instance))
        .exec(conn)
        .await
        .map_err(failed)?;
    Ok(dropped.into_iter().map(|row| row.vpc).collect())
}

/// Ends the volumes that end with an instance, and the tags of those that are gone; those that are to be deleted yet.
async fn drop_volumes(
    conn: &impl ConnectionTrait,
    disks: &[volume_attachment::Model],
    kept: Option<(VolumeId, &str)>,
    now: Timestamp,
) -> Result<Vec<volume::Model>> {
    let released = attachments::release(conn, disks, kept, now).await?;
    tags::remove(conn, ResourceKind::Volume, &released.ended).await?;
    Ok(released.deleting)
}
