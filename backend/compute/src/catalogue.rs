//! The initial instance type catalogue. The table is the operator's after the first start.

use cumulet_domain::{Error, Result};
use sea_orm::{ConnectionTrait, EntityTrait, PaginatorTrait};
use serde::Deserialize;

use cumulet_store::{
    entity::{
        columns::{Amount, Count, Flag},
        instance_type,
    },
    failed,
};

/// Vendored as data: names and figures as Amazon publishes them.
const TYPES: &str = include_str!("instance_types.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    family: Vec<Family>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    name: String,
    /// Size, vCPUs, memory in MiB.
    sizes: Vec<(String, u32, u32)>,
}

/// Fills the table if it is empty.
pub async fn fill(txn: &impl ConnectionTrait) -> Result<()> {
    if instance_type::Entity::find().count(txn).await.map_err(failed)? > 0 {
        return Ok(());
    }
    let rows = types()?.into_iter().map(instance_type::ActiveModel::from);
    let insert = instance_type::Entity::insert_many(rows)
        .exec_without_returning(txn)
        .await;
    insert.map(drop).map_err(failed)
}

fn types() -> Result<Vec<instance_type::Model>> {
    let file: File = toml::from_str(TYPES).map_err(|error| Error::internal(&error))?;
    let rows = file.family.into_iter().flat_map(|family| {
        let name = family.name;
        family
            .sizes
            .into_iter()
            .map(move |(size, vcpus, memory)| instance_type::Model {
                name: format!("{name}.{size}"),
                vcpus: Count(vcpus),
                memory_mib: Amount(memory.into()),
                offered: Flag(true),
            })
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_well_formed() {
        let types = types().unwrap();
        assert!(types.len() >= 40, "{}", types.len());
        let find = |name: &str| {
            types
                .iter()
                .find(|t| t.name == name)
                .map(|t| (t.vcpus.0, t.memory_mib.0))
        };
        assert_eq!(find("t3.nano"), Some((2, 512)));
        assert_eq!(find("t2.micro"), Some((1, 1024)));
        assert_eq!(find("m5.2xlarge"), Some((8, 32_768)));
        let mut names: Vec<_> = types.iter().map(|t| &t.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), types.len());
    }
}
