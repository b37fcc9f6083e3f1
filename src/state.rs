//! The state directory: everything that a cloud keeps on disk.
//!
//! ```text
//! cumulet.db        the database (SQLite, WAL), where no server is configured
//! master.key        seals every secret in the database; mode 0600; only the first start of a cloud makes it
//! metadata.key      what a host without the master key derives its metadata tokens from; mode 0600
//! images/SHA256     imported images, named by content
//! snapshots/        the data of snapshots: manifests and segments, named by content
//! hosts/NAME/       one folder for each host of this process: image cache, disks, consoles
//! run/              what lives only while the cloud runs
//! lock.ROLE         held by the process that has the role
//!
//! Others may pass through the directory itself and through `run/`, and read nothing: DHCP servers get to their own
//! files there, and guests' processes, by a group of theirs, to their disks.
//!
//! In a cluster every host has a state directory of its own. Those with a role that opens the database have
//! the same `master.key`, and all have the same files in `images/` and `snapshots/`: mount a shared file system there.
//! ```

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use cumulet_backend::store::{Location, Options};
use cumulet_certs::{MasterKey, Sealer};
use nix::fcntl::{Flock, FlockArg};

use crate::{
    config::Config,
    roles::{Role, Roles},
};

/// A cloud's state directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// The directory at `path`, made if it is not there. QEMU runs as its own user and must be able to
    /// pass through (mode 0711), which tells it nothing.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let context = || format!("the state directory {}", path.display());
        fs::create_dir_all(path).with_context(context)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).with_context(context)?;
        let state = Self::open(path)?;
        state.close_images()?;
        Ok(state)
    }

    /// The store of images, which earlier versions left open, is for those who have the state directory alone. (In a
    /// cluster it may be another machine's to say who reads it.)
    fn close_images(&self) -> Result<()> {
        let images = self.images();
        match fs::set_permissions(&images, fs::Permissions::from_mode(0o700)) {
            Err(error) if error.kind() != ErrorKind::NotFound && !images.is_symlink() => {
                Err(error).with_context(|| images.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// How the database is opened: the configuration's server, or the file here.
    pub(crate) fn options(&self, config: &Config, readers: u32) -> Result<Options> {
        let location = Location::parse(config.database.text(), self.database())?;
        if location.is_local() {
            self.close_database()?;
        }
        Ok(Options { location, readers })
    }

    /// The same for a cloud that was started before: nothing is made.
    pub(crate) fn existing(&self, config: &Config, readers: u32) -> Result<Options> {
        if config.database.text().is_empty() && !self.database().exists() {
            bail!(
                "there is no cloud in {}; `cumulet up` makes one, and the key database (CUMULET_DATABASE) names a server",
                self.0.display()
            );
        }
        self.options(config, readers)
    }

    /// Others may pass through the directory, so the database itself has to keep them out. SQLite gives
    /// its journals the database's mode.
    fn close_database(&self) -> Result<()> {
        let path = self.database();
        let mut options = File::options();
        let file = options.create(true).append(true).mode(0o600).open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .with_context(|| path.display().to_string())
    }

    /// The directory at `path`, which must be there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        match path.canonicalize() {
            Ok(path) => Ok(StateDir(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "there is no state directory {}; `cumulet up` makes one, and --state-dir names another",
                path.display()
            ),
            Err(error) => Err(error).with_context(|| format!("the state directory {}", path.display())),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("cumulet.db")
    }

    /// The data of snapshots.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// What lives only while the cloud runs.
    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The same, made if it is not there. DHCP servers pass through to their own files.
    pub(crate) fn make_run(&self) -> Result<PathBuf> {
        let path = self.run();
        let context = || path.display().to_string();
        fs::create_dir_all(&path).with_context(context)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).with_context(context)?;
        Ok(path)
    }

    /// Where the cloud's master key is, in a directory of a process that opens the database.
    pub(crate) fn master_key(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// What the cloud's master key seals. It is never made here: who has none gets a copy of the cloud's.
    pub(crate) fn sealer(&self) -> Result<Sealer> {
        let path = self.master_key();
        if !path.exists() {
            bail!(
                "there is no master key {}: copy the cloud's from a process that opens its database",
                path.display()
            );
        }
        let key = MasterKey::load(&path).with_context(|| format!("the master key {}", path.display()))?;
        Ok(Sealer::new(key))
    }

    /// The same for the first start of a cloud, which makes the key.
    pub(crate) fn first_sealer(&self) -> Result<Sealer> {
        load_or_create(&self.master_key()).map(Sealer::new)
    }

    /// The key of this host's metadata tokens, which are of this host alone: the cloud's master key where the directory
    /// has it, else a key of the host's own.
    pub(crate) fn token_key(&self) -> Result<MasterKey> {
        let master = self.master_key();
        load_or_create(&if master.exists() {
            master
        } else {
            self.0.join("metadata.key")
        })
    }

    /// Keeps a second process out of the directory that has one of these roles, as long as the answer
    /// lives. (Processes of one host with different roles may share the directory.)
    pub(crate) fn lock(&self, roles: &Roles) -> Result<Vec<Flock<File>>> {
        roles.iter().map(|role| self.lock_role(role)).collect()
    }

    fn lock_role(&self, role: Role) -> Result<Flock<File>> {
        let path = self.0.join(format!("lock.{role}"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                bail!("a cloud runs in {} already (role {role})", self.0.display())
            }
            Err((_, error)) => Err(error).with_context(|| path.display().to_string()),
        }
    }
}

fn load_or_create(path: &Path) -> Result<MasterKey> {
    MasterKey::load_or_create(path, &mut rand::rng()).with_context(|| format!("the key {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cloud_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(&dir.path().join("state")).unwrap();
        let config = Config::of(&[]);
        state.options(&config, 1).unwrap();
        let mode = fs::metadata(state.database()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let roles = |text: &str| text.parse::<Roles>().unwrap();
        let lock = state.lock(&roles("gateway,conductor")).unwrap();
        assert!(state.lock(&roles("all")).is_err());
        assert!(state.lock(&roles("compute,metadata")).is_ok());
        drop(lock);
        assert!(state.lock(&roles("all")).is_ok());
    }

    #[test]
    fn only_the_first_start_makes_the_master_key() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let error = state.sealer().unwrap_err();
        assert!(format!("{error:#}").contains("copy the cloud's"), "{error:#}");
        state.token_key().unwrap();
        assert!(!state.master_key().exists() && dir.path().join("metadata.key").exists());
        let first = state.first_sealer().unwrap();
        let sealed = first.seal(&mut rand::rng(), cumulet_certs::Purpose::USER_DATA, b"", b"text");
        let again = state.sealer().unwrap();
        assert!(
            again
                .open(cumulet_certs::Purpose::USER_DATA, b"", &sealed.unwrap())
                .is_ok()
        );
        // With the cloud's key at hand tokens stay good: it is what earlier versions took.
        std::fs::remove_file(dir.path().join("metadata.key")).unwrap();
        state.token_key().unwrap();
        assert!(!dir.path().join("metadata.key").exists());
    }

    #[test]
    fn what_only_looks_makes_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let config = Config::of(&[]);
        let error = state.existing(&config, 1).unwrap_err();
        assert!(format!("{error:#}").contains("CUMULET_DATABASE"), "{error:#}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = StateDir::open(Path::new("/nonexistent/cloud")).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/cloud"));
    }
}
