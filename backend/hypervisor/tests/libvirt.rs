//! The libvirt driver against a real libvirtd. Runs where `CUMULET_TEST_LIBVIRT` names one (for instance
//! `qemu:///system`), as root; elsewhere these tests say that they did not run.
#![cfg(feature = "libvirt")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use cumulet_domain::{
    id::InstanceId,
    image::DiskFormat,
    message::{OffReason, Power},
};
use cumulet_hypervisor::{
    DiskSpec, DomainSpec, Error, Event, Hypervisor, contract,
    libvirt::{Accel, Libvirt, LibvirtConfig},
};

/// A driver with a cloud of its own, and a directory; none where there is no libvirtd to test with.
async fn host(cloud: &str) -> Option<(Arc<Libvirt>, tempfile::TempDir)> {
    let Ok(uri) = std::env::var("CUMULET_TEST_LIBVIRT") else {
        println!("not run: CUMULET_TEST_LIBVIRT is not set");
        return None;
    };
    let config = LibvirtConfig {
        uri,
        cloud: cloud.into(),
        accel: Accel::Qemu,
    };
    Some((
        Libvirt::start(config).await.unwrap(),
        tempfile::tempdir().unwrap(),
    ))
}

fn random_id() -> InstanceId {
    InstanceId::random(&mut rand::rng())
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
        disks: vec![DiskSpec {
            path,
            format: DiskFormat::Qcow2,
            backing: image.map(|i| (i.to_owned(), DiskFormat::Qcow2)),
        }],
        nics: vec![],
        console_log: dir.join(format!("{instance}.log")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let Some((driver, dir)) = host("contract").await else {
        return;
    };
    let make = async |id| spec(dir.path(), id, None);
    contract::run(&*driver, make, [random_id(), random_id()]).await;
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
