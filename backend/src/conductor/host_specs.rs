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
    image::ImageRef,
    metadata::{InstanceMetadata, InterfaceMetadata, MetadataOptions, PublicKey},
    network::{Cidr, GroupPolicy, InterfacePolicy, Mac, Peer, Rule, SubnetPolicy, VpcPolicy},
    spec::InstanceSpec,
    tag::Tag,
    time::Timestamp,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, EntityTrait, JoinType, QueryFilter, QueryOrder,
    QuerySelect, RelationDef,
};
use tokio::sync::Mutex;

use super::{Conductor, tunnel};
use crate::{
    entity::{
        image, instance, interface, interface_group, security_group, security_group_rule, subnet, tag, vpc,
    },
    store::{column, failed, placement, user_data},
};

/// Ids in one `in (…)`: databases limit the parameters of a statement.
const CHUNK: usize = 500;

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
    groups: HashMap<i64, Vec<(SecurityGroupId, String)>>,
    images: HashMap<i64, image::Model>,
    subnets: HashMap<i64, subnet::Model>,
    vpcs: HashMap<i64, vpc::Model>,
    tags: HashMap<i64, Vec<Tag>>,
    placement_groups: HashMap<i64, String>,
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
        let theirs: Vec<i64> = interfaces.values().flatten().map(|row| row.id).collect();
        let distinct =
            |of: fn(&instance::Model) -> i64| -> BTreeSet<i64> { rows.iter().map(|row| of(row)).collect() };
        Ok(SpecRows {
            groups: groups_of(conn, &theirs).await?,
            images: by_id(
                image::Entity::find().filter(image::Column::Id.is_in(distinct(|r| r.image))),
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
            interfaces,
            tags,
        })
    }

    fn spec(&self, row: &instance::Model, conductor: &Conductor) -> Result<InstanceSpec> {
        let missing = |what: &str| Error::Internal(format!("it has no {what}"));
        let image = self.images.get(&row.image).ok_or_else(|| missing("image"))?;
        let interfaces = self.interfaces.get(&row.id).ok_or_else(|| missing("interface"))?;
        let policies = interfaces
            .iter()
            .map(|i| interface_policy(i, self.groups.get(&i.id)))
            .collect();
        Ok(InstanceSpec {
            id: InstanceId::from_db(row.id),
            generation: unsigned(row.generation),
            instance_type: row.instance_type.clone(),
            vcpus: u32::try_from(row.vcpus).unwrap_or(1),
            memory_mib: unsigned(row.memory_mib),
            image: ImageRef {
                id: ImageId::from_db(image.id),
                sha256: image.sha256.clone(),
                format: image.format.parse()?,
                size_bytes: unsigned(image.size_bytes),
                virtual_bytes: unsigned(image.virtual_bytes),
            },
            disk_gib: unsigned(row.disk_gib),
            vpc: VpcId::from_db(row.vpc),
            interfaces: policies,
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
            revision: unsigned(row.metadata_revision),
            options: options(row),
            account: AccountId::from_db(row.account),
            reservation: ReservationId::from_db(row.reservation),
            image: ImageId::from_db(row.image),
            instance_type: row.instance_type.clone(),
            architecture: image.architecture.clone(),
            launch_index: u32::try_from(row.launch_index).unwrap_or(0),
            private_dns_name: dns::private_name(primary.private_ip, region),
            public_dns_name: primary.public_ip.map(|ip| dns::public_name(ip, region)),
            region: region.into(),
            availability_zone: row.availability_zone.clone(),
            availability_zone_id: crate::api::regions::zone_id(&row.availability_zone),
            placement_group: row
                .placement_group
                .and_then(|id| self.placement_groups.get(&id).cloned()),
            partition_number: row.partition_number.and_then(|number| u32::try_from(number).ok()),
            public_keys: key
                .into_iter()
                .map(|(name, openssh)| PublicKey { name, openssh })
                .collect(),
            root_device: image.root_device.clone(),
            user_data: user_data.map(|data| data.expose().clone()),
            pending_time: Timestamp(row.launched_at),
            tags: self.tags.get(&row.id).cloned().unwrap_or_default(),
            interfaces: seen,
        })
    }

    fn interface(&self, row: &interface::Model) -> Result<InterfaceMetadata> {
        let missing = |what: &str| Error::Internal(format!("its interface has no {what}"));
        let subnet = self.subnets.get(&row.subnet).ok_or_else(|| missing("subnet"))?;
        let vpc = self.vpcs.get(&row.vpc).ok_or_else(|| missing("VPC"))?;
        Ok(InterfaceMetadata {
            id: NetworkInterfaceId::from_db(row.id),
            device_index: u32::try_from(row.device_index).unwrap_or(0),
            mac: mac(row.mac),
            private_ip: address(row.private_ip),
            public_ip: row.public_ip.map(address),
            subnet: SubnetId::from_db(row.subnet),
            subnet_cidr: subnet.cidr.parse()?,
            vpc: VpcId::from_db(row.vpc),
            vpc_cidr: vpc.cidr.parse()?,
            security_groups: self.groups.get(&row.id).cloned().unwrap_or_default(),
        })
    }
}

/// `MetadataOptions` of an instance's row.
fn options(row: &instance::Model) -> MetadataOptions {
    MetadataOptions {
        enabled: row.http_enabled != 0,
        tokens_required: row.http_tokens_required != 0,
        hop_limit: u8::try_from(row.http_hop_limit).unwrap_or(1),
        tags: row.http_tags != 0,
    }
}

/// The name that DHCP hands out: the first label of the private one.
fn hostname(ip: Ipv4Addr) -> String {
    format!("ip-{}", ip.to_string().replace('.', "-"))
}

fn interface_policy(
    row: &interface::Model,
    groups: Option<&Vec<(SecurityGroupId, String)>>,
) -> InterfacePolicy {
    InterfacePolicy {
        id: NetworkInterfaceId::from_db(row.id),
        subnet: SubnetId::from_db(row.subnet),
        mac: mac(row.mac),
        private_ip: address(row.private_ip),
        public_ip: row.public_ip.map(address),
        hostname: hostname(address(row.private_ip)),
        groups: groups
            .map(|groups| groups.iter().map(|(id, _)| *id).collect())
            .unwrap_or_default(),
    }
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

fn address(number: i64) -> Ipv4Addr {
    Ipv4Addr::from(u32::try_from(number).unwrap_or(0))
}

fn mac(number: i64) -> Mac {
    let [_, _, bytes @ ..] = number.to_be_bytes();
    Mac(bytes)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
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
    let here = instances_on(conn, host, id).await?;
    let mut interfaces = Vec::new();
    for chunk in here.chunks(CHUNK) {
        let found =
            interface::Entity::find().filter(interface::Column::Instance.is_in(chunk.iter().copied()));
        interfaces.extend(found.all(conn).await.map_err(failed)?);
    }
    interfaces.sort_by_key(|row| row.id);
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
        .map(|row| interface_policy(row, groups.get(&row.id)))
        .collect();
    Ok(VpcPolicy {
        vpc: VpcId::from_db(id),
        generation: unsigned(row.policy_generation),
        cidr: row.cidr.parse()?,
        subnets,
        tunnel: tunnel::policy(conn, host, &row, &interfaces).await?,
        interfaces,
        groups: group_policies(conn, &used).await?,
    })
}

/// The instances of a VPC that a host has to serve: placed there and not stopped. (A stopped instance's
/// interface comes back with its start.)
async fn instances_on(conn: &impl ConnectionTrait, host: &HostId, vpc: i64) -> Result<Vec<i64>> {
    column(
        instance::Entity::find()
            .select_only()
            .column(instance::Column::Id)
            .filter(instance::Column::Host.eq(host.0.as_str()))
            .filter(instance::Column::Vpc.eq(vpc))
            .filter(instance::Column::Claimed.eq(1)),
        conn,
    )
    .await
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
            members(conn, *id).await?
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

/// The private addresses of a group's members, wherever they are.
async fn members(conn: &impl ConnectionTrait, group: SecurityGroupId) -> Result<Vec<Ipv4Addr>> {
    let relation: RelationDef = interface::Entity::belongs_to(interface_group::Entity)
        .from(interface::Column::Id)
        .to(interface_group::Column::Interface)
        .into();
    let found: Vec<i64> = column(
        interface::Entity::find()
            .select_only()
            .column(interface::Column::PrivateIp)
            .join(JoinType::InnerJoin, relation)
            .filter(interface_group::Column::SecurityGroup.eq(group.to_db()))
            .order_by_asc(interface::Column::PrivateIp),
        conn,
    )
    .await?;
    Ok(found.into_iter().map(address).collect())
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
