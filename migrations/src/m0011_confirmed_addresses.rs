//! The addresses of hosts that the operator has confirmed, beside those that hosts tell; and what hosts say is not as
//! it should be.

use std::collections::BTreeSet;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::TryGetable;

use crate::portable::{Name, add_columns, big_null, drop_columns, index, name_null, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // An IPv4 number that no other host has, and a host and a port; null where nothing is confirmed. The columns
        // `tunnel_address` and `console_address` have what the host told last.
        let columns = vec![
            big_null("confirmed_tunnel"),
            name_null("confirmed_console"),
            // A JSON array; null where the host has told of none.
            text_null("problems"),
        ];
        add_columns(m, "hosts", columns).await?;
        confirm_known(m).await?;
        index(m, "hosts", &["confirmed_tunnel"], true).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut unique = Index::drop();
        unique.name("hosts__confirmed_tunnel").table(Name("hosts"));
        m.drop_index(unique).await?;
        let columns = ["confirmed_tunnel", "confirmed_console", "problems"];
        drop_columns(m, &columns.map(|column| ("hosts", column))).await
    }
}

/// Whether a number is an address that a host can have: none that leads every host to itself, or to everybody.
fn is_hosts(address: i64) -> bool {
    <u32 as TryFrom<i64>>::try_from(address).is_ok_and(|number| {
        let [first, second, ..] = number.to_be_bytes();
        !matches!(first, 0 | 127 | 224..) && (first, second) != (169, 254)
    })
}

/// What the cloud has gone by so far counts as confirmed, but what can't be a host's, or is another's too.
async fn confirm_known(m: &SchemaManager<'_>) -> Result<(), DbErr> {
    let conn = m.get_connection();
    let mut all = Query::select();
    all.columns([Name("id"), Name("tunnel_address"), Name("console_address")])
        .from(Name("hosts"))
        .order_by(Name("id"), Order::Asc);
    let mut taken = BTreeSet::new();
    for row in conn.query_all(&all).await? {
        let id = String::try_get(&row, "", "id").map_err(DbErr::from)?;
        let tunnel = Option::<i64>::try_get(&row, "", "tunnel_address").map_err(DbErr::from)?;
        let console = Option::<String>::try_get(&row, "", "console_address").map_err(DbErr::from)?;
        let tunnel = tunnel.filter(|address| is_hosts(*address) && taken.insert(*address));
        let mut update = Query::update();
        update
            .table(Name("hosts"))
            .value(Name("confirmed_tunnel"), tunnel)
            .value(Name("confirmed_console"), console)
            .and_where(Expr::col(Name("id")).eq(id));
        conn.execute(&update).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_can_not_be_a_hosts_is_not_confirmed() {
        let number = |a: [u8; 4]| i64::from(u32::from_be_bytes(a));
        assert!(is_hosts(number([10, 0, 0, 1])) && is_hosts(number([169, 1, 2, 3])));
        for bad in [
            [0, 0, 0, 0],
            [127, 0, 0, 1],
            [169, 254, 169, 254],
            [224, 0, 0, 1],
            [255; 4],
        ] {
            assert!(!is_hosts(number(bad)), "{bad:?}");
        }
        assert!(!is_hosts(-1) && !is_hosts(1 << 33));
    }
}
