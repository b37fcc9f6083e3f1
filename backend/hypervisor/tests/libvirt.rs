//! The libvirt driver against a real libvirtd. Runs where `CUMULET_TEST_LIBVIRT` names one (for instance
//! `qemu:///system`), as root; elsewhere these tests say that they did not run.
#![cfg(feature = "libvirt")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use cumulet_certs::DiskKey;
use cumulet_domain::{
    id::{InstanceId, NetworkInterfaceId, VolumeId},
    image::DiskFormat,
    message::{OffReason, Power},
    network::Mac,
    rng::SharedRng,
    spec::{Throttle, secret_uuid},
    volume::MAX_ATTACHED,
};
use cumulet_hypervisor::{
    Backing, Copying, Device, DeviceKey, DiskCopy, DiskSecret, DomainDisk, DomainNic, DomainSpec, Error,
    Event, Hypervisor, Unplugged, contract,
    libvirt::{Accel, Guests, Libvirt, LibvirtConfig},
};

/// The guests that this process has named.
static GUESTS: Mutex<Vec<InstanceId>> = Mutex::new(Vec::new());

/// A directory. What goes wrong leaves no guest that runs on in it for ever.
struct Dir(tempfile::TempDir);

impl Dir {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let uri = std::env::var("CUMULET_TEST_LIBVIRT").unwrap_or_default();
        for id in GUESTS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for words in [&["destroy"][..], &["undefine", "--nvram"]] {
                let mut virsh = Command::new("virsh");
                virsh.args(["-q", "-c", &uri]).args(words).arg(id.to_string());
                drop(virsh.output());
            }
        }
    }
}

/// A driver with a cloud of its own, and a directory; none where there is no libvirtd to test with.
async fn host(cloud: &str) -> Option<(Arc<Libvirt>, Dir)> {
    let Ok(uri) = std::env::var("CUMULET_TEST_LIBVIRT") else {
        println!("not run: CUMULET_TEST_LIBVIRT is not set");
        return None;
    };
    let config = LibvirtConfig {
        uri,
        // Two runs at a time see nothing of each other.
        cloud: format!("{cloud}-{}", std::process::id()),
        accel: Accel::Qemu,
        guests: Guests {
            may_be_root: true,
            ..Guests::default()
        },
        ceph: None,
    };
    Some((
        Libvirt::start(config).await.unwrap(),
        Dir(tempfile::tempdir().unwrap()),
    ))
}

fn random_id() -> InstanceId {
    let id = InstanceId::random(&mut rand::rng());
    GUESTS.lock().unwrap().push(id);
    id
}

/// A guest with an empty disk, or an overlay on `image`.
fn spec(dir: &Path, instance: InstanceId, image: Option<&Path>) -> DomainSpec {
    let path = dir.join(format!("{instance}.qcow2"));
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2"]);
    if let Some(image) = image {
        create.args(["-F", "qcow2", "-b"]).arg(image);
    }
    if !path.exists() {
        assert!(create.arg(&path).arg("1G").status().unwrap().success());
    }
    DomainSpec {
        instance,
        generation: 1,
        instance_type: "t3.nano".into(),
        vcpus: 1,
        memory_mib: 128,
        nvram: None,
        disks: vec![DomainDisk {
            path,
            format: DiskFormat::Qcow2,
            backing: image.map(|image| Backing {
                path: image.to_owned(),
                format: DiskFormat::Qcow2,
                encrypted: false,
            }),
            secret: None,
            bytes: 1 << 30,
            target: "vda".into(),
            serial: format!("vol0{:016x}", instance.number()),
            boot: Some(1),
            throttle: Throttle::default(),
        }],
        nics: vec![],
        console_log: dir.join(format!("{instance}.log")),
        uid: None,
    }
}

/// An empty disk of 64 MiB.
fn blank(dir: &Path, name: &str) -> DomainDisk {
    let path = dir.join(format!("{name}.qcow2"));
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2"]);
    assert!(create.arg(&path).arg("64M").status().unwrap().success());
    DomainDisk {
        path,
        format: DiskFormat::Qcow2,
        backing: None,
        secret: None,
        bytes: 64 << 20,
        target: "vda".into(),
        serial: "vol00123456789abcdef".into(),
        boot: None,
        throttle: Throttle::default(),
    }
}

/// A tap as the worker's network makes it: libvirt takes it as it is, and neither makes nor removes it
/// (`managed='no'`). Gone when dropped, whoever has it in hands.
struct Tap(DomainNic);

impl Tap {
    fn make() -> Self {
        let id = NetworkInterfaceId::random(&mut rand::rng());
        let tap = Tap(DomainNic {
            mac: Mac::of(id),
            // Not as the worker's taps begin, whom nobody is to take it for.
            tap: format!("ct{}", id.short()),
        });
        let name = tap.0.tap.as_str();
        for words in [
            &["tuntap", "add", "dev", name, "mode", "tap"][..],
            &["link", "set", "dev", name, "addrgenmode", "none"],
        ] {
            let done = Command::new("ip").args(words).output().unwrap();
            assert!(done.status.success(), "{words:?}: {done:?}");
        }
        tap
    }

    /// Whether a guest's process has it in hands, as the kernel tells of its open files.
    fn is_open(&self, instance: InstanceId) -> bool {
        let process = output("pgrep", &["-f", &format!("guest={instance}")]);
        let files = std::fs::read_dir(format!("/proc/{}/fdinfo", process.trim())).unwrap();
        files.flatten().any(|file| {
            let told = std::fs::read_to_string(file.path()).unwrap_or_default();
            let mut names = told.lines().filter_map(|line| line.strip_prefix("iff:"));
            names.any(|name| name.trim() == self.0.tap)
        })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        output("ip", &["link", "delete", "dev", &self.0.tap]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let Some((driver, dir)) = host("contract").await else {
        return;
    };
    let ids = [random_id(), random_id()];
    let [first, second, extra] = [Tap::make(), Tap::make(), Tap::make()];
    let make = async |id: InstanceId| {
        let tap = if id == ids[0] { &first } else { &second };
        DomainSpec {
            nics: vec![tap.0.clone()],
            ..spec(dir.path(), id, None)
        }
    };
    let extras = (blank(dir.path(), "extra"), extra.0.clone());
    contract::run(&*driver, make, extras, ids).await;
}

/// The disk as an encrypted one, empty and of 64 MiB.
fn encrypted(mut disk: DomainDisk, number: u64) -> DomainDisk {
    let key = SharedRng::seeded(number).with(DiskKey::generate);
    std::fs::remove_file(&disk.path).unwrap();
    encrypted_file(&disk.path, &key);
    let uuid = secret_uuid(VolumeId::new(random_id().number()));
    disk.secret = Some(DiskSecret { uuid, key });
    disk
}

/// One try in five fails where QEMU can't tell how long it takes to hash a passphrase.
fn encrypted_file(path: &Path, key: &DiskKey) {
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let made = || {
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2"]);
        create.args(["--object", "secret,id=key,file=/dev/stdin", "-o", options]);
        create.arg(path).arg("64M").stdin(Stdio::piped());
        let mut child = create.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(key.passphrase().expose().as_bytes()).unwrap();
        drop(input);
        child.wait().unwrap().success()
    };
    assert!((0..10).any(|_| made()));
}

fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Of encrypted disks a guest's process has the keys, and nobody else: libvirt has none after a call, and arguments,
/// definitions and logs have none at all. Copies are encrypted, too.
#[tokio::test(flavor = "multi_thread")]
async fn encrypted_disks_are_opened_and_copied_with_keys_that_are_nowhere_to_be_found() {
    let Some((driver, dir)) = host("keys").await else {
        return;
    };
    let id = random_id();
    let mut spec = spec(dir.path(), id, None);
    spec.disks[0] = encrypted(spec.disks[0].clone(), 1);
    let extra = encrypted(blank(dir.path(), "extra"), 2);
    let plain = blank(dir.path(), "plain");
    let secrets: Vec<_> = [&spec.disks[0], &extra]
        .map(|disk| disk.secret.clone().unwrap())
        .into();
    let nothing_is_found = || {
        let listed = output("virsh", &["secret-list"]);
        let process = output("pgrep", &["-af", &format!("guest={id}")]);
        assert!(process.contains("secret"), "{process}");
        let defined = output("virsh", &["dumpxml", "--security-info", &id.to_string()]);
        let log = std::fs::read_to_string(format!("/var/log/libvirt/qemu/{id}.log")).unwrap_or_default();
        for DiskSecret { uuid, key } in &secrets {
            assert!(!listed.contains(uuid.as_str()), "{listed}");
            let passphrase = key.passphrase();
            for text in [&process, &defined, &log] {
                assert!(!text.contains(passphrase.expose().as_str()));
            }
        }
    };
    driver.prepare(&spec).await.unwrap();
    driver.plug(id, &Device::Disk(extra.clone())).await.unwrap();
    driver.plug(id, &Device::Disk(plain.clone())).await.unwrap();
    nothing_is_found();
    let copies: Vec<DiskCopy> = [&spec.disks[0], &extra, &plain]
        .map(|disk| DiskCopy {
            disk: disk.path.clone(),
            copy: disk.path.with_extension("copy"),
            secret: disk.secret.clone(),
        })
        .into();
    for copy in &copies {
        match &copy.secret {
            Some(secret) => encrypted_file(&copy.copy, &secret.key),
            None => std::fs::File::create_new(&copy.copy)
                .unwrap()
                .set_len(64 << 20)
                .unwrap(),
        }
    }
    driver.copy_disks(id, &copies).await.unwrap();
    let whole = async {
        while driver.copying(id).await.unwrap() != Copying::Done {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), whole)
        .await
        .unwrap();
    nothing_is_found();
    for copy in &copies {
        let info = output("qemu-img", &["info", copy.copy.to_str().unwrap()]);
        assert_eq!(info.contains("encrypted: yes"), copy.secret.is_some(), "{info}");
    }
    driver.resize(id, &extra.path, 128 << 20).await.unwrap();
    // What was plugged in is in the definition, and so is the number of its secret.
    driver.ensure_off(id, Duration::ZERO).await.unwrap();
    let mut without = spec.clone();
    without.disks.push(extra.clone());
    without.disks[1].target = "vdb".into();
    driver.prepare(&without).await.unwrap();
    nothing_is_found();
    driver.ensure_off(id, Duration::ZERO).await.unwrap();
    without.disks[1].secret = without.disks[0].secret.clone();
    assert!(driver.prepare(&without).await.is_err(), "another disk's key");
    driver.ensure_absent(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clouds_guests_are_neither_seen_nor_touched() {
    let Some((one, dir)) = host("cloud1").await else {
        return;
    };
    let Some((two, _)) = host("cloud2").await else {
        return;
    };
    let id = random_id();
    let mine = spec(dir.path(), id, None);
    one.prepare(&mine).await.unwrap();
    assert_eq!(two.status(id).await.unwrap().power, Power::Absent);
    assert!(two.list().await.unwrap().is_empty());
    assert_eq!(two.prepare(&mine).await, Err(Error::Foreign(id)));
    two.ensure_absent(id).await.unwrap();
    two.ensure_off(id, Duration::ZERO).await.unwrap();
    assert_eq!(one.status(id).await.unwrap().power, Power::On);
    one.ensure_absent(id).await.unwrap();
}

async fn until_console_has(driver: &Libvirt, id: InstanceId, text: &str) {
    let mut timer = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..600 {
        timer.tick().await;
        let console = driver.console_tail(id, 64 * 1024).await.unwrap();
        if String::from_utf8_lossy(&console).contains(text) {
            return;
        }
    }
    panic!("the console never said {text:?}");
}

/// A whole guest: it boots, starts over and goes off when it is asked; one that is killed has crashed.
/// `CUMULET_TEST_IMAGE` names the tiny image.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_boots_listens_and_is_told_of() {
    let Some((driver, dir)) = host("guest").await else {
        return;
    };
    let Some(image) = std::env::var_os("CUMULET_TEST_IMAGE").map(PathBuf::from) else {
        return;
    };
    let id = random_id();
    let spec = spec(dir.path(), id, Some(&image));
    let began = Instant::now();
    driver.prepare(&spec).await.unwrap();
    println!("prepared after {:?}", began.elapsed());
    driver.resume(id).await.unwrap();
    println!("resumed after {:?}", began.elapsed());
    until_console_has(&driver, id, "cumulet-tiny first line").await;
    println!("user space after {:?}", began.elapsed());
    until_console_has(&driver, id, "cumulet-tiny ready:").await;
    println!("ready after {:?}", began.elapsed());
    let picture = driver.screenshot(id).await.unwrap();
    assert!(picture.len() > 100);

    let began = Instant::now();
    driver.reboot(id, Duration::from_secs(30)).await.unwrap();
    println!("started over after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(25), "it did not listen");
    until_console_has(&driver, id, "cumulet-tiny ready:").await;

    let began = Instant::now();
    driver.ensure_off(id, Duration::from_secs(60)).await.unwrap();
    println!("off after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(50), "it did not listen");
    let status = driver.status(id).await.unwrap();
    assert_eq!(status.off_reason, Some(OffReason::GuestShutdown));

    driver.prepare(&spec).await.unwrap();
    driver.resume(id).await.unwrap();
    let mut events = driver.events();
    let found = Command::new("pgrep")
        .args(["-f", &format!("guest={id}")])
        .output()
        .unwrap();
    let pid = String::from_utf8(found.stdout).unwrap();
    assert!(
        Command::new("kill")
            .args(["-9", pid.trim()])
            .status()
            .unwrap()
            .success()
    );
    let crashed = async {
        loop {
            match events.recv().await.unwrap() {
                Event::Changed(s) if s.instance == id && s.power == Power::Off => return s.off_reason,
                _ => {}
            }
        }
    };
    let reason = tokio::time::timeout(Duration::from_secs(10), crashed)
        .await
        .unwrap();
    assert_eq!(reason, Some(OffReason::Crashed));
    driver.ensure_absent(id).await.unwrap();
    assert!(driver.list().await.unwrap().is_empty());
}

/// A guest that runs takes disks and lets go of them; one without a system does not let go.
#[tokio::test(flavor = "multi_thread")]
async fn disks_come_and_go_while_the_guest_runs() {
    let Some((driver, dir)) = host("disks").await else {
        return;
    };
    let Some(image) = std::env::var_os("CUMULET_TEST_IMAGE").map(PathBuf::from) else {
        return;
    };
    let (id, deaf) = (random_id(), random_id());
    for (id, image) in [(id, Some(image.as_path())), (deaf, None)] {
        driver.prepare(&spec(dir.path(), id, image)).await.unwrap();
        driver.resume(id).await.unwrap();
    }
    until_console_has(&driver, id, "cumulet-tiny ready:").await;
    // As many as it may have beside its root.
    let disks: Vec<_> = (1..MAX_ATTACHED)
        .map(|n| Device::Disk(blank(dir.path(), &format!("data{n}"))))
        .collect();
    for round in 0..2 {
        for disk in &disks {
            driver.plug(id, disk).await.unwrap();
        }
        assert_eq!(driver.devices(id).await.unwrap().disks.len(), MAX_ATTACHED);
        let more = Device::Disk(blank(dir.path(), "more"));
        assert!(matches!(driver.plug(id, &more).await, Err(Error::Refused(_))));
        for disk in &disks {
            let began = Instant::now();
            let gone = driver.unplug(id, &disk.key(), Duration::from_secs(60)).await;
            println!("round {round}: unplugged after {:?}", began.elapsed());
            assert_eq!(gone, Ok(Unplugged::Gone));
        }
        assert_eq!(driver.devices(id).await.unwrap().disks.len(), 1);
    }
    let kept = &disks[0];
    driver.plug(deaf, kept).await.unwrap();
    for _ in 0..2 {
        let (began, patience) = (Instant::now(), Duration::from_secs(8));
        assert_eq!(
            driver.unplug(deaf, &kept.key(), patience).await,
            Ok(Unplugged::Busy)
        );
        println!("still there after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    // When it ends it has it no more, and another guest may take it.
    driver.ensure_off(deaf, Duration::ZERO).await.unwrap();
    assert!(!driver.devices(deaf).await.unwrap().has(&kept.key()));
    driver.plug(id, kept).await.unwrap();
    for id in [id, deaf] {
        driver.ensure_absent(id).await.unwrap();
    }
}

/// A guest that runs takes as many interfaces as it has slots for them, with taps that are there, and lets go of them.
#[tokio::test(flavor = "multi_thread")]
async fn interfaces_come_and_go_while_the_guest_runs() {
    let Some((driver, dir)) = host("nics").await else {
        return;
    };
    let Some(image) = std::env::var_os("CUMULET_TEST_IMAGE").map(PathBuf::from) else {
        return;
    };
    let id = random_id();
    let (taps, more) = ([Tap::make(), Tap::make(), Tap::make()], Tap::make());
    let guest = spec(dir.path(), id, Some(&image));
    driver.prepare(&guest).await.unwrap();
    driver.resume(id).await.unwrap();
    until_console_has(&driver, id, "cumulet-tiny ready:").await;
    // What is in a process's hands no other device can have: in the second round each tap has been let go of.
    for round in 0..2 {
        for tap in &taps {
            driver.plug(id, &Device::Nic(tap.0.clone())).await.unwrap();
            assert!(tap.is_open(id));
        }
        assert_eq!(driver.devices(id).await.unwrap().nics.len(), taps.len());
        let refused = driver.plug(id, &Device::Nic(more.0.clone())).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        for tap in &taps {
            let (began, key) = (Instant::now(), DeviceKey::Nic(tap.0.mac));
            let gone = driver.unplug(id, &key, Duration::from_secs(60)).await;
            println!("round {round}: unplugged after {:?}", began.elapsed());
            assert_eq!(gone, Ok(Unplugged::Gone));
        }
        assert!(driver.devices(id).await.unwrap().nics.is_empty());
    }
    driver.ensure_absent(id).await.unwrap();
}

/// A disk's `driver` element in the XML of a guest's process.
fn opened(instance: InstanceId, disk: &DomainDisk) -> String {
    let uri = std::env::var("CUMULET_TEST_LIBVIRT").unwrap();
    let text = output("virsh", &["-c", &uri, "dumpxml", &instance.to_string()]);
    let file = disk.path.to_str().unwrap();
    let element = text.split("<disk ").find(|part| part.contains(file)).unwrap();
    let line = element.lines().find(|line| line.contains("<driver ")).unwrap();
    line.trim().to_owned()
}

/// A file system of the kernel's that has no other way than the page cache; gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        output(
            "mount",
            &["-t", "ramfs", "-o", "mode=755", "ramfs", path.to_str().unwrap()],
        );
        Mounted(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        output("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// Of a disk, as it is in the guest's process: it may be slowed down, grow, and be copied.
async fn is_usable(driver: &Libvirt, instance: InstanceId, disk: &DomainDisk) {
    let throttle = Throttle {
        bytes: Some(1 << 30),
        operations: None,
    };
    driver.throttle(instance, &disk.path, throttle).await.unwrap();
    let has = driver.devices(instance).await.unwrap();
    let found = has.disks.iter().find(|found| found.path == disk.path).unwrap();
    assert_eq!(found.throttle, throttle);
    let bytes = found.bytes.unwrap() + (64 << 20);
    driver.resize(instance, &disk.path, bytes).await.unwrap();
    let copy = DiskCopy {
        disk: disk.path.clone(),
        copy: disk.path.with_extension("copy"),
        secret: None,
    };
    driver.copy_disks(instance, &[copy]).await.unwrap();
    let whole = async {
        while driver.copying(instance).await.unwrap() != Copying::Done {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), whole)
        .await
        .unwrap();
}

/// Past the page cache and in a thread of their own, as well as the files and the guest allow.
#[tokio::test(flavor = "multi_thread")]
async fn disks_are_read_and_written_as_well_as_their_files_and_their_guest_allow() {
    let Some((driver, dir)) = host("io").await else {
        return;
    };
    let uring = cumulet_hypervisor::probe::io_uring(Path::new("/usr/bin/qemu-system-x86_64")).await;
    let best = if uring.is_ok() {
        "io='io_uring'"
    } else {
        "io='native'"
    };
    let (id, of_before) = (random_id(), random_id());
    let spec_of = |id| spec(dir.path(), id, None);
    // Guests see what was mounted before they were started.
    let memory = Mounted::at(dir.path().join("ramfs"));
    for id in [id, of_before] {
        driver.prepare(&spec_of(id)).await.unwrap();
    }
    let (one, slow) = (blank(dir.path(), "one"), blank(&memory.0, "slow"));
    for (disk, cache, io) in [
        (&one, "cache='none'", best),
        (&slow, "cache='writeback'", "io='threads'"),
    ] {
        driver.plug(id, &Device::Disk(disk.clone())).await.unwrap();
        let found = opened(id, disk);
        for word in [cache, io, "discard='unmap'", "iothread='1'"] {
            assert!(found.contains(word), "{word}: {found}");
        }
    }
    is_usable(&driver, id, &one).await;
    is_usable(&driver, id, &slow).await;

    // As an earlier program has started it.
    driver.ensure_off(of_before, Duration::ZERO).await.unwrap();
    let name = of_before.to_string();
    let definition = output("virsh", &["dumpxml", "--inactive", &name]);
    let words = [
        " iothread='1'",
        " io='io_uring'",
        " io='native'",
        "<iothreads>1</iothreads>",
    ];
    let before = words.iter().fold(definition, |text, word| text.replace(word, ""));
    assert!(!before.contains("iothread"), "{before}");
    let file = dir.path().join("before.xml");
    std::fs::write(&file, before.replace("cache='none'", "cache='writeback'")).unwrap();
    output("virsh", &["define", file.to_str().unwrap()]);
    output("virsh", &["start", "--paused", &name]);
    let two = blank(dir.path(), "two");
    driver.plug(of_before, &Device::Disk(two.clone())).await.unwrap();
    let root = opened(of_before, &spec_of(of_before).disks[0]);
    assert!(root.contains("cache='writeback'"), "{root}");
    let found = opened(of_before, &two);
    assert!(found.contains(best) && !found.contains("iothread"), "{found}");
    is_usable(&driver, of_before, &two).await;
    // The next time that it is started it has what others have.
    driver.ensure_off(of_before, Duration::ZERO).await.unwrap();
    driver.prepare(&spec_of(of_before)).await.unwrap();
    assert!(opened(of_before, &spec_of(of_before).disks[0]).contains("iothread='1'"));
    for id in [id, of_before] {
        driver.ensure_absent(id).await.unwrap();
    }
}

/// libvirtd ends and starts again: guests run on, what happened meanwhile is found, and events come again.
/// `CUMULET_TEST_LIBVIRTD_PID` names the pid file of a libvirtd that nobody else uses.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_libvirtd_touches_no_guest() {
    let Some((driver, dir)) = host("restart").await else {
        return;
    };
    let Some(pid_file) = std::env::var("CUMULET_TEST_LIBVIRTD_PID").ok() else {
        return;
    };
    let [stays, goes] = [random_id(), random_id()];
    for id in [stays, goes] {
        driver.prepare(&spec(dir.path(), id, None)).await.unwrap();
        driver.resume(id).await.unwrap();
    }
    let qemu_of = |id: InstanceId| {
        let found = Command::new("pgrep")
            .args(["-f", &format!("guest={id}")])
            .output()
            .unwrap();
        String::from_utf8(found.stdout).unwrap().trim().to_owned()
    };
    let kill = |signal: &str, pid: &str| {
        assert!(
            Command::new("kill")
                .args([signal, pid])
                .status()
                .unwrap()
                .success()
        );
    };
    let before = qemu_of(stays);
    let profile = driver.profile().await.unwrap();
    let mut events = driver.events();
    kill("-9", std::fs::read_to_string(&pid_file).unwrap().trim());
    kill("-9", &qemu_of(goes));
    let mut timer = tokio::time::interval(Duration::from_millis(100));
    while driver.status(stays).await.is_ok() {
        timer.tick().await;
    }
    assert!(
        Command::new("libvirtd")
            .args(["-d", "-p", &pid_file])
            .status()
            .unwrap()
            .success()
    );
    let began = Instant::now();
    let resync = async { while events.recv().await.unwrap() != Event::Resync {} };
    tokio::time::timeout(Duration::from_secs(10), resync)
        .await
        .expect("not connected again in 10 s");
    println!("connected again after {:?}", began.elapsed());
    // What the host is was asked anew, and is the same.
    let again = driver.profile().await.unwrap();
    assert!(again == profile && !Arc::ptr_eq(&again, &profile));
    let power = async |id| driver.status(id).await.unwrap();
    assert_eq!(power(stays).await.power, Power::On);
    assert_eq!(qemu_of(stays), before, "the guest was touched");
    while power(goes).await.power == Power::On {
        timer.tick().await;
    }
    assert_eq!(power(goes).await.off_reason, Some(OffReason::Crashed));
    kill("-9", &qemu_of(stays));
    let gone = async {
        loop {
            match events.recv().await.unwrap() {
                Event::Changed(s) if s.instance == stays && s.power == Power::Off => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("no event came");
    for id in [stays, goes] {
        driver.ensure_absent(id).await.unwrap();
    }
}

/// A guest whose process answers nothing holds up no other, is flagged, and can be ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_guest_holds_up_no_other() {
    let Some((driver, dir)) = host("hung").await else {
        return;
    };
    let [hangs, other] = [random_id(), random_id()];
    for id in [hangs, other] {
        driver.prepare(&spec(dir.path(), id, None)).await.unwrap();
        driver.resume(id).await.unwrap();
    }
    let found = Command::new("pgrep")
        .args(["-f", &format!("guest={hangs}")])
        .output()
        .unwrap();
    let pid = String::from_utf8(found.stdout).unwrap();
    assert!(
        Command::new("kill")
            .args(["-STOP", pid.trim()])
            .status()
            .unwrap()
            .success()
    );
    let picture = tokio::spawn({
        let driver = driver.clone();
        async move { driver.screenshot(hangs).await }
    });
    let mut timer = tokio::time::interval(Duration::from_millis(200));
    while !picture.is_finished() {
        let began = Instant::now();
        assert_eq!(driver.status(other).await.unwrap().power, Power::On);
        assert!(driver.screenshot(other).await.is_ok());
        assert_eq!(driver.list().await.unwrap().len(), 2);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        timer.tick().await;
    }
    assert!(matches!(picture.await.unwrap(), Err(Error::Late(_))));
    assert_eq!(
        driver.reboot(hangs, Duration::ZERO).await,
        Err(Error::Hung(hangs))
    );
    driver.ensure_off(hangs, Duration::from_secs(30)).await.unwrap();
    for id in [hangs, other] {
        driver.ensure_absent(id).await.unwrap();
    }
    assert!(driver.list().await.unwrap().is_empty());
}

/// A guest with an agent is frozen while copies of its disks begin, and thawed whatever comes of that, or of us.
/// `CUMULET_TEST_AGENT_IMAGE` names an image that has one: the Debian of the tests.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_frozen_while_its_copies_begin_and_never_left_so() {
    let Some((driver, dir)) = host("quiesce").await else {
        return;
    };
    let Some(image) = std::env::var_os("CUMULET_TEST_AGENT_IMAGE").map(PathBuf::from) else {
        return;
    };
    let id = random_id();
    let virsh = |words: &[&str]| {
        let uri = std::env::var("CUMULET_TEST_LIBVIRT").unwrap();
        let done = Command::new("virsh").args(["-c", &uri]).args(words).output();
        let done = done.unwrap();
        done.status
            .success()
            .then(|| String::from_utf8(done.stdout).unwrap())
    };
    let name = id.to_string();
    let status = || {
        let question = r#"{"execute":"guest-fsfreeze-status"}"#;
        virsh(&["qemu-agent-command", &name, question])
    };
    let mut timer = tokio::time::interval(Duration::from_millis(500));
    let mut until = async |wanted: &str| {
        // Without a network cloud-init looks for metadata for minutes before agents start.
        for _ in 0..1000 {
            timer.tick().await;
            if status().is_some_and(|answer| answer.contains(wanted)) {
                return;
            }
        }
        panic!("the agent never said {wanted:?}");
    };
    let guest = DomainSpec {
        memory_mib: 512,
        ..spec(dir.path(), id, Some(&image))
    };
    let mut grow = Command::new("qemu-img");
    let grown = grow
        .args(["resize", "-q"])
        .arg(&guest.disks[0].path)
        .arg("3G")
        .status();
    assert!(grown.unwrap().success());
    driver.prepare(&guest).await.unwrap();
    driver.resume(id).await.unwrap();
    until("thawed").await;
    let copy = |to: &str| DiskCopy {
        disk: guest.disks[0].path.clone(),
        copy: dir.path().join(to),
        secret: None,
    };
    driver.copy_disks(id, &[copy("one.copy")]).await.unwrap();
    assert!(status().unwrap().contains("thawed"));
    let (frozen, failed) = (driver.quiesced().frozen, driver.quiesced().failed);
    assert_eq!((frozen, failed, driver.quiesced().left), (1, 0, 0));
    driver.stop_copying(id).await.unwrap();
    assert!(driver.copy_disks(id, &[copy("none/two.copy")]).await.is_err());
    assert_eq!(driver.quiesced().frozen, 2);
    assert!(status().unwrap().contains("thawed"), "the copies did not begin");

    // As a process leaves it that is killed in between; and what somebody else has frozen.
    let mark = ["metadata", &name, "urn:cumulet:frozen:1", "--live"];
    virsh(&[&mark[..], &["--set", "<frozen/>", "--key", "x"]].concat()).unwrap();
    virsh(&["domfsfreeze", &name]).unwrap();
    until("frozen").await;
    let began = Instant::now();
    let (next, _) = host("quiesce").await.unwrap();
    until("thawed").await;
    println!("thawed after {:?}", began.elapsed());
    assert_eq!(virsh(&mark), None, "the mark is gone");
    virsh(&["domfsfreeze", &name]).unwrap();
    drop(next);
    let (_third, _) = host("quiesce").await.unwrap();
    // As long as a look at all guests takes, and more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(status().unwrap().contains("frozen"), "it is not ours to thaw");
    driver.ensure_absent(id).await.unwrap();
}

/// What the host is comes from libvirt, and is asked once.
#[tokio::test(flavor = "multi_thread")]
async fn tells_what_the_host_is() {
    let Some((driver, _)) = host("profile").await else {
        return;
    };
    let profile = driver.profile().await.unwrap();
    println!("{profile:#?}");
    let uname = Command::new("uname").arg("-m").output().unwrap();
    let machine = String::from_utf8(uname.stdout).unwrap();
    let told = &profile.capabilities;
    assert_eq!(told["cpu_info:arch"], machine.trim());
    assert_eq!(told["hypervisor_type"], "QEMU");
    assert!(told["hypervisor_version"].parse::<u32>().unwrap() > 1_000_000);
    // Emulated guests get one model on every host, with what is in it.
    assert_eq!(
        (told["kvm"].as_str(), told["cpu_info:model"].as_str()),
        ("false", "qemu64")
    );
    let features: Vec<_> = told["cpu_info:features"].split(' ').collect();
    assert!(
        features.contains(&"sse2") && !features.contains(&"avx2"),
        "{features:?}"
    );
    assert!(Arc::ptr_eq(&profile, &driver.profile().await.unwrap()));
}
