//! The launch plan: every reference of a launch (image, type, subnet, groups, key), looked up and checked
//! before anything is made.

use cumulet_core::CloudConfig;
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::AccountId,
    id::{SubnetId, VpcId},
    network::Cidr,
};
use cumulet_network::interface_view::MAX_GROUPS;
use cumulet_scheduler::{Fleet, Request};
use cumulet_storage::images;
use cumulet_store::{
    authority::Grant,
    entity::{columns::Count, image, instance_type, key_pair, placement_group, security_group, subnet},
    groups, networks,
    resource::{self, Lock},
};
use sea_orm::ConnectionTrait;

use crate::{
    Compute, instance_types,
    instances::{LaunchSpec, launch_disks::LaunchDisks},
};

/// A launch's references.
#[derive(Debug)]
pub(super) struct LaunchPlan {
    /// By which they were looked up.
    pub(super) grant: Grant,
    pub(super) image: image::Model,
    pub(super) kind: instance_type::Model,
    pub(super) key: Option<key_pair::Model>,
    pub(super) subnet: subnet::Model,
    pub(super) cidr: Cidr,
    pub(super) groups: Vec<security_group::Model>,
    pub(super) disks: LaunchDisks,
    pub(super) public: bool,
    pub(super) group: Option<placement_group::Model>,
}

impl LaunchPlan {
    /// Looks everything up.
    pub(super) async fn make(
        txn: &impl ConnectionTrait,
        grant: &Grant,
        spec: &LaunchSpec,
        config: &CloudConfig,
    ) -> Result<LaunchPlan> {
        let image = images::usable(txn, grant, spec.image).await?;
        let kind = instance_types::offered(txn, &spec.instance_type).await?;
        let key = match &spec.key_name {
            Some(name) => Some(resource::find_named::<key_pair::Entity>(txn, grant, name, Lock::None).await?),
            None => None,
        };
        let subnet = subnet(txn, grant, spec, &config.availability_zones).await?;
        let cidr: Cidr = subnet.cidr.0;
        if let Some(address) = spec
            .private_ip
            .filter(|address| !networks::is_usable(cidr, *address))
        {
            let reason = "the address is not one that instances of the subnet can have";
            return Err(Error::invalid("PrivateIpAddress", &address.to_string(), reason));
        }
        let groups = self::groups(txn, grant, spec, subnet.vpc.0).await?;
        let public = spec.associate_public_ip.unwrap_or(subnet.map_public_ip.0);
        let group = group(txn, grant, spec).await?;
        let disks = LaunchDisks::plan(txn, grant, &image, spec, config.volume_store).await?;
        Ok(LaunchPlan {
            grant: grant.clone(),
            image,
            kind,
            key,
            subnet,
            cidr,
            groups,
            disks,
            public,
            group,
        })
    }

    /// How many of the wanted instances some host has room for; placement itself comes later.
    pub(super) async fn fit(
        &self,
        compute: &Compute,
        txn: &impl ConnectionTrait,
        account: AccountId,
        spec: &LaunchSpec,
    ) -> Result<i64> {
        let (min, max) = (spec.min, spec.max);
        let request = |fleet: &Fleet| Request {
            availability_zone: self.subnet.availability_zone.clone(),
            vcpus: i64::from(self.kind.vcpus.0),
            memory_mib: self.kind.memory_mib.to_db(),
            disk_gib: i64::from(self.disks.root_gib.0) + i64::from(self.disks.host_gib()),
            needs_pool: self.disks.are_shared(),
            account: account.to_string(),
            architecture: Some(self.image.architecture.to_string()),
            extra_specs: fleet.type_specs(&self.kind.name),
            ..Request::default()
        };
        let refused = |reason: String| Error::InsufficientCapacity { reason };
        let could = compute
            .scheduler
            .could_fit(txn, compute.now(), u64::from(max), request);
        match could.await? {
            Ok(fitting) if fitting >= u64::from(min) => Ok(fitting.cast_signed()),
            Ok(fitting) => Err(refused(format!(
                "there is room for {fitting} instances of type {} in {}, and at least {min} are wanted",
                self.kind.name, self.subnet.availability_zone
            ))),
            Err(refusal) => Err(refused(refusal.to_string())),
        }
    }
}

impl LaunchPlan {
    /// The partition of the group that an instance is in: the one that is asked for, or each in its turn.
    pub(super) fn partition(&self, spec: &LaunchSpec, index: u32) -> Option<Count> {
        let Count(count) = self.group.as_ref()?.partition_count?;
        let in_turn = index.checked_rem(count)?.saturating_add(1);
        Some(Count(spec.partition_number.unwrap_or(in_turn)))
    }
}

/// The placement group that a launch names, which must have the partition that it names.
async fn group(
    txn: &impl ConnectionTrait,
    grant: &Grant,
    spec: &LaunchSpec,
) -> Result<Option<placement_group::Model>> {
    let Some(name) = &spec.placement_group else {
        return match spec.partition_number {
            None => Ok(None),
            Some(_) => Err(Error::InvalidCombination {
                reason: "a partition needs a placement group".into(),
            }),
        };
    };
    let group = resource::find_named::<placement_group::Entity>(txn, grant, name, Lock::Exclusive).await?;
    if let Some(number) = spec.partition_number {
        let Count(count) = group.partition_count.unwrap_or_default();
        if number < 1 || number > count {
            let reason = format!("the placement group has {count} partitions");
            return Err(Error::invalid(
                "Placement.PartitionNumber",
                &number.to_string(),
                reason,
            ));
        }
    }
    Ok(Some(group))
}

async fn subnet(
    txn: &impl ConnectionTrait,
    grant: &Grant,
    spec: &LaunchSpec,
    zones: &[String],
) -> Result<subnet::Model> {
    let zone = spec.availability_zone.as_deref();
    if let Some(zone) = zone.filter(|zone| !zones.iter().any(|known| known == zone)) {
        return Err(Error::unknown_zone(zone));
    }
    if let Some(id) = spec.subnet {
        let row = resource::find::<subnet::Entity>(txn, grant, id, Lock::None).await?;
        if let Some(zone) = zone.filter(|zone| *zone != row.availability_zone) {
            let reason = format!("the subnet {id} is in {}, not in {zone}", row.availability_zone);
            return Err(Error::InvalidCombination { reason });
        }
        return Ok(row);
    }
    if let Some(row) = networks::default_subnet(txn, grant, zone).await? {
        return Ok(row);
    }
    match networks::default_vpc(txn, grant).await? {
        None => Err(Error::NoDefaultVpc),
        Some(_) => Err(Error::NotFound {
            kind: ResourceKind::Subnet,
            id: format!("default subnet of {}", zone.unwrap_or("any zone")),
        }),
    }
}

async fn groups(
    txn: &impl ConnectionTrait,
    grant: &Grant,
    spec: &LaunchSpec,
    vpc: VpcId,
) -> Result<Vec<security_group::Model>> {
    if !spec.group_names.is_empty() && spec.subnet.is_some() {
        let reason = "security groups of a subnet's instances are given by id, not by name".into();
        return Err(Error::InvalidCombination { reason });
    }
    let mut rows = resource::list_all::<security_group::Entity>(txn, grant, &spec.groups).await?;
    if !spec.group_names.is_empty() {
        rows.extend(groups::by_names(txn, grant, vpc, &spec.group_names).await?);
    }
    if rows.is_empty() {
        rows = groups::by_names(txn, grant, vpc, &["default".to_owned()]).await?;
    }
    resource::show::<security_group::Entity>(txn, grant, &rows).await?;
    check_groups(rows, vpc)
}

/// Groups for one interface: each once, all of its VPC, not too many.
pub(super) fn check_groups(
    mut rows: Vec<security_group::Model>,
    vpc: VpcId,
) -> Result<Vec<security_group::Model>> {
    rows.sort_by_key(|row| row.id);
    rows.dedup_by_key(|row| row.id);
    if rows.len() > MAX_GROUPS {
        return Err(Error::LimitExceeded {
            limit: cumulet_domain::error::Limit::SecurityGroupsPerInterface,
            max: MAX_GROUPS as u64,
        });
    }
    if let Some(row) = rows.iter().find(|row| row.vpc.0 != vpc) {
        let group = row.id.0;
        let reason = format!("the security group {group} does not belong to {vpc}");
        return Err(Error::InvalidCombination { reason });
    }
    Ok(rows)
}

/// The id of a plan's subnet.
pub(super) fn subnet_id(plan: &LaunchPlan) -> SubnetId {
    plan.subnet.id.0
}
