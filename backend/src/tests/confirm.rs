//! Confirmation of hosts' addresses, over a whole cloud.

use std::net::Ipv4Addr;

use cumulet_domain::id::HostId;
use cumulet_operator::hosts::*;
use cumulet_store::{
    entity::{columns::Ipv4, host},
    failed,
    tunnels::unconfirmed,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, sea_query::Expr};

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
    let number = |address: [u8; 4]| Ipv4(address.into());
    let before = [
        ("a", Some(number([10, 0, 0, 1])), Some("10.0.0.1:6081")),
        ("b", Some(number([10, 0, 0, 1])), None),
        ("c", Some(number([0, 0, 0, 0])), Some("local")),
        ("d", Some(number([127, 0, 0, 1])), None),
        ("e", None, None),
    ];
    for (name, tunnel, console) in before {
        another(&rig, name).await;
        told(&rig, name, tunnel.map(|tunnel| tunnel.0), console).await;
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
    let store = cumulet_store::connect(&rig.database.options(2)).await.unwrap();
    let query = host::Entity::find().filter(host::Column::Id.is_in(before.map(|(name, ..)| name)));
    let rows = query.all(store.read()).await.unwrap();
    let mut found: Vec<_> = rows
        .into_iter()
        .map(|row| (row.id, row.confirmed_tunnel, row.confirmed_console))
        .collect();
    found.sort();
    let expected = |name: &str, tunnel: Option<Ipv4>, console: Option<&str>| {
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
        let address = |last: Option<u8>| last.map(|last| Ipv4([10, 0, 0, last].into()));
        let why = unconfirmed(&id, address(told), address(confirmed));
        assert_eq!(why.is_none(), ready, "{told:?} {confirmed:?}");
        // Tenants read the reason: no address is in it.
        assert!(why.is_none_or(|why| !why.reason.contains('7') && why.cure.is_some()));
    }
}
