//! Confirmation of a host's addresses: what a host tells of itself leads nobody anywhere before the operator has said
//! that it is so. Tunnels of other hosts, and tokens of consoles, go by what is confirmed.

use std::net::Ipv4Addr;

use cumulet_core::Parts;
use cumulet_domain::{
    Error, Result,
    host_address::{check_console_address, check_tunnel_address, is_console_syntax},
    id::HostId,
};
use cumulet_store::{
    Invalidates, column,
    entity::{columns::Ipv4, host, host_network},
    failed, groups, rows,
    tunnels::unconfirmed,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QuerySelect,
};

use crate::{boxed, hosts::list::locked};

/// The addresses that the operator gives; what is not given is taken as the host tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Where its tunnels end.
    pub tunnel: Option<Ipv4Addr>,
    /// Where it takes console connections. The operator's own word may be a loopback address: console process and
    /// host may be on one machine.
    pub console: Option<String>,
}

/// The addresses that count from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Where its tunnels end; `None`: it has none.
    pub tunnel: Option<Ipv4Addr>,
    /// Where it takes console connections; `None`: nowhere.
    pub console: Option<String>,
}

/// Confirms a host's addresses: those that are given, or else those that it tells.
///
/// # Errors
/// `InvalidParameter` for an unknown host, an address that can't be a host's, or one that is another host's.
#[boxed]
pub async fn confirm(parts: &Parts, id: &HostId, given: Given) -> Result<Confirmed> {
    let id = id.clone();
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move { confirm_in(txn, &id, given).await })
    });
    write.await
}

async fn confirm_in(conn: &impl ConnectionTrait, id: &HostId, given: Given) -> Result<Confirmed> {
    let row = locked(conn, id).await?;
    if let Some(text) = &given.console {
        is_console_syntax(text).map_err(|why| Error::invalid("ConsoleAddress", text, why))?;
    }
    let tunnel = match given.tunnel {
        None => row.tunnel_address.map(|told| told.0),
        given => given,
    };
    if let Some(address) = tunnel {
        let text = address.to_string();
        check_tunnel_address(address).map_err(|why| Error::invalid("TunnelAddress", &text, why))?;
    }
    let told = row.console_address.clone();
    if let (None, Some(text)) = (&given.console, &told) {
        check_console_address(text).map_err(|why| Error::invalid("ConsoleAddress", text, why))?;
    }
    let console = given.console.or(told);
    only_its(conn, id, tunnel, console.as_deref()).await?;
    let number = tunnel.map(Ipv4);
    let moved = row.confirmed_tunnel != number;
    let ours = unconfirmed(id, row.tunnel_address, row.confirmed_tunnel).map(|why| why.reason);
    let still = unconfirmed(id, row.tunnel_address, number);
    let not_ready = row.not_ready_reason.clone();
    let mut change = row.into_active_model();
    change.confirmed_tunnel = Set(number);
    change.confirmed_console = Set(console.clone());
    if not_ready.is_some() && not_ready == ours {
        // The next heartbeat would say the same.
        change.not_ready_reason = Set(still.as_ref().map(|why| why.reason.clone()));
        change.not_ready_cure = Set(still.and_then(|why| why.cure));
    }
    change.update(conn).await.map_err(failed)?;
    if moved {
        let vpcs = host_network::Entity::find()
            .select_only()
            .column(host_network::Column::Vpc)
            .filter(host_network::Column::Host.eq(id.0.as_str()));
        groups::bump_policy(conn, column(vpcs, conn).await?).await?;
    }
    Ok(Confirmed { tunnel, console })
}

/// That no other host has one of the addresses. (Two that are confirmed at the same time meet the unique key.)
async fn only_its(
    conn: &impl ConnectionTrait,
    id: &HostId,
    tunnel: Option<Ipv4Addr>,
    console: Option<&str>,
) -> Result<()> {
    use host::Column as C;
    let number = tunnel.map(Ipv4);
    let tunnel = tunnel.map(|address| address.to_string());
    // In one process with the console role they are told apart by the process.
    let console = console.filter(|text| *text != cumulet_domain::console::IN_PROCESS);
    let same = [
        ("TunnelAddress", tunnel.as_deref(), C::ConfirmedTunnel.eq(number)),
        ("ConsoleAddress", console, C::ConfirmedConsole.eq(console)),
    ];
    for (what, value, taken) in same {
        let Some(value) = value else { continue };
        let other = host::Entity::find().filter(taken).filter(C::Id.ne(id.0.as_str()));
        if let Some(other) = rows::one(other, conn).await? {
            let reason = format!("it is that of the host {}", other.id);
            return Err(Error::invalid(what, value, reason));
        }
    }
    Ok(())
}
