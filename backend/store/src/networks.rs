//! VPCs, subnets and the addresses in them.

use std::{collections::HashSet, net::Ipv4Addr};

use cumulet_domain::{Error, Result, id::SubnetId, network::Cidr, rng::SharedRng};
use rand::RngExt as _;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, FromQueryResult, QueryFilter,
    QuerySelect, QueryTrait, sea_query::SimpleExpr,
};

use super::{resource, rows};
use crate::{
    authority::Authority,
    entity::{
        columns::{Address, Count},
        interface, interface_address, subnet, vpc,
    },
};

/// Addresses at the start of a subnet that nobody gets: network, gateway, and two kept as on EC2.
const RESERVED: u64 = 4;

/// The account's default VPC, if it has one.
///
/// # Errors
/// Those of the database.
pub async fn default_vpc(conn: &impl ConnectionTrait, by: &dyn Authority) -> Result<Option<vpc::Model>> {
    let query = vpc::Entity::find().filter(is_default_vpc(by)).limit(1);
    Ok(rows::all(query, conn).await?.pop())
}

/// The condition on the account's default VPC.
pub fn is_default_vpc(by: &dyn Authority) -> Condition {
    resource::sight::<vpc::Entity>(by).add(vpc::Column::IsDefault.eq(1))
}

/// The default subnet of the account's default VPC in a zone, or in the first zone that has one.
///
/// # Errors
/// `Unauthorized` where the policy refuses it; those of the database.
pub async fn default_subnet(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    zone: Option<&str>,
) -> Result<Option<subnet::Model>> {
    let default = vpc::Entity::find()
        .select_only()
        .column(vpc::Column::Id)
        .filter(is_default_vpc(by));
    let query = subnet::Entity::find()
        .filter(subnet::Column::Vpc.in_subquery(default.into_query()))
        .filter(subnet::Column::IsDefault.eq(1));
    let mut rows = rows::all(query, conn).await?;
    rows.retain(|row| zone.is_none_or(|zone| row.availability_zone == zone));
    rows.sort_by(|a, b| a.availability_zone.cmp(&b.availability_zone));
    rows.truncate(1);
    resource::show::<subnet::Entity>(conn, by, &rows).await?;
    Ok(rows.pop())
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
#[inline]
pub fn is_usable(cidr: Cidr, address: Ipv4Addr) -> bool {
    let offset = u64::from(u32::from(address)).wrapping_sub(u64::from(u32::from(cidr.network())));
    cidr.contains(address) && offset >= RESERVED && offset < cidr.size() - 1
}

/// Addresses that are wanted of a block.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The subnet's block, or the pool of public addresses.
    pub block: Cidr,
    /// How many.
    pub count: usize,
}

/// Free private addresses of a subnet, and public ones of the pool, chosen at random: as many as are wanted, or all
/// that there are. (What has been given out since by others, or by a program of before these rows, the unique keys
/// refuse.)
///
/// # Errors
/// Those of the database.
pub async fn free(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    (subnet, private): (SubnetId, Wanted),
    public: Wanted,
) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Addr>)> {
    use interface_address::Column as A;
    let in_subnet = A::Subnet.eq(subnet.to_db());
    let usable = (RESERVED, private.block.size().saturating_sub(1));
    let private = Guess::new(rng, private, usable);
    let public = Guess::new(rng, public, public_range(public.block));
    // One look at both.
    let guessed = [
        private.among(A::Address).map(|any| in_subnet.clone().and(any)),
        public.among(A::PublicAddress),
    ];
    let given = match guessed.into_iter().flatten().reduce(ExprTrait::or) {
        Some(which) => given(txn, which).await?,
        None => Vec::new(),
    };
    let here = given.iter().filter(|one| one.subnet == subnet.to_db());
    let here = here.filter_map(|one| one.address.v4()).collect();
    let anywhere = given.iter().filter_map(|one| one.public_address?.v4()).collect();
    let private = private.settle(txn, rng, here, (A::Address, in_subnet)).await?;
    let any = A::PublicAddress.is_not_null();
    let public = public.settle(txn, rng, anywhere, (A::PublicAddress, any)).await?;
    Ok((private, public))
}

/// The private addresses that were found in a subnet, where they are enough.
///
/// # Errors
/// `InsufficientAddresses`.
pub fn enough(found: Vec<Ipv4Addr>, subnet: SubnetId, wanted: usize) -> Result<Vec<Ipv4Addr>> {
    if found.len() < wanted {
        return Err(Error::InsufficientAddresses {
            subnet: subnet.to_string(),
            free: found.len() as u64,
            wanted: wanted as u64,
        });
    }
    Ok(found)
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
    Ok(super::first::<_, i64>(earlier, txn).await?.is_some())
}

/// A number for a VPC's tunnels that no other has: 24 bits, never 0. Chosen at random, so that two clouds
/// on the same wires seldom meet. The unique key has the last word.
///
/// # Errors
/// `Internal` when no free one is found; those of the database.
pub async fn free_vni(txn: &impl ConnectionTrait, rng: &SharedRng) -> Result<Count> {
    for _ in 0..16 {
        let guesses: Vec<Count> =
            rng.with(|rng| (0..8).map(|_| Count(rng.random_range(1..1 << 24))).collect());
        let query = vpc::Entity::find()
            .select_only()
            .column(vpc::Column::Vni)
            .filter(vpc::Column::Vni.is_in(guesses.iter().copied()));
        let taken: Vec<Count> = super::column(query, txn).await?;
        if let Some(free) = guesses.into_iter().find(|vni| !taken.contains(vni)) {
            return Ok(free);
        }
    }
    Err(Error::Internal("no number is left for a VPC's tunnels".into()))
}

/// Where addresses are unique: the column, and which rows.
type Scope = (interface_address::Column, SimpleExpr);

/// Guesses at free addresses, which is cheap while there is room.
struct Guess {
    wanted: Wanted,
    /// The first place of the block, and the one after the last.
    places: (u64, u64),
    guesses: Vec<Ipv4Addr>,
}

impl Guess {
    fn new(rng: &SharedRng, wanted: Wanted, (first, end): (u64, u64)) -> Self {
        let count = match wanted.count {
            0 => 0,
            _ if first >= end => 0,
            some => (some * 2 + 6).next_power_of_two().min(4096),
        };
        let guess = |place| nth(wanted.block, place);
        let guesses = rng.with(|rng| (0..count).map(|_| guess(rng.random_range(first..end))).collect());
        Guess {
            wanted,
            places: (first, end),
            guesses,
        }
    }

    /// That a column has one of them, if there are any.
    fn among(&self, column: interface_address::Column) -> Option<SimpleExpr> {
        let guesses = self.guesses.iter().copied().map(Address::from);
        (!self.guesses.is_empty()).then(|| column.is_in(guesses))
    }

    /// Those that are not taken; where they are too few, any of the block.
    async fn settle(
        self,
        txn: &impl ConnectionTrait,
        rng: &SharedRng,
        taken: HashSet<Ipv4Addr>,
        scope: Scope,
    ) -> Result<Vec<Ipv4Addr>> {
        let (wanted, mut seen) = (self.wanted.count, taken);
        let fresh = self
            .guesses
            .iter()
            .copied()
            .filter(|address| seen.insert(*address));
        let found: Vec<Ipv4Addr> = fresh.take(wanted).collect();
        if found.len() == wanted || self.guesses.is_empty() {
            return Ok(found);
        }
        let (block, (first, end)) = (self.wanted.block, self.places);
        let between = (Address::from(nth(block, first)), Address::from(nth(block, end)));
        let all = self::taken(txn, &scope, scope.0.between(between.0, between.1)).await?;
        let places = (first..end).map(|place| nth(block, place));
        let mut left: Vec<Ipv4Addr> = places.filter(|a| !all.contains(a)).collect();
        rng.with(|rng| {
            for i in 0..left.len().min(wanted) {
                let j = rng.random_range(i..left.len());
                left.swap(i, j);
            }
        });
        left.truncate(wanted);
        Ok(left)
    }
}

fn nth(block: Cidr, place: u64) -> Ipv4Addr {
    block.nth(place).unwrap_or(block.network())
}

/// Addresses that are given out.
#[derive(FromQueryResult)]
struct Given {
    subnet: i64,
    address: Address,
    public_address: Option<Address>,
}

async fn given(txn: &impl ConnectionTrait, which: SimpleExpr) -> Result<Vec<Given>> {
    use interface_address::Column as A;
    let query = interface_address::Entity::find()
        .select_only()
        .columns([A::Subnet, A::Address, A::PublicAddress])
        .filter(which);
    rows::selected(query, txn).await
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
