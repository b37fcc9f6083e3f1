//! VPCs, subnets and the addresses in them.

use std::{collections::HashSet, net::Ipv4Addr};

use cumulet_domain::{
    Error, ResourceKind, Result, account::AccountId, id::SubnetId, network::Cidr, rng::SharedRng,
};
use rand::RngExt as _;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, QueryTrait,
    sea_query::SimpleExpr,
};

use super::{failed, rows};
use crate::entity::{columns::Address, interface, interface_address, subnet, vpc};

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
    subnet: SubnetId,
    cidr: Cidr,
    wanted: usize,
) -> Result<Vec<Ipv4Addr>> {
    let column = interface_address::Column::Address;
    let in_subnet = interface_address::Column::Subnet.eq(subnet.to_db());
    let range = (RESERVED, cidr.size().saturating_sub(1));
    let found = free(txn, rng, (column, in_subnet), cidr, range, wanted).await?;
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
) -> Result<Vec<Ipv4Addr>> {
    let column = interface_address::Column::PublicAddress;
    let any = column.is_not_null();
    free(txn, rng, (column, any), pool, public_range(pool), wanted).await
}

/// Whether an interface of a VPC has a private address.
///
/// # Errors
/// Those of the database.
pub async fn is_taken(txn: &impl ConnectionTrait, subnet: &subnet::Model, address: Ipv4Addr) -> Result<bool> {
    let column = interface_address::Column::Address;
    let in_subnet = interface_address::Column::Subnet.eq(subnet.id);
    let taken = taken(txn, &(column, in_subnet), column.eq(Address::from(address))).await?;
    if !taken.is_empty() {
        return Ok(true);
    }
    // One that a program of before `interface_addresses` has given out, beside this one.
    let earlier = interface::Entity::find()
        .select_only()
        .column(interface::Column::Id)
        .filter(interface::Column::Vpc.eq(subnet.vpc))
        .filter(interface::Column::PrivateIp.eq(i64::from(u32::from(address))));
    Ok(super::first(earlier, txn).await?.is_some())
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

fn enough(found: Vec<Ipv4Addr>, place: &str, wanted: usize) -> Result<Vec<Ipv4Addr>> {
    if found.len() < wanted {
        return Err(Error::InsufficientAddresses {
            subnet: place.into(),
            free: found.len() as u64,
            wanted: wanted as u64,
        });
    }
    Ok(found)
}

/// Where addresses are unique: the column, and which rows.
type Scope = (interface_address::Column, SimpleExpr);

/// Guesses first, which is cheap while there is room; reads all that are taken when guessing fails. (What has been
/// given out since by others, or by a program of before these rows, the unique keys refuse.)
async fn free(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    scope: Scope,
    block: Cidr,
    (first, end): (u64, u64),
    wanted: usize,
) -> Result<Vec<Ipv4Addr>> {
    if first >= end || wanted == 0 {
        return Ok(Vec::new());
    }
    let nth = |offset: u64| block.nth(offset).unwrap_or(block.network());
    let guesses = (wanted * 2 + 6).next_power_of_two().min(4096);
    let guesses: Vec<Ipv4Addr> =
        rng.with(|rng| (0..guesses).map(|_| nth(rng.random_range(first..end))).collect());
    let column = scope.0;
    let guessed = column.is_in(guesses.iter().copied().map(Address::from));
    let taken = taken(txn, &scope, guessed).await?;
    let mut seen = HashSet::new();
    let mut found: Vec<Ipv4Addr> = guesses
        .into_iter()
        .filter(|a| !taken.contains(a) && seen.insert(*a))
        .take(wanted)
        .collect();
    if found.len() < wanted {
        let between = column.between(Address::from(nth(first)), Address::from(nth(end)));
        let all = self::taken(txn, &scope, between).await?;
        let mut left: Vec<Ipv4Addr> = (first..end).map(nth).filter(|a| !all.contains(a)).collect();
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

#[derive(FromQueryResult)]
struct Taken {
    taken: Address,
}

async fn taken(
    txn: &impl ConnectionTrait,
    (column, scope): &Scope,
    which: SimpleExpr,
) -> Result<HashSet<Ipv4Addr>> {
    let query = interface_address::Entity::find()
        .select_only()
        .column_as(*column, "taken")
        .filter(scope.clone())
        .filter(which);
    let rows: Vec<Taken> = rows::selected(query, txn).await?;
    Ok(rows.into_iter().filter_map(|row| row.taken.v4()).collect())
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
