//! Keys of encrypted disks, as libvirt is given them: secrets that are in its memory for as long as a call needs them,
//! which nobody can read out of it again. The definition of a guest has their numbers alone, and QEMU gets each
//! encrypted for that one process.

use std::io;

use virt::{
    connect::Connect,
    error::{Error as LibvirtError, ErrorNumber},
    secret::Secret,
};

use super::{is, xml};
use crate::DiskSecret;

/// Secrets that libvirt has until this is dropped.
pub(super) struct Lent(Vec<Secret>);

impl Lent {
    /// Gives them to libvirt.
    pub(super) fn to<'s>(
        connection: &Connect,
        secrets: impl Iterator<Item = &'s DiskSecret>,
    ) -> Result<Lent, LibvirtError> {
        let mut lent = Lent(Vec::new());
        for secret in secrets {
            // What a process of before has left: it may be of another kind.
            match connection.lookup_secret_by_uuid_string(&secret.uuid) {
                Ok(left) => left.undefine()?,
                Err(error) if is(&error, ErrorNumber::NoSecret) => {}
                Err(error) => return Err(error),
            }
            let defined = connection.define_secret_xml(&defined(&secret.uuid), 0)?;
            lent.0.push(defined.clone());
            defined.set_value(secret.key.passphrase().expose().as_bytes(), 0)?;
        }
        Ok(lent)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for secret in &self.0 {
            if let Err(error) = secret.undefine() {
                tracing::warn!(%error, "libvirt keeps the key of a disk until it ends");
            }
        }
    }
}

/// A secret that is in memory alone, and that libvirt gives nobody. The number is ours, and needs no escape.
fn defined(uuid: &str) -> String {
    format!(
        r#"<secret ephemeral="yes" private="yes"><uuid>{uuid}</uuid><description>the key of a disk</description></secret>"#
    )
}

/// How a disk's file is opened, where it is encrypted.
pub(super) fn encryption(out: &mut xml::Out, uuid: &str) -> io::Result<()> {
    out.create_element("encryption")
        .with_attribute(("format", "luks"))
        .write_inner_content(|out| xml::empty(out, "secret", &[("type", "passphrase"), ("uuid", uuid)]))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_memory_alone() {
        let expected = r#"<secret ephemeral="yes" private="yes"><uuid>d15-1</uuid><description>the key of a disk</description></secret>"#;
        assert_eq!(defined("d15-1"), expected);
    }
}
