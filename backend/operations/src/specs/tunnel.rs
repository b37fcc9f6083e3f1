//! Remote members of a VPC: what a host has to know of the instances on other hosts, for its tunnels.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use cumulet_domain::{
    Result,
    id::{HostId, marker::Vpc},
    network::{InterfacePolicy, TunnelPeer, TunnelPolicy},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use cumulet_store::{
    addresses, column,
    entity::{
        columns::{Count, Ipv4, Key},
        host, host_network, vpc,
    },
    first,
};

/// The VPC's other hosts with their instances, for a host that has a tunnel address, given the interfaces
/// that it has itself. Hosts without one can't be reached and are left out; an address that nobody has confirmed
/// is none.
pub async fn policy(
    conn: &impl ConnectionTrait,
    me: &HostId,
    vpc: &vpc::Model,
    here: &[InterfacePolicy],
) -> Result<Option<TunnelPolicy>> {
    let Some(Count(vni)) = vpc.vni else {
        return Ok(None);
    };
    let Some(Ipv4(mine)) = address_of(conn, me).await? else {
        return Ok(None);
    };
    // An instance that moves between two looks is where the first one saw it.
    let here: BTreeSet<Ipv4Addr> = here.iter().map(|interface| interface.private_ip).collect();
    let mut peers: BTreeMap<Ipv4Addr, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for (ip, host) in addresses::elsewhere(conn, &me.0, vpc.id.to_db()).await? {
        if host != mine && !here.contains(&ip) {
            peers.entry(host).or_default().insert(ip);
        }
    }
    let peers: Vec<_> = peers
        .into_iter()
        .map(|(host, addresses)| TunnelPeer {
            host,
            addresses: addresses.into_iter().collect(),
        })
        .collect();
    Ok((!peers.is_empty()).then_some(TunnelPolicy { vni, peers }))
}

async fn address_of(conn: &impl ConnectionTrait, id: &HostId) -> Result<Option<Ipv4>> {
    let query = host::Entity::find_by_id(id.0.as_str())
        .select_only()
        .column(host::Column::ConfirmedTunnel)
        .filter(host::Column::ConfirmedTunnel.is_not_null());
    first(query, conn).await
}

/// The VPCs whose hosts have to be told that a host's tunnels end elsewhere from now on.
pub async fn moved(
    conn: &impl ConnectionTrait,
    host: &HostId,
    before: Option<Ipv4>,
    address: Option<Ipv4>,
) -> Result<Vec<Key<Vpc>>> {
    if before == address {
        return Ok(Vec::new());
    }
    column(
        host_network::Entity::find()
            .select_only()
            .column(host_network::Column::Vpc)
            .filter(host_network::Column::Host.eq(host.0.as_str())),
        conn,
    )
    .await
}

/// Whether other hosts have to do with any of these VPCs.
pub async fn shared(conn: &impl ConnectionTrait, host: &str, vpcs: &[Key<Vpc>]) -> Result<bool> {
    let other = host_network::Entity::find()
        .select_only()
        .column(host_network::Column::Vpc)
        .filter(host_network::Column::Vpc.is_in(vpcs.iter().copied()))
        .filter(host_network::Column::Host.ne(host))
        .limit(1);
    Ok(first::<_, i64>(other, conn).await?.is_some())
}
