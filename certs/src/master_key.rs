//! The master key: 32 random bytes in a file of its own, from which every other key is derived.
//!
//! Losing the file loses every sealed secret, so it is created once and never overwritten; reading
//! it is refused when others could have read it too.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::kdf;

/// Length of the master key in bytes.
pub const MASTER_KEY_LEN: usize = 32;

/// The key that all others are derived from.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; MASTER_KEY_LEN]>);

/// Why the master key's file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file exists and a new key must not replace it.
    #[error("{0} exists already; a master key is never overwritten")]
    Exists(PathBuf),
    /// Group or others have some access.
    #[error("{path} has mode {mode:04o}; run `chmod 600` on it after making sure that nobody read it")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a regular file of exactly 32 bytes.
    #[error("{0} is not a master key: a regular file of exactly 32 bytes is expected")]
    Malformed(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

impl MasterKey {
    /// A key from known bytes: for tests, and for keys kept elsewhere than in a file.
    pub fn from_bytes(bytes: [u8; MASTER_KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new random key, not stored anywhere.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0_u8; MASTER_KEY_LEN]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Generates a key and writes it to `path` with mode 0600. Fails if the file exists.
    ///
    /// The bytes go to a temporary name that is then linked to `path`: a crash never leaves half a
    /// key, and of two processes that start at once only one creates it.
    pub fn create<R: CryptoRng + ?Sized>(path: &Path, rng: &mut R) -> Result<Self, MasterKeyError> {
        let key = Self::generate(rng);
        let temporary = temporary_name(path, rng);
        let outcome = write_new(&temporary, key.0.as_slice())
            .map_err(|source| io_error("create", &temporary, source))
            .and_then(|()| {
                std::fs::hard_link(&temporary, path).map_err(|source| match source.kind() {
                    io::ErrorKind::AlreadyExists => MasterKeyError::Exists(path.to_owned()),
                    _ => io_error("create", path, source),
                })
            });
        // The temporary name is only a second name of the same file by now, or was never made.
        let _ = std::fs::remove_file(&temporary);
        outcome?;
        sync_directory(path)?;
        Ok(key)
    }

    /// Reads the key from `path`, refusing files that group or others may access.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let mut file = File::open(path).map_err(|source| io_error("open", path, source))?;
        // Metadata of the open file, not of the name: nobody can swap it in between.
        let metadata = file
            .metadata()
            .map_err(|source| io_error("inspect", path, source))?;
        if !metadata.is_file() || metadata.len() != MASTER_KEY_LEN as u64 {
            return Err(MasterKeyError::Malformed(path.to_owned()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::Permissions {
                path: path.to_owned(),
                mode,
            });
        }
        let mut bytes = Zeroizing::new([0_u8; MASTER_KEY_LEN]);
        file.read_exact(bytes.as_mut_slice())
            .map_err(|source| io_error("read", path, source))?;
        Ok(Self(bytes))
    }

    /// Loads the key, creating it first where there is none.
    pub fn load_or_create<R: CryptoRng + ?Sized>(path: &Path, rng: &mut R) -> Result<Self, MasterKeyError> {
        match Self::load(path) {
            Err(MasterKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                match Self::create(path, rng) {
                    // Another process was faster: its key is the key.
                    Err(MasterKeyError::Exists(_)) => Self::load(path),
                    other => other,
                }
            }
            other => other,
        }
    }

    /// A sub-key for `label` and `context`, independent of every other one.
    pub(crate) fn derive(&self, label: &str, context: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        kdf::derive(self.0.as_slice(), label, context)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([redacted])")
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> MasterKeyError {
    MasterKeyError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn temporary_name<R: CryptoRng + ?Sized>(path: &Path, rng: &mut R) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.new", rng.next_u64()));
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> Result<(), MasterKeyError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| io_error("write", directory, source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn same(a: &MasterKey, b: &MasterKey) -> bool {
        a.0 == b.0
    }

    #[test]
    fn created_once_with_mode_0600_and_loaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let mut rng = StdRng::seed_from_u64(1);
        let created = MasterKey::load_or_create(&path, &mut rng).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        assert_eq!(metadata.len(), 32);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
        assert!(same(
            &created,
            &MasterKey::load_or_create(&path, &mut rng).unwrap()
        ));
        assert!(same(&created, &MasterKey::load(&path).unwrap()));
        assert!(matches!(
            MasterKey::create(&path, &mut rng),
            Err(MasterKeyError::Exists(_))
        ));
        assert!(
            same(&created, &MasterKey::load(&path).unwrap()),
            "a failed create changes nothing"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn refuses_what_others_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKey::create(&path, &mut StdRng::seed_from_u64(1)).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(MasterKey::load(&path), Err(MasterKeyError::Permissions { mode: m, .. }) if m == mode)
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        MasterKey::load(&path).unwrap();
    }

    #[test]
    fn refuses_wrong_lengths_and_kinds() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 31, 33] {
            let path = dir.path().join(format!("{len}"));
            write_new(&path, &vec![1; len]).unwrap();
            assert!(
                matches!(MasterKey::load(&path), Err(MasterKeyError::Malformed(_))),
                "{len}"
            );
            let again = MasterKey::load_or_create(&path, &mut StdRng::seed_from_u64(1));
            assert!(
                matches!(again, Err(MasterKeyError::Malformed(_))),
                "a damaged key is not replaced"
            );
        }
        assert!(matches!(
            MasterKey::load(dir.path()),
            Err(MasterKeyError::Malformed(_))
        ));
        assert!(matches!(
            MasterKey::load(&dir.path().join("none")),
            Err(MasterKeyError::Io { .. })
        ));
    }

    #[test]
    fn debug_is_redacted() {
        assert_eq!(
            format!("{:?}", MasterKey::from_bytes([0x41; 32])),
            "MasterKey([redacted])"
        );
    }
}
