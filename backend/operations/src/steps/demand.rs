//! Scheduler requests: an instance with its image, its group and where others are.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{
    Error, Result,
    id::{HostId, InstanceId, VolumeId},
    image::Architecture,
    time::Timestamp,
};
use cumulet_scheduler::{Fleet, Group, HostSet, Member, Policy, Request};
use cumulet_store::{
    entity::{columns::Key, image, instance, operation, placement_group, placement_group_host},
    placement, rows,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};

use crate::instance::instance_of;

/// A host on which a launch has failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedHost {
    /// The host's name.
    pub host: String,
    /// What it said.
    pub failure: String,
}

/// Where an instance is to be, by instances that are there already: Nova's scheduler hints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    /// Not on the host of any of these.
    #[serde(default)]
    pub different_host: Vec<InstanceId>,
    /// On the host of one of these, where there are any.
    #[serde(default)]
    pub same_host: Vec<InstanceId>,
}

/// What a launch carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchState {
    /// Where it has failed.
    #[serde(default)]
    pub tried: Vec<FailedHost>,
    /// Where it is to be.
    #[serde(default)]
    pub hints: Hints,
    /// The volumes that are made with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeId>,
    /// The GiB of its host's disk for all of those, which come to it with the instance: none of them can be modified
    /// before it runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub volumes_gib: u32,
    /// They are in the store that hosts share: their host has to reach it, and gives them nothing of its disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Its root outlives it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_root: bool,
}

/// Whether a number says nothing.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands it over so
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The volumes that come to a host with an instance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coming {
    /// How many.
    pub(crate) count: usize,
    /// The GiB of the host's disk for all of them.
    pub(crate) gib: u32,
    /// Whether they are in the store that hosts share.
    pub(crate) shared: bool,
}

/// Those of an operation.
pub(crate) fn volumes(operation: &operation::Model) -> Result<Coming> {
    let state = wishes(operation)?;
    Ok(Coming {
        count: state.volumes.len(),
        gib: state.volumes_gib,
        shared: state.shared,
    })
}

/// What an operation says of where its instance is to be, as a launch does; what is on a host already says nothing.
fn wishes(operation: &operation::Model) -> Result<LaunchState> {
    serde_json::from_str(&operation.state).map_err(|error| Error::internal(&error))
}

/// Where a launch has failed.
pub(crate) fn tried(operation: &operation::Model) -> Result<Vec<FailedHost>> {
    wishes(operation).map(|state| state.tried)
}

/// The rows around the instances of a round that are to be placed.
#[derive(Debug, Default)]
pub(crate) struct Demands {
    architectures: HashMap<i64, Architecture>,
    groups: HashMap<i64, placement_group::Model>,
    members: HashMap<i64, Vec<placement_group_host::Model>>,
    /// By instance: where it has been tried, its hints, and the volumes that come with it.
    states: HashMap<i64, LaunchState>,
    /// Where the instances are that hints name.
    named: HashMap<i64, HostId>,
}

impl Demands {
    /// Reads what the placement of these instances needs.
    pub(crate) async fn load(
        conn: &impl ConnectionTrait,
        rows: &[&instance::Model],
        operations: &[&operation::Model],
    ) -> Result<Self> {
        let mut demands = Demands::default();
        if rows.is_empty() {
            return Ok(demands);
        }
        let images: BTreeSet<i64> = rows.iter().map(|row| row.image.to_db()).collect();
        let images = image::Entity::find().filter(image::Column::Id.is_in(images));
        for row in rows::all(images, conn).await? {
            demands.architectures.insert(row.id.to_db(), row.architecture.0);
        }
        let groups: BTreeSet<i64> = rows
            .iter()
            .filter_map(|row| row.placement_group.map(Key::to_db))
            .collect();
        demands.load_groups(conn, groups).await?;
        let mut named = BTreeSet::new();
        for operation in operations {
            let state = wishes(operation)?;
            let Hints {
                different_host,
                same_host,
            } = &state.hints;
            named.extend(different_host.iter().chain(same_host).map(|id| id.to_db()));
            demands.states.insert(instance_of(operation), state);
        }
        if !named.is_empty() {
            let named = instance::Entity::find().filter(instance::Column::Id.is_in(named));
            for row in rows::all(named, conn).await? {
                if let Some(host) = row.host {
                    demands.named.insert(row.id.to_db(), HostId(host));
                }
            }
        }
        Ok(demands)
    }

    async fn load_groups(&mut self, conn: &impl ConnectionTrait, ids: BTreeSet<i64>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let groups = placement_group::Entity::find().filter(placement_group::Column::Id.is_in(ids.clone()));
        for row in rows::all(groups, conn).await? {
            self.groups.insert(row.id.to_db(), row);
        }
        let hosts = placement_group_host::Entity::find()
            .filter(placement_group_host::Column::PlacementGroup.is_in(ids));
        for row in rows::all(hosts, conn).await? {
            self.members
                .entry(row.placement_group.to_db())
                .or_default()
                .push(row);
        }
        Ok(())
    }

    /// The policy of an instance's group, where it is in one that is still there.
    ///
    /// # Errors
    /// `Internal` where a row is damaged.
    pub(crate) fn policy(&self, row: &instance::Model) -> Result<Option<(i64, Policy)>> {
        let group = row.placement_group.and_then(|id| self.groups.get(&id.to_db()));
        let policy = |group: &placement_group::Model| Ok((group.id.to_db(), placement::policy(group, row)?));
        group.map(policy).transpose()
    }

    /// What an instance needs of a host. One whose disk is on a host already pays for no disk, and has
    /// its place in its group.
    ///
    /// # Errors
    /// `Internal` where a row is damaged.
    pub(crate) fn request(&self, fleet: &Fleet, row: &instance::Model, now: Timestamp) -> Result<Request> {
        let request = Request {
            availability_zone: row.availability_zone.clone(),
            vcpus: row.vcpus.0.into(),
            memory_mib: row.memory_mib.to_db(),
            disk_gib: if row.host.is_some() {
                0
            } else {
                i64::from(row.disk_gib.0)
            },
            account: row.account.0.to_string(),
            architecture: self
                .architectures
                .get(&row.image.to_db())
                .map(ToString::to_string),
            extra_specs: fleet.type_specs(&row.instance_type),
            ..Request::default()
        }
        .at(now);
        if row.host.is_some() {
            return Ok(request);
        }
        let of = |ids: &[InstanceId]| -> HostSet {
            let hosts = ids.iter().filter_map(|id| self.named.get(&id.to_db()));
            hosts.filter_map(|host| fleet.at(host)).collect()
        };
        let state = self.states.get(&row.id.to_db()).cloned().unwrap_or_default();
        let (tried, hints) = (state.tried.into_iter(), state.hints);
        Ok(Request {
            disk_gib: request.disk_gib + i64::from(state.volumes_gib),
            needs_pool: state.shared,
            tried: tried
                .filter_map(|attempt| fleet.at(&HostId(attempt.host)))
                .collect(),
            different_host: of(&hints.different_host),
            same_host: (!hints.same_host.is_empty()).then(|| of(&hints.same_host)),
            group: self.group(fleet, row)?,
            ..request
        })
    }

    fn group(&self, fleet: &Fleet, row: &instance::Model) -> Result<Option<Group>> {
        let Some((id, policy)) = self.policy(row)? else {
            return Ok(None);
        };
        let members = self.members.get(&id).map(Vec::as_slice).unwrap_or_default();
        let at = |row: &placement_group_host::Model| {
            let member = Member {
                count: i64::from(row.members.0),
                partition: row.partition_number.0,
            };
            Some((fleet.at(&HostId(row.host.clone()))?, member))
        };
        Ok(Some(Group {
            policy,
            members: members.iter().filter_map(at).collect(),
            populated: !members.is_empty(),
        }))
    }
}
