//! Confirmation of a host's addresses: what a host tells of itself leads nobody anywhere before the operator has said
//! that it is so. Tunnels of other hosts, and tokens of consoles, go by what is confirmed.

use std::net::Ipv4Addr;

use cumulet_domain::{
    Error, Result,
    host::{NotReady, SIMULATED},
    host_address::{check_console_address, check_tunnel_address, is_console_syntax},
    id::HostId,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait,
    IntoActiveModel, QueryFilter, QuerySelect,
};

use super::list::locked;
use crate::{
    api::Parts,
    boxed,
    entity::{host, host_network},
    store::{Invalidates, column, failed, first, groups},
};

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

/// What is the matter with a host whose tunnels would end elsewhere than where others send to: it takes no launches.
pub fn unconfirmed(id: &HostId, told: Option<i64>, confirmed: Option<i64>) -> Option<NotReady> {
    let reason = match (told, confirmed) {
        _ if told == confirmed => return None,
        (None, _) => "it tells no tunnel address, and has a confirmed one",
        (Some(_), None) => "its tunnel address is not confirmed",
        (Some(_), Some(_)) => "its tunnel address is not the confirmed one",
    };
    Some(NotReady {
        reason: reason.into(),
        cure: Some(format!(
            "compare the addresses in `cumulet admin host show {id}` with the host's own, then \
             `cumulet admin host confirm {id}`"
        )),
    })
}

/// What is the matter with a host that has no tunnel address in a cloud that has other hosts: its instances would not
/// reach those of their VPC elsewhere. The cloud's first host needs none before another one has: it goes on alone until
/// then.
pub fn untunnelled(id: &HostId) -> NotReady {
    NotReady {
        reason: "it has no tunnel address, and the cloud has other hosts".into(),
        cure: Some(format!(
            "set `network.tunnel_address` there to an address that the other hosts reach, then \
             `cumulet admin host confirm {id}`"
        )),
    }
}

/// Whether the cloud has hosts to which this one, known since then, would need tunnels.
pub async fn has_others(conn: &impl ConnectionTrait, id: &HostId, since: Option<i64>) -> Result<bool> {
    use host::Column as C;
    let mut needing = Condition::any().add(C::ConfirmedTunnel.is_not_null());
    needing = match since {
        None => needing.add(C::CreatedAt.is_not_null()),
        // Of two that have come at once the names decide.
        Some(since) => needing.add(C::CreatedAt.lt(since)).add(
            Condition::all()
                .add(C::CreatedAt.eq(since))
                .add(C::Id.lt(id.0.as_str())),
        ),
    };
    let query = host::Entity::find()
        .select_only()
        .column(C::CreatedAt)
        .filter(C::Id.ne(id.0.as_str()))
        .filter(C::Hypervisor.ne(SIMULATED))
        .filter(needing)
        .limit(1);
    Ok(first(query, conn).await?.is_some())
}

/// An address of a row.
pub fn tunnel_of(number: Option<i64>) -> Option<Ipv4Addr> {
    number
        .and_then(|number| u32::try_from(number).ok())
        .map(Ipv4Addr::from)
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
    let tunnel = given.tunnel.or_else(|| tunnel_of(row.tunnel_address));
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
    let number = tunnel.map(|address| i64::from(u32::from(address)));
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
    let number = tunnel.map(|address| i64::from(u32::from(address)));
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
        if let Some(other) = other.one(conn).await.map_err(failed)? {
            let reason = format!("it is that of the host {}", other.id);
            return Err(Error::invalid(what, value, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::Expr;

    use super::*;
    use crate::test_support::{self, Rig};

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

    /// A host has told where its tunnels end, and where it takes consoles.
    async fn told(rig: &Rig, host: &str, tunnel: Option<Ipv4Addr>, console: Option<&str>) {
        let (id, console) = (host.to_owned(), console.map(str::to_owned));
        let write = rig.cloud.store.write(move |txn| {
            let (id, console) = (id.clone(), console.clone());
            Box::pin(async move {
                use host::Column as C;
                let number = tunnel.map(|address| i64::from(u32::from(address)));
                let update = host::Entity::update_many()
                    .col_expr(C::TunnelAddress, Expr::value(number))
                    .col_expr(C::ConsoleAddress, Expr::value(console))
                    .filter(C::Id.eq(id));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    /// Another host like the first.
    async fn another(rig: &Rig, name: &str) {
        let row = host::Entity::find()
            .one(rig.cloud.store.read())
            .await
            .unwrap()
            .unwrap();
        let row = host::Model {
            id: name.into(),
            confirmed_tunnel: None,
            confirmed_console: None,
            ..row
        };
        let write = rig.cloud.store.write(move |txn| {
            let row = row.clone().into_active_model();
            Box::pin(async move {
                let insert = host::Entity::insert(row).exec_without_returning(txn);
                insert.await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    #[tokio::test]
    async fn what_a_host_tells_is_confirmed_where_it_can_be_its_own() {
        let rig = test_support::cloud().await;
        let row = host::Entity::find()
            .one(rig.cloud.store.read())
            .await
            .unwrap()
            .unwrap();
        let (parts, first) = (rig.cloud.parts(), HostId(row.id));
        another(&rig, "other").await;
        let other = HostId("other".into());
        let confirm_told = async |id: &HostId| confirm(&parts, id, Given::default()).await;
        told(&rig, &first.0, Some(ADDRESS), Some("10.200.0.1:6081")).await;
        let confirmed = confirm_told(&first).await.unwrap();
        let expected = Confirmed {
            tunnel: Some(ADDRESS),
            console: Some("10.200.0.1:6081".into()),
        };
        assert_eq!(confirmed, expected);
        assert_eq!(confirm_told(&first).await.unwrap(), expected, "again");
        // Another host's, one by one, whoever gives it.
        for (tunnel, console) in [(Some(ADDRESS), None), (None, Some("10.200.0.1:6081"))] {
            told(&rig, "other", tunnel, console).await;
            let error = confirm_told(&other).await.unwrap_err().to_string();
            assert!(error.contains(&first.0), "{error}");
        }
        told(&rig, "other", None, None).await;
        let given = Given {
            tunnel: Some(ADDRESS),
            console: None,
        };
        assert!(confirm(&parts, &other, given).await.is_err());
        // Nobody's.
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            let given = Given {
                tunnel: Some(bad.parse().unwrap()),
                console: None,
            };
            let error = confirm(&parts, &other, given).await.unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
        // A loopback address is believed the operator, and no host.
        told(&rig, "other", None, Some("127.0.0.1:6081")).await;
        assert!(confirm_told(&other).await.is_err());
        let given = Given {
            tunnel: None,
            console: Some("127.0.0.1:6081".into()),
        };
        let confirmed = confirm(&parts, &other, given).await.unwrap();
        assert_eq!(confirmed.console.as_deref(), Some("127.0.0.1:6081"));
        assert!(confirm_told(&HostId("nobody".into())).await.is_err());
    }

    /// What the cloud has gone by before there were confirmed addresses is gone by after the upgrade too, but what
    /// can't be a host's, or is another's.
    #[tokio::test]
    async fn addresses_from_before_the_upgrade_count_as_confirmed() {
        let rig = test_support::cloud().await;
        let number = |address: [u8; 4]| i64::from(u32::from_be_bytes(address));
        let before = [
            ("a", Some(number([10, 0, 0, 1])), Some("10.0.0.1:6081")),
            ("b", Some(number([10, 0, 0, 1])), None),
            ("c", Some(number([0, 0, 0, 0])), Some("local")),
            ("d", Some(number([127, 0, 0, 1])), None),
            ("e", None, None),
        ];
        for (name, tunnel, console) in before {
            another(&rig, name).await;
            told(&rig, name, tunnel_of(tunnel), console).await;
        }
        let write = rig.cloud.store.write(|txn| {
            Box::pin(async move {
                let on = match txn.get_database_backend() {
                    sea_orm::DbBackend::MySql => " ON hosts",
                    _ => "",
                };
                let index = format!("DROP INDEX hosts__confirmed_tunnel{on}");
                let column = |name: &str| format!("ALTER TABLE hosts DROP COLUMN {name}");
                let undone = "DELETE FROM seaql_migrations WHERE version = 'm0011_confirmed_addresses'";
                let columns = ["confirmed_tunnel", "confirmed_console", "problems"].map(column);
                for statement in [index].into_iter().chain(columns).chain([undone.to_owned()]) {
                    txn.execute_unprepared(&statement).await.map_err(failed)?;
                }
                Ok(())
            })
        });
        write.await.unwrap();
        let store = crate::store::connect(&rig.database.options(2)).await.unwrap();
        let query = host::Entity::find().filter(host::Column::Id.is_in(before.map(|(name, ..)| name)));
        let rows = query.all(store.read()).await.unwrap();
        let mut found: Vec<_> = rows
            .into_iter()
            .map(|row| (row.id, row.confirmed_tunnel, row.confirmed_console))
            .collect();
        found.sort();
        let expected = |name: &str, tunnel: Option<i64>, console: Option<&str>| {
            (name.to_owned(), tunnel, console.map(str::to_owned))
        };
        assert_eq!(
            found,
            [
                expected("a", Some(number([10, 0, 0, 1])), Some("10.0.0.1:6081")),
                expected("b", None, None),
                expected("c", None, Some("local")),
                expected("d", None, None),
                expected("e", None, None),
            ]
        );
    }

    #[test]
    fn a_host_is_ready_when_its_tunnels_end_where_the_others_send_to() {
        let id = HostId("node-1".into());
        for (told, confirmed, ready) in [
            (None, None, true),
            (Some(7), Some(7), true),
            (Some(7), None, false),
            (None, Some(7), false),
            (Some(7), Some(8), false),
        ] {
            let why = unconfirmed(&id, told, confirmed);
            assert_eq!(why.is_none(), ready, "{told:?} {confirmed:?}");
            // Tenants read the reason: no address is in it.
            assert!(why.is_none_or(|why| !why.reason.contains('7') && why.cure.is_some()));
        }
    }
}
