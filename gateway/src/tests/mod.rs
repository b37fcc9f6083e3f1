//! The door over a real cloud on a database of its own, without hosts that do anything.

mod block_devices;
mod boot_modes;
mod dry_run;
pub(crate) mod echo;
mod encryption;
mod examples;
mod fences;
mod filters;
mod http;
mod ids;
mod instances;
mod json_versions;
mod listeners;
mod modify;
mod network_interfaces;
mod paging;
mod parameters;
mod resources;
mod root_devices;
mod rules;
mod sentences;
mod services;
mod slow;
mod snapshots;
pub(crate) mod streamed;
mod untagged;
mod volume_copies;
mod volumes;
mod whole;
mod wrong;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use cumulet_backend::{
    api::{Cloud, CloudConfig, Parts, Quotas, SharedRng, accounts, images},
    bootstrap::{FirstPlan, bootstrap},
    conductor::Wake,
    entity::{
        columns::{Amount, Flag, Key, Named, Owner},
        host, instance, operation, operation_hold, vpc,
    },
    retention::Retention,
    store::{connect, failed, scratch::Scratch},
};
use cumulet_bus::LocalBus;
use cumulet_certs::{MasterKey, Sealer};
use cumulet_domain::{
    account::{AccountId, Principal, Role},
    id::{InstanceId, SnapshotId, VpcId},
    image::{Architecture, BootMode, DiskFormat},
    network::Cidr,
    time::{ManualClock, Timestamp},
};
use cumulet_wire::{Protocol, Query};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, sea_query::Expr};

use crate::{
    RequestLimits,
    ec2::EC2,
    fault::Answer,
    fences::Fences,
    rpc::{self, Asked},
    service::Caller,
};

/// 2026-11-21T00:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_795_219_200_000);

/// A cloud with one account, one host and one image.
pub(crate) struct World {
    pub(crate) cloud: Cloud,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) who: Principal,
    pub(crate) access_key_id: String,
    pub(crate) secret: String,
    pub(crate) image: String,
    pub(crate) fences: Fences,
    _database: Scratch,
}

impl World {
    pub(crate) async fn new() -> World {
        let database = Scratch::migrated().await;
        let store = connect(&database.options(2)).await.unwrap();
        let rng = SharedRng::seeded(7);
        let sealer = Arc::new(Sealer::new(MasterKey::from_bytes([3; 32])));
        let clock = Arc::new(ManualClock::new(NOW));
        let parts = Parts::new(store, clock.clone(), rng, sealer);
        let pool = Cidr::new(Ipv4Addr::new(203, 0, 113, 0), 24);
        let plan = FirstPlan {
            availability_zones: vec!["us-east-1a".into()],
            public_pool: pool,
        };
        let first = bootstrap(&parts, &plan).await.unwrap();
        add_host(&parts).await;
        let image = add_image(&parts, first.account).await;
        let config = CloudConfig {
            region: "us-east-1".into(),
            availability_zones: plan.availability_zones,
            public_pool: pool,
            cloud_id: first.cloud_id,
            hypervisor: "fake".into(),
            endpoint: "127.0.0.1:8773".into(),
            retention: Retention::default(),
            public_addresses: 0,
            quotas: Quotas::default(),
            modification_cooldown: std::time::Duration::ZERO,
            volume_store: cumulet_domain::volume::VolumeStore::Local,
        };
        let cloud = Cloud::new(parts, Wake::new(), Arc::new(LocalBus::new()), config);
        let credential = accounts::credential(&cloud, &cloud.credentials, &first.access_key_id)
            .await
            .unwrap()
            .unwrap();
        World {
            who: Principal::clone(&credential.principal),
            secret: credential.secret.expose().clone(),
            access_key_id: first.access_key_id,
            image,
            fences: Fences::new(RequestLimits::UNLIMITED),
            cloud,
            clock,
            _database: database,
        }
    }

    /// Someone of another account.
    pub(crate) fn stranger(&self) -> Principal {
        Principal {
            account: AccountId(999_999_999_999),
            user_id: "AIDASTRANGER".into(),
            user_name: "stranger".into(),
            access_key_id: "AKIASTRANGER".into(),
            role: Role::Administrator,
        }
    }

    /// A reader of the same account.
    pub(crate) fn reader(&self) -> Principal {
        Principal {
            role: Role::ReadOnly,
            ..self.who.clone()
        }
    }

    /// Asks as the administrator; panics with the refusal.
    pub(crate) async fn ask(&self, body: &str) -> String {
        self.try_as(&self.who, body)
            .await
            .unwrap_or_else(|answer| panic!("{body}: {answer:?}"))
    }

    /// The code of the refusal; panics with the answer.
    pub(crate) async fn refused(&self, body: &str) -> String {
        match self.try_as(&self.who, body).await {
            Ok(xml) => panic!("{body}: {xml}"),
            Err(answer) => answer.code.into_owned(),
        }
    }

    pub(crate) async fn try_as(&self, who: &Principal, body: &str) -> Result<String, Answer> {
        let body = body.replace("{image}", &self.image);
        let query = Query::parse(body.as_bytes(), Protocol::Ec2)
            .map_err(|e| crate::fault::Fault::from(e).answer())?;
        let caller = Caller::pretended(who.clone(), &self.fences);
        let asked = Asked::Form(query);
        let answer = async {
            rpc::serve(&EC2, &self.cloud.clone().into(), caller, &asked, "req-1")
                .await?
                .text()
                .await
        };
        answer.await.map_err(|fault| {
            assert_eq!(fault.hidden(), None, "{body}");
            fault.answer()
        })
    }

    /// Launches instances and answers their ids.
    pub(crate) async fn run(&self, count: u32, rest: &str) -> Vec<String> {
        let body = format!(
            "Action=RunInstances&ImageId={{image}}&MinCount={count}&MaxCount={count}&InstanceType=t3.nano{rest}"
        );
        all(&self.ask(&body).await, "instanceId")
    }

    /// Puts an instance to rest, as the conductor would.
    pub(crate) async fn settle_stopped(&self, id: &str) {
        self.settle(id, "stopped").await;
    }

    /// A snapshot has been taken: there is nothing in it.
    pub(crate) async fn complete(&self, id: &str) {
        let id: SnapshotId = id.parse().unwrap();
        let now = self.cloud.now();
        let write = self.cloud.store.write(move |txn| {
            Box::pin(
                async move { cumulet_backend::store::snapshots::close(txn, &[id.to_db()], None, now).await },
            )
        });
        write.await.unwrap();
    }

    /// Puts an instance into a state in which it rests.
    pub(crate) async fn settle(&self, id: &str, state: &'static str) {
        let id: InstanceId = id.parse().unwrap();
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = instance::Entity::update_many()
                    .col_expr(instance::Column::State, Expr::value(state))
                    .col_expr(instance::Column::Intent, Expr::value(state))
                    .filter(instance::Column::Id.eq(id.to_db()));
                update.exec(txn).await.map_err(failed)?;
                // What was under way for it has come to its end.
                let end = operation::Entity::update_many()
                    .col_expr(operation::Column::Status, Expr::value("done"))
                    .col_expr(
                        operation::Column::ActiveInstance,
                        Expr::value(Option::<i64>::None),
                    )
                    .col_expr(operation::Column::Held, Expr::value(0))
                    .filter(operation::Column::Instance.eq(id.to_db()));
                end.exec(txn).await.map_err(failed)?;
                let free = operation_hold::Entity::delete_many()
                    .filter(operation_hold::Column::Resource.eq(id.to_db()));
                free.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    /// Another VPC of the account, not its default one.
    pub(crate) async fn another_vpc(&self) -> String {
        let id = VpcId::new(0x0aaa_bbbb_cccc_dddd);
        let row = vpc::Model {
            id: Key(id),
            account: Owner(self.who.account),
            cidr: Named("10.0.0.0/16".parse().unwrap()),
            is_default: Flag(false),
            policy_generation: Amount(1),
            vni: None,
            created_at: NOW.0,
        };
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let insert = vpc::Entity::insert(row.into_active_model())
                    .exec_without_returning(txn)
                    .await;
                insert.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
        id.to_string()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

async fn add_host(parts: &Parts) {
    let row = host::Model {
        id: "host-1".into(),
        availability_zone: "us-east-1a".into(),
        hypervisor: "fake".into(),
        enabled: Flag(true),
        vcpus: Amount(1000),
        memory_mib: Amount(1_000_000),
        disk_gib: Amount(100_000),
        vcpus_max: Amount(1000),
        memory_mib_max: Amount(1_000_000),
        disk_gib_max: Amount(100_000),
        vcpus_used: 0,
        memory_mib_used: 0,
        disk_gib_used: 0,
        last_seen: NOW.0,
        created_at: NOW.0,
        ..host::Model::default()
    };
    let write = parts.store.write(move |txn| {
        Box::pin(async move {
            let insert = host::Entity::insert(row.into_active_model())
                .exec_without_returning(txn)
                .await;
            insert.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
}

async fn add_image(parts: &Parts, account: AccountId) -> String {
    add_image_named(parts, account, "tiny").await
}

async fn add_image_named(parts: &Parts, account: AccountId, name: &str) -> String {
    let new = new_image(account, name);
    images::add(parts, new).await.unwrap().id().to_string()
}

fn new_image(account: AccountId, name: &str) -> images::NewImage {
    images::NewImage {
        account,
        name: name.into(),
        description: "a tiny guest".into(),
        public: false,
        architecture: Architecture::X86_64,
        format: DiskFormat::Qcow2,
        sha256: "0".repeat(64),
        size_bytes: 1 << 20,
        virtual_bytes: 1 << 30,
        root_device: "/dev/xvda".into(),
        boot_mode: BootMode::LegacyBios,
    }
}

/// The texts of all elements of this name.
pub(crate) fn all(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let pieces = xml.split(&open).skip(1);
    pieces
        .map(|piece| piece.split(&close).next().unwrap().to_owned())
        .collect()
}

/// The text of the first element of this name.
pub(crate) fn one(xml: &str, name: &str) -> String {
    all(xml, name)
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("no {name} in {xml}"))
}
