//! Preflight checks of `cumulet up`: what would fail later, or slowly, is found before anything slow begins.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Result, bail};
use nix::unistd::{Uid, User};
use tokio::process::Command;

use crate::{
    config::Config,
    metrics,
    roles::{Role, Roles},
    state::StateDir,
    wiring,
};

/// Less room than this is worth a warning: a cloud starts in it, and soon has no room for a guest's disk.
const ROOM: u64 = 1 << 30;

/// How long one look at a folder may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What libvirt is configured with, and whom QEMU runs as where that says nothing (Debian's, others').
const QEMU_CONF: &str = "/etc/libvirt/qemu.conf";
const QEMU_USERS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// Runs the checks; what is only to be expected to go wrong is a warning.
pub(super) async fn check(state: &StateDir, config: &Config, roles: &Roles) -> Result<()> {
    wiring::try_console_addresses(config, roles)?;
    if !config.text(metrics::LISTEN).is_empty() {
        wiring::listen(config.text(metrics::LISTEN), metrics::LISTEN)?;
    }
    // Only the machine's own daemon runs guests as another user than the one that asks.
    let is_system = config.text("driver") == "libvirt" && config.text("libvirt.uri") == "qemu:///system";
    if roles.has(Role::Compute)
        && is_system
        && let Some(user) = qemu_user()
    {
        reach(state.path(), &user).await?;
    }
    let found = nix::sys::statvfs::statvfs(state.path())?;
    if let Some(sentence) = room(state.path(), found.blocks_available() * found.fragment_size()) {
        tracing::warn!("{sentence}");
    }
    Ok(())
}

/// The user that libvirt runs QEMU as.
fn qemu_user() -> Option<User> {
    let text = std::fs::read_to_string(QEMU_CONF).unwrap_or_default();
    let find = |name: &str| User::from_name(name).ok().flatten();
    match configured_user(&text) {
        // `+0`: a number, and no name that looks like one.
        Some(name) => find(name).or_else(|| {
            let uid = name.trim_start_matches('+').parse().ok()?;
            User::from_uid(Uid::from_raw(uid)).ok().flatten()
        }),
        None => QEMU_USERS.into_iter().find_map(find),
    }
}

/// The value of `user` in the text of qemu.conf.
fn configured_user(text: &str) -> Option<&str> {
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "user").then_some(value.trim().trim_matches('"'))
    });
    values.next_back()
}

/// Guests' disks are in the state directory, so QEMU's user has to get there.
async fn reach(folder: &Path, user: &User) -> Result<()> {
    if passes(user, folder).await {
        return Ok(());
    }
    let above: Vec<&Path> = folder.ancestors().collect();
    for closed in above.into_iter().rev() {
        if !passes(user, closed).await {
            bail!(
                "libvirt runs guests as the user {}, who may not pass {}, so none could open its disk in {}; \
                 give another cloud with --state-dir, for instance /var/lib/cumulet, or `chmod o+x {}`",
                user.name,
                closed.display(),
                folder.display(),
                closed.display()
            );
        }
    }
    Ok(())
}

/// Whether a user may pass a folder and those above it. The kernel is asked, as that user, since access
/// lists grant what modes don't show. True where it can't be asked: that is no reason not to start.
async fn passes(user: &User, folder: &Path) -> bool {
    if user.uid.is_root() || !nix::unistd::geteuid().is_root() {
        return true;
    }
    let mut command = Command::new("test");
    command.arg("-x").arg(folder).current_dir("/");
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(DEADLINE, command.status()).await;
    !matches!(ended, Ok(Ok(status)) if status.code() == Some(1))
}

/// A sentence where little room is left.
fn room(folder: &Path, free: u64) -> Option<String> {
    let (mebibytes, folder) = (free >> 20, folder.display());
    (free < ROOM).then(|| {
        format!("only {mebibytes} MiB are free in {folder}; images and guests' disks need room there")
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn libvirts_configuration_names_the_user() {
        for (text, user) in [
            ("", None),
            ("#user = \"root\"\ngroup = \"kvm\"\n", None),
            ("user = \"root\"\n", Some("root")),
            ("  user=\"+0\"  \n", Some("+0")),
            ("user = \"a\"\nuser = \"b\"\n#user = \"c\"\n", Some("b")),
        ] {
            assert_eq!(configured_user(text), user, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_qemu_can_not_reach_is_named() {
        assert!(
            nix::unistd::geteuid().is_root(),
            "another user can only be tried as root"
        );
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let top = tempfile::tempdir().unwrap();
        let (closed, state) = (top.path().join("closed"), top.path().join("closed/state"));
        fs::create_dir_all(&state).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(top.path(), 0o711);
        mode(&closed, 0o700);
        mode(&state, 0o711);
        let error = reach(&state, &nobody).await.unwrap_err().to_string();
        assert!(error.contains("the user nobody"), "{error}");
        assert!(
            error.ends_with(&format!("`chmod o+x {}`", closed.display())),
            "{error}"
        );
        let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        reach(&state, &root).await.unwrap();
        mode(&closed, 0o711);
        reach(&state, &nobody).await.unwrap();
        mode(&state, 0o700);
        let error = reach(&state, &nobody).await.unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("`chmod o+x {}`", state.display())),
            "{error}"
        );
    }

    #[test]
    fn little_room_is_told() {
        let cloud = Path::new("/srv");
        assert_eq!(room(cloud, 1 << 30), None);
        let told = room(cloud, (1 << 30) - 1).unwrap();
        assert!(told.starts_with("only 1023 MiB are free in /srv"), "{told}");
    }
}
