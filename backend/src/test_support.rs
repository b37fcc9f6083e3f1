//! A cloud for tests: a real database in a directory of its own, a clock that stands still, seeded
//! randomness, and one host with room. No conductor runs: rows stay as the API leaves them.

#![allow(clippy::unwrap_used, reason = "it is for tests alone")]

use std::{sync::Arc, time::Duration};

use cumulet_bus::LocalBus;
use cumulet_certs::{MasterKey, Sealer};
use cumulet_compute::instances::LaunchSpec;
use cumulet_core::{
    CloudConfig, Page, PageRequest, Parts, Quotas, Wake, audit_log::AuditLogEntry, retention::Retention,
};
use cumulet_domain::{
    Result,
    account::{AccountId, Principal, Role},
    id::ImageId,
    image::{Architecture, BootMode, DiskFormat},
    instance::State,
    network::Cidr,
    rng::SharedRng,
    time::{Clock, ManualClock, Timestamp},
    volume::{DiskAsked, Mapped, Mapping},
};
use cumulet_identity::accounts;
use cumulet_journal as journal;
use cumulet_operations::instance::subject;
use cumulet_operator::bootstrap::{FirstPlan, bootstrap};
use cumulet_storage::images;
use cumulet_store::{
    Participant, Store,
    authority::{Permission, Visibility},
    connect,
    entity::{
        account,
        columns::{Amount, Flag},
        host, instance,
    },
    lock,
    scratch::Scratch,
};
use futures::future::BoxFuture;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, sea_query::Expr};

use crate::Cloud;

/// Few enough to be used up.
pub const QUOTAS: Quotas = Quotas {
    key_pairs: 20,
    placement_groups: 12,
    tags: 600,
    volumes: 60,
    volume_gib: 51_200,
    snapshots: 12,
    images: 10,
    pending_snapshots: 8,
    pending_snapshot_copies: 3,
    accounts_per_image: 4,
    accounts_per_snapshot: 3,
};

/// The zone of the test cloud.
pub const ZONE: &str = "us-east-1a";

/// A cloud with two accounts.
pub struct Rig {
    /// The cloud as the first account's door has it.
    pub cloud: Cloud,
    /// Its clock, which stands still.
    pub clock: Arc<ManualClock>,
    /// The first account's administrator.
    pub who: Principal,
    /// An administrator of another account.
    pub stranger: Principal,
    /// A public image of the first account.
    pub image: ImageId,
    /// Where its rows are.
    pub database: Scratch,
}

/// A new cloud.
pub async fn cloud() -> Rig {
    with_pool("198.18.0.0/16").await
}

/// A new cloud with this pool of public addresses.
pub async fn with_pool(pool: &str) -> Rig {
    let (database, parts, clock) = parts().await;
    let zones = vec![ZONE.to_owned()];
    let plan = FirstPlan {
        availability_zones: zones.clone(),
        public_pool: pool.parse().unwrap(),
    };
    let first = bootstrap(&parts, &plan).await.unwrap();
    let other = accounts::create_account(&parts, "other", &zones).await.unwrap();
    let config = CloudConfig {
        region: "us-east-1".into(),
        availability_zones: zones,
        public_pool: first.public_pool,
        cloud_id: first.cloud_id,
        hypervisor: "fake".into(),
        endpoint: "127.0.0.1:8773".into(),
        retention: Retention::default(),
        public_addresses: 1 << 20,
        quotas: QUOTAS,
        modification_cooldown: std::time::Duration::ZERO,
        volume_store: cumulet_domain::volume::VolumeStore::Local,
    };
    let image = images::add(&parts, image(first.account, "tiny", true))
        .await
        .unwrap()
        .id();
    let cloud = Cloud::new(parts, Wake::new(), Arc::new(LocalBus::new()), config);
    add_host(&cloud).await;
    Rig {
        cloud,
        clock,
        who: principal(first.account, Role::Administrator),
        stranger: principal(other.id.0, Role::Administrator),
        image,
        database,
    }
}

/// The parts of a cloud that has not been started yet.
pub async fn parts() -> (Scratch, Parts, Arc<ManualClock>) {
    let database = Scratch::migrated().await;
    let store = connect(&database.options(4)).await.unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_767_323_045_000)));
    let sealer = Arc::new(Sealer::new(MasterKey::from_bytes([7; 32])));
    let parts = Parts::new(store, clock.clone(), SharedRng::seeded(1), sealer);
    (database, parts, clock)
}

/// A principal of an account.
pub fn principal(account: AccountId, role: Role) -> Principal {
    Principal {
        account,
        user_id: "AIDATEST".into(),
        user_name: "admin".into(),
        access_key_id: "AKIATEST".into(),
        role,
    }
}

/// A mapping of a launch.
pub fn volume(device: &str, change: impl FnOnce(&mut DiskAsked)) -> Mapping {
    let mut asked = DiskAsked::default();
    change(&mut asked);
    Mapping {
        device: device.into(),
        content: Mapped::Volume(asked),
    }
}

/// An image of an account.
pub fn image(account: AccountId, name: &str, public: bool) -> images::NewImage {
    images::NewImage {
        account,
        name: name.into(),
        description: String::new(),
        public,
        architecture: Architecture::X86_64,
        format: DiskFormat::Qcow2,
        sha256: "0".repeat(64),
        size_bytes: 10 << 20,
        virtual_bytes: 3 << 29,
        root_device: "/dev/xvda".into(),
        boot_mode: BootMode::LegacyBios,
    }
}

/// An entry of the audit log, of no call in particular.
pub fn audit_log_entry(account: AccountId) -> AuditLogEntry {
    AuditLogEntry {
        account,
        user_name: "admin".into(),
        action: "RunInstances".into(),
        resource: None,
        outcome: "ok".into(),
        request_id: "r".into(),
        detail: None,
    }
}

async fn add_host(cloud: &Cloud) {
    let row = host::Model {
        id: "host-1".into(),
        availability_zone: ZONE.into(),
        hypervisor: "fake".into(),
        enabled: Flag(true),
        vcpus: Amount(1_000_000),
        memory_mib: Amount(1_000_000_000),
        disk_gib: Amount(1_000_000),
        vcpus_max: Amount(1_000_000),
        memory_mib_max: Amount(1_000_000_000),
        disk_gib_max: Amount(1_000_000),
        vcpus_used: 0,
        memory_mib_used: 0,
        disk_gib_used: 0,
        last_seen: cloud.now().0,
        created_at: cloud.now().0,
        ..host::Model::default()
    };
    let write = cloud.store.write(move |txn| {
        Box::pin(async move {
            let insert = host::Entity::insert(host::ActiveModel::from(row));
            insert
                .exec_without_returning(txn)
                .await
                .map(drop)
                .map_err(cumulet_store::failed)
        })
    });
    write.await.unwrap();
}

impl Rig {
    /// A launch of one small instance.
    pub fn spec(&self) -> LaunchSpec {
        LaunchSpec::new(self.image, "t3.nano")
    }

    /// A principal of the first account who may only read.
    pub fn reader(&self) -> Principal {
        principal(self.who.account, Role::ReadOnly)
    }

    /// What the first account sees.
    pub fn sight(&self) -> Visibility {
        let grant = self.cloud.authorise(&self.who, Permission::DESCRIBE_INSTANCES);
        grant.unwrap().visibility()
    }

    /// The first account's row.
    pub async fn account(&self) -> account::Model {
        accounts::limits(&self.cloud, &self.who).await.unwrap()
    }

    /// Sets the first account's quotas.
    pub async fn set_quota(&self, instances: i64, vcpus: i64) {
        let id = self.who.account.to_db();
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = account::Entity::update_many()
                    .col_expr(account::Column::InstancesMax, Expr::value(instances))
                    .col_expr(account::Column::VcpusMax, Expr::value(vcpus))
                    .filter(account::Column::Id.eq(id));
                update.exec(txn).await.map(drop).map_err(cumulet_store::failed)
            })
        });
        write.await.unwrap();
    }

    /// Changes the prefix of a subnet, to have fewer addresses.
    pub async fn shrink(&self, subnet: i64, cidr: Cidr) {
        use crate::entity::subnet::{Column, Entity};
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = Entity::update_many()
                    .col_expr(Column::Cidr, Expr::value(cidr.to_string()))
                    .filter(Column::Id.eq(subnet));
                update.exec(txn).await.map(drop).map_err(cumulet_store::failed)
            })
        });
        write.await.unwrap();
    }

    /// Puts an instance into a state, as the conductor would.
    pub async fn settle(&self, id: cumulet_domain::id::InstanceId, state: State) {
        use instance::Column as C;
        let now = self.clock.now();
        let ended = (state == State::Terminated).then_some(now.0);
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = instance::Entity::update_many()
                    .col_expr(C::State, Expr::value(state.name()))
                    .col_expr(C::TerminatedAt, Expr::value(ended))
                    .filter(C::Id.eq(id.to_db()));
                update.exec(txn).await.map_err(cumulet_store::failed)?;
                // What was under way for it has come to its end.
                match journal::active(txn, subject(id.to_db())).await? {
                    Some(open) => journal::finish(txn, open.id.0, None, now).await.map(drop),
                    None => Ok(()),
                }
            })
        });
        write.await.unwrap();
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

/// All pages of a listing, one after the other, of so many rows each.
pub async fn pages<T, K>(
    limit: u32,
    list: impl AsyncFn(PageRequest<K>) -> Result<Page<T, K>>,
) -> Vec<Vec<T>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let limit = Some(limit);
        let Page { rows, next } = list(PageRequest { limit, after }).await.unwrap();
        pages.push(rows);
        match next {
            Some(next) => after = Some(next),
            None => return pages,
        }
    }
}

/// Holds a transaction open when all of it is written, until `ended` is told, or somebody has waited for it for
/// long enough. With SQLite, where nobody else could come in, it holds up nothing.
#[derive(Debug, Default)]
struct Hold {
    written: tokio::sync::Notify,
    ended: tokio::sync::Notify,
}

impl Participant for Hold {
    fn write<'t>(&'t self, txn: &'t DatabaseTransaction) -> BoxFuture<'t, Result<()>> {
        Box::pin(async move {
            self.written.notify_one();
            if lock::needed(txn) {
                let ended = tokio::time::timeout(Duration::from_millis(400), self.ended.notified());
                drop(ended.await);
            }
            Ok(())
        })
    }
}

/// Two transactions at once. The second one runs when the first has written all that it writes and has not
/// committed; it ends, or waits for the first one's commit.
pub async fn overlap<A, B>(
    store: &Store,
    first: impl AsyncFnOnce(Store) -> A,
    second: impl AsyncFnOnce() -> B,
) -> (A, B) {
    let hold = Arc::new(Hold::default());
    let held = store.with(hold.clone());
    let before = async {
        let answer = first(held).await;
        hold.written.notify_one();
        answer
    };
    let meanwhile = async {
        hold.written.notified().await;
        let answer = second().await;
        hold.ended.notify_one();
        answer
    };
    tokio::join!(before, meanwhile)
}

impl Rig {
    /// Two calls at once, as [`overlap`] has it.
    pub async fn overlap<A, B>(
        &self,
        first: impl AsyncFnOnce(&Cloud) -> A,
        second: impl AsyncFnOnce(&Cloud) -> B,
    ) -> (A, B) {
        let held = async |store| {
            let mut cloud = self.cloud.clone();
            cloud.compute.cx.store = store;
            first(&cloud).await
        };
        overlap(&self.cloud.store, held, async || second(&self.cloud).await).await
    }
}
