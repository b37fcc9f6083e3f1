//! The Ceph cluster that a host's volumes may be in, as its clients are told of it: the worker's own programs by arguments
//! and by a file that names the keyring, guests' processes by a file that names none. Whoever starts a host hands it in.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use cumulet_domain::id::HostId;

use crate::{
    WorkerError,
    files::{DiskFiles, HostFiles},
    layout::Layout,
};

/// A cluster, and the one pool of it that volumes are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceph {
    /// The addresses of its monitors, as Ceph's `mon_host` has them.
    pub monitors: String,
    /// The pool's name.
    pub pool: String,
    /// The user's name, without `client.`.
    pub user: String,
    /// The file with the user's key, which root alone may read.
    pub keyring: PathBuf,
}

/// How long a client asks monitors before that is an error. Without them one that is away hangs whoever asks it for good,
/// a guest's emulator among them. There is none for the daemons that have the data: a guest's disk waits, as for a disk of
/// the host's that is slow.
const TIMES: [(&str, &str); 2] = [("client_mount_timeout", "30"), ("rados_mon_op_timeout", "30")];

/// What a client of ours has not: a socket for orders, and a log of its own.
const NONE: [&str; 2] = ["admin_socket", "log_file"];

impl Ceph {
    /// The arguments that any of Ceph's programs is told of the cluster by. The key is none of them.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["--conf", "/dev/null", "--mon-host"].map(OsString::from).into();
        arguments.push(self.monitors.clone().into());
        arguments.extend([OsString::from("--id"), self.user.clone().into()]);
        arguments.extend([OsString::from("--keyring"), self.keyring.clone().into()]);
        let times = TIMES.map(|(name, seconds)| OsString::from(format!("--{name}={seconds}")));
        arguments.extend(times);
        arguments
    }

    /// The configuration that guests' processes read.
    fn for_guests(&self) -> String {
        let mut text = format!("[global]\nmon_host = {}\n", self.monitors);
        text.extend(TIMES.map(|(name, seconds)| format!("{name} = {seconds}\n")));
        text.extend(NONE.map(|name| format!("{name} =\n")));
        text
    }

    /// The one that programs of QEMU's read which root runs.
    fn for_host(&self) -> String {
        format!("{}keyring = {}\n", self.for_guests(), self.keyring.display())
    }
}

/// The file that guests' processes of a host read, whether it is there or not.
///
/// # Errors
/// When there is no such state directory, or the host's name is none.
pub fn guests_config(state_dir: &Path, host: &HostId) -> Result<PathBuf, WorkerError> {
    Ok(Layout::of(Arc::new(DiskFiles), state_dir, host)?.guests_ceph())
}

impl Layout {
    /// What the worker's own programs read of the cluster.
    pub(crate) fn ceph(&self) -> PathBuf {
        self.root().join("ceph.conf")
    }

    /// What guests' processes read of it.
    fn guests_ceph(&self) -> PathBuf {
        self.root().join("ceph-guests.conf")
    }

    /// Writes both, the second for the guests' group to read.
    pub(crate) fn keep_ceph(&self, ceph: &Ceph) -> io::Result<()> {
        let files: &dyn HostFiles = &*self.files;
        files.write(&self.ceph(), ceph.for_host().as_bytes())?;
        let guests = self.guests_ceph();
        files.write(&guests, ceph.for_guests().as_bytes())?;
        self.lend(&guests)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A cluster that is nowhere.
    pub(crate) fn nowhere() -> Ceph {
        Ceph {
            monitors: "192.0.2.1,192.0.2.2:3300".into(),
            pool: "pool".into(),
            user: "cloud".into(),
            keyring: "/etc/ceph/cloud.keyring".into(),
        }
    }

    #[test]
    fn guests_are_told_of_the_monitors_and_of_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostId("one".into());
        let layout = Layout::make(Arc::new(DiskFiles), dir.path(), &host, None).unwrap();
        // As often as the worker starts.
        for _ in 0..2 {
            layout.keep_ceph(&nowhere()).unwrap();
        }
        let common = "[global]\nmon_host = 192.0.2.1,192.0.2.2:3300\nclient_mount_timeout = 30\n\
            rados_mon_op_timeout = 30\nadmin_socket =\nlog_file =\n";
        let guests = guests_config(dir.path(), &host).unwrap();
        assert_eq!(fs::read_to_string(&guests).unwrap(), common);
        let own = fs::read_to_string(layout.ceph()).unwrap();
        assert_eq!(own, format!("{common}keyring = /etc/ceph/cloud.keyring\n"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&guests), mode(&layout.ceph())), (0o440, 0o600));
    }

    #[test]
    fn programs_are_told_by_arguments() {
        let words = [
            "--conf",
            "/dev/null",
            "--mon-host",
            "192.0.2.1,192.0.2.2:3300",
            "--id",
            "cloud",
            "--keyring",
            "/etc/ceph/cloud.keyring",
            "--client_mount_timeout=30",
            "--rados_mon_op_timeout=30",
        ];
        assert_eq!(nowhere().arguments(), words.map(OsString::from));
    }
}
