//! Reservations and instances; the hosts that run them.

use sea_orm_migration::prelude::*;

use crate::portable::{big, big_null, drop_tables, index, name, name_null, table, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let reservations = vec![big("id"), big("account"), big("created_at")];
        table(m, "reservations", reservations, &["id"]).await?;
        index(m, "reservations", &["account"], false).await?;

        let instances = vec![
            big("id"),
            big("account"),
            big("reservation"),
            big("launch_index"),
            big("image"),
            name("instance_type"),
            big("vcpus"),
            big("memory_mib"),
            big("disk_gib"),
            name("state"),
            name("intent"),
            // Grows with every change of intent; hosts drop what is older.
            big("generation"),
            // Grows with every change of what the instance can read; hosts keep the newest.
            big("metadata_revision"),
            // Where the disk is; null before placement and after the end.
            name_null("host"),
            // 1 while the host's vCPUs and memory are claimed for it.
            big("claimed"),
            big("vpc"),
            big("subnet"),
            name("availability_zone"),
            name_null("key_name"),
            text_null("public_key"),
            // Base64, as it came.
            text_null("user_data"),
            name("shutdown_behavior"),
            big("disable_api_termination"),
            big("disable_api_stop"),
            big("http_enabled"),
            big("http_tokens_required"),
            big("http_hop_limit"),
            big("http_tags"),
            name_null("client_token"),
            name_null("reason_code"),
            text_null("reason_message"),
            text_null("transition_reason"),
            big("launched_at"),
            big("created_at"),
            big_null("running_since"),
            big_null("terminated_at"),
        ];
        table(m, "instances", instances, &["id"]).await?;
        index(m, "instances", &["account", "id"], false).await?;
        index(m, "instances", &["reservation"], false).await?;
        index(m, "instances", &["account", "reservation"], false).await?;
        index(m, "instances", &["host", "id"], false).await?;
        index(m, "instances", &["image"], false).await?;
        index(m, "instances", &["terminated_at"], false).await?;

        let hosts = vec![
            name("id"),
            name("availability_zone"),
            name("hypervisor"),
            big("enabled"),
            big("vcpus"),
            big("memory_mib"),
            big("disk_gib"),
            // The limits are the host's resources times the allocation ratios; a claim is one
            // conditional update against them.
            big("vcpus_max"),
            big("memory_mib_max"),
            big("disk_gib_max"),
            big("vcpus_used"),
            big("memory_mib_used"),
            big("disk_gib_used"),
            big("last_seen"),
            big("created_at"),
        ];
        table(m, "hosts", hosts, &["id"]).await?;

        // Instances whose hosts have not confirmed the newest snapshot of what the instance can read.
        table(m, "metadata_pushes", vec![big("instance")], &["instance"]).await?;

        // Which policy of a VPC a host has been sent and has applied.
        let host_networks = vec![name("host"), big("vpc"), big("applied_generation")];
        table(m, "host_networks", host_networks, &["host", "vpc"]).await?;
        index(m, "host_networks", &["vpc"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(
            m,
            &[
                "reservations",
                "instances",
                "hosts",
                "metadata_pushes",
                "host_networks",
            ],
        )
        .await
    }
}
