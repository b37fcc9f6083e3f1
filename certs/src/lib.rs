//! Cryptography of the cloud: sealing of secrets at rest, tokens, key pairs and access keys.
//!
//! Nothing here reads the clock or a global random source: both are handed in, so that a test
//! under a seed is the same on every run.

pub mod access_key;
pub mod ceph_key;
pub mod console_token;
pub mod disk_key;
pub mod host_key;
pub mod imds_token;
pub mod import;
pub mod keypair;
pub mod master_key;
pub mod seal;
pub mod secret;
pub mod storage_grant;

mod kdf;
mod legacy_rng;

pub use access_key::{AccessKeyKind, generate_access_key_id, generate_account_id, generate_secret_key};
pub use ceph_key::{KeyringError, ceph_key};
pub use console_token::{ConsoleSigner, ConsoleVerifier};
pub use disk_key::DiskKey;
pub use host_key::{HostKey, HostPublicKey, NotAHostKey};
pub use imds_token::{ImdsTokenError, ImdsTokenKey};
pub use import::{ImportError, import_public_key};
pub use keypair::{KeyPair, KeyPairError, KeyType, PublicKey};
pub use master_key::{MasterKey, MasterKeyError};
pub use seal::{Purpose, SealError, Sealer};
pub use secret::{Secret, SecretBytes, SecretString};
