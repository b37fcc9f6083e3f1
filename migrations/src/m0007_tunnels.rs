//! Tunnels between hosts: a number for each VPC, an address for each host.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::TryGetable;

use crate::portable::{Name, add_column, big_null, drop_columns, index};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // 24 bits, never 0; the unique key keeps two VPCs from sharing a number. Null is only what the
        // next lines replace.
        add_column(m, "vpcs", big_null("vni")).await?;
        // An IPv4 number; null where a host is alone.
        add_column(m, "hosts", big_null("tunnel_address")).await?;
        number_vpcs(m).await?;
        index(m, "vpcs", &["vni"], true).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut unique = Index::drop();
        unique.name("vpcs__vni").table(Name("vpcs"));
        m.drop_index(unique).await?;
        drop_columns(m, &[("hosts", "tunnel_address"), ("vpcs", "vni")]).await
    }
}

/// Numbers for the VPCs that are there: 1, 2, 3, ...
async fn number_vpcs(m: &SchemaManager<'_>) -> Result<(), DbErr> {
    let conn = m.get_connection();
    let mut all = Query::select();
    all.column(Name("id"))
        .from(Name("vpcs"))
        .order_by(Name("id"), Order::Asc);
    let rows = conn.query_all(&all).await?;
    for (vni, row) in (1_i64..).zip(rows) {
        let id = i64::try_get(&row, "", "id").map_err(DbErr::from)?;
        let mut update = Query::update();
        update
            .table(Name("vpcs"))
            .value(Name("vni"), vni)
            .and_where(Expr::col(Name("id")).eq(id));
        conn.execute(&update).await?;
    }
    Ok(())
}
