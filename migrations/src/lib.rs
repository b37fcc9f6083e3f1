//! The database's schema, one change a file, the same on every database (see `portable`).

mod m0001_accounts;
mod m0002_catalogue;
mod m0003_networks;
mod m0004_instances;
mod m0005_operations;
mod portable;

use sea_orm_migration::prelude::*;

pub use sea_orm_migration::MigratorTrait;

/// Every migration, oldest first.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_accounts::Migration),
            Box::new(m0002_catalogue::Migration),
            Box::new(m0003_networks::Migration),
            Box::new(m0004_instances::Migration),
            Box::new(m0005_operations::Migration),
        ]
    }
}
