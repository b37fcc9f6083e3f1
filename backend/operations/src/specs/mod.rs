//! Specifications for hosts, made from rows: instances' specifications, their metadata snapshots, and a VPC's
//! policy on a host. Loaded for many instances at once, with one query a table.

mod disks;
mod policy;
pub mod tunnel;

pub use policy::{Policies, policy};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use cumulet_domain::{
    Error, ResourceKind, Result, dns,
    id::{SecurityGroupId, marker::Vpc},
    metadata::{InstanceMetadata, InterfaceMetadata, PublicKey},
    spec::{InstanceSpec, NicSpec},
    tag::Tag,
    time::Timestamp,
};
use cumulet_store::{
    addresses::{self, InterfaceAddresses, Served},
    batch::load_in,
    entity::{columns::Key, image, instance, interface, subnet, vpc},
    instances, placement, tags, user_data,
};
use sea_orm::ConnectionTrait;

use crate::Driver;
use disks::Disks;
use policy::interface_policy;

/// Specifications of some instances.
pub struct Specs(BTreeMap<i64, InstanceSpec>);

impl Specs {
    /// Loads them. An instance that can't be specified (its image is gone) is left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load(
        conn: &impl ConnectionTrait,
        rows: &[&instance::Model],
        driver: &Driver,
    ) -> Result<Self> {
        if rows.is_empty() {
            return Ok(Specs(BTreeMap::new()));
        }
        let mut specs = BTreeMap::new();
        match SpecRows::load(conn, rows).await {
            Ok(parts) => rows
                .iter()
                .for_each(|row| keep(&mut specs, row, parts.spec(row, driver))),
            // Which of them has a damaged row shows when each is loaded by itself.
            Err(Error::Internal(_)) => {
                for row in rows {
                    let parts = SpecRows::load(conn, &[*row]).await;
                    keep(&mut specs, row, parts.and_then(|parts| parts.spec(row, driver)));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(Specs(specs))
    }

    /// An instance's, where it can be specified.
    pub fn get(&self, instance: i64) -> Option<InstanceSpec> {
        self.0.get(&instance).cloned()
    }

    /// The VPCs that an instance has interfaces in, each once, in the order of their numbers, where it can be specified.
    pub(crate) fn vpcs(&self, instance: i64) -> Option<Vec<Key<Vpc>>> {
        let nics = self.0.get(&instance)?.nics.iter();
        let vpcs: BTreeSet<Key<Vpc>> = nics.map(|nic| Key(nic.vpc)).collect();
        Some(vpcs.into_iter().collect())
    }
}

/// Keeps a specification; what is the matter with an instance that has none is in the log.
fn keep(specs: &mut BTreeMap<i64, InstanceSpec>, row: &instance::Model, spec: Result<InstanceSpec>) {
    match spec {
        Ok(spec) => drop(specs.insert(row.id.to_db(), spec)),
        Err(error) => tracing::error!(instance = %row.id, %error, "an instance can't be specified"),
    }
}

/// The rows around some instances.
struct SpecRows {
    interfaces: HashMap<i64, Vec<interface::Model>>,
    addresses: HashMap<i64, InterfaceAddresses>,
    groups: HashMap<i64, Vec<(SecurityGroupId, String)>>,
    images: HashMap<i64, image::Model>,
    subnets: HashMap<i64, subnet::Model>,
    vpcs: HashMap<i64, vpc::Model>,
    tags: HashMap<i64, Vec<Tag>>,
    placement_groups: HashMap<i64, String>,
    disks: Disks,
}

impl SpecRows {
    async fn load(conn: &impl ConnectionTrait, rows: &[&instance::Model]) -> Result<Self> {
        let ids: Vec<i64> = rows.iter().map(|row| row.id.to_db()).collect();
        let mut interfaces: HashMap<i64, Vec<interface::Model>> = HashMap::new();
        let mut found = load_in!(conn, interface, Instance, &ids);
        found.sort_by_key(|row| row.device_index);
        for row in found {
            interfaces.entry(row.instance.to_db()).or_default().push(row);
        }
        // In the order of the instances, so that what is read is the same in every run of a simulation.
        let of = |row: &&instance::Model| interfaces.get(&row.id.to_db()).into_iter().flatten().cloned();
        let theirs: Vec<interface::Model> = rows.iter().flat_map(of).collect();
        let theirs_of = |of: fn(&interface::Model) -> i64| distinct(theirs.iter().map(of));
        let images = load_in!(
            conn,
            image,
            Id,
            &distinct(rows.iter().map(|row| row.image.to_db()))
        );
        let subnets = load_in!(conn, subnet, Id, &theirs_of(|row| row.subnet.to_db()));
        let vpcs = load_in!(conn, vpc, Id, &theirs_of(|row| row.vpc.to_db()));
        Ok(SpecRows {
            addresses: addresses::of(conn, &theirs).await?,
            groups: groups_of(conn, &theirs_of(|row| row.id.to_db())).await?,
            images: images.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            subnets: subnets.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            vpcs: vpcs.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            tags: tags::of(conn, ResourceKind::Instance, &ids).await?,
            placement_groups: placement::names(conn, rows.iter().copied()).await?,
            disks: Disks::load(conn, rows).await?,
            interfaces,
        })
    }

    fn spec(&self, row: &instance::Model, driver: &Driver) -> Result<InstanceSpec> {
        let missing = |what: &str| Error::Internal(format!("it has no {what}"));
        let image = self
            .images
            .get(&row.image.to_db())
            .ok_or_else(|| missing("image"))?;
        let interfaces = self
            .interfaces
            .get(&row.id.to_db())
            .ok_or_else(|| missing("interface"))?;
        let nics = interfaces.iter().map(|i| self.nic(i)).collect::<Result<_>>()?;
        Ok(InstanceSpec {
            id: row.id.0,
            generation: row.generation.0,
            instance_type: row.instance_type.clone(),
            vcpus: row.vcpus.0,
            memory_mib: row.memory_mib.0,
            firmware: image.boot_mode().firmware(),
            disks: self.disks.of(row, image)?,
            nics,
            metadata: Arc::new(self.metadata(row, image, interfaces, driver)?),
        })
    }

    fn metadata(
        &self,
        row: &instance::Model,
        image: &image::Model,
        interfaces: &[interface::Model],
        driver: &Driver,
    ) -> Result<InstanceMetadata> {
        let region = driver.settings.region.as_str();
        let missing = || Error::Internal("it has no interface".to_owned());
        let seen = interfaces
            .iter()
            .map(|i| self.interface(i))
            .collect::<Result<Vec<_>>>()?;
        let primary = seen.first().ok_or_else(missing)?;
        let user_data = user_data::open(&driver.sealer, row)?;
        let key = row.key_name.clone().zip(row.public_key.clone());
        Ok(InstanceMetadata {
            instance: row.id.0,
            revision: row.metadata_revision.0,
            options: instances::metadata_options(row),
            account: row.account.0,
            reservation: row.reservation.0,
            image: row.image.0,
            instance_type: row.instance_type.clone(),
            architecture: image.architecture.to_string(),
            launch_index: row.launch_index.0,
            private_dns_name: dns::private_name(primary.private_ip, region),
            public_dns_name: primary.public_ip.map(|ip| dns::public_name(ip, region)),
            region: region.into(),
            availability_zone: row.availability_zone.clone(),
            availability_zone_id: cumulet_core::regions::zone_id(&row.availability_zone),
            placement_group: row
                .placement_group
                .and_then(|id| self.placement_groups.get(&id.to_db()).cloned()),
            partition_number: row.partition_number.map(|number| number.0),
            public_keys: key
                .into_iter()
                .map(|(name, openssh)| PublicKey { name, openssh })
                .collect(),
            root_device: image.root_device.0.clone(),
            data_devices: self.disks.started_with(row),
            user_data: user_data.map(|data| data.expose().clone()),
            pending_time: Timestamp(row.launched_at),
            tags: self.tags.get(&row.id.to_db()).cloned().unwrap_or_default(),
            interfaces: seen,
        })
    }

    fn nic(&self, row: &interface::Model) -> Result<NicSpec> {
        let id = row.id.0;
        let missing = || Error::Internal(format!("{id} has no address"));
        let addresses = self.addresses.get(&row.id.to_db()).ok_or_else(missing)?;
        let served = Served {
            id: row.id.0,
            subnet: row.subnet.0,
            mac: row.mac.0,
            private: addresses.private,
            public: addresses.public,
        };
        let groups = self
            .groups
            .get(&row.id.to_db())
            .into_iter()
            .flatten()
            .map(|(id, _)| *id)
            .collect();
        Ok(NicSpec {
            device_index: row.device_index.0,
            vpc: row.vpc.0,
            interface: interface_policy(served, groups),
        })
    }

    fn interface(&self, row: &interface::Model) -> Result<InterfaceMetadata> {
        let missing = |what: &str| Error::Internal(format!("its interface has no {what}"));
        let subnet = self
            .subnets
            .get(&row.subnet.to_db())
            .ok_or_else(|| missing("subnet"))?;
        let vpc = self.vpcs.get(&row.vpc.to_db()).ok_or_else(|| missing("VPC"))?;
        let id = row.id.0;
        let addresses = self
            .addresses
            .get(&row.id.to_db())
            .ok_or_else(|| missing("address"))?;
        Ok(InterfaceMetadata {
            id,
            device_index: row.device_index.0,
            mac: row.mac.0,
            private_ip: addresses.private,
            public_ip: addresses.public,
            subnet: row.subnet.0,
            subnet_cidr: subnet.cidr.0,
            vpc: row.vpc.0,
            vpc_cidr: vpc.cidr.0,
            security_groups: self.groups.get(&row.id.to_db()).cloned().unwrap_or_default(),
        })
    }
}

/// The groups of interfaces with their names, sorted.
async fn groups_of(
    conn: &impl ConnectionTrait,
    interfaces: &[i64],
) -> Result<HashMap<i64, Vec<(SecurityGroupId, String)>>> {
    let members = load_in!(conn, interface_group, Interface, interfaces);
    let ids = distinct(members.iter().map(|member| member.security_group.to_db()));
    let names = load_in!(conn, security_group, Id, &ids);
    let names: HashMap<i64, String> = names.into_iter().map(|row| (row.id.to_db(), row.name)).collect();
    let mut found: HashMap<i64, Vec<(SecurityGroupId, String)>> = HashMap::new();
    for member in members {
        if let Some(name) = names.get(&member.security_group.to_db()) {
            let group = (member.security_group.0, name.clone());
            found.entry(member.interface.to_db()).or_default().push(group);
        }
    }
    for groups in found.values_mut() {
        groups.sort();
    }
    Ok(found)
}

/// Each number once.
fn distinct(numbers: impl Iterator<Item = i64>) -> Vec<i64> {
    numbers.collect::<BTreeSet<i64>>().into_iter().collect()
}

/// The metadata snapshots of some instances, as they are now.
pub async fn snapshots(
    conn: &impl ConnectionTrait,
    rows: &[&instance::Model],
    driver: &Driver,
) -> Result<Vec<Arc<InstanceMetadata>>> {
    let specs = Specs::load(conn, rows, driver).await?;
    Ok(specs.0.into_values().map(|spec| spec.metadata).collect())
}
