//! The addresses of interfaces as rows of their own, any number of each interface, IPv4 and IPv6. The columns
//! `private_ip` and `public_ip` of `interfaces` stay for programs that know nothing of these rows; what was an
//! index over them for a listing or a count is one over the new rows.

use sea_orm_migration::prelude::*;

use crate::{
    portable::{big, drop_index, drop_tables, index, name, name_null, table},
    rows_of_earlier,
};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Addresses are 32 hexadecimal digits, those of IPv4 mapped into IPv6 (`::ffff:a.b.c.d`), which sort alike
        // everywhere. No number of its own: in its subnet an address is one interface's.
        let addresses = vec![
            big("subnet"),
            name("address"),
            big("interface"),
            // 0: the primary one. 1 and more: secondary ones, in their order.
            big("address_index"),
            big("account"),
            big("vpc"),
            // The public address that is translated to it.
            name_null("public_address"),
        ];
        table(m, "interface_addresses", addresses, &["subnet", "address"]).await?;
        index(m, "interface_addresses", &["interface", "address_index"], true).await?;
        index(m, "interface_addresses", &["public_address"], true).await?;
        index(m, "interface_addresses", &["account", "public_address"], false).await?;
        rows_of_earlier::addresses(m.get_connection()).await?;
        // Who still asks by these columns is answered all the same.
        drop_index(m, "interfaces", &["account", "public_ip"]).await?;
        drop_index(m, "interfaces", &["subnet"]).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        index(m, "interfaces", &["subnet"], false).await?;
        index(m, "interfaces", &["account", "public_ip"], false).await?;
        drop_tables(m, &["interface_addresses"]).await
    }
}
