//! Bus messages, as data: a command tells a host the desired state, a report tells the conductor the actual
//! one. Both may be lost, repeated or reordered; generations make old ones harmless, and nothing is ever
//! decided from the absence of an answer alone.

mod limits;
mod words;

use std::{fmt, net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    host::{HostProfile, Metrics, NotReady},
    id::{HostId, InstanceId, OperationId, SnapshotId, VolumeId, VpcId},
    metadata::InstanceMetadata,
    network::VpcPolicy,
    snapshot::{SnapshotProgress, TakenSnapshot},
    spec::InstanceSpec,
    time::Timestamp,
    volume::VolumeStore,
};

pub use limits::{MAX_FAILURE, MAX_INSTANCES, MAX_SIZE, MAX_VCPUS};
pub use words::is_for_tenants;

/// The newest version of the protocol that this program understands: 2 is an instance of any number of disks, and of
/// interfaces in several VPCs; 3 one that is started by UEFI, snapshots, and volumes that are made from them; 4 disks
/// that are encrypted; 5 a root that outlives its instance; 6 volumes in a store that hosts share.
pub const NEWEST_VERSION: u32 = 6;

/// A command to one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The operation that waits for the outcome, if one does.
    pub operation: Option<OperationId>,
    /// After this the command is dropped unread: its sender has given up.
    pub deadline: Timestamp,
    /// What shall be.
    pub action: Action,
    /// The keys of encrypted disks that the action names, sealed for this host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<SealedKey>,
    /// What the host may read of the stores of images and of snapshots for it, and bring to them: sealed, for the
    /// process that serves them (`cumulet_certs::storage_grant`). `None`: nothing, or hosts have the stores' directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

/// What has a data key: known by its id alone, as the key is sealed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KeyOf {
    /// A volume, which the host has in hands.
    Volume(VolumeId),
    /// A snapshot that the host makes of another's data.
    Snapshot(SnapshotId),
}

impl fmt::Display for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyOf::Volume(id) => id.fmt(f),
            KeyOf::Snapshot(id) => id.fmt(f),
        }
    }
}

impl From<VolumeId> for KeyOf {
    fn from(id: VolumeId) -> Self {
        KeyOf::Volume(id)
    }
}

impl From<SnapshotId> for KeyOf {
    fn from(id: SnapshotId) -> Self {
        KeyOf::Snapshot(id)
    }
}

/// A data key, sealed for the host that is to work with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    /// Whose it is. (Volumes were the first that had one.)
    #[serde(rename = "volume")]
    pub of: KeyOf,
    /// What only that host can open, as long as it runs (`cumulet_certs::HostKey`).
    pub sealed: String,
}

impl Command {
    /// The version of the protocol that it takes to understand it, [`NEWEST_VERSION`] at the most.
    pub fn version(&self) -> u32 {
        match &self.action {
            // A host that does not know of it would remove the root with the instance.
            Action::Destroy { kept: Some(_), .. } => 5,
            Action::Run { spec, .. } => spec.version(),
            Action::Change { spec, .. } => spec.version().max(2),
            // A host that knows no such store would find nothing to delete, and say that it is done.
            Action::DeleteVolume { store, .. } if !store.is_local() => 6,
            Action::DeleteVolume { .. } => 2,
            Action::TakeSnapshots(sources) if sources.iter().any(|source| !source.store.is_local()) => 6,
            // A host that knows no keys would keep what is encrypted as a plain disk.
            Action::TakeSnapshots(sources) if sources.iter().any(|source| source.encrypted) => 4,
            Action::TakeSnapshots(_) => 3,
            _ => 1,
        }
    }

    /// Whose keys the host needs for it.
    pub fn encrypted(&self) -> Vec<KeyOf> {
        match &self.action {
            Action::Run { spec, .. } | Action::Change { spec, .. } => {
                let disks = spec.disks.iter().filter(|disk| disk.encrypted);
                disks.map(|disk| disk.volume.into()).collect()
            }
            Action::TakeSnapshots(sources) => {
                let sources = sources.iter().filter(|source| source.encrypted);
                sources.map(SnapshotSource::key_of).collect()
            }
            Action::Destroy { kept: Some(root), .. } if root.encrypted => vec![root.volume.into()],
            _ => Vec::new(),
        }
    }
}

/// What a host is told. Every one is idempotent: done twice is done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The instance shall run as specified. `policy` is the VPC's policy with this instance in it, so that
    /// the first packet already meets its security groups.
    Run {
        /// The instance.
        spec: Box<InstanceSpec>,
        /// Its VPC on this host.
        policy: Arc<VpcPolicy>,
    },
    /// The instance's guest, if it runs, shall have the devices of the specification. One that is off stays off,
    /// whoever turned it off: that is a failure, and the report says how it is.
    Change {
        /// The instance.
        spec: Box<InstanceSpec>,
        /// Its VPC on this host.
        policy: Arc<VpcPolicy>,
        /// What for.
        what: Change,
    },
    /// No guest of the instance shall run; its disk stays. First asked (ACPI) unless `force`, then cut.
    Stop {
        /// The instance.
        instance: InstanceId,
        /// Its generation.
        generation: u64,
        /// Cut at once.
        force: bool,
    },
    /// The guest shall be reset: asked first, cut after a while.
    Reboot {
        /// The instance.
        instance: InstanceId,
        /// Its generation.
        generation: u64,
    },
    /// Nothing of the instance shall be left on the host, but for a root that outlives it: that is a volume from then
    /// on.
    Destroy {
        /// The instance.
        instance: InstanceId,
        /// Its generation.
        generation: u64,
        /// Its root, where that is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<KeptRoot>,
    },
    /// Nothing of the volume shall be left on the host. No instance has it.
    DeleteVolume {
        /// The volume.
        volume: VolumeId,
        /// Its generation.
        generation: u64,
        /// Where it is.
        #[serde(default, skip_serializing_if = "VolumeStore::is_local")]
        store: VolumeStore,
    },
    /// The content of these volumes, all as they are at one moment from now, shall be in the store of snapshots. There
    /// is at least one, and a guest that runs has all of them or none (but for what is made of a plain snapshot, which
    /// is at hand everywhere).
    TakeSnapshots(Vec<SnapshotSource>),
    /// The host shall enforce this for the VPC.
    Network(Arc<VpcPolicy>),
    /// The instance shall read this from now on.
    Metadata(Arc<InstanceMetadata>),
    /// The host shall report all that it has.
    ReportAll,
}

impl Action {
    /// The instance that the action is about, with its generation.
    pub fn instance(&self) -> Option<(InstanceId, u64)> {
        match self {
            Action::Run { spec, .. } | Action::Change { spec, .. } => Some((spec.id, spec.generation)),
            Action::Stop {
                instance, generation, ..
            }
            | Action::Reboot { instance, generation }
            | Action::Destroy {
                instance, generation, ..
            } => Some((*instance, *generation)),
            Action::DeleteVolume { .. }
            | Action::TakeSnapshots(_)
            | Action::Network(_)
            | Action::Metadata(_)
            | Action::ReportAll => None,
        }
    }
}

/// The root of an instance that ends, where it outlives that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRoot {
    /// The volume.
    pub volume: VolumeId,
    /// Its data is encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

/// What a snapshot is to be taken of: a volume of the host, or a plain snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSource {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The volume; for a copy, that of none.
    pub volume: VolumeId,
    /// The instance whose root the volume is; `None` for one that outlives instances.
    pub root_of: Option<InstanceId>,
    /// Where the volume is.
    #[serde(default, skip_serializing_if = "VolumeStore::is_local")]
    pub store: VolumeStore,
    /// The SHA-256 of the manifest of the snapshot that it is taken over; `None`: it is the first.
    pub base: Option<String>,
    /// Its data is encrypted, and what is kept of it is to be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// The SHA-256 of the manifest of a plain snapshot: its content is to be kept, encrypted with the snapshot's key, and
    /// the volume is not looked at. `None`: it is taken of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

impl SnapshotSource {
    /// Whose key what is kept of it is encrypted with, where it is encrypted. A volume that no host has may be gone.
    fn key_of(&self) -> KeyOf {
        match self.of {
            Some(_) => self.snapshot.into(),
            None => self.volume.into(),
        }
    }
}

/// What the devices of a guest that runs are changed for. The host goes by the specification alone; this is the
/// operation's name, for its crash points and its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is to have another volume.
    AttachVolume,
    /// It is to let go of a volume.
    DetachVolume,
    /// A volume of it is larger, or may do more or less in a second.
    ModifyVolume,
}

impl Change {
    /// The operation's name.
    pub const fn name(self) -> &'static str {
        match self {
            Change::AttachVolume => "attach-volume",
            Change::DetachVolume => "detach-volume",
            Change::ModifyVolume => "modify-volume",
        }
    }
}

/// What a host sees of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Its process runs (also while paused).
    On,
    /// It is defined and does not run; its disk is there.
    Off,
    /// The host has nothing of it.
    Absent,
}

/// Why a guest went off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The host ended it because a command said so.
    Commanded,
    /// The guest's process died or was killed.
    Crashed,
}

/// One instance as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Which instance.
    pub instance: InstanceId,
    /// The newest generation that the host has seen for it; 0 if it has seen none.
    pub generation: u64,
    /// What is.
    pub power: Power,
    /// Why it is off, where the host knows.
    pub off_reason: Option<OffReason>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The operation that was named in the command.
    pub operation: OperationId,
    /// The instance as it is now.
    pub report: InstanceReport,
    /// The failure, in words for the operator and the instance's StateReason; `None` is success.
    pub failure: Option<String>,
    /// The failure will not go away by trying again here.
    pub permanent: bool,
    /// Volumes that the guest was to let go of and has not; all else of the command is done. Empty where it failed
    /// for another reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<VolumeId>,
    /// The root of an instance that has gone, where the host has it as a volume: what it was told to keep is not said
    /// again here, but what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<VolumeId>,
}

/// What became of a command about a volume that no instance has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeOutcome {
    /// The operation that was named in the command.
    pub operation: OperationId,
    /// The volume.
    pub volume: VolumeId,
    /// The failure, in words; `None` is success.
    pub failure: Option<String>,
    /// The failure will not go away by trying again.
    pub permanent: bool,
}

/// What became of snapshots that were to be taken: all of them, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOutcome {
    /// The operation that was named in the command.
    pub operation: OperationId,
    /// What was taken; nothing where it has failed.
    pub taken: Vec<TakenSnapshot>,
    /// The failure, in words; `None` is success.
    pub failure: Option<String>,
    /// The failure will not go away by trying again.
    pub permanent: bool,
}

/// What a host has to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct HostResources {
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disk_gib: u64,
}

/// A report of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub host: HostId,
    /// When it was true.
    pub at: Timestamp,
    /// What it says.
    pub content: ReportContent,
}

/// What a host says of itself every few seconds. Fields that came later have defaults, so that what an older
/// worker says is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the host has in all; nothing where a host that is not ready can't tell yet.
    pub resources: HostResources,
    /// The driver's name: `qemu`, `kvm` or `fake`.
    pub hypervisor: String,
    /// The availability zone that the host is in.
    pub availability_zone: String,
    /// Where the host's tunnels to other hosts end, as it says: the operator confirms it. `None` when it has none.
    #[serde(default)]
    pub tunnel_address: Option<Ipv4Addr>,
    /// Where the host takes console connections, as it says: the operator confirms it. `None` when it takes none.
    #[serde(default)]
    pub console_address: Option<String>,
    /// What the host is; `None` where it can't tell now.
    #[serde(default)]
    pub profile: Option<Arc<HostProfile>>,
    /// How busy it was since the last time; empty where it does not tell.
    #[serde(default)]
    pub metrics: Metrics,
    /// Why it takes no launches for now; `None`: it does.
    #[serde(default)]
    pub not_ready: Option<NotReady>,
    /// What keys of disks are sealed with that it alone is to have (`cumulet_certs::HostPublicKey`); `None`: it takes
    /// no encrypted disks.
    #[serde(default)]
    pub disk_key: Option<String>,
    /// What is not as it should be on it, a sentence each, for the operator; none: nothing that it knows of.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The Ceph pool that it reaches for volumes, as `FSID/POOL`: the cluster's id and the pool's name. `None`: it reaches
    /// none.
    #[serde(default)]
    pub rbd: Option<String>,
    /// How far it has come with the snapshots that it takes.
    #[serde(default)]
    pub snapshots: Vec<SnapshotProgress>,
}

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportContent {
    /// I am here, with this to give. Sent at start and every few seconds.
    Heartbeat(Box<Heartbeat>),
    /// A guest changed by itself.
    Changed(InstanceReport),
    /// A command has been carried out, or has failed.
    Done(Outcome),
    /// A command about a volume has been carried out, or has failed.
    VolumeDone(VolumeOutcome),
    /// Snapshots have been taken, or could not be.
    SnapshotDone(SnapshotOutcome),
    /// The policy of this generation is enforced for the VPC.
    NetworkApplied {
        /// Which VPC.
        vpc: VpcId,
        /// The policy's generation.
        generation: u64,
    },
    /// The snapshot of this revision is served to the instance.
    MetadataApplied {
        /// Which instance.
        instance: InstanceId,
        /// The snapshot's revision.
        revision: u64,
    },
    /// All instances that the host has, and no others: healing compares it with intent.
    Full(Vec<InstanceReport>),
}

/// A read that only the instance's host can answer. Answers decide nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Query {
    /// The last bytes of the serial console (at most 64 KiB).
    ConsoleOutput(InstanceId),
    /// A picture of the screen, as JPEG.
    Screenshot(InstanceId),
}
