//! The default network of an account: a VPC, a subnet in each zone, a security group, laid out as EC2's.

use std::net::Ipv4Addr;

use cumulet_domain::{
    Error, Result,
    account::AccountId,
    id::{SecurityGroupId, VpcId, marker},
    network::{Cidr, Direction, Peer, Rule, Traffic},
    rng::SharedRng,
    time::Timestamp,
};
use cumulet_store::{
    entity::{
        columns::{Amount, Flag, Key, Named, Owner},
        security_group, subnet, vpc,
    },
    failed, groups, networks, rows,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

/// The block of a default VPC (VPC user guide, "Default VPC components").
fn block() -> Cidr {
    Cidr::new(Ipv4Addr::new(172, 31, 0, 0), 16)
}

/// The prefix of its subnets.
const SUBNET_PREFIX: u8 = 20;

/// Makes a default network.
///
/// # Errors
/// `Internal` when there are more zones than the block has subnets; those of the database.
pub async fn create(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    now: Timestamp,
    account: AccountId,
    zones: &[String],
) -> Result<VpcId> {
    let id = rng.id::<marker::Vpc>();
    let row = vpc::Model {
        id: Key(id),
        account: Owner(account),
        cidr: Named(block()),
        is_default: Flag(true),
        policy_generation: Amount(1),
        vni: Some(networks::free_vni(txn, rng).await?),
        created_at: now.0,
    };
    let insert = vpc::Entity::insert(vpc::ActiveModel::from(row));
    insert.exec_without_returning(txn).await.map_err(failed)?;
    default_group(txn, rng, now, account, id).await?;
    add_subnets(txn, rng, now, account, id, zones, 0).await?;
    Ok(id)
}

/// Adds a default subnet in each of `zones` that has none.
///
/// # Errors
/// Those of [`create`].
pub async fn add_zones(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    now: Timestamp,
    account: AccountId,
    zones: &[String],
) -> Result<()> {
    let vpcs = vpc::Entity::find()
        .filter(vpc::Column::Account.eq(account.to_db()))
        .filter(vpc::Column::IsDefault.eq(1));
    let Some(vpc) = rows::one(vpcs, txn).await? else {
        return Ok(());
    };
    let query = subnet::Entity::find().filter(subnet::Column::Vpc.eq(vpc.id));
    let subnets = rows::all(query, txn).await?;
    let new: Vec<String> = zones
        .iter()
        .filter(|zone| {
            !subnets
                .iter()
                .any(|s| s.is_default.0 && s.availability_zone == **zone)
        })
        .cloned()
        .collect();
    add_subnets(txn, rng, now, account, vpc.id.0, &new, subnets.len() as u64).await
}

async fn add_subnets(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    now: Timestamp,
    account: AccountId,
    vpc: VpcId,
    zones: &[String],
    first: u64,
) -> Result<()> {
    for (index, zone) in (first..).zip(zones) {
        let address = block().nth(index << (32 - SUBNET_PREFIX));
        let address = address.ok_or_else(|| Error::Internal("more zones than default subnets".into()))?;
        let row = subnet::Model {
            id: Key(rng.id::<marker::Subnet>()),
            account: Owner(account),
            vpc: Key(vpc),
            cidr: Named(Cidr::new(address, SUBNET_PREFIX)),
            availability_zone: zone.clone(),
            is_default: Flag(true),
            map_public_ip: Flag(true),
            created_at: now.0,
        };
        let insert = subnet::Entity::insert(subnet::ActiveModel::from(row));
        insert.exec_without_returning(txn).await.map_err(failed)?;
    }
    Ok(())
}

/// The group `default`: its members reach each other, and it reaches everything.
async fn default_group(
    txn: &impl ConnectionTrait,
    rng: &SharedRng,
    now: Timestamp,
    account: AccountId,
    vpc: VpcId,
) -> Result<SecurityGroupId> {
    let id = rng.id::<marker::SecurityGroup>();
    let row = security_group::Model {
        id: Key(id),
        account: Owner(account),
        vpc: Key(vpc),
        name: "default".into(),
        description: "default VPC security group".into(),
        is_default: Flag(true),
        created_at: now.0,
    };
    let insert = security_group::Entity::insert(security_group::ActiveModel::from(row));
    insert.exec_without_returning(txn).await.map_err(failed)?;
    let from_itself = Rule {
        direction: Direction::Ingress,
        traffic: Traffic::All,
        peer: Peer::Group(id),
    };
    for rule in [from_itself, egress_to_everywhere()] {
        let row = groups::rule_row(rng, now, account, id, rule, "")?;
        groups::insert_rules(txn, vec![row]).await?;
    }
    Ok(id)
}

/// What every new group has: its members reach everything.
pub fn egress_to_everywhere() -> Rule {
    Rule {
        direction: Direction::Egress,
        traffic: Traffic::All,
        peer: Peer::Cidr(Cidr::new(Ipv4Addr::UNSPECIFIED, 0)),
    }
}
