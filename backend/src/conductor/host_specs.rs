//! Specifications for hosts, made from rows: instances' specifications, their metadata snapshots, and a VPC's
//! policy on a host. Loaded for many instances at once, with one query a table.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use cumulet_domain::{
    Error, Result,
    account::AccountId,
    dns,
    id::{HostId, ImageId, InstanceId, NetworkInterfaceId, ReservationId, SecurityGroupId, SubnetId, VpcId},
    metadata::{InstanceMetadata, InterfaceMetadata, PublicKey},
    network::{Cidr, GroupPolicy, InterfacePolicy, Peer, Rule, SubnetPolicy, VpcPolicy},
    spec::{InstanceSpec, NicSpec},
    tag::Tag,
    time::Timestamp,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, EntityTrait, JoinType, QueryFilter, QueryOrder,
    QuerySelect, RelationDef,
};
use tokio::sync::Mutex;

use super::{Conductor, host_disks::Disks, tunnel};
use crate::{
    entity::{
        image, instance, interface, interface_group, security_group, security_group_rule, subnet, tag, vpc,
    },
    store::{
        addresses::{self, InterfaceAddresses},
        failed, instances, placement, rows, user_data,
    },
};

/// Ids in one `in (…)`: databases limit the parameters of a statement.
pub(super) const CHUNK: usize = 500;

/// Specifications of some instances.
pub(super) struct Specs(BTreeMap<i64, InstanceSpec>);

impl Specs {
    /// Loads them. An instance that can't be specified (its image is gone) is left out.
    pub(super) async fn load(
        conn: &impl ConnectionTrait,
        rows: &[&instance::Model],
        conductor: &Conductor,
    ) -> Result<Self> {
        if rows.is_empty() {
            return Ok(Specs(BTreeMap::new()));
        }
        let parts = SpecRows::load(conn, rows).await?;
        let mut specs = BTreeMap::new();
        for row in rows {
            match parts.spec(row, conductor) {
                Ok(spec) => drop(specs.insert(row.id, spec)),
                Err(error) => {
                    let instance = InstanceId::from_db(row.id);
                    tracing::error!(%instance, %error, "an instance can't be specified");
                }
            }
        }
        Ok(Specs(specs))
    }

    pub(super) fn get(&self, instance: i64) -> Option<InstanceSpec> {
        self.0.get(&instance).cloned()
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
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut interfaces: HashMap<i64, Vec<interface::Model>> = HashMap::new();
        let mut tags: HashMap<i64, Vec<Tag>> = HashMap::new();
        for chunk in ids.chunks(CHUNK) {
            let found = interface::Entity::find()
                .filter(interface::Column::Instance.is_in(chunk.iter().copied()))
                .order_by_asc(interface::Column::DeviceIndex);
            for row in found.all(conn).await.map_err(failed)? {
                interfaces.entry(row.instance).or_default().push(row);
            }
            let found = tag::Entity::find()
                .filter(tag::Column::Kind.eq("instance"))
                .filter(tag::Column::Resource.is_in(chunk.iter().copied()))
                .order_by_asc(tag::Column::Key);
            for row in found.all(conn).await.map_err(failed)? {
                tags.entry(row.resource).or_default().push(Tag {
                    key: row.key,
                    value: row.value,
                });
            }
        }
        // In the order of the instances, so that what is read is the same in every run of a simulation.
        let of = |row: &&instance::Model| interfaces.get(&row.id).into_iter().flatten().cloned();
        let theirs: Vec<interface::Model> = rows.iter().flat_map(of).collect();
        let distinct =
            |of: fn(&interface::Model) -> i64| -> BTreeSet<i64> { theirs.iter().map(of).collect() };
        let images: BTreeSet<i64> = rows.iter().map(|row| row.image).collect();
        Ok(SpecRows {
            addresses: addresses::of(conn, &theirs).await?,
            groups: groups_of(conn, &theirs.iter().map(|row| row.id).collect::<Vec<_>>()).await?,
            images: by_id(
                image::Entity::find().filter(image::Column::Id.is_in(images)),
                conn,
                |r| r.id,
            )
            .await?,
            subnets: by_id(
                subnet::Entity::find().filter(subnet::Column::Id.is_in(distinct(|r| r.subnet))),
                conn,
                |r| r.id,
            )
            .await?,
            vpcs: by_id(
                vpc::Entity::find().filter(vpc::Column::Id.is_in(distinct(|r| r.vpc))),
                conn,
                |r| r.id,
            )
            .await?,
            placement_groups: placement::names(conn, rows.iter().copied()).await?,
            disks: Disks::load(conn, rows).await?,
            interfaces,
            tags,
        })
    }

    fn spec(&self, row: &instance::Model, conductor: &Conductor) -> Result<InstanceSpec> {
        let missing = |what: &str| Error::Internal(format!("it has no {what}"));
        let image = self.images.get(&row.image).ok_or_else(|| missing("image"))?;
        let interfaces = self.interfaces.get(&row.id).ok_or_else(|| missing("interface"))?;
        let nics = interfaces.iter().map(|i| self.nic(i)).collect::<Result<_>>()?;
        Ok(InstanceSpec {
            id: InstanceId::from_db(row.id),
            generation: instances::number(row, "generation", row.generation)?,
            instance_type: row.instance_type.clone(),
            vcpus: instances::number(row, "vcpus", row.vcpus)?,
            memory_mib: instances::number(row, "memory_mib", row.memory_mib)?,
            disks: self.disks.of(row, image)?,
            nics,
            metadata: Arc::new(self.metadata(row, conductor)?),
        })
    }

    fn metadata(&self, row: &instance::Model, conductor: &Conductor) -> Result<InstanceMetadata> {
        let region = conductor.settings.region.as_str();
        let missing = |what: &str| Error::Internal(format!("it has no {what}"));
        let image = self.images.get(&row.image).ok_or_else(|| missing("image"))?;
        let interfaces = self.interfaces.get(&row.id).ok_or_else(|| missing("interface"))?;
        let seen = interfaces
            .iter()
            .map(|i| self.interface(i))
            .collect::<Result<Vec<_>>>()?;
        let primary = seen.first().ok_or_else(|| missing("interface"))?;
        let user_data = user_data::open(&conductor.sealer, row)?;
        let key = row.key_name.clone().zip(row.public_key.clone());
        Ok(InstanceMetadata {
            instance: InstanceId::from_db(row.id),
            revision: instances::number(row, "metadata_revision", row.metadata_revision)?,
            options: instances::metadata_options(row)?,
            account: AccountId::from_db(row.account),
            reservation: ReservationId::from_db(row.reservation),
            image: ImageId::from_db(row.image),
            instance_type: row.instance_type.clone(),
            architecture: image.architecture.clone(),
            launch_index: instances::number(row, "launch_index", row.launch_index)?,
            private_dns_name: dns::private_name(primary.private_ip, region),
            public_dns_name: primary.public_ip.map(|ip| dns::public_name(ip, region)),
            region: region.into(),
            availability_zone: row.availability_zone.clone(),
            availability_zone_id: crate::api::regions::zone_id(&row.availability_zone),
            placement_group: row
                .placement_group
                .and_then(|id| self.placement_groups.get(&id).cloned()),
            partition_number: row
                .partition_number
                .map(|number| instances::number(row, "partition_number", number))
                .transpose()?,
            public_keys: key
                .into_iter()
                .map(|(name, openssh)| PublicKey { name, openssh })
                .collect(),
            root_device: image.root_device.clone(),
            data_devices: self.disks.started_with(row),
            user_data: user_data.map(|data| data.expose().clone()),
            pending_time: Timestamp(row.launched_at),
            tags: self.tags.get(&row.id).cloned().unwrap_or_default(),
            interfaces: seen,
        })
    }

    fn nic(&self, row: &interface::Model) -> Result<NicSpec> {
        let id = NetworkInterfaceId::from_db(row.id);
        Ok(NicSpec {
            device_index: rows::fit("interfaces", id, "device_index", row.device_index)?,
            vpc: VpcId::from_db(row.vpc),
            interface: interface_policy(row, &self.addresses, self.groups.get(&row.id))?,
        })
    }

    fn interface(&self, row: &interface::Model) -> Result<InterfaceMetadata> {
        let missing = |what: &str| Error::Internal(format!("its interface has no {what}"));
        let subnet = self.subnets.get(&row.subnet).ok_or_else(|| missing("subnet"))?;
        let vpc = self.vpcs.get(&row.vpc).ok_or_else(|| missing("VPC"))?;
        let id = NetworkInterfaceId::from_db(row.id);
        let addresses = self.addresses.get(&row.id).ok_or_else(|| missing("address"))?;
        Ok(InterfaceMetadata {
            id,
            device_index: rows::fit("interfaces", id, "device_index", row.device_index)?,
            mac: addresses::mac(row)?,
            private_ip: addresses.private,
            public_ip: addresses.public,
            subnet: SubnetId::from_db(row.subnet),
            subnet_cidr: subnet.cidr.parse()?,
            vpc: VpcId::from_db(row.vpc),
            vpc_cidr: vpc.cidr.parse()?,
            security_groups: self.groups.get(&row.id).cloned().unwrap_or_default(),
        })
    }
}

/// The name that DHCP hands out: the first label of the private one.
fn hostname(ip: Ipv4Addr) -> String {
    format!("ip-{}", ip.to_string().replace('.', "-"))
}

fn interface_policy(
    row: &interface::Model,
    addresses: &HashMap<i64, InterfaceAddresses>,
    groups: Option<&Vec<(SecurityGroupId, String)>>,
) -> Result<InterfacePolicy> {
    let id = NetworkInterfaceId::from_db(row.id);
    let missing = || Error::Internal(format!("{id} has no address"));
    let addresses = addresses.get(&row.id).ok_or_else(missing)?;
    Ok(InterfacePolicy {
        id,
        subnet: SubnetId::from_db(row.subnet),
        mac: addresses::mac(row)?,
        private_ip: addresses.private,
        public_ip: addresses.public,
        hostname: hostname(addresses.private),
        groups: groups
            .map(|groups| groups.iter().map(|(id, _)| *id).collect())
            .unwrap_or_default(),
    })
}

async fn groups_of(
    conn: &impl ConnectionTrait,
    interfaces: &[i64],
) -> Result<HashMap<i64, Vec<(SecurityGroupId, String)>>> {
    let mut found: HashMap<i64, Vec<(SecurityGroupId, String)>> = HashMap::new();
    let mut names: HashMap<i64, String> = HashMap::new();
    let mut members = Vec::new();
    for chunk in interfaces.chunks(CHUNK) {
        let rows = interface_group::Entity::find()
            .filter(interface_group::Column::Interface.is_in(chunk.iter().copied()));
        members.extend(rows.all(conn).await.map_err(failed)?);
    }
    let ids: Vec<i64> = members
        .iter()
        .map(|m| m.security_group)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    for chunk in ids.chunks(CHUNK) {
        let rows =
            security_group::Entity::find().filter(security_group::Column::Id.is_in(chunk.iter().copied()));
        names.extend(
            rows.all(conn)
                .await
                .map_err(failed)?
                .into_iter()
                .map(|g| (g.id, g.name)),
        );
    }
    for member in members {
        if let Some(name) = names.get(&member.security_group) {
            let group = (SecurityGroupId::from_db(member.security_group), name.clone());
            found.entry(member.interface).or_default().push(group);
        }
    }
    for groups in found.values_mut() {
        groups.sort();
    }
    Ok(found)
}

async fn by_id<E, M>(
    select: sea_orm::Select<E>,
    conn: &impl ConnectionTrait,
    id: fn(&M) -> i64,
) -> Result<HashMap<i64, M>>
where
    E: EntityTrait<Model = M>,
    M: sea_orm::ModelTrait<Entity = E> + sea_orm::FromQueryResult + Send + Sync,
{
    Ok(select
        .all(conn)
        .await
        .map_err(failed)?
        .into_iter()
        .map(|row| (id(&row), row))
        .collect())
}

/// Policies, built once a round for each host and VPC.
#[derive(Default)]
pub(super) struct Policies(Mutex<HashMap<(HostId, i64), Arc<VpcPolicy>>>);

impl Policies {
    pub(super) async fn get(
        &self,
        conn: &DatabaseConnection,
        host: &HostId,
        vpc: i64,
    ) -> Result<Arc<VpcPolicy>> {
        // Held while building: others of the round want the same one. Placements of the round have all
        // committed or will push a newer policy.
        let mut built = self.0.lock().await;
        if let Some(policy) = built.get(&(host.clone(), vpc)) {
            return Ok(policy.clone());
        }
        let policy = Arc::new(policy(conn, host, vpc).await?);
        built.insert((host.clone(), vpc), policy.clone());
        Ok(policy)
    }
}

/// What a host has to enforce for a VPC now. The generation is read first: what changes meanwhile has a
/// higher one and is sent again.
pub(super) async fn policy(conn: &impl ConnectionTrait, host: &HostId, id: i64) -> Result<VpcPolicy> {
    let row = vpc::Entity::find_by_id(id).one(conn).await.map_err(failed)?;
    let row = row.ok_or_else(|| Error::Internal(format!("VPC {} is gone", VpcId::from_db(id))))?;
    let interfaces = interfaces_on(conn, host, id).await?;
    let addresses = addresses::of(conn, &interfaces).await?;
    let ids: Vec<i64> = interfaces.iter().map(|row| row.id).collect();
    let groups = groups_of(conn, &ids).await?;
    let used: BTreeSet<SecurityGroupId> = groups.values().flatten().map(|(id, _)| *id).collect();
    let subnets: BTreeSet<i64> = interfaces.iter().map(|row| row.subnet).collect();
    let subnets = subnet::Entity::find()
        .filter(subnet::Column::Id.is_in(subnets))
        .order_by_asc(subnet::Column::Id);
    let subnets = subnets.all(conn).await.map_err(failed)?;
    let subnets = subnets
        .into_iter()
        .map(|row| {
            Ok(SubnetPolicy {
                id: SubnetId::from_db(row.id),
                cidr: row.cidr.parse::<Cidr>()?,
            })
        })
        .collect::<Result<_>>()?;
    let interfaces: Vec<_> = interfaces
        .iter()
        .map(|row| interface_policy(row, &addresses, groups.get(&row.id)))
        .collect::<Result<_>>()?;
    let vpc = VpcId::from_db(id);
    Ok(VpcPolicy {
        vpc,
        generation: rows::fit("vpcs", vpc, "policy_generation", row.policy_generation)?,
        cidr: row.cidr.parse()?,
        subnets,
        tunnel: tunnel::policy(conn, host, &row, &interfaces).await?,
        interfaces,
        groups: group_policies(conn, &used).await?,
    })
}

/// The interfaces of a VPC that a host has to serve: those of instances that are placed there and not stopped. (A
/// stopped instance's interface comes back with its start.) Of an instance with interfaces in several VPCs, each
/// VPC has its own.
async fn interfaces_on(
    conn: &impl ConnectionTrait,
    host: &HostId,
    vpc: i64,
) -> Result<Vec<interface::Model>> {
    let instances: RelationDef = interface::Entity::belongs_to(instance::Entity)
        .from(interface::Column::Instance)
        .to(instance::Column::Id)
        .into();
    let query = interface::Entity::find()
        .join(JoinType::InnerJoin, instances)
        .filter(interface::Column::Vpc.eq(vpc))
        .filter(instance::Column::Host.eq(host.0.as_str()))
        .filter(instance::Column::Claimed.eq(1))
        .order_by_asc(interface::Column::Id);
    rows::all(query, conn).await
}

async fn group_policies(
    conn: &impl ConnectionTrait,
    used: &BTreeSet<SecurityGroupId>,
) -> Result<Vec<GroupPolicy>> {
    let ids: Vec<i64> = used.iter().map(|id| id.to_db()).collect();
    let mut rules: HashMap<i64, Vec<Rule>> = HashMap::new();
    for chunk in ids.chunks(CHUNK) {
        let found = security_group_rule::Entity::find()
            .filter(security_group_rule::Column::SecurityGroup.is_in(chunk.iter().copied()));
        for row in found.all(conn).await.map_err(failed)? {
            let rule = serde_json::from_str(&row.rule).map_err(|e| Error::internal(&e))?;
            rules.entry(row.security_group).or_default().push(rule);
        }
    }
    let peers: BTreeSet<SecurityGroupId> = rules
        .values()
        .flatten()
        .filter_map(|rule| match rule.peer {
            Peer::Group(id) => Some(id),
            Peer::Cidr(_) => None,
        })
        .collect();
    let mut policies = Vec::new();
    for id in used.union(&peers) {
        let mut rules = if used.contains(id) {
            rules.remove(&id.to_db()).unwrap_or_default()
        } else {
            Vec::new()
        };
        rules.sort();
        let members = if peers.contains(id) {
            addresses::of_members(conn, *id).await?
        } else {
            Vec::new()
        };
        policies.push(GroupPolicy {
            id: *id,
            rules,
            members,
        });
    }
    Ok(policies)
}

/// The metadata snapshots of some instances, as they are now.
pub(super) async fn snapshots(
    conn: &impl ConnectionTrait,
    rows: &[&instance::Model],
    conductor: &Conductor,
) -> Result<Vec<Arc<InstanceMetadata>>> {
    let specs = Specs::load(conn, rows, conductor).await?;
    Ok(specs.0.into_values().map(|spec| spec.metadata).collect())
}
