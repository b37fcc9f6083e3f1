//! A cloud for tests: a real database in a directory of its own, a clock that stands still, seeded
//! randomness, and one host with room. No conductor runs: rows stay as the API leaves them.

use std::{sync::Arc, time::Duration};

use cumulet_bus::LocalBus;
use cumulet_certs::{MasterKey, Sealer};
use cumulet_domain::{
    Result,
    account::{AccountId, Principal, Role},
    id::ImageId,
    image::DiskFormat,
    instance::State,
    network::Cidr,
    time::{Clock, ManualClock, Timestamp},
};
use futures::future::BoxFuture;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{
    api::{Cloud, CloudConfig, Parts, SharedRng, accounts, images, instances::LaunchSpec},
    authority::{Permission, Visibility},
    bootstrap::{FirstPlan, bootstrap},
    conductor::{Wake, operations::subject},
    entity::{account, host, instance},
    journal,
    retention::Retention,
    store::{Participant, Store, connect, lock, scratch::Scratch},
};

/// The zone of the test cloud.
pub(crate) const ZONE: &str = "us-east-1a";

/// A cloud with two accounts.
pub(crate) struct Rig {
    pub(crate) cloud: Cloud,
    pub(crate) clock: Arc<ManualClock>,
    /// The first account's administrator.
    pub(crate) who: Principal,
    /// An administrator of another account.
    pub(crate) stranger: Principal,
    /// A public image of the first account.
    pub(crate) image: ImageId,
    pub(crate) database: Scratch,
}

/// A new cloud.
pub(crate) async fn cloud() -> Rig {
    with_pool("198.18.0.0/16").await
}

/// A new cloud with this pool of public addresses.
pub(crate) async fn with_pool(pool: &str) -> Rig {
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
    };
    let image = images::register(&parts, image(first.account, "tiny", true))
        .await
        .unwrap()
        .id();
    let cloud = Cloud::new(parts, Wake::new(), Arc::new(LocalBus::new()), config);
    add_host(&cloud).await;
    Rig {
        cloud,
        clock,
        who: principal(first.account, Role::Administrator),
        stranger: principal(AccountId::from_db(other.id), Role::Administrator),
        image,
        database,
    }
}

/// The parts of a cloud that has not been started yet.
pub(crate) async fn parts() -> (Scratch, Parts, Arc<ManualClock>) {
    let database = Scratch::new().await;
    let store = connect(&database.options(4)).await.unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_767_323_045_000)));
    let sealer = Arc::new(Sealer::new(MasterKey::from_bytes([7; 32])));
    let parts = Parts::new(store, clock.clone(), SharedRng::seeded(1), sealer);
    (database, parts, clock)
}

/// A principal of an account.
pub(crate) fn principal(account: AccountId, role: Role) -> Principal {
    Principal {
        account,
        user_id: "AIDATEST".into(),
        user_name: "admin".into(),
        access_key_id: "AKIATEST".into(),
        role,
    }
}

/// An image of an account.
pub(crate) fn image(account: AccountId, name: &str, public: bool) -> images::NewImage {
    images::NewImage {
        account,
        name: name.into(),
        description: String::new(),
        public,
        architecture: "x86_64".into(),
        format: DiskFormat::Qcow2,
        sha256: "0".repeat(64),
        size_bytes: 10 << 20,
        virtual_bytes: 3 << 29,
        root_device: "/dev/vda".into(),
    }
}

async fn add_host(cloud: &Cloud) {
    let row = host::Model {
        id: "host-1".into(),
        availability_zone: ZONE.into(),
        hypervisor: "fake".into(),
        enabled: 1,
        vcpus: 1_000_000,
        memory_mib: 1_000_000_000,
        disk_gib: 1_000_000,
        vcpus_max: 1_000_000,
        memory_mib_max: 1_000_000_000,
        disk_gib_max: 1_000_000,
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
                .map_err(crate::store::failed)
        })
    });
    write.await.unwrap();
}

impl Rig {
    /// A launch of one small instance.
    pub(crate) fn spec(&self) -> LaunchSpec {
        LaunchSpec::new(self.image, "t3.nano")
    }

    /// A principal of the first account who may only read.
    pub(crate) fn reader(&self) -> Principal {
        principal(self.who.account, Role::ReadOnly)
    }

    /// What the first account sees.
    pub(crate) fn sight(&self) -> Visibility {
        let grant = self.cloud.authorise(&self.who, Permission::DESCRIBE_INSTANCES);
        grant.unwrap().visibility()
    }

    /// The first account's row.
    pub(crate) async fn account(&self) -> account::Model {
        accounts::limits(&self.cloud, &self.who).await.unwrap()
    }

    /// Sets the first account's quotas.
    pub(crate) async fn set_quota(&self, instances: i64, vcpus: i64) {
        let id = self.who.account.to_db();
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = account::Entity::update_many()
                    .col_expr(account::Column::InstancesMax, Expr::value(instances))
                    .col_expr(account::Column::VcpusMax, Expr::value(vcpus))
                    .filter(account::Column::Id.eq(id));
                update.exec(txn).await.map(drop).map_err(crate::store::failed)
            })
        });
        write.await.unwrap();
    }

    /// Changes the prefix of a subnet, to have fewer addresses.
    pub(crate) async fn shrink(&self, subnet: i64, cidr: Cidr) {
        use crate::entity::subnet::{Column, Entity};
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = Entity::update_many()
                    .col_expr(Column::Cidr, Expr::value(cidr.to_string()))
                    .filter(Column::Id.eq(subnet));
                update.exec(txn).await.map(drop).map_err(crate::store::failed)
            })
        });
        write.await.unwrap();
    }

    /// Puts an instance into a state, as the conductor would.
    pub(crate) async fn settle(&self, id: cumulet_domain::id::InstanceId, state: State) {
        use instance::Column as C;
        let now = self.clock.now();
        let ended = (state == State::Terminated).then_some(now.0);
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = instance::Entity::update_many()
                    .col_expr(C::State, Expr::value(state.name()))
                    .col_expr(C::TerminatedAt, Expr::value(ended))
                    .filter(C::Id.eq(id.to_db()));
                update.exec(txn).await.map_err(crate::store::failed)?;
                // What was under way for it has come to its end.
                match journal::active(txn, subject(id.to_db())).await? {
                    Some(open) => journal::finish(txn, open.id, None, now).await.map(drop),
                    None => Ok(()),
                }
            })
        });
        write.await.unwrap();
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
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
pub(crate) async fn overlap<A, B>(
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
    pub(crate) async fn overlap<A, B>(
        &self,
        first: impl AsyncFnOnce(&Cloud) -> A,
        second: impl AsyncFnOnce(&Cloud) -> B,
    ) -> (A, B) {
        let held = async |store| {
            let mut cloud = self.cloud.clone();
            cloud.store = store;
            first(&cloud).await
        };
        overlap(&self.cloud.store, held, async || second(&self.cloud).await).await
    }
}
