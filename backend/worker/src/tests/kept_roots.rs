//! A root that outlives its instance: a volume of the host, whole, whatever dies in between.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use async_trait::async_trait;
use cumulet_domain::{
    image::DiskFormat,
    message::KeptRoot,
    spec::{DiskSource, DiskSpec},
    volume::VolumeStore,
};
use cumulet_hypervisor::fake::FaultPlan;

use super::*;
use crate::{
    disks::{DiskFile, Disks, May},
    qcow2::Altered,
    testing::data,
};

/// Disks that are files with a word in them; what is to be flattened is written down, and fails as often as it is to.
#[derive(Default)]
struct Words {
    flattened: Mutex<Vec<(PathBuf, bool)>>,
    failures: Mutex<u32>,
    /// Disks are not as they were made.
    altered: bool,
}

#[async_trait]
impl Disks for Words {
    fn uses_images(&self) -> bool {
        true
    }

    async fn ensure(&self, disk: &DiskFile<'_>, may: May) -> io::Result<bool> {
        match disk.path.exists() {
            true => Ok(true),
            false if may.make => std::fs::write(disk.path, "made").map(|()| true),
            false => Ok(false),
        }
    }

    async fn make(&self, _: &DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    async fn flatten(&self, disk: &DiskFile<'_>) -> io::Result<()> {
        let over = disk.image.is_some();
        self.flattened.lock().unwrap().push((disk.path.to_owned(), over));
        if self.altered {
            return Err(Altered::error(disk.path, "it names a file below".into()));
        }
        let mut failures = self.failures.lock().unwrap();
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    async fn copy(&self, _: &DiskFile<'_>, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &[PathBuf]) -> io::Result<u64> {
        Ok(1 << 20)
    }
}

fn root() -> KeptRoot {
    KeptRoot {
        volume: spec(1, 1).disks[0].volume,
        encrypted: false,
    }
}

fn destroy_but(generation: u64, kept: Option<KeptRoot>) -> Action {
    Action::Destroy {
        instance: instance(1),
        generation,
        kept,
    }
}

impl Host {
    /// A host on which instance 1 runs, whose guest has written to its root.
    async fn with_root(disks: &Arc<Words>) -> Host {
        let disks = disks.clone();
        let mut host = Host::going(FaultPlan::default(), |deps| deps.disks = disks).await;
        host.until_ready(true).await;
        let image = host.worker.cache.path(spec(1, 1).disks[0].image().unwrap());
        std::fs::write(image, "image").unwrap();
        assert_eq!(host.order(run(1, 1, &[1])).await.failure, None);
        std::fs::write(host.worker.layout.disk(instance(1)), "written").unwrap();
        host
    }

    fn kept_file(&self) -> PathBuf {
        self.worker.layout.volume(root().volume, DiskFormat::Qcow2)
    }
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_kept_becomes_a_volume_and_one_that_is_not_goes() {
    for kept in [None, Some(root())] {
        let disks = Arc::new(Words::default());
        let mut host = Host::with_root(&disks).await;
        // As often as it is said.
        for _ in 0..2 {
            let done = host.order(destroy_but(2, kept)).await;
            assert_eq!((done.failure, done.report.power), (None, Power::Absent));
            assert_eq!(done.root, kept.map(|root| root.volume), "what is there is said");
        }
        assert!(!host.worker.layout.instance(instance(1)).exists());
        let found = std::fs::read_to_string(host.kept_file()).ok();
        assert_eq!(found.as_deref(), kept.map(|_| "written"));
        let disk = host.worker.layout.disk(instance(1));
        let expected = kept.map(|_| (disk, true)).into_iter().collect::<Vec<_>>();
        assert_eq!(*disks.flattened.lock().unwrap(), expected, "once, over its image");
    }
}

#[tokio::test(start_paused = true)]
async fn a_root_that_can_not_be_kept_yet_stays_with_its_instance() {
    let disks = Arc::new(Words::default());
    let mut host = Host::with_root(&disks).await;
    *disks.failures.lock().unwrap() = 1;
    let done = host.order(destroy_but(2, Some(root()))).await;
    assert!(done.failure.is_some() && !done.permanent, "{done:?}");
    assert!(host.worker.layout.disk(instance(1)).exists());
    assert!(!host.kept_file().exists());
    let done = host.order(destroy_but(2, Some(root()))).await;
    assert_eq!((done.failure, done.report.power), (None, Power::Absent));
    assert_eq!(std::fs::read_to_string(host.kept_file()).unwrap(), "written");
}

/// What a worker of before has noted says nothing of roots, and what it has not, nothing either.
#[test]
fn what_is_kept_is_in_the_notes_of_a_command() {
    let old = r#"{"operation":null,"deadline":7,"kind":"destroy"}"#;
    let header: crate::record::CommandHeader = serde_json::from_str(old).unwrap();
    assert_eq!(header.kept, None);
    assert_eq!(serde_json::to_string(&header).unwrap(), old);
    let command = Command {
        operation: None,
        deadline: Timestamp(7),
        action: destroy_but(2, Some(root())),
        keys: Vec::new(),
        storage: None,
    };
    let noted = crate::record::CommandHeader::of(&command).unwrap();
    let text = serde_json::to_string(&noted).unwrap();
    let read: crate::record::CommandHeader = serde_json::from_str(&text).unwrap();
    assert_eq!((read, read.kept), (noted, Some(root())));
}

/// While conductors of two versions send commands: the file that there is, is the volume's.
#[tokio::test(start_paused = true)]
async fn a_volume_whose_file_has_another_format_is_that_file() {
    let disks = Arc::new(Words::default());
    let mut host = Host::with_root(&disks).await;
    let volume = data(1, 1).volume;
    let [qcow2, raw] =
        [DiskFormat::Qcow2, DiskFormat::Raw].map(|format| host.worker.layout.volume(volume, format));
    std::fs::write(&qcow2, "of before").unwrap();
    let mut told = spec(1, 2);
    told.disks.push(DiskSpec {
        source: DiskSource::Volume {
            store: VolumeStore::Local,
            format: DiskFormat::Raw,
            create: true,
            generation: 1,
            from: None,
        },
        ..data(1, 1)
    });
    let action = Action::Run {
        spec: Box::new(told),
        policy: Arc::new(policy(2, &[1])),
    };
    assert_eq!(host.order(action).await.failure, None);
    assert!(qcow2.exists() && !raw.exists());
    let has = host.hypervisor.devices(instance(1)).await.unwrap();
    assert!(has.disks.iter().any(|disk| disk.path == qcow2), "{has:?}");
}

#[tokio::test(start_paused = true)]
async fn a_root_that_was_lost_is_not_said_to_be_kept() {
    let disks = Arc::new(Words::default());
    let mut host = Host::with_root(&disks).await;
    std::fs::remove_file(host.worker.layout.disk(instance(1))).unwrap();
    let done = host.order(destroy_but(2, Some(root()))).await;
    assert_eq!(
        (done.failure, done.report.power, done.root),
        (None, Power::Absent, None)
    );
}

/// A guest's process that was taken over has written into its header: no end waits for that for ever.
#[tokio::test(start_paused = true)]
async fn a_root_that_is_not_as_it_was_made_is_set_aside() {
    let disks = Arc::new(Words {
        altered: true,
        ..Words::default()
    });
    let mut host = Host::with_root(&disks).await;
    for _ in 0..2 {
        let done = host.order(destroy_but(2, Some(root()))).await;
        assert_eq!(
            (done.failure, done.report.power, done.root),
            (None, Power::Absent, None)
        );
    }
    assert!(!host.kept_file().exists() && !host.worker.layout.instance(instance(1)).exists());
    let aside = host.kept_file().with_extension("altered");
    assert_eq!(
        std::fs::read_to_string(aside).unwrap(),
        "written",
        "for the operator"
    );
}
