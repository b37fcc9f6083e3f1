//! VPCs, subnets and the addresses in them.

use std::{collections::HashSet, net::Ipv4Addr};

use cumulet_domain::{Error, ResourceKind, Result, account::AccountId, id::SubnetId, network::Cidr};
use rand::RngExt as _;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use super::failed;
use crate::{
    api::SharedRng,
    entity::{interface, subnet, vpc},
};

/// Addresses at the start of a subnet that nobody gets: network, gateway, and two kept as on EC2.
const RESERVED: u64 = 4;

/// The account's default VPC, if it has one.
///
/// # Errors
/// Those of the database.
pub async fn default_vpc(conn: &impl ConnectionTrait, account: AccountId) -> Result<Option<vpc::Model>> {
    let query = vpc::Entity::find()
        .filter(vpc::Column::Account.eq(account.to_db()))
        .filter(vpc::Column::IsDefault.eq(1));
    query.one(conn).await.map_err(failed)
}

/// A subnet of the account.
///
/// # Errors
/// `NotFound`.
pub async fn subnet(conn: &impl ConnectionTrait, account: AccountId, id: SubnetId) -> Result<subnet::Model> {
    let query = subnet::Entity::find_by_id(id.to_db()).filter(subnet::Column::Account.eq(account.to_db()));
    let row = query.one(conn).await.map_err(failed)?;
    row.ok_or_else(|| Error::NotFound {
        kind: ResourceKind::Subnet,
        id: id.to_string(),
    })
}

/// The default subnet of the account's default VPC in a zone, or in the first zone that has one.
///
/// # Errors
/// Those of the database.
pub async fn default_subnet(
    conn: &impl ConnectionTrait,
    account: AccountId,
    zone: Option<&str>,
) -> Result<Option<subnet::Model>> {
    let default = vpc::Entity::find()
        .select_only()
        .column(vpc::Column::Id)
        .filter(vpc::Column::Account.eq(account.to_db()))
        .filter(vpc::Column::IsDefault.eq(1));
    let query = subnet::Entity::find()
        .filter(subnet::Column::Vpc.in_subquery(default.into_query()))
        .filter(subnet::Column::IsDefault.eq(1));
    let mut rows = query.all(conn).await.map_err(failed)?;
    rows.retain(|row| zone.is_none_or(|zone| row.availability_zone == zone));
    Ok(rows
        .into_iter()
        .min_by(|a, b| a.availability_zone.cmp(&b.availability_zone)))
}

/// How many addresses of a subnet can be given out in all.
pub fn usable(cidr: Cidr) -> u64 {
    cidr.size().saturating_sub(RESERVED + 1)
}

/// The places in the pool of the public addresses that are given out: the first address is the network's, the
/// second the host's own, and the last for everybody.
fn public_range(pool: Cidr) -> (u64, u64) {
    (2, pool.size().saturating_sub(1))
}

/// How many public addresses of a pool can be given out in all.
pub fn usable_public(pool: Cidr) -> u64 {
    let (first, end) = public_range(pool);
    end.saturating_sub(first)
}

/// Whether an address of a subnet can be given out.
pub fn is_usable(cidr: Cidr, address: Ipv4Addr) -> bool {
    let offset = u64::from(u32::from(address)).wrapping_sub(u64::from(u32::from(cidr.network())));
    cidr.contains(address) && offset >= RESERVED && offset < cidr.size() - 1
}

/// Free private addresses of a subnet, chosen at random.
///
/// # Errors
/// `InsufficientAddresses`.
pub async fn free_private(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    vpc: i64,
    subnet: SubnetId,
    cidr: Cidr,
    wanted: usize,
) -> Result<Vec<i64>> {
    let in_vpc = interface::Column::Vpc.eq(vpc);
    let column = interface::Column::PrivateIp;
    let range = (RESERVED, cidr.size().saturating_sub(1));
    let found = free(txn, rng, column, in_vpc, cidr, range, wanted).await?;
    enough(found, &subnet.to_string(), wanted)
}

/// Free public addresses of the pool, chosen at random: as many as are wanted, or all that there are.
///
/// # Errors
/// Those of the database.
pub async fn free_public(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    pool: Cidr,
    wanted: usize,
) -> Result<Vec<i64>> {
    let column = interface::Column::PublicIp;
    free(
        txn,
        rng,
        column,
        column.is_not_null(),
        pool,
        public_range(pool),
        wanted,
    )
    .await
}

/// Whether an interface of a VPC has a private address.
///
/// # Errors
/// Those of the database.
pub async fn is_taken(txn: &impl ConnectionTrait, vpc: i64, address: Ipv4Addr) -> Result<bool> {
    let column = interface::Column::PrivateIp;
    let same = column.eq(i64::from(u32::from(address)));
    let taken = taken(txn, column, interface::Column::Vpc.eq(vpc), same).await?;
    Ok(!taken.is_empty())
}

/// A number for a VPC's tunnels that no other has: 24 bits, never 0. Chosen at random, so that two clouds
/// on the same wires seldom meet. The unique key has the last word.
///
/// # Errors
/// `Internal` when no free one is found; those of the database.
pub async fn free_vni(txn: &impl ConnectionTrait, rng: &SharedRng) -> Result<i64> {
    for _ in 0..16 {
        let guesses: Vec<i64> = rng.with(|rng| (0..8).map(|_| rng.random_range(1..1 << 24)).collect());
        let query = vpc::Entity::find()
            .select_only()
            .column(vpc::Column::Vni)
            .filter(vpc::Column::Vni.is_in(guesses.iter().copied()));
        let taken: Vec<i64> = super::column(query, txn).await?;
        if let Some(free) = guesses.into_iter().find(|vni| !taken.contains(vni)) {
            return Ok(free);
        }
    }
    Err(Error::Internal("no number is left for a VPC's tunnels".into()))
}

fn enough(found: Vec<i64>, place: &str, wanted: usize) -> Result<Vec<i64>> {
    if found.len() < wanted {
        return Err(Error::InsufficientAddresses {
            subnet: place.into(),
            free: found.len() as u64,
            wanted: wanted as u64,
        });
    }
    Ok(found)
}

/// Guesses first, which is cheap while there is room; reads all that are taken when guessing fails.
async fn free(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    column: interface::Column,
    scope: sea_orm::sea_query::SimpleExpr,
    block: Cidr,
    (first, end): (u64, u64),
    wanted: usize,
) -> Result<Vec<i64>> {
    if first >= end || wanted == 0 {
        return Ok(Vec::new());
    }
    let base = i64::from(u32::from(block.network()));
    let offset = |n: u64| base + n.cast_signed();
    let guesses = (wanted * 2 + 6).next_power_of_two().min(4096);
    let guesses: Vec<i64> = rng.with(|rng| {
        (0..guesses)
            .map(|_| offset(rng.random_range(first..end)))
            .collect()
    });
    let taken = taken(txn, column, scope.clone(), column.is_in(guesses.iter().copied())).await?;
    let mut seen = HashSet::new();
    let mut found: Vec<i64> = guesses
        .into_iter()
        .filter(|a| !taken.contains(a) && seen.insert(*a))
        .take(wanted)
        .collect();
    if found.len() < wanted {
        let all = self::taken(txn, column, scope, column.between(offset(first), offset(end))).await?;
        let mut left: Vec<i64> = (first..end).map(offset).filter(|a| !all.contains(a)).collect();
        rng.with(|rng| {
            for i in 0..left.len().min(wanted) {
                let j = rng.random_range(i..left.len());
                left.swap(i, j);
            }
        });
        left.truncate(wanted);
        found = left;
    }
    Ok(found)
}

async fn taken(
    txn: &impl ConnectionTrait,
    column: interface::Column,
    scope: sea_orm::sea_query::SimpleExpr,
    which: sea_orm::sea_query::SimpleExpr,
) -> Result<HashSet<i64>> {
    let query = interface::Entity::find()
        .select_only()
        .column(column)
        .filter(scope)
        .filter(which);
    let rows: Vec<i64> = super::column(query, txn).await?;
    Ok(rows.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_four_and_the_last_address_are_not_given_out() {
        let cidr: Cidr = "10.0.0.16/28".parse().unwrap();
        assert_eq!(usable(cidr), 11);
        let count = (0..64)
            .filter(|n| is_usable(cidr, Ipv4Addr::new(10, 0, 0, *n)))
            .count();
        assert_eq!(count, 11);
        for (last, ok) in [
            (15, false),
            (16, false),
            (19, false),
            (20, true),
            (30, true),
            (31, false),
        ] {
            assert_eq!(is_usable(cidr, Ipv4Addr::new(10, 0, 0, last)), ok, "{last}");
        }
    }
}
