//! Interfaces of new instances: an Ethernet address each, a private address chosen or asked for, a
//! public one where wanted and to be had. Unique keys make every address one interface's; a lost race is tried
//! anew.

use std::net::Ipv4Addr;

use cumulet_core::{RequestContext, quota::Claim};
use cumulet_domain::{
    Error, Result,
    id::{SecurityGroupId, marker},
    network::Mac,
    time::Timestamp,
};
use cumulet_network::interface_view::{GroupRef, InterfaceView};
use cumulet_store::{
    addresses::{self, InterfaceAddresses},
    batch,
    entity::{
        columns::{Count, Ethernet, Ipv4, Key},
        instance, interface, interface_group, security_group,
    },
    failed, groups, is_taken, lock,
    networks::{self, Wanted},
    resource,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter,
    TransactionTrait,
    sea_query::{Expr, Query},
};

use crate::instances::{
    LaunchSpec,
    launch_plan::{LaunchPlan, subnet_id},
    public_addresses::{self, Allowance, Draw},
};

/// Tries before a launch gives up on addresses that others keep taking. One is enough with one writer. At the
/// last, who has not asked for public ones does without.
const TRIES: usize = 5;

/// Gives each instance its interface, in the instances' order. Those that get no public address, where they
/// would have had one, say why.
pub(super) async fn attach(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    spec: &LaunchSpec,
    plan: &LaunchPlan,
    claim: Claim,
    instances: &mut [instance::Model],
    now: Timestamp,
) -> Result<Vec<InterfaceView>> {
    for left in (0..TRIES).rev() {
        let without = left == 0 && !public_addresses::is_asked_for(spec);
        let (private, public) = draw(txn, cx, spec, plan, claim, without).await?;
        let new = choose(cx, (spec, plan), instances, &private, &public.addresses, now);
        if insert(txn, &new).await? {
            if let Some(shortage) = public.shortage {
                public_addresses::explain(txn, instances, public.addresses.len(), shortage).await?;
            }
            groups::bump_policy(txn, [plan.subnet.vpc]).await?;
            join(txn, plan, &new).await?;
            return views(spec, plan, new);
        }
        // It may also be a public address that another launch has drawn at the same time.
        if let Some(address) = spec.private_ip
            && networks::is_taken(txn, &plan.subnet, address).await?
        {
            return Err(Error::AddressInUse {
                address: address.to_string(),
            });
        }
    }
    Err(Error::Unavailable(
        "addresses were taken by others again and again".into(),
    ))
}

/// The addresses of a launch's instances: a private one each, and public ones, or none where it goes on `without`.
async fn draw(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    spec: &LaunchSpec,
    plan: &LaunchPlan,
    claim: Claim,
    without: bool,
) -> Result<(Vec<Ipv4Addr>, Draw)> {
    let (account, subnet) = (plan.subnet.account.0, subnet_id(plan));
    let count = usize::try_from(claim.count).unwrap_or(0);
    let allowance = if plan.public {
        public_addresses::allowance(txn, cx, account, count, claim.few).await?
    } else {
        Allowance::default()
    };
    let private = Wanted {
        block: plan.cidr,
        count: if spec.private_ip.is_some() { 0 } else { count },
    };
    let public = match allowance.of(cx) {
        wanted if without => Wanted { count: 0, ..wanted },
        wanted => wanted,
    };
    let (found, public) = networks::free(txn, &cx.rng, (subnet, private), public).await?;
    let draw = allowance.draw(public);
    match draw.shortage {
        Some(shortage) if public_addresses::is_asked_for(spec) => return Err(shortage.error()),
        _ => {}
    }
    let found = networks::enough(found, subnet, private.count)?;
    Ok((spec.private_ip.map_or(found, |asked| vec![asked]), draw))
}

/// A new interface with its addresses.
#[derive(Clone)]
struct New {
    row: interface::Model,
    private: Ipv4Addr,
    public: Option<Ipv4Addr>,
}

fn choose(
    cx: &RequestContext,
    (spec, plan): (&LaunchSpec, &LaunchPlan),
    instances: &[instance::Model],
    private: &[Ipv4Addr],
    public: &[Ipv4Addr],
    now: Timestamp,
) -> Vec<New> {
    let rng = &cx.rng;
    let rows = instances
        .iter()
        .zip(private.iter().copied())
        .enumerate()
        .map(|(i, (instance, private))| {
            let id = rng.id::<marker::NetworkInterface>();
            let public = public.get(i).copied();
            let row = interface::Model {
                id: Key(id),
                account: instance.account,
                instance: instance.id,
                device_index: Count(0),
                attachment: Key(rng.id::<marker::InterfaceAttachment>()),
                vpc: plan.subnet.vpc,
                subnet: plan.subnet.id,
                mac: Ethernet(Mac::of(id)),
                // A program of before `interface_addresses`, which may run beside this one, goes by these, and by
                // their unique keys.
                private_ip: Ipv4(private),
                public_ip: public.map(Ipv4),
                description: spec.interface_description.clone(),
                created_at: now.0,
            };
            New { row, private, public }
        });
    rows.collect()
}

/// Adds the rows; `false`, and none of them is there, when one of their addresses is taken.
async fn insert(txn: &DatabaseTransaction, new: &[New]) -> Result<bool> {
    if !lock::needed(txn) {
        // A statement that fails undoes itself on SQLite, and leaves the transaction as it was.
        return match insert_rows(txn, new).await {
            Ok(()) => Ok(true),
            Err(error) if is_taken(&error) => take_back(txn, new).await.map(|()| false),
            Err(error) => Err(failed(error)),
        };
    }
    let savepoint = txn.begin().await.map_err(failed)?;
    match insert_rows(&savepoint, new).await {
        Ok(()) => savepoint.commit().await.map_err(failed).map(|()| true),
        Err(error) if is_taken(&error) => savepoint.rollback().await.map_err(failed).map(|()| false),
        Err(error) => Err(failed(error)),
    }
}

/// Deletes what there is of these rows.
async fn take_back(txn: &DatabaseTransaction, new: &[New]) -> Result<()> {
    let ids: Vec<i64> = new.iter().map(|new| new.row.id.to_db()).collect();
    for ids in batch::chunks(&ids) {
        addresses::release(txn, &ids).await?;
        let rows = interface::Entity::delete_many().filter(interface::Column::Id.is_in(ids.iter().copied()));
        rows.exec(txn).await.map_err(failed)?;
    }
    Ok(())
}

async fn insert_rows(txn: &DatabaseTransaction, new: &[New]) -> std::result::Result<(), DbErr> {
    for new in new.chunks(1000) {
        let rows = new
            .iter()
            .map(|new| interface::ActiveModel::from(new.row.clone()));
        interface::Entity::insert_many(rows)
            .exec_without_returning(txn)
            .await?;
    }
    let addresses = new
        .iter()
        .map(|new| addresses::primary(&new.row, new.private, new.public));
    addresses::insert(txn, &addresses.collect::<Vec<_>>()).await
}

/// Puts the interfaces into the plan's groups. The VPC's row is this transaction's by now, so that nobody
/// deletes a group any more; one that was deleted since the plan was made is found missing here.
async fn join(txn: &DatabaseTransaction, plan: &LaunchPlan, new: &[New]) -> Result<()> {
    let ids: Vec<i64> = new.iter().map(|new| new.row.id.to_db()).collect();
    let wanted: Vec<i64> = plan.groups.iter().map(|group| group.id.to_db()).collect();
    let mut joined = 0;
    for ids in ids.chunks(1000) {
        let (one, all) = (interface::Column::Id, security_group::Column::Id);
        let mut members = Query::select();
        members
            .column((interface::Entity, one))
            .column((security_group::Entity, all))
            .from(interface::Entity)
            .from(security_group::Entity)
            .and_where(Expr::col((interface::Entity, one)).is_in(ids.iter().copied()))
            .and_where(Expr::col((security_group::Entity, all)).is_in(wanted.iter().copied()));
        let mut insert = Query::insert();
        insert
            .into_table(interface_group::Entity)
            .columns([
                interface_group::Column::Interface,
                interface_group::Column::SecurityGroup,
            ])
            .select_from(members)
            .map_err(|error| Error::internal(&error))?;
        joined += txn.execute(&insert).await.map_err(failed)?.rows_affected();
    }
    if joined == (ids.len() * wanted.len()) as u64 {
        return Ok(());
    }
    let named: Vec<_> = wanted.into_iter().map(SecurityGroupId::from_db).collect();
    let there = resource::list_all::<security_group::Entity>(txn, &plan.grant, &named).await?;
    let text = format!("{joined} members of {} groups", there.len());
    Err(Error::Internal(text))
}

fn views(spec: &LaunchSpec, plan: &LaunchPlan, new: Vec<New>) -> Result<Vec<InterfaceView>> {
    let groups: Vec<GroupRef> = plan.groups.iter().map(GroupRef::of).collect();
    let mut tags = spec.tags.network_interface.clone();
    tags.sort();
    let view = |New { row, private, public }| {
        let addresses = InterfaceAddresses {
            private,
            public,
            secondary: Vec::new(),
        };
        Ok(InterfaceView {
            groups: groups.clone(),
            tags: tags.clone(),
            ..InterfaceView::of(row, addresses)?
        })
    };
    new.into_iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumulet_backend::{api::instances::launch, test_support::cloud};

    #[tokio::test]
    async fn nothing_is_left_of_an_interface_whose_address_another_one_has() {
        let rig = cloud().await;
        launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
        let rows = || interface::Entity::find().all(rig.cloud.store.read());
        let before = rows().await.unwrap();
        let first = before[0].clone();
        let next = |id: i64| id + 1;
        let after = |address: Ipv4Addr| Ipv4Addr::from_bits(address.to_bits() + 1);
        let new = |private_ip: Ipv4Addr| New {
            row: interface::Model {
                id: Key::from_db(next(first.id.to_db())),
                attachment: Key::from_db(next(first.attachment.to_db())),
                mac: Ethernet(Mac([2, 0, 0, 0, 0, 1])),
                device_index: Count(1),
                // What a program of before `interface_addresses` goes by is free.
                private_ip: Ipv4(private_ip),
                public_ip: None,
                ..first.clone()
            },
            private: first.private_ip.0,
            public: None,
        };
        for (private_ip, why) in [
            (after(first.private_ip.0), "its address is taken"),
            (first.private_ip.0, "so is its interface's"),
        ] {
            let new = new(private_ip);
            let write = rig
                .cloud
                .store
                .write(move |txn| Box::pin(async move { insert(txn, std::slice::from_ref(&new)).await }));
            assert!(!write.await.unwrap(), "{why}");
            assert_eq!(rows().await.unwrap(), before, "{why}");
        }
    }
}
