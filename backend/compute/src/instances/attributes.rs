//! ModifyInstanceAttribute: one attribute of one instance. What the guest is built from changes only while
//! it is stopped.

use cumulet_core::{RequestContext, quota};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{InstanceId, SecurityGroupId, VolumeId},
    instance::{ShutdownBehavior, State},
};
use cumulet_store::{
    Invalidates, attachments,
    authority::{Grant, Permission},
    entity::{
        columns::{Flag, Named},
        instance, interface, interface_group, security_group, volume_attachment,
    },
    failed, groups, instances, resource, rows, user_data, volumes,
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait, SimpleExpr},
};

use crate::{
    boxed, instance_types,
    instances::{UserData, launch_plan::check_groups},
};

/// An attribute with its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeChange {
    /// Needs the instance to be stopped.
    InstanceType(String),
    /// Without any it is removed. Needs the instance to be stopped.
    UserData(Option<UserData>),
    /// Protects from TerminateInstances.
    DisableApiTermination(bool),
    /// Protects from StopInstances.
    DisableApiStop(bool),
    /// What follows when the guest powers itself off.
    ShutdownBehavior(ShutdownBehavior),
    /// The security groups of the primary interface.
    Groups(Vec<SecurityGroupId>),
    /// Only `true` is possible: hosts always check addresses.
    SourceDestCheck(bool),
    /// Only `false` is possible.
    EbsOptimized(bool),
    /// Only `true` is possible.
    EnaSupport(bool),
    /// A disk of the instance.
    Disk(DiskChange),
}

/// What is asked of one of the instance's disks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DiskChange {
    pub device: String,
    /// The volume that the caller takes it for.
    pub volume: Option<VolumeId>,
    /// Otherwise the volume outlives the instance.
    pub delete_on_termination: bool,
}

/// Changes an attribute.
///
/// # Errors
/// `NotFound`; `IncorrectState` where the instance is not stopped and must be, or is ending;
/// `NoDevice`; `Unsupported`; those of the value.
#[boxed]
pub async fn modify_attribute(
    cx: &RequestContext,
    who: &Principal,
    id: InstanceId,
    change: AttributeChange,
) -> Result<()> {
    let grant = cx.authorise(who, Permission::MODIFY_INSTANCE_ATTRIBUTE)?;
    let cx_of = cx.clone();
    let write = cx
        .store
        .write_with(Invalidates::Account(who.account), move |txn| {
            Box::pin(async move {
                let row = instances::living(txn, &grant, id).await?;
                apply(txn, &cx_of, &grant, &row, change).await
            })
        });
    write.await?;
    cx.wake.hosts();
    Ok(())
}

async fn apply(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    row: &instance::Model,
    change: AttributeChange,
) -> Result<()> {
    use instance::Column as C;
    let only = |possible: bool, what: &str| {
        let what = what.to_owned();
        if possible {
            Ok(())
        } else {
            Err(Error::Unsupported { what })
        }
    };
    let flag = |value: bool| Expr::value(Flag(value));
    let columns: Vec<(C, SimpleExpr)> = match change {
        AttributeChange::InstanceType(name) => return resize(txn, row, &name).await,
        AttributeChange::Groups(ids) => return regroup(txn, grant, row, &ids).await,
        AttributeChange::UserData(data) => {
            stopped(row)?;
            let seal = |data: &UserData| user_data::seal(&cx.rng, &cx.sealer, row.id.0, data.expose());
            let sealed = data.as_ref().map(seal).transpose()?;
            vec![
                (C::SealedUserData, Expr::value(sealed)),
                (C::UserData, Expr::value(Option::<String>::None)),
                next_revision(),
            ]
        }
        AttributeChange::DisableApiTermination(value) => vec![(C::DisableApiTermination, flag(value))],
        AttributeChange::DisableApiStop(value) => vec![(C::DisableApiStop, flag(value))],
        AttributeChange::ShutdownBehavior(value) => {
            vec![(C::ShutdownBehavior, Expr::value(Named(value)))]
        }
        AttributeChange::SourceDestCheck(value) => {
            return only(value, "turning the source/destination check off");
        }
        AttributeChange::EbsOptimized(value) => return only(!value, "EBS optimization"),
        AttributeChange::EnaSupport(value) => return only(value, "turning enhanced networking off"),
        AttributeChange::Disk(change) => {
            let disk = disk(txn, grant, row, &change).await?;
            if disk.is_root() && disk.delete_on_termination.0 && !change.delete_on_termination {
                keep_root(txn, cx, row, &disk).await?;
            }
            return volumes::set_delete_on_termination(txn, &disk, change.delete_on_termination).await;
        }
    };
    update(txn, row, columns).await
}

/// A root is to outlive its instance, which has to have one: until it has come up for the first time no host has made it.
async fn keep_root(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    row: &instance::Model,
    root: &volume_attachment::Model,
) -> Result<()> {
    if row.state.0 == State::Pending {
        return Err(instances::incorrect_state(row, "running or stopped"));
    }
    // It counts as a volume of the account from now on.
    let more = (1, row.disk_gib.0);
    cumulet_storage::volumes::room(txn, cx.config.quotas, row.account.0, more).await?;
    attachments::made(txn, root.volume.to_db(), cx.now()).await
}

/// The disk of a change: the instance must have it, and it be what the caller takes it for. Its volume is shown to the
/// policy.
async fn disk(
    txn: &DatabaseTransaction,
    grant: &Grant,
    row: &instance::Model,
    change: &DiskChange,
) -> Result<volume_attachment::Model> {
    let mut disks = volumes::disks(txn, &[row]).await?;
    let meant = |disk: &volume_attachment::Model| {
        disk.device.0 == change.device && change.volume.is_none_or(|volume| volume == disk.volume.0)
    };
    let disks = disks.remove(&row.id.to_db()).unwrap_or_default();
    let disk = disks.into_iter().find(meant).ok_or_else(|| Error::NoDevice {
        device: change.device.clone(),
    })?;
    let volume = (disk.volume.0.digits(), row.account.0);
    resource::shown(txn, grant, ResourceKind::Volume, &[volume]).await?;
    Ok(disk)
}

async fn update(
    txn: &DatabaseTransaction,
    row: &instance::Model,
    columns: Vec<(instance::Column, SimpleExpr)>,
) -> Result<()> {
    let mut update = instance::Entity::update_many().filter(instance::Column::Id.eq(row.id));
    for (column, value) in columns {
        update = update.col_expr(column, value);
    }
    update.exec(txn).await.map(drop).map_err(failed)
}

/// The instance reads something else at 169.254.169.254 from now on.
fn next_revision() -> (instance::Column, SimpleExpr) {
    let column = instance::Column::MetadataRevision;
    (column, Expr::col(column).add(1))
}

fn stopped(row: &instance::Model) -> Result<()> {
    match row.state.0 {
        // What a failed start claimed of the host is given back by the size that it was claimed with.
        State::Stopped if row.claimed.0 => Err(instances::incorrect_state(row, "stopped for a while")),
        State::Stopped => Ok(()),
        _ => Err(instances::incorrect_state(row, "stopped")),
    }
}

async fn resize(txn: &DatabaseTransaction, row: &instance::Model, name: &str) -> Result<()> {
    use instance::Column as C;
    stopped(row)?;
    let kind = instance_types::offered(txn, name).await?;
    let account = row.account.0;
    let more = i64::from(kind.vcpus.0) - i64::from(row.vcpus.0);
    quota::resize(txn, account, more).await?;
    let columns = vec![
        (C::InstanceType, Expr::value(kind.name)),
        (C::Vcpus, Expr::value(kind.vcpus)),
        (C::MemoryMib, Expr::value(kind.memory_mib)),
        next_revision(),
    ];
    update(txn, row, columns).await
}

async fn regroup(
    txn: &DatabaseTransaction,
    grant: &Grant,
    row: &instance::Model,
    ids: &[SecurityGroupId],
) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::MissingParameter {
            name: "GroupId".into(),
        });
    }
    let primary = interface::Entity::find()
        .filter(interface::Column::Instance.eq(row.id))
        .filter(interface::Column::DeviceIndex.eq(0));
    let primary = rows::one(primary, txn).await?;
    let primary = primary.ok_or_else(|| Error::Internal("a living instance has no interface".into()))?;
    // Before the groups are looked at: until the end nobody deletes one of them.
    groups::bump_policy(txn, [primary.vpc]).await?;
    let groups = resource::find_all::<security_group::Entity>(txn, grant, ids).await?;
    let groups = check_groups(groups, primary.vpc.0)?;
    let delete =
        interface_group::Entity::delete_many().filter(interface_group::Column::Interface.eq(primary.id));
    delete.exec(txn).await.map_err(failed)?;
    let members = groups.iter().map(|group| {
        interface_group::ActiveModel::from(interface_group::Model {
            interface: primary.id,
            security_group: group.id,
        })
    });
    let insert = interface_group::Entity::insert_many(members)
        .exec_without_returning(txn)
        .await;
    insert.map_err(failed)?;
    instances::bump_metadata(txn, &[row.id.to_db()]).await
}
