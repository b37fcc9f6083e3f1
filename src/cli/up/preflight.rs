//! Preflight checks of `cumulet up`: what would fail later, or slowly, is found before anything slow begins.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Result, bail};
use nix::unistd::{Uid, User};
use tokio::process::Command;

use crate::{
    config::Config,
    roles::{Role, Roles},
    state::StateDir,
    wiring::{self, guests},
};

/// Less room than this is worth a warning: a cloud starts in it, and soon has no room for a guest's disk.
const ROOM: u64 = 1 << 30;

/// How long one look at a folder may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Runs the checks; what is only to be expected to go wrong is a warning.
pub(super) async fn check(state: &StateDir, config: &Config, roles: &Roles) -> Result<()> {
    wiring::try_console_addresses(config, roles)?;
    wiring::check_storage(config, roles)?;
    let metrics = &config.metrics.listen;
    if !metrics.is_empty() {
        wiring::listen(metrics.text(), metrics.name())?;
    }
    if roles.has(Role::Compute) && config.driver.text() == "libvirt" {
        let users = guests::read(config, guests::on_kvm(config).await)?;
        let own = users
            .uids
            .as_ref()
            .zip(users.group)
            .map(|(uids, gid)| (*uids.start(), gid));
        if let Some(user) = own.or(users.usual)
            && let Err(error) = reach(state.path(), user).await
        {
            let allowed: bool = config.libvirt.guests_as_root.get()?;
            anyhow::ensure!(allowed, error);
            tracing::warn!("guests run as root: {error}");
        }
    }
    let found = nix::sys::statvfs::statvfs(state.path())?;
    if let Some(sentence) = room(state.path(), found.blocks_available() * found.fragment_size()) {
        tracing::warn!("{sentence}");
    }
    Ok(())
}

/// Guests' disks are in the state directory, so QEMU's user has to get there.
async fn reach(folder: &Path, user: (u32, u32)) -> Result<()> {
    if passes(user, folder).await {
        return Ok(());
    }
    let above: Vec<&Path> = folder.ancestors().collect();
    for closed in above.into_iter().rev() {
        if !passes(user, closed).await {
            bail!(
                "guests run as the user {}, who may not pass {}, so none could open its disk in {}; \
                 give another cloud with --state-dir, for instance /var/lib/cumulet, or `chmod o+x {}`",
                name(user.0),
                closed.display(),
                folder.display(),
                closed.display()
            );
        }
    }
    Ok(())
}

/// A user as it is told: by its name, if it has one.
fn name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// Whether a user may pass a folder and those above it. The kernel is asked, as that user, since access
/// lists grant what modes don't show. True where it can't be asked: that is no reason not to start.
async fn passes((uid, gid): (u32, u32), folder: &Path) -> bool {
    if uid == 0 || !nix::unistd::geteuid().is_root() {
        return true;
    }
    let mut command = Command::new("test");
    command.arg("-x").arg(folder).current_dir("/");
    command.uid(uid).gid(gid);
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

    #[tokio::test]
    async fn a_folder_that_qemu_can_not_reach_is_named() {
        assert!(
            nix::unistd::geteuid().is_root(),
            "another user can only be tried as root"
        );
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let nobody = (nobody.uid.as_raw(), nobody.gid.as_raw());
        let top = tempfile::tempdir().unwrap();
        let (closed, state) = (top.path().join("closed"), top.path().join("closed/state"));
        fs::create_dir_all(&state).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(top.path(), 0o711);
        mode(&closed, 0o700);
        mode(&state, 0o711);
        let error = reach(&state, nobody).await.unwrap_err().to_string();
        assert!(error.contains("the user nobody"), "{error}");
        assert!(
            error.ends_with(&format!("`chmod o+x {}`", closed.display())),
            "{error}"
        );
        reach(&state, (0, 0)).await.unwrap();
        mode(&closed, 0o711);
        reach(&state, nobody).await.unwrap();
        mode(&state, 0o700);
        let error = reach(&state, nobody).await.unwrap_err().to_string();
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
