//! Volumes and their attachments, the instances' root volumes among them; those of the instances that are there
//! are filled in, with the numbers that they have been shown with.

use sea_orm_migration::prelude::*;

use crate::{
    portable::{big, big_null, drop_index, drop_tables, index, name, name_null, table, text_null},
    rows_of_earlier,
};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let volumes = vec![
            big("id"),
            big("account"),
            name("availability_zone"),
            big("size_gib"),
            name("volume_type"),
            // `creating`, `available`, `in-use`, `deleting`, `deleted` or `error`.
            name("state"),
            text_null("state_message"),
            // What its first bytes come from.
            big_null("image"),
            big_null("snapshot"),
            big("encrypted"),
            // What was asked for; null where the type says it.
            big_null("iops"),
            big_null("throughput"),
            // The host that has the data; null before there is one, and for a root volume, which is where its instance is.
            name_null("host"),
            // Grows with every change of what a host has to know of it; hosts drop what is older.
            big("generation"),
            big("created_at"),
            big_null("deleted_at"),
        ];
        table(m, "volumes", volumes, &["id"]).await?;
        index(m, "volumes", &["account", "id"], false).await?;
        index(m, "volumes", &["deleted_at"], false).await?;

        let attachments = vec![
            big("instance"),
            name("device"),
            big("volume"),
            // 0: the instance starts from it. Null: it doesn't.
            big_null("boot_index"),
            // `attaching`, `attached`, `detaching`, `detached` or `busy`.
            name("state"),
            // Ends with the instance.
            big("delete_on_termination"),
            big("attached_at"),
        ];
        table(m, "volume_attachments", attachments, &["instance", "device"]).await?;
        // A volume is one instance's. (Not the primary key, so that this can go when several may have it.)
        index(m, "volume_attachments", &["volume"], true).await?;
        rows_of_earlier::every_volume(m.get_connection()).await?;
        // A reservation is one account's: there is another index over it alone.
        drop_index(m, "instances", &["account", "reservation"]).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        index(m, "instances", &["account", "reservation"], false).await?;
        drop_tables(m, &["volumes", "volume_attachments"]).await
    }
}
