//! The cost of the reads that the benchmarks measure, in one thread and without a server around the door: for
//! profilers, and for a look before and after a change. `hot_path INSTANCES [CALL]` puts so many instances
//! into a cloud and prints the microseconds of one call of each kind, or of those whose name contains CALL.

use std::{
    error::Error,
    hint::black_box,
    io::{Write as _, stdout},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use bytes::Bytes;
use cumulet_backend::{
    api::{
        Cloud, CloudConfig, Parts, Quotas, SharedRng, accounts, images,
        instances::{self, LaunchSpec},
    },
    bootstrap::{FirstPlan, bootstrap},
    conductor::Wake,
    entity::{
        account,
        columns::{Amount, Flag},
        host,
    },
    retention::Retention,
    store::{Options, connect, failed},
};
use cumulet_bus::LocalBus;
use cumulet_certs::{MasterKey, Sealer, SecretString};
use cumulet_domain::{
    account::{AccountId, Principal},
    image::{Architecture, BootMode, DiskFormat},
    network::Cidr,
    time::{ManualClock, Timestamp},
};
use cumulet_gateway::{
    Body, Reply, RequestLimits,
    auth::{AuthConfig, RequestHead},
    door::Door,
};
use futures::StreamExt as _;
use sea_orm::{EntityTrait, IntoActiveModel, sea_query::Expr};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// 2026-11-21T00:00:00Z.
const NOW: Timestamp = Timestamp(1_795_219_200_000);
const ZONE: &str = "us-east-1a";
const REQUEST_ID: &str = "8f7724cf-496f-496e-8fe3-example00001";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// Instances of one account: its default subnet is a /20.
const PER_ACCOUNT: u32 = 4000;
const ROOM: Amount = Amount(1 << 40);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let wanted: u32 = arguments
        .next()
        .ok_or("usage: hot_path INSTANCES [CALL]")?
        .parse()?;
    let only = arguments.next().unwrap_or_default();
    let dir = tempfile::tempdir()?;
    let (cloud, key_id) = empty(dir.path().join("cloud.db")).await?;
    let credential = accounts::credential(&cloud, &cloud.credentials, &key_id)
        .await?
        .ok_or("no key")?;
    let ids = fill(&cloud, &credential.principal, wanted).await?;
    let door = Door::with_limits(cloud, AuthConfig::default(), RequestLimits::UNLIMITED, 1 << 20);
    let one = format!(
        "Action=DescribeInstances&InstanceId.1={}&Version=2016-11-15",
        ids.first().ok_or("no instance")?
    );
    for (name, body, times) in [
        (
            "DescribeRegions",
            "Action=DescribeRegions&Version=2016-11-15",
            20_000,
        ),
        ("DescribeInstances of one", &one, 5_000),
        (
            "DescribeInstances of all",
            "Action=DescribeInstances&Version=2016-11-15",
            40,
        ),
        (
            "DescribeInstances by filters",
            "Action=DescribeInstances&Filter.1.Name=instance-state-name&Filter.1.Value.1=pending\
             &Filter.2.Name=block-device-mapping.volume-id&Filter.2.Value.1=vol-*\
             &Filter.3.Name=network-interface.association.public-ip&Filter.3.Value.1=*\
             &Filter.4.Name=launch-time&Filter.4.Value.1=2026-*&Version=2016-11-15",
            40,
        ),
    ] {
        if name.contains(&only) {
            let signed = Signed::new(&key_id, &credential.secret, body)?;
            measure(&door, name, &signed, times).await?;
        }
    }
    Ok(())
}

/// Takes an answer as a client does; how many bytes there are.
async fn read(answer: Reply) -> Result<usize> {
    match answer.body {
        Body::Whole(text) if answer.status == 200 => Ok(text.len()),
        Body::Whole(text) => Err(text.into()),
        Body::Pieces(mut pieces) => {
            let mut size = 0;
            while let Some(piece) = pieces.next().await {
                size += piece.map_err(|_| "an answer has no end")?.len();
            }
            Ok(size)
        }
    }
}

async fn measure(door: &Door, name: &str, signed: &Signed, times: usize) -> Result<()> {
    let headers: Vec<(&str, &[u8])> = signed.headers.iter().map(|(k, v)| (&**k, v.as_bytes())).collect();
    let head = RequestHead {
        method: "POST",
        path: "/",
        query: "",
        headers: &headers,
    };
    let body = Bytes::from(signed.body.clone());
    let first = Instant::now();
    let size = read(door.answer(head, body.clone(), REQUEST_ID).await).await?;
    let cold = first.elapsed();
    let start = Instant::now();
    for _ in 0..times {
        let answer = door.answer(black_box(head), body.clone(), REQUEST_ID).await;
        black_box(read(answer).await?);
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(times)?);
    writeln!(
        stdout(),
        "{name}: {micros:.1} µs, {size} bytes; the first one {cold:.1?}"
    )?;
    Ok(())
}

/// A request with its signature.
struct Signed {
    headers: Vec<(String, String)>,
    body: String,
}

impl Signed {
    fn new(key_id: &str, secret: &SecretString, body: &str) -> Result<Self> {
        let identity = Credentials::new(key_id, secret.expose().as_str(), None, None, "example").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("ec2")
            .time(UNIX_EPOCH + Duration::from_millis(NOW.0.cast_unsigned()))
            .settings(SigningSettings::default())
            .build()?
            .into();
        let mut headers = vec![
            ("content-type".to_owned(), FORM.to_owned()),
            ("host".into(), "127.0.0.1:8773".into()),
            ("content-length".into(), body.len().to_string()),
            ("user-agent".into(), "hot_path".into()),
        ];
        let signable = SignableRequest::new(
            "POST",
            "http://127.0.0.1:8773/",
            std::iter::once(("content-type", FORM)),
            SignableBody::Bytes(body.as_bytes()),
        )?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        let made = instructions.headers();
        headers.extend(made.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Ok(Signed {
            headers,
            body: body.to_owned(),
        })
    }
}

/// A cloud without instances, and its first access key.
async fn empty(path: std::path::PathBuf) -> Result<(Cloud, String)> {
    let store = connect(&Options::file(path, 2)).await?;
    let sealer = Arc::new(Sealer::new(MasterKey::from_bytes([3; 32])));
    let clock = Arc::new(ManualClock::new(NOW));
    let parts = Parts::new(store, clock, SharedRng::seeded(7), sealer);
    let pool = Cidr::new(Ipv4Addr::new(10, 64, 0, 0), 12);
    let plan = FirstPlan {
        availability_zones: vec![ZONE.into()],
        public_pool: pool,
    };
    let first = bootstrap(&parts, &plan).await?;
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
    let host = host();
    let write = parts.store.write(move |txn| {
        Box::pin(async move {
            let insert = host::Entity::insert(host.into_active_model());
            insert.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await?;
    let cloud = Cloud::new(parts, Wake::new(), Arc::new(LocalBus::new()), config);
    Ok((cloud, first.access_key_id))
}

/// A host on which everything fits.
fn host() -> host::Model {
    host::Model {
        id: "host-1".into(),
        availability_zone: ZONE.into(),
        hypervisor: "fake".into(),
        enabled: Flag(true),
        vcpus: ROOM,
        memory_mib: ROOM,
        disk_gib: ROOM,
        vcpus_max: ROOM,
        memory_mib_max: ROOM,
        disk_gib_max: ROOM,
        vcpus_used: 0,
        memory_mib_used: 0,
        disk_gib_used: 0,
        last_seen: NOW.0,
        created_at: NOW.0,
        ..host::Model::default()
    }
}

/// Launches instances for `who`, and where that account is full for others; answers `who`'s.
async fn fill(cloud: &Cloud, who: &Principal, wanted: u32) -> Result<Vec<String>> {
    let image = images::add(&cloud.parts(), image(who.account)).await?;
    let mut ids = Vec::new();
    let mut left = wanted;
    while left > 0 {
        let mut owner = who.clone();
        if left != wanted {
            let name = format!("account-{left}");
            let other = accounts::create_account(&cloud.parts(), &name, &[ZONE.into()]).await?;
            owner.account = other.id.0;
        }
        unlimited(cloud).await?;
        let mut here = left.min(PER_ACCOUNT);
        left -= here;
        while here > 0 {
            let count = here.min(100);
            here -= count;
            let mut spec = LaunchSpec::new(image.id(), "t3.nano");
            (spec.min, spec.max) = (count, count);
            let made = instances::launch(cloud, &owner, spec).await?;
            if owner.account == who.account {
                ids.extend(made.instances.iter().map(|view| view.id().to_string()));
            }
        }
    }
    Ok(ids)
}

async fn unlimited(cloud: &Cloud) -> Result<()> {
    let write = cloud.store.write(|txn| {
        Box::pin(async move {
            let update = account::Entity::update_many()
                .col_expr(account::Column::InstancesMax, Expr::value(ROOM))
                .col_expr(account::Column::VcpusMax, Expr::value(ROOM));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    Ok(write.await?)
}

fn image(account: AccountId) -> images::NewImage {
    images::NewImage {
        account,
        name: "tiny".into(),
        description: "a tiny guest".into(),
        public: true,
        architecture: Architecture::X86_64,
        format: DiskFormat::Qcow2,
        sha256: "0".repeat(64),
        size_bytes: 1 << 20,
        virtual_bytes: 1 << 30,
        root_device: "/dev/xvda".into(),
        boot_mode: BootMode::LegacyBios,
    }
}
