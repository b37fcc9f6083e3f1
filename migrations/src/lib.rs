//! The database's schema, one change a file, the same on every database (see `portable`).

mod m0001_accounts;
mod m0002_catalogue;
mod m0003_networks;
mod m0004_instances;
mod m0005_operations;
mod m0006_scheduling;
mod m0007_tunnels;
mod m0008_commits;
mod m0009_consoles;
mod m0010_readiness;
mod m0011_confirmed_addresses;
mod m0012_listing_pages;
mod m0013_audit_repeats;
mod m0014_protocols;
mod m0015_sealed_user_data;
mod m0016_listings;
mod m0017_placement_metadata;
mod m0018_operation_holds;
mod m0019_volumes;
mod m0020_interface_addresses;
mod m0021_volume_data;
mod m0022_root_devices;
mod m0023_volume_attributes;
mod m0024_volume_modifications;
mod m0025_boot_modes;
mod m0026_snapshots;
mod m0027_image_mappings;
mod m0028_image_aliases;
mod m0029_encryption;
mod m0030_volume_copies;
mod m0031_snapshot_progress;
mod m0032_volume_format;
mod m0033_volume_stores;
mod portable;
pub mod rows_of_earlier;

use std::sync::OnceLock;

use sea_orm_migration::prelude::*;

pub use sea_orm_migration::{MigrationStatus, MigratorTrait};

/// Every migration, oldest first.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let changes: Vec<Box<dyn MigrationTrait>> = vec![
            Box::new(m0001_accounts::Migration),
            Box::new(m0002_catalogue::Migration),
            Box::new(m0003_networks::Migration),
            Box::new(m0004_instances::Migration),
            Box::new(m0005_operations::Migration),
            Box::new(m0006_scheduling::Migration),
            Box::new(m0007_tunnels::Migration),
            Box::new(m0008_commits::Migration),
            Box::new(m0009_consoles::Migration),
            Box::new(m0010_readiness::Migration),
            Box::new(m0011_confirmed_addresses::Migration),
            Box::new(m0012_listing_pages::Migration),
            Box::new(m0013_audit_repeats::Migration),
            Box::new(m0014_protocols::Migration),
            Box::new(m0015_sealed_user_data::Migration),
            Box::new(m0016_listings::Migration),
            Box::new(m0017_placement_metadata::Migration),
            Box::new(m0018_operation_holds::Migration),
            Box::new(m0019_volumes::Migration),
            Box::new(m0020_interface_addresses::Migration),
            Box::new(m0021_volume_data::Migration),
            Box::new(m0022_root_devices::Migration),
            Box::new(m0023_volume_attributes::Migration),
            Box::new(m0024_volume_modifications::Migration),
            Box::new(m0025_boot_modes::Migration),
            Box::new(m0026_snapshots::Migration),
            Box::new(m0027_image_mappings::Migration),
            Box::new(m0028_image_aliases::Migration),
            Box::new(m0029_encryption::Migration),
            Box::new(m0030_volume_copies::Migration),
            Box::new(m0031_snapshot_progress::Migration),
            Box::new(m0032_volume_format::Migration),
            Box::new(m0033_volume_stores::Migration),
        ];
        let whole = changes.into_iter().map(|change| Box::new(Whole(change)) as _);
        whole.collect()
    }
}

/// A migration that is done as a whole, with the note that it is done, or not at all: a program that was
/// killed in the middle of one would never start again. (MariaDB and MySQL can't: there each change is one
/// that does nothing where it has been made, see `portable`.)
struct Whole(Box<dyn MigrationTrait>);

/// Who is told of each migration.
static WITNESS: OnceLock<fn(&str)> = OnceLock::new();

/// From now on this is told the name of each migration at the worst moment: its changes are made, and neither noted nor
/// committed. (What dies there is what a test of an upgrade wants to see come back.)
pub fn witness(told: fn(&str)) {
    WITNESS.get_or_init(|| told);
}

impl MigrationName for Whole {
    fn name(&self) -> &str {
        self.0.name()
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Whole {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.0.up(manager).await?;
        if let Some(told) = WITNESS.get() {
            told(self.0.name());
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.0.down(manager).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_done_as_a_whole_and_keeps_its_name() {
        let all = Migrator::migrations();
        assert!(
            all.iter()
                .all(|migration| migration.use_transaction() == Some(true))
        );
        let names: Vec<_> = all.iter().map(|migration| migration.name()).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names[0], "m0001_accounts");
    }
}
