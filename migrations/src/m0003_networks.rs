//! VPCs, subnets, security groups and their rules, interfaces.

use sea_orm_migration::prelude::*;

use crate::portable::{big, big_null, drop_tables, index, name, table, text};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // `policy_generation` grows with every change that hosts must enforce.
        let vpcs = vec![
            big("id"),
            big("account"),
            name("cidr"),
            big("is_default"),
            big("policy_generation"),
            big("created_at"),
        ];
        table(m, "vpcs", vpcs, &["id"]).await?;
        index(m, "vpcs", &["account"], false).await?;

        let subnets = vec![
            big("id"),
            big("account"),
            big("vpc"),
            name("cidr"),
            name("availability_zone"),
            big("is_default"),
            big("map_public_ip"),
            big("created_at"),
        ];
        table(m, "subnets", subnets, &["id"]).await?;
        index(m, "subnets", &["vpc", "cidr"], true).await?;
        index(m, "subnets", &["account"], false).await?;

        let groups = vec![
            big("id"),
            big("account"),
            big("vpc"),
            name("name"),
            text("description"),
            big("is_default"),
            big("created_at"),
        ];
        table(m, "security_groups", groups, &["id"]).await?;
        index(m, "security_groups", &["vpc", "name"], true).await?;
        index(m, "security_groups", &["account"], false).await?;

        // `rule` is the domain's rule as JSON in a fixed order of fields: the unique key makes a second
        // equal rule impossible.
        let rules = vec![
            big("id"),
            big("account"),
            big("security_group"),
            name("rule"),
            big_null("peer_group"),
            text("description"),
            big("created_at"),
        ];
        table(m, "security_group_rules", rules, &["id"]).await?;
        index(m, "security_group_rules", &["security_group", "rule"], true).await?;
        index(m, "security_group_rules", &["peer_group"], false).await?;

        // Addresses are IPv4 numbers. An interface lives as long as its instance is not terminated.
        let interfaces = vec![
            big("id"),
            big("account"),
            big("instance"),
            big("device_index"),
            big("attachment"),
            big("vpc"),
            big("subnet"),
            big("mac"),
            big("private_ip"),
            big_null("public_ip"),
            text("description"),
            big("created_at"),
        ];
        table(m, "interfaces", interfaces, &["id"]).await?;
        index(m, "interfaces", &["vpc", "private_ip"], true).await?;
        index(m, "interfaces", &["vpc", "mac"], true).await?;
        index(m, "interfaces", &["public_ip"], true).await?;
        index(m, "interfaces", &["instance"], false).await?;
        index(m, "interfaces", &["subnet"], false).await?;

        let members = vec![big("interface"), big("security_group")];
        table(m, "interface_groups", members, &["interface", "security_group"]).await?;
        index(m, "interface_groups", &["security_group"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            "vpcs",
            "subnets",
            "security_groups",
            "security_group_rules",
            "interfaces",
            "interface_groups",
        ];
        drop_tables(m, &tables).await
    }
}
