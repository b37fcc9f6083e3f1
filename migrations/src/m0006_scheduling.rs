//! Scheduling data: hosts' capabilities and their operator's wishes, aggregates, extra specifications of
//! instance types, placement groups; and the services that make up the cloud.

use sea_orm_migration::prelude::*;

use crate::portable::{
    add_columns, big, big_null, drop_tables, index, name, name_null, table, text, text_null,
};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let hosts = vec![
            // Why the operator has disabled the host.
            text_null("disabled_reason"),
            // 1 while the host is being emptied; it is disabled then.
            big_null("draining"),
            name_null("architecture"),
            // JSON: names to texts, as the host has told.
            text_null("capabilities"),
            // JSON: names to whole numbers, as the host has told lately.
            text_null("metrics"),
            big_null("maintenance_start"),
            big_null("maintenance_end"),
            text_null("maintenance_reason"),
        ];
        add_columns(m, "hosts", hosts).await?;
        let instances = vec![big_null("placement_group"), big_null("partition_number")];
        add_columns(m, "instances", instances).await?;
        index(m, "instances", &["placement_group"], false).await?;
        aggregates(m).await?;
        groups(m).await?;

        let services = vec![
            name("id"),
            name("role"),
            name("host"),
            name("version"),
            big("last_seen"),
            big("created_at"),
        ];
        table(m, "services", services, &["id"]).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            "aggregates",
            "aggregate_metadata",
            "aggregate_hosts",
            "instance_type_specs",
            "placement_groups",
            "placement_group_hosts",
            "services",
        ];
        drop_tables(m, &tables).await
    }
}

async fn aggregates(m: &SchemaManager<'_>) -> Result<(), DbErr> {
    let aggregates = vec![big("id"), name("name"), big("created_at")];
    table(m, "aggregates", aggregates, &["id"]).await?;
    index(m, "aggregates", &["name"], true).await?;
    let metadata = vec![big("aggregate"), name("key"), text("value")];
    table(m, "aggregate_metadata", metadata, &["aggregate", "key"]).await?;
    let hosts = vec![big("aggregate"), name("host")];
    table(m, "aggregate_hosts", hosts, &["aggregate", "host"]).await?;
    let specs = vec![name("instance_type"), name("key"), text("value")];
    table(m, "instance_type_specs", specs, &["instance_type", "key"]).await
}

async fn groups(m: &SchemaManager<'_>) -> Result<(), DbErr> {
    let groups = vec![
        big("id"),
        big("account"),
        name("name"),
        // `spread`, `cluster` or `partition`.
        name("strategy"),
        big_null("partition_count"),
        name_null("spread_level"),
        big("created_at"),
    ];
    table(m, "placement_groups", groups, &["id"]).await?;
    index(m, "placement_groups", &["account", "name"], true).await?;
    // Where a group's members are. The key makes the strategy hold whichever engines place at the same time: a
    // spread or partition group has a row for each host, a cluster group one row in all (`slot` is empty).
    let hosts = vec![
        big("placement_group"),
        name("slot"),
        name("host"),
        // The partition that the host is in, 0 where there are none.
        big("partition_number"),
        big("members"),
    ];
    table(m, "placement_group_hosts", hosts, &["placement_group", "slot"]).await
}
