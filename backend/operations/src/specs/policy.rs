//! A VPC's policy on a host: all that the host enforces and serves there, made anew whenever something of it changes.
//! It has every interface that the VPC has on the host, so it is what grows.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use cumulet_domain::{
    Error, Result,
    id::{HostId, SecurityGroupId, VpcId},
    network::{GroupPolicy, InterfacePolicy, Peer, Rule, SubnetPolicy, VpcPolicy},
};
use cumulet_store::{
    addresses::{self, Served},
    batch::load_in,
    entity::{columns::Key, subnet, vpc},
    groups, rows,
};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseConnection, EntityTrait, QueryFilter, QueryOrder};
use tokio::sync::Mutex;

use super::tunnel;
use crate::boxed;

/// Policies, built once a round for each host and VPC.
#[derive(Default)]
pub struct Policies(Mutex<HashMap<(HostId, i64), Arc<VpcPolicy>>>);

impl Policies {
    /// A VPC's policy on a host, read once for all that ask.
    ///
    /// # Errors
    /// Those of the database; `Internal` where a row is damaged.
    #[boxed]
    pub async fn get(&self, conn: &DatabaseConnection, host: &HostId, vpc: i64) -> Result<Arc<VpcPolicy>> {
        // Held while building: others of the round want the same one. Placements of the round have all
        // committed or will push a newer policy.
        let mut built = self.0.lock().await;
        if let Some(policy) = built.get(&(host.clone(), vpc)) {
            return Ok(policy.clone());
        }
        let policy = Arc::new(policy(conn, host, vpc).await?);
        built.insert((host.clone(), vpc), policy.clone());
        Ok(policy)
    }
}

/// What a host has to enforce for a VPC now. The generation is read first: what changes meanwhile has a
/// higher one and is sent again.
pub async fn policy(conn: &impl ConnectionTrait, host: &HostId, id: i64) -> Result<VpcPolicy> {
    let row = rows::one(vpc::Entity::find_by_id(Key::from_db(id)), conn).await?;
    let row = row.ok_or_else(|| Error::Internal(format!("VPC {} is gone", VpcId::from_db(id))))?;
    let served = addresses::served(conn, &host.0, id).await?;
    let mut groups: HashMap<i64, Vec<SecurityGroupId>> = HashMap::with_capacity(served.len());
    let mut used = BTreeSet::new();
    for (interface, group) in addresses::served_groups(conn, &host.0, id).await? {
        let group = SecurityGroupId::from_db(group);
        used.insert(group);
        groups.entry(interface).or_default().push(group);
    }
    let subnets: BTreeSet<i64> = served.iter().map(|row| row.subnet.to_db()).collect();
    let subnets = subnet::Entity::find()
        .filter(subnet::Column::Id.is_in(subnets))
        .order_by_asc(subnet::Column::Id);
    let subnets = rows::all(subnets, conn).await?;
    let subnets = subnets
        .into_iter()
        .map(|row| SubnetPolicy {
            id: row.id.0,
            cidr: row.cidr.0,
        })
        .collect();
    let interfaces: Vec<_> = served
        .into_iter()
        .map(|row| {
            let groups = groups.remove(&row.id.to_db()).unwrap_or_default();
            interface_policy(row, groups)
        })
        .collect();
    let vpc = VpcId::from_db(id);
    Ok(VpcPolicy {
        vpc,
        generation: row.policy_generation.0,
        cidr: row.cidr.0,
        subnets,
        tunnel: tunnel::policy(conn, host, &row, &interfaces).await?,
        interfaces,
        groups: group_policies(conn, &used).await?,
    })
}

async fn group_policies(
    conn: &impl ConnectionTrait,
    used: &BTreeSet<SecurityGroupId>,
) -> Result<Vec<GroupPolicy>> {
    let ids: Vec<i64> = used.iter().map(|id| id.to_db()).collect();
    let mut rules: HashMap<i64, Vec<Rule>> = HashMap::new();
    for row in load_in!(conn, security_group_rule, SecurityGroup, &ids) {
        let rule = groups::rule_of(&row)?;
        rules.entry(row.security_group.to_db()).or_default().push(rule);
    }
    let peers: BTreeSet<SecurityGroupId> = rules
        .values()
        .flatten()
        .filter_map(|rule| match rule.peer {
            Peer::Group(id) => Some(id),
            Peer::Cidr(_) => None,
        })
        .collect();
    let mut policies = Vec::new();
    for id in used.union(&peers) {
        let mut rules = if used.contains(id) {
            rules.remove(&id.to_db()).unwrap_or_default()
        } else {
            Vec::new()
        };
        rules.sort();
        let members = if peers.contains(id) {
            addresses::of_members(conn, *id).await?
        } else {
            Vec::new()
        };
        policies.push(GroupPolicy {
            id: *id,
            rules,
            members,
        });
    }
    Ok(policies)
}

/// What a host serves of an interface.
pub(super) fn interface_policy(row: Served, mut groups: Vec<SecurityGroupId>) -> InterfacePolicy {
    groups.sort_unstable();
    InterfacePolicy {
        id: row.id,
        subnet: row.subnet,
        mac: row.mac,
        private_ip: row.private,
        public_ip: row.public,
        hostname: hostname(row.private),
        groups,
    }
}

/// The name that DHCP hands out: the first label of the private one.
fn hostname(ip: Ipv4Addr) -> String {
    format!("ip-{}", ip.to_string().replace('.', "-"))
}
