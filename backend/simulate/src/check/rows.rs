//! The invariants of rows against each other, over one snapshot of all tables that matter.

use std::collections::{BTreeMap, BTreeSet};

use cumulet_backend::{
    entity::{
        account,
        columns::{Amount, Key, Named, Owner},
        host, host_network, instance, interface, metadata_push,
        operation::{self, OperationStatus},
        vpc,
    },
    store::{Store, consistency::Hanging, failed},
};
use cumulet_domain::{
    Result,
    id::{HostId, InstanceId, NetworkInterfaceId, VpcId, marker::Reservation},
    instance::{Intent, State},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::Findings;
use crate::outcome::Invariant;

/// The rows.
pub(crate) struct Rows {
    pub(crate) instances: BTreeMap<InstanceId, instance::Model>,
    pub(crate) interfaces: Vec<interface::Model>,
    pub(crate) interfaces_of: BTreeMap<InstanceId, BTreeSet<NetworkInterfaceId>>,
    pub(crate) placed: BTreeMap<HostId, Vec<InstanceId>>,
    pub(crate) networks: BTreeMap<HostId, BTreeMap<VpcId, Amount>>,
    pub(crate) policies: BTreeMap<VpcId, Amount>,
    /// The reservations that each client token made.
    pub(crate) tokens: BTreeMap<(Owner, String), BTreeSet<Key<Reservation>>>,
    hosts: Vec<host::Model>,
    accounts: Vec<account::Model>,
    operations: Vec<operation::Model>,
    pushes: usize,
    hanging: Hanging,
}

impl Rows {
    pub(crate) async fn load(store: &Store) -> Result<Self> {
        let conn = store.read();
        let rows = instance::Entity::find().all(conn).await.map_err(failed)?;
        let instances: BTreeMap<_, _> = rows.into_iter().map(|row| (row.id.0, row)).collect();
        let mut placed: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut tokens: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (id, row) in &instances {
            if let Some(host) = &row.host {
                placed.entry(HostId(host.clone())).or_default().push(*id);
            }
            if let Some(token) = &row.client_token {
                let key = (row.account, token.clone());
                tokens.entry(key).or_default().insert(row.reservation);
            }
        }
        let interfaces = interface::Entity::find().all(conn).await.map_err(failed)?;
        let mut interfaces_of: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for row in &interfaces {
            let ids = interfaces_of.entry(row.instance.0).or_default();
            ids.insert(row.id.0);
        }
        let mut networks: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for row in host_network::Entity::find().all(conn).await.map_err(failed)? {
            let here = networks.entry(HostId(row.host)).or_default();
            here.insert(row.vpc.0, row.applied_generation);
        }
        let vpcs = vpc::Entity::find().all(conn).await.map_err(failed)?;
        let active =
            operation::Entity::find().filter(operation::Column::Status.eq(Named(OperationStatus::Active)));
        Ok(Rows {
            placed,
            tokens,
            interfaces,
            interfaces_of,
            networks,
            policies: vpcs.iter().map(|row| (row.id.0, row.policy_generation)).collect(),
            hosts: host::Entity::find().all(conn).await.map_err(failed)?,
            accounts: account::Entity::find().all(conn).await.map_err(failed)?,
            operations: active.all(conn).await.map_err(failed)?,
            pushes: metadata_push::Entity::find()
                .all(conn)
                .await
                .map_err(failed)?
                .len(),
            hanging: Hanging::load(conn).await?,
            instances,
        })
    }

    /// I9: what failed, where hosts were no worse than slow for a while.
    pub(crate) fn given_up(&self) -> Findings {
        let failed = |row: &&instance::Model| row.reason_code.as_deref() == Some("Server.InternalError");
        let failed = self.instances.values().filter(failed);
        let told = failed.map(|row| {
            let why = row.reason_message.as_deref().unwrap_or_default();
            let id = row.id.0;
            (
                Invariant::I9,
                format!("{id} is {} for a slow host: {why}", row.state),
            )
        });
        told.collect()
    }

    /// How many instances are in which state.
    pub(crate) fn states(&self) -> BTreeMap<String, u64> {
        let mut states = BTreeMap::new();
        for row in self.instances.values() {
            *states.entry(row.state.to_string()).or_default() += 1;
        }
        states
    }

    /// What rows say that contradicts others, or that is still on its way.
    pub(crate) fn findings(&self) -> Findings {
        let mut findings = Findings::new();
        self.unfinished(&mut findings);
        self.sums(&mut findings);
        self.addresses(&mut findings);
        let hanging = self.hanging.findings(self.instances.values(), &self.interfaces);
        findings.extend(hanging.into_iter().map(|words| (Invariant::I1, words)));
        for (id, row) in &self.instances {
            let has = self.interfaces_of.get(id).map_or(0, BTreeSet::len);
            let wanted = usize::from(row.state.0 != State::Terminated);
            if has != wanted {
                findings.push((
                    Invariant::I1,
                    format!("{id} is {} and has {has} interfaces", row.state),
                ));
            }
        }
        let orphans = self
            .interfaces_of
            .keys()
            .filter(|id| !self.instances.contains_key(id));
        findings.extend(orphans.map(|id| (Invariant::I1, format!("{id} is gone and has an interface"))));
        findings
    }

    /// All volumes and where they are attached.
    pub(super) const fn hanging(&self) -> &Hanging {
        &self.hanging
    }

    fn unfinished(&self, findings: &mut Findings) {
        let mut late = |words: String| findings.push((Invariant::I2, words));
        for (id, words) in self.hanging.unsettled() {
            late(format!("{id} {words}"));
        }
        for (id, row) in &self.instances {
            if row.state.0.is_transient() {
                late(format!("{id} is {} on {:?}", row.state, row.host));
            }
            let settled = match row.intent.0 {
                Intent::Running => matches!(row.state.0, State::Running | State::Pending),
                Intent::Stopped => matches!(row.state.0, State::Stopped | State::Stopping),
                Intent::Terminated => matches!(row.state.0, State::Terminated | State::ShuttingDown),
            };
            if !settled {
                late(format!("{id} shall be {} and is {}", row.intent, row.state));
            }
        }
        for row in &self.operations {
            let (kind, id) = row.subject();
            late(format!("a {} of {kind} {id} is under way", row.kind));
        }
        if self.pushes > 0 {
            late(format!("{} snapshots are not confirmed", self.pushes));
        }
        for (host, networks) in &self.networks {
            for (vpc, applied) in networks {
                let wanted = self.policies.get(vpc).copied().unwrap_or_default();
                if *applied < wanted {
                    late(format!("{host} has {vpc} at {applied} of {wanted}"));
                }
            }
        }
    }

    /// I3, and the same for quotas.
    fn sums(&self, findings: &mut Findings) {
        let mut hosts: BTreeMap<&str, (i64, i64, i64)> = BTreeMap::new();
        let mut accounts: BTreeMap<Owner, (i64, i64)> = BTreeMap::new();
        for row in self.instances.values() {
            if let Some(host) = &row.host {
                let sums = hosts.entry(host).or_default();
                if row.claimed.0 {
                    sums.0 += i64::from(row.vcpus.0);
                    sums.1 += row.memory_mib.to_db();
                }
                sums.2 += i64::from(row.disk_gib.0);
            }
            if row.state.0 != State::Terminated {
                let sums = accounts.entry(row.account).or_default();
                (sums.0, sums.1) = (sums.0 + 1, sums.1 + i64::from(row.vcpus.0));
            }
        }
        for row in &self.hosts {
            let mut sums = hosts.get(row.id.as_str()).copied().unwrap_or_default();
            sums.2 += self.hanging.disk_gib(&row.id);
            let used = (row.vcpus_used, row.memory_mib_used, row.disk_gib_used);
            let over = sums.0 > row.vcpus_max.to_db()
                || sums.1 > row.memory_mib_max.to_db()
                || sums.2 > row.disk_gib_max.to_db();
            if used != sums || over {
                findings.push((
                    Invariant::I3,
                    format!("host {} has {used:?} used, its instances {sums:?}", row.id),
                ));
            }
        }
        for row in &self.accounts {
            let sums = accounts.get(&row.id).copied().unwrap_or_default();
            let used = (row.instances_used, row.vcpus_used);
            if used != sums {
                findings.push((
                    Invariant::I1,
                    format!("account {} has {used:?} used, its instances {sums:?}", row.id),
                ));
            }
        }
    }

    fn addresses(&self, findings: &mut Findings) {
        let (mut macs, mut private, mut public) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for row in &self.interfaces {
            let unique = macs.insert((row.vpc, row.mac))
                & private.insert((row.vpc, row.private_ip))
                & row.public_ip.is_none_or(|ip| public.insert(ip));
            if !unique {
                let id = row.id.0;
                findings.push((Invariant::I8, format!("an address of {id} is another's too")));
            }
        }
    }
}
