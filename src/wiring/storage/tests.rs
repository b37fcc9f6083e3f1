//! Tests of the settings, and of a host's client against the door, with a line between them that is cut again and again.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

use cumulet_backend::api::snapshots::Digest;
use cumulet_certs::{MasterKey, storage_grant};
use cumulet_domain::{
    id::{HostId, ImageId, SnapshotId},
    image::{DiskFormat, ImageRef},
    storage::{StorageGrant, StorageNeeds},
    time::{ManualClock, Timestamp},
};
use cumulet_worker::snapshots::Content;
use rand::{Rng as _, RngExt as _};

use super::*;

#[test]
fn a_hosts_settings_are_looked_at_where_it_is_one() {
    let said = |roles: &str, given: &[(&'static str, &str)]| {
        let checked = check(&Config::of(given), &roles.parse().unwrap());
        checked
            .map_err(|error| format!("{error:#}"))
            .err()
            .unwrap_or_default()
    };
    let (bus, url) = (("bus", "amqp://x"), ("storage.url", "http://10.0.0.1:8774"));
    let alone = said("all", &[url]);
    assert!(
        alone.contains("without `bus` this process has the directories itself"),
        "{alone}"
    );
    // Its metadata process has the same file of settings.
    for (roles, given) in [("all", &[][..]), ("compute", &[bus, url]), ("metadata", &[url])] {
        assert_eq!(said(roles, given), "", "{roles}");
    }
    let unused = said("compute", &[bus, url, ("storage.ca_file", "/ca.pem")]);
    assert!(unused.contains("storage.ca_file is for an https URL"), "{unused}");
    let listen = Config::of(&[("storage.listen", "127.0.0.1:0")]);
    for (roles, serves) in [
        ("conductor,gateway", true),
        ("all", true),
        ("gateway,scheduler", false),
        ("compute", false),
    ] {
        let bound = prepare(&listen, &roles.parse().unwrap()).unwrap();
        assert_eq!(bound.is_some(), serves, "{roles}");
    }
    assert!(
        prepare(&Config::of(&[]), &"conductor".parse().unwrap())
            .unwrap()
            .is_none()
    );
    for wrong in [
        "10.0.0.1:8774",
        "ftp://x",
        "http://",
        "http://x/path",
        "http://x?y",
        "file:///x",
    ] {
        let said = said("compute", &[bus, ("storage.url", wrong)]);
        assert!(
            said.contains(wrong) && said.contains("expecting http://HOST:PORT"),
            "{wrong}: {said}"
        );
    }
    let said = said(
        "compute",
        &[bus, ("storage.url", "https://x"), ("storage.ca_file", "/none")],
    );
    assert!(said.contains("/none"), "{said}");
}

const MIB: usize = 1 << 20;

const SNAPSHOT: SnapshotId = SnapshotId::new(5);

/// A control plane's state directory behind its door, and a host with a line to it.
struct Rig {
    dir: tempfile::TempDir,
    state: StateDir,
    host: HostStores,
    sealer: Arc<Sealer>,
    _stop: watch::Sender<bool>,
}

fn random(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    rand::rng().fill_bytes(&mut content);
    content
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(&dir.path().join("state")).unwrap();
        fs::create_dir_all(state.images()).unwrap();
        let sealer = Arc::new(Sealer::new(MasterKey::from_bytes([3; 32])));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = line(listener.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        tokio::spawn(serve(listener, &state, sealer.clone(), clock, stopped));
        let url = format!("http://{address}");
        let config = Config::of(&[("storage.url", url.as_str())]);
        let host = of_host(&config, &state, &SharedRng::seeded(1)).unwrap();
        Rig {
            dir,
            state,
            host,
            sealer,
            _stop: stop,
        }
    }

    /// The host is granted these images, and to take a snapshot over these manifests.
    fn grant(&self, images: &[&str], manifests: &[&str]) {
        let needs = StorageNeeds {
            images: images.iter().copied().map(str::to_owned).collect(),
            manifests: manifests.iter().copied().map(str::to_owned).collect(),
            snapshots: vec![SNAPSHOT],
        };
        let grant = StorageGrant {
            host: HostId("a".into()),
            until: Timestamp(1000),
            images: needs.images.clone(),
            manifests: needs.manifests.clone(),
            snapshots: vec![(SNAPSHOT, 1 << 30)],
        };
        let sealed = SharedRng::seeded(2).with(|rng| storage_grant::seal(&self.sealer, rng, &grant));
        self.host.grants.keep(needs, &sealed.unwrap());
    }
}

/// A line to an address that is cut after some MiB, whichever way they went.
fn line(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for from in listener.incoming() {
            let (from, to) = (from.unwrap(), TcpStream::connect(to).unwrap());
            let most = rand::rng().random_range(MIB..12 * MIB);
            for (from, to) in [(from.try_clone().unwrap(), to.try_clone().unwrap()), (to, from)] {
                thread::spawn(move || pass(from, to, most));
            }
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream, most: usize) {
    let (mut passed, mut buffer) = (0, vec![0; 64 << 10]);
    while passed < most {
        match from.read(&mut buffer) {
            Ok(read @ 1..) if to.write_all(&buffer[..read]).is_ok() => passed += read,
            _ => break,
        }
    }
    for stream in [from, to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}

fn image(content: &[u8]) -> ImageRef {
    ImageRef {
        id: ImageId::new(1),
        sha256: Digest::of(content).to_string(),
        from_snapshot: false,
        encrypted: false,
        format: DiskFormat::Raw,
        size_bytes: content.len() as u64,
        virtual_bytes: content.len() as u64,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_over_a_line_that_is_cut_and_is_gone_on_with() {
    let rig = Rig::new();
    let content = random(30 * MIB + 7);
    let (image, dest) = (image(&content), rig.dir.path().join("dest"));
    fs::write(rig.state.images().join(&image.sha256), &content).unwrap();
    let refused = rig.host.images.fetch(&image, &dest).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "nothing was granted");
    rig.grant(&[&image.sha256], &[]);
    // What a worker of before has got of it.
    fs::write(&dest, &content[..5 * MIB + 3]).unwrap();
    rig.host.images.fetch(&image, &dest).await.unwrap();
    assert!(fs::read(&dest).unwrap() == content);
    assert!(rig.host.images.goes_on());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_one_host_is_a_disk_on_another() {
    let rig = Rig::new();
    let disk = rig.dir.path().join("disk");
    let mut content = random(20 * MIB);
    fs::write(&disk, &content).unwrap();
    let take = |base: Option<String>| {
        let (snapshots, disk) = (rig.host.snapshots.clone(), disk.clone());
        async move {
            snapshots
                .take(&SNAPSHOT.into(), Content::Plain(&disk), base.as_deref())
                .await
        }
    };
    let refused = take(None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    rig.grant(&[], &[]);
    let first = take(None).await.unwrap();
    assert_eq!((first.bytes, first.fresh_bytes), (20 << 20, 20 << 20));
    // The next one brings what has changed, and no more.
    content[3 * MIB..4 * MIB].fill(7);
    fs::write(&disk, &content).unwrap();
    rig.grant(&[], &[&first.manifest]);
    let second = take(Some(first.manifest.clone())).await.unwrap();
    assert_eq!((second.bytes, second.fresh_bytes), (20 << 20, 1 << 20));
    assert_eq!(
        take(Some(first.manifest.clone())).await.unwrap(),
        second,
        "done twice is done once"
    );

    let back = rig.dir.path().join("back");
    let restore = |manifest: String| {
        let (snapshots, back) = (rig.host.snapshots.clone(), back.clone());
        async move {
            snapshots
                .restore(&manifest, Content::Plain(&back), 32 << 20)
                .await
        }
    };
    let refused = restore(second.manifest.clone()).await.unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::PermissionDenied,
        "it was not granted to be read"
    );
    rig.grant(&[], &[&second.manifest]);
    restore(second.manifest.clone()).await.unwrap();
    let made = fs::read(&back).unwrap();
    assert!(
        made.len() == 32 * MIB
            && made[..20 * MIB] == content
            && made[20 * MIB..].iter().all(|byte| *byte == 0)
    );
    let left = fs::read_dir(rig.state.snapshots().join("segments")).unwrap();
    assert_eq!(left.count(), 2, "nothing is left of what was cut off");
}
