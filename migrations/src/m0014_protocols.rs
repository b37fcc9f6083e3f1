//! Rules of TCP, UDP and ICMP that were kept by the protocol's number, without ports: `06` and `+17` had been
//! taken for protocols that have none. They are written as what they let pass, every port and type, so that
//! their description names them. No host's rules change.

use sea_orm_migration::{prelude::*, sea_orm::TryGetable};

use crate::portable::Name;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// The traffic as it was kept, and as it is from now on.
const TRAFFIC: [(&str, &str); 3] = [
    (r#"{"protocol":6}"#, r#"{"tcp":{"from":0,"to":65535}}"#),
    (r#"{"protocol":17}"#, r#"{"udp":{"from":0,"to":65535}}"#),
    (r#"{"protocol":1}"#, r#"{"icmp":{"kind":null,"code":null}}"#),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let conn = m.get_connection();
        let mut all = Query::select();
        all.columns(["id", "security_group", "rule"].map(Name))
            .from(Name("security_group_rules"))
            .and_where(Expr::col(Name("rule")).like(r#"%{"protocol":%"#));
        for row in conn.query_all(&all).await? {
            let id = i64::try_get(&row, "", "id").map_err(DbErr::from)?;
            let group = i64::try_get(&row, "", "security_group").map_err(DbErr::from)?;
            let rule = String::try_get(&row, "", "rule").map_err(DbErr::from)?;
            if let Some((old, new)) = TRAFFIC.iter().find(|(old, _)| rule.contains(old)) {
                rewrite(conn, id, group, rule.replace(old, new)).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        // What they let pass is the same.
        Ok(())
    }
}

/// Writes a rule anew; where the group has the same one already, it goes, with its tags.
async fn rewrite(conn: &SchemaManagerConnection<'_>, id: i64, group: i64, rule: String) -> Result<(), DbErr> {
    let mut same = Query::select();
    same.column(Name("id"))
        .from(Name("security_group_rules"))
        .and_where(Expr::col(Name("security_group")).eq(group))
        .and_where(Expr::col(Name("rule")).eq(rule.as_str()));
    if conn.query_one(&same).await?.is_none() {
        let mut update = Query::update();
        update
            .table(Name("security_group_rules"))
            .value(Name("rule"), rule)
            .and_where(Expr::col(Name("id")).eq(id));
        return conn.execute(&update).await.map(drop);
    }
    let mut tags = Query::delete();
    tags.from_table(Name("tags"))
        .and_where(Expr::col(Name("kind")).eq("security-group-rule"))
        .and_where(Expr::col(Name("resource")).eq(id));
    conn.execute(&tags).await?;
    let mut delete = Query::delete();
    delete
        .from_table(Name("security_group_rules"))
        .and_where(Expr::col(Name("id")).eq(id));
    conn.execute(&delete).await.map(drop)
}
