//! Images in Ceph's pools as places of disks: what is a file's path everywhere else is `rbd:POOL/IMAGE` for one of these,
//! and nobody but this takes that form apart. Drivers and the worker go by it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use cumulet_certs::SecretBytes;
use cumulet_domain::volume::is_pool_name;

/// What a place begins with that is an image.
const SCHEME: &str = "rbd:";

/// An image in a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RbdImage {
    /// The pool's name.
    pub pool: String,
    /// Its own.
    pub name: String,
}

impl RbdImage {
    /// The image that a disk's place is; `None`: it is a file.
    pub fn of(place: &Path) -> Option<RbdImage> {
        RbdImage::named(place.to_str()?.strip_prefix(SCHEME)?)
    }

    /// The image of such a name as Ceph's programs and libvirt have it, `POOL/IMAGE`.
    pub fn named(name: &str) -> Option<RbdImage> {
        let (pool, name) = name.split_once('/')?;
        let found = || RbdImage {
            pool: pool.into(),
            name: name.into(),
        };
        (is_pool_name(pool) && is_plain(name)).then(found)
    }

    /// As a disk's place.
    pub fn place(&self) -> PathBuf {
        format!("{SCHEME}{self}").into()
    }
}

/// Whether an image's name needs no quotes anywhere.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.bytes().all(plain)
}

impl fmt::Display for RbdImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.name)
    }
}

/// What guests' processes reach the pool with.
#[derive(Clone, Debug)]
pub struct CephClient {
    /// The user's name in the cluster, without `client.`.
    pub user: String,
    /// The configuration file that the processes read; it names no key.
    pub config: PathBuf,
    /// The user's key.
    pub key: SecretBytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_image_or_a_file() {
        let image = RbdImage {
            pool: "cumulet.1".into(),
            name: "vol-0123.host-1.new".into(),
        };
        let place = image.place();
        assert_eq!(place, Path::new("rbd:cumulet.1/vol-0123.host-1.new"));
        assert_eq!(RbdImage::of(&place), Some(image));
        for file in [
            "/v/vol-0.raw",
            "",
            "rbd:",
            "rbd:pool",
            "rbd:/vol-0.raw",
            "rbd:pool/",
            "rbd:pool/a/b",
            "rbd:pool/a@snap",
            "rbd:pool/a:conf=x",
            "rbd:po ol/a",
            "/rbd:pool/a",
        ] {
            assert_eq!(RbdImage::of(Path::new(file)), None, "{file}");
        }
    }
}
