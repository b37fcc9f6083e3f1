//! Interfaces of new instances: an Ethernet address each, a private address chosen or asked for, a
//! public one where wanted and to be had. Unique keys make every address one interface's; a lost race is tried
//! anew.

use std::net::Ipv4Addr;

use cumulet_domain::{
    Error, Result,
    account::AccountId,
    id::{NetworkInterfaceId, SecurityGroupId, marker},
    network::Mac,
    time::Timestamp,
};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait, TransactionTrait,
    sea_query::{Expr, Query},
};

use super::{
    GroupRef, InterfaceView, LaunchSpec,
    launch_plan::{LaunchPlan, subnet_id},
    public_addresses::{self, Draw},
};
use crate::{
    api::{Cloud, accounts::Claim},
    entity::{instance, interface, interface_group, security_group},
    store::{failed, groups, is_taken, networks},
};

/// Tries before a launch gives up on addresses that others keep taking. One is enough with one writer. At the
/// last, who has not asked for public ones does without.
const TRIES: usize = 5;

/// Gives each instance its interface, in the instances' order. Those that get no public address, where they
/// would have had one, say why.
pub(super) async fn attach(
    txn: &DatabaseTransaction,
    cloud: &Cloud,
    spec: &LaunchSpec,
    plan: &LaunchPlan,
    claim: Claim,
    instances: &mut [instance::Model],
    now: Timestamp,
) -> Result<Vec<InterfaceView>> {
    for left in (0..TRIES).rev() {
        let public = if left == 0 && !public_addresses::is_asked_for(spec) && plan.public {
            Draw::none(instances.len())
        } else {
            public(txn, cloud, spec, plan, claim).await?
        };
        let rows = choose(txn, cloud, spec, plan, instances, &public.addresses, now).await?;
        if insert(txn, &rows).await? {
            if let Some(shortage) = public.shortage {
                public_addresses::explain(txn, instances, public.addresses.len(), shortage).await?;
            }
            groups::bump_policy(txn, [plan.subnet.vpc]).await?;
            join(txn, plan, &rows).await?;
            return Ok(views(spec, plan, rows));
        }
        // It may also be a public address that another launch has drawn at the same time.
        if let Some(address) = spec.private_ip
            && networks::is_taken(txn, plan.subnet.vpc, address).await?
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

/// The public addresses of a launch's instances.
async fn public(
    txn: &DatabaseTransaction,
    cloud: &Cloud,
    spec: &LaunchSpec,
    plan: &LaunchPlan,
    claim: Claim,
) -> Result<Draw> {
    if !plan.public {
        return Ok(Draw::default());
    }
    let account = AccountId::from_db(plan.subnet.account);
    let count = usize::try_from(claim.count).unwrap_or(0);
    let draw = public_addresses::draw(txn, cloud, account, count, claim.few).await?;
    match draw.shortage {
        Some(shortage) if public_addresses::is_asked_for(spec) => Err(shortage.error()),
        _ => Ok(draw),
    }
}

async fn choose(
    txn: &DatabaseTransaction,
    cloud: &Cloud,
    spec: &LaunchSpec,
    plan: &LaunchPlan,
    instances: &[instance::Model],
    public: &[i64],
    now: Timestamp,
) -> Result<Vec<interface::Model>> {
    let count = instances.len();
    let rng = &cloud.rng;
    let private = match spec.private_ip {
        Some(address) => vec![i64::from(u32::from(address))],
        None => networks::free_private(txn, rng, plan.subnet.vpc, subnet_id(plan), plan.cidr, count).await?,
    };
    let rows = instances
        .iter()
        .zip(private)
        .enumerate()
        .map(|(i, (instance, private_ip))| {
            let id = rng.id::<marker::NetworkInterface>();
            interface::Model {
                id: id.to_db(),
                account: instance.account,
                instance: instance.id,
                device_index: 0,
                attachment: rng.id::<marker::InterfaceAttachment>().to_db(),
                vpc: instance.vpc,
                subnet: instance.subnet,
                mac: mac_number(Mac::of(id)),
                private_ip,
                public_ip: public.get(i).copied(),
                description: spec.interface_description.clone(),
                created_at: now.0,
            }
        });
    Ok(rows.collect())
}

/// Adds the rows, in a savepoint of their own; `false` when one of their addresses is taken.
async fn insert(txn: &DatabaseTransaction, rows: &[interface::Model]) -> Result<bool> {
    let savepoint = txn.begin().await.map_err(failed)?;
    for rows in rows.chunks(1000) {
        let rows = rows.iter().cloned().map(interface::ActiveModel::from);
        match interface::Entity::insert_many(rows)
            .exec_without_returning(&savepoint)
            .await
        {
            Ok(_) => {}
            Err(error) if is_taken(&error) => {
                savepoint.rollback().await.map_err(failed)?;
                return Ok(false);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    savepoint.commit().await.map_err(failed)?;
    Ok(true)
}

/// Puts the interfaces into the plan's groups. The VPC's row is this transaction's by now, so that nobody
/// deletes a group any more; one that was deleted since the plan was made is found missing here.
async fn join(txn: &DatabaseTransaction, plan: &LaunchPlan, rows: &[interface::Model]) -> Result<()> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let wanted: Vec<i64> = plan.groups.iter().map(|group| group.id).collect();
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
    let there = groups::by_ids(txn, AccountId::from_db(plan.subnet.account), &named).await?;
    let text = format!("{joined} members of {} groups", there.len());
    Err(Error::Internal(text))
}

fn views(spec: &LaunchSpec, plan: &LaunchPlan, rows: Vec<interface::Model>) -> Vec<InterfaceView> {
    let groups: Vec<GroupRef> = plan.groups.iter().map(GroupRef::of).collect();
    let mut tags = spec.tags.network_interface.clone();
    tags.sort();
    let view = |row| InterfaceView {
        row,
        groups: groups.clone(),
        tags: tags.clone(),
    };
    rows.into_iter().map(view).collect()
}

/// An Ethernet address as the database keeps it: 48 bits.
pub(super) fn mac_number(mac: Mac) -> i64 {
    mac.0
        .iter()
        .fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

/// The inverse of [`mac_number`].
pub(super) fn mac_of(number: i64) -> Mac {
    let [_, _, a, b, c, d, e, f] = number.to_be_bytes();
    Mac([a, b, c, d, e, f])
}

/// An address of a row.
pub(super) fn ipv4(number: i64) -> Ipv4Addr {
    Ipv4Addr::from(u32::try_from(number).unwrap_or(0))
}

/// An interface's id.
pub(super) fn interface_id(row: &interface::Model) -> NetworkInterfaceId {
    NetworkInterfaceId::from_db(row.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_lead_back() {
        let mac: Mac = "02:16:ff:02:03:04".parse().unwrap();
        assert_eq!(mac_of(mac_number(mac)), mac);
        assert_eq!(mac_number(mac), 0x0216_ff02_0304);
    }
}
