//! A claim of Kubernetes' driver for EBS volumes, over AWS's SDK for Rust: its volume, its node, its snapshot, their end.
//! Each step prints a line, `step <tab> what came of it`; `tests/clients/test_rust_sdk.py` says what has to be there.

use std::{env, error::Error, fmt::Display, time::Duration};

use aws_sdk_ec2::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{
        Filter, ResourceType, SnapshotState, Tag, TagSpecification, Volume, VolumeAttachmentState,
        VolumeState, VolumeType,
    },
};
use aws_smithy_http_client::{Builder, Connector};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The device that a driver asks for first.
const DEVICE: &str = "/dev/xvdaa";
/// An id that nothing has.
const NOBODY: &str = "vol-0123456789abcdef0";

struct Claim {
    ec2: Client,
    zone: String,
    node: String,
    /// SHA-256 of the volume's name.
    token: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let given = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
    let claim = Claim {
        ec2: client(
            &given("AWS_ENDPOINT_URL")?,
            &given("AWS_ACCESS_KEY_ID")?,
            &given("AWS_SECRET_ACCESS_KEY")?,
        ),
        zone: given("ZONE")?,
        node: given("NODE")?,
        token: given("TOKEN")?,
    };
    claim.health().await;
    let volume = claim.provision().await?;
    claim.describe(&volume).await?;
    claim.publish(&volume).await?;
    claim.grow(&volume).await?;
    claim.snapshot(&volume).await?;
    claim.unpublish(&volume).await?;
    claim.delete(&volume).await
}

/// Over plain HTTP, and without a second try: what is refused is refused once.
fn client(endpoint: &str, key: &str, secret: &str) -> Client {
    let http = Builder::new().build_with_connector_fn(|_, _| Connector::builder().build_http());
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new(key, secret, None, None, "the test"))
        .retry_config(RetryConfig::disabled())
        .http_client(http);
    Client::from_conf(config.build())
}

fn say(step: &str, what: impl Display) {
    println!("{step}\t{what}");
}

/// The code and the text that a call is refused with; the code is `ok` where it is not.
fn refusal<T, E: ProvideErrorMetadata>(answer: &Result<T, SdkError<E>>) -> String {
    match answer {
        Ok(_) => "ok".into(),
        Err(error) => format!(
            "{}: {}",
            error.code().unwrap_or("no code"),
            error.message().unwrap_or("no message")
        ),
    }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

fn by(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

impl Claim {
    async fn health(&self) {
        let asked = self.ec2.describe_availability_zones().dry_run(true).send().await;
        say("health", refusal(&asked));
    }

    /// The same volume for the same token, another's refusal, and what is only rehearsed.
    async fn provision(&self) -> Outcome<String> {
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::Volume)
            .tags(tag("CSIVolumeName", "pvc-1"));
        let wanted = self
            .ec2
            .create_volume()
            .availability_zone(&self.zone)
            .size(4)
            .volume_type(VolumeType::Gp3);
        let wanted = wanted.encrypted(false).multi_attach_enabled(false);
        let named = wanted
            .clone()
            .client_token(&self.token)
            .tag_specifications(tags.build());
        let made = named.clone().send().await?;
        let volume = made.volume_id().ok_or("no id")?.to_owned();
        say("made", made.state().ok_or("no state")?);
        say("again", named.clone().send().await?.volume_id() == Some(&*volume));
        say("mismatch", refusal(&named.size(5).send().await));
        say("rehearsed", refusal(&wanted.clone().dry_run(true).send().await));
        say(
            "limit",
            refusal(&wanted.dry_run(true).iops(i32::MAX).send().await),
        );
        self.wait(&volume, |seen| seen.state() == Some(&VolumeState::Available))
            .await?;
        Ok(volume)
    }

    async fn describe(&self, volume: &str) -> Outcome<()> {
        let batch = self.ec2.describe_volumes().volume_ids(volume);
        let seen = self.volume(volume).await?;
        say("size", seen.size().ok_or("no size")?);
        say(
            "created",
            seen.create_time().is_some_and(|time| time.secs() > 1_700_000_000),
        );
        say("batch", refusal(&batch.volume_ids(NOBODY).send().await));
        let named = self
            .ec2
            .describe_volumes()
            .filters(by("tag:CSIVolumeName", "pvc-1"));
        let mut pages = named.into_paginator().page_size(5).items().send();
        let mut found = 0;
        while let Some(each) = pages.try_next().await? {
            found += usize::from(each.volume_id() == Some(volume));
        }
        say("named", found);
        Ok(())
    }

    async fn publish(&self, volume: &str) -> Outcome<()> {
        let wanted = self.ec2.attach_volume().volume_id(volume).instance_id(&self.node);
        let attached = wanted.clone().device(DEVICE).send().await?;
        say("attaching", attached.device().ok_or("no device")?);
        self.wait(volume, |seen| {
            let how = seen.attachments().iter().map(|one| (one.state(), one.device()));
            how.eq([(Some(&VolumeAttachmentState::Attached), Some(DEVICE))])
        })
        .await?;
        say("attached", DEVICE);
        say("twice", refusal(&wanted.device("/dev/xvdab").send().await));
        let seen = self
            .ec2
            .describe_instances()
            .instance_ids(&self.node)
            .send()
            .await?;
        let mappings = seen
            .reservations()
            .iter()
            .flat_map(|one| one.instances())
            .flat_map(|one| one.block_device_mappings());
        let here = mappings.filter(|one| one.device_name() == Some(DEVICE));
        say(
            "mapped",
            here.filter_map(|one| one.ebs()?.volume_id())
                .collect::<Vec<_>>()
                .concat()
                == volume,
        );
        Ok(())
    }

    async fn grow(&self, volume: &str) -> Outcome<()> {
        let never = self
            .ec2
            .describe_volumes_modifications()
            .volume_ids(volume)
            .send()
            .await;
        say("never grown", refusal(&never));
        let asked = self.ec2.modify_volume().volume_id(volume).size(6).send().await?;
        let state = asked
            .volume_modification()
            .and_then(|one| one.modification_state());
        say("growing", state.is_some());
        self.wait(volume, |seen| seen.size() == Some(6)).await?;
        say("grown", 6);
        let status = self
            .ec2
            .describe_volume_status()
            .volume_ids(volume)
            .send()
            .await?;
        let details = status
            .volume_statuses()
            .iter()
            .filter_map(|one| one.volume_status());
        say(
            "status",
            details.map(|one| one.details().len()).sum::<usize>() > 0,
        );
        Ok(())
    }

    async fn snapshot(&self, volume: &str) -> Outcome<()> {
        let tags = TagSpecification::builder().resource_type(ResourceType::Snapshot);
        let tags = tags.tags(tag("CSIVolumeSnapshotName", "snap-1")).build();
        let taken = self
            .ec2
            .create_snapshot()
            .volume_id(volume)
            .tag_specifications(tags)
            .send()
            .await?;
        let snapshot = taken.snapshot_id().ok_or("no id")?;
        say("snapshot", taken.volume_size().ok_or("no size")?);
        let named = self
            .ec2
            .describe_snapshots()
            .filters(by("tag:CSIVolumeSnapshotName", "snap-1"))
            .max_results(0);
        for _ in 0..300 {
            let seen = named.clone().send().await?;
            let done = |one: &aws_sdk_ec2::types::Snapshot| {
                one.snapshot_id() == Some(snapshot) && one.state() == Some(&SnapshotState::Completed)
            };
            if seen.snapshots().iter().any(done) {
                say("completed", seen.snapshots().len());
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let delete = self.ec2.delete_snapshot().snapshot_id(snapshot);
        say("snapshot deleted", refusal(&delete.clone().send().await));
        say("snapshot gone", refusal(&delete.send().await));
        Ok(())
    }

    async fn unpublish(&self, volume: &str) -> Outcome<()> {
        say(
            "in use",
            refusal(&self.ec2.delete_volume().volume_id(volume).send().await),
        );
        let detach = self.ec2.detach_volume().volume_id(volume).instance_id(&self.node);
        say("detaching", refusal(&detach.clone().send().await));
        self.wait(volume, |seen| {
            seen.attachments().is_empty() && seen.state() == Some(&VolumeState::Available)
        })
        .await?;
        say("detached already", refusal(&detach.send().await));
        Ok(())
    }

    async fn delete(&self, volume: &str) -> Outcome<()> {
        let delete = self.ec2.delete_volume().volume_id(volume);
        say("deleted", refusal(&delete.clone().send().await));
        for _ in 0..300 {
            if delete
                .clone()
                .send()
                .await
                .is_err_and(|refused| refused.code() == Some("InvalidVolume.NotFound"))
            {
                say("gone", "InvalidVolume.NotFound");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("the volume does not go".into())
    }

    async fn volume(&self, id: &str) -> Outcome<Volume> {
        let seen = self.ec2.describe_volumes().volume_ids(id).send().await?;
        Ok(seen.volumes.unwrap_or_default().pop().ok_or("no volume")?)
    }

    /// Until a volume is as it is wanted.
    async fn wait(&self, id: &str, is: impl Fn(&Volume) -> bool) -> Outcome<()> {
        for _ in 0..300 {
            if is(&self.volume(id).await?) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(format!("{id} is not as it was wanted").into())
    }
}
