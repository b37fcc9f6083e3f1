//! The probes of what guests can use of this host, by running the emulator; the driver asks at its start, and
//! `cumulet doctor`.
//!
//! KVM: whether hardware virtualisation really runs a guest here. `/dev/kvm` can exist, and libvirt can call it usable,
//! while a guest hangs before its first instruction, or at an instruction that this KVM can't emulate; so a guest of one
//! sector is run, which goes through protected and long mode (`probe/guest.S`). It has the host's processor, as guests
//! have: there are hosts where QEMU runs its default one and dies of setting that one up.
//!
//! `io_uring`: whether the emulator reads a file by it. Kernels and emulators are built without, and system calls are
//! filtered in containers.

mod sector;

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command, sync::OnceCell};

use sector::CODE;

/// How long the probe may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// Whom the kernel lets use `io_uring`: 0, where there is the file, is everybody.
const URING_FOR: &str = "/proc/sys/kernel/io_uring_disabled";

/// What `isa-debug-exit` makes of the 0x2a that the guest writes: `(0x2a << 1) | 1`.
const EXIT: i32 = 0x55;

/// Whether a guest ran under KVM. Asked once a process; `qemu` is the emulator's program.
pub async fn kvm_works(qemu: &Path) -> bool {
    static ANSWER: OnceCell<bool> = OnceCell::const_new();
    *ANSWER.get_or_init(|| probe(qemu)).await
}

/// Whether a guest runs under KVM, if there is one.
async fn probe(qemu: &Path) -> bool {
    Path::new("/dev/kvm").exists() && runs(qemu, "kvm", "host").await
}

/// Runs the probe guest with an accelerator and a processor: true only if its code ran.
async fn runs(qemu: &Path, accelerator: &str, processor: &str) -> bool {
    let sector = match boot_sector().await {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(%error, "can't write the probe guest");
            return false;
        }
    };
    let mut command = Command::new(qemu);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "pc",
        ])
        .args(["-accel", accelerator, "-cpu", processor, "-m", "16", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-drive")
        .arg(format!("file={},format=raw,if=ide", sector.path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let ran = tokio::time::timeout(DEADLINE, command.status()).await;
    let worked = matches!(&ran, Ok(Ok(status)) if status.code() == Some(EXIT));
    tracing::info!(accelerator, processor, worked, "ran a probe guest");
    worked
}

/// Whether guests' disks can be read and written by `io_uring`; if not, why. Asked once a process; `qemu` is the
/// emulator's program.
///
/// # Errors
/// The reason, to be read after "io_uring: ".
pub async fn io_uring(qemu: &Path) -> Result<(), &'static str> {
    static ANSWER: OnceCell<Result<(), &'static str>> = OnceCell::const_new();
    let ask = || async {
        let answer = uring(qemu, &std::fs::read_to_string(URING_FOR).unwrap_or_default()).await;
        tracing::info!(?answer, "asked the emulator for io_uring");
        answer
    };
    *ANSWER.get_or_init(ask).await
}

/// The same, where the kernel says whom it is for.
async fn uring(qemu: &Path, disabled: &str) -> Result<(), &'static str> {
    // The emulator runs as root here, guests do not.
    if !matches!(disabled.trim(), "" | "0") {
        return Err("the kernel does not let everybody use it (kernel.io_uring_disabled)");
    }
    if opens(qemu).await {
        Ok(())
    } else {
        Err("the emulator can't use it")
    }
}

/// Has the emulator open a file by `io_uring`, and quit.
async fn opens(qemu: &Path) -> bool {
    let Ok(sector) = boot_sector().await else {
        return false;
    };
    let file = format!(
        "driver=file,node-name=probe,aio=io_uring,filename={}",
        sector.path.display()
    );
    let mut command = Command::new(qemu);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-machine", "none", "-monitor", "stdio", "-blockdev", &file])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let ran = async {
        let mut child = command.spawn()?;
        if let Some(mut monitor) = child.stdin.take() {
            // One that has ended already does not read it.
            drop(monitor.write_all(b"quit\n").await);
        }
        child.wait().await
    };
    let ran = tokio::time::timeout(DEADLINE, ran).await;
    matches!(&ran, Ok(Ok(status)) if status.success())
}

/// The disk of the probe guest; gone when dropped.
struct Sector {
    path: std::path::PathBuf,
}

impl Drop for Sector {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

async fn boot_sector() -> std::io::Result<Sector> {
    let mut bytes = [0; 512];
    bytes[..CODE.len()].copy_from_slice(&CODE);
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    let name = format!("cumulet-probe-{:016x}", rand::random::<u64>());
    let path = std::env::temp_dir().join(name);
    // `create_new`: a link that another user put there is not followed.
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(&path).await?;
    let sector = Sector { path };
    file.write_all(&bytes).await?;
    file.flush().await?;
    Ok(sector)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QEMU: &str = "/usr/bin/qemu-system-x86_64";

    #[tokio::test]
    async fn the_probe_guest_runs_under_emulation() {
        if Path::new(QEMU).exists() {
            assert!(runs(Path::new(QEMU), "tcg", "qemu64").await);
        }
    }

    #[tokio::test]
    async fn a_program_that_is_no_emulator_proves_nothing() {
        for program in ["/bin/true", "/bin/false", "/nonexistent"] {
            assert!(!runs(Path::new(program), "tcg", "qemu64").await, "{program}");
        }
    }

    /// The kernel's answer is looked at first; then the emulator's.
    #[tokio::test]
    async fn io_uring_is_for_guests_where_everybody_may_and_the_emulator_can() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let emulator = dir.path().join("qemu");
        let script = "#!/bin/sh\nread word\n[ \"$word\" = quit ] || exit 2\ncase \"$*\" in *aio=io_uring*) exit $STATUS ;; esac\nexit 3\n";
        for (status, works) in [("0", true), ("1", false)] {
            std::fs::write(&emulator, script.replace("$STATUS", status)).unwrap();
            std::fs::set_permissions(&emulator, std::fs::Permissions::from_mode(0o700)).unwrap();
            for everybody in ["", "0\n"] {
                assert_eq!(uring(&emulator, everybody).await.is_ok(), works, "{status}");
            }
            for few in ["1\n", "2\n"] {
                assert!(
                    uring(&emulator, few)
                        .await
                        .unwrap_err()
                        .contains("io_uring_disabled")
                );
            }
        }
        for program in ["/bin/false", "/nonexistent"] {
            assert_eq!(
                uring(Path::new(program), "").await,
                Err("the emulator can't use it")
            );
        }
    }

    /// Such as QEMU with `failed to set MSR 0x10a`, where KVM pretends to more than it does.
    #[tokio::test]
    async fn an_emulator_that_dies_of_the_hosts_processor_proves_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let emulator = dir.path().join("qemu");
        let script = "#!/bin/sh\ncase \"$*\" in *'-cpu host'*) exit 134 ;; esac\nexit 85\n";
        std::fs::write(&emulator, script).unwrap();
        std::fs::set_permissions(&emulator, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(runs(&emulator, "kvm", "qemu64").await);
        assert!(!runs(&emulator, "kvm", "host").await);
        assert!(!probe(&emulator).await);
    }
}
