//! Keys of encrypted disks, and of the pool of volumes, as libvirt is given them: secrets that are in its memory for as
//! long as a call needs them, which nobody can read out of it again. The definition of a guest has their numbers alone,
//! and QEMU gets each encrypted for that one process.

use std::io;

use cumulet_domain::{id::InstanceId, spec::smbios_uuid};
use virt::{
    connect::Connect,
    error::{Error as LibvirtError, ErrorNumber},
    secret::Secret,
};

use super::{is, xml};
use crate::{CephClient, DiskSecret, DomainDisk, RbdImage};

/// The way of a guest's process to images in the pool. Each guest has a secret of its own with the pool's key, since it is
/// lent for a call, and one guest has one call at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access<'a> {
    pub(super) client: &'a CephClient,
    pub(super) instance: InstanceId,
}

impl<'a> Access<'a> {
    /// The one that a guest needs to get these disks; `None`: none of them is in the pool, or the host is told of none.
    pub(super) fn to<'d>(
        mut disks: impl Iterator<Item = &'d DomainDisk>,
        client: Option<&'a CephClient>,
        instance: InstanceId,
    ) -> Option<Access<'a>> {
        let client = client?;
        let is_needed = disks.any(|disk| RbdImage::of(&disk.path).is_some());
        is_needed.then_some(Access { client, instance })
    }

    /// What libvirt knows the secret by.
    fn uuid(self) -> String {
        smbios_uuid(self.instance)
    }

    /// Who opens an image, and with which secret, in a disk's XML.
    pub(super) fn written(self, out: &mut xml::Out) -> io::Result<()> {
        let secret =
            |out: &mut xml::Out| xml::empty(out, "secret", &[("type", "ceph"), ("uuid", &self.uuid())]);
        out.create_element("auth")
            .with_attribute(("username", self.client.user.as_str()))
            .write_inner_content(secret)
            .map(drop)
    }
}

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
            let passphrase = secret.key.passphrase();
            lent.lend(
                connection,
                &secret.uuid,
                OF_A_DISK,
                passphrase.expose().as_bytes(),
            )?;
        }
        Ok(lent)
    }

    /// The pool's key, too, where a guest's process needs it.
    pub(super) fn with_pool(
        mut self,
        connection: &Connect,
        access: Option<Access<'_>>,
    ) -> Result<Lent, LibvirtError> {
        if let Some(access) = access {
            let key = access.client.key.expose();
            self.lend(connection, &access.uuid(), &of_the_pool(access.instance), key)?;
        }
        Ok(self)
    }

    fn lend(
        &mut self,
        connection: &Connect,
        uuid: &str,
        purpose: &str,
        value: &[u8],
    ) -> Result<(), LibvirtError> {
        // What a process of before has left: it may be of another kind.
        match connection.lookup_secret_by_uuid_string(uuid) {
            Ok(left) => left.undefine()?,
            Err(error) if is(&error, ErrorNumber::NoSecret) => {}
            Err(error) => return Err(error),
        }
        let defined = connection.define_secret_xml(&defined(uuid, purpose), 0)?;
        self.0.push(defined.clone());
        defined.set_value(value, 0)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for secret in &self.0 {
            if let Err(error) = secret.undefine() {
                tracing::warn!(%error, "libvirt keeps a key until it ends");
            }
        }
    }
}

/// What a secret is for: a disk's has no use that libvirt would know.
const OF_A_DISK: &str = "<description>the key of a disk</description>";

/// The pool's is found by its use, too, so that no two have one.
fn of_the_pool(instance: InstanceId) -> String {
    format!(r#"<usage type="ceph"><name>{instance}</name></usage>"#)
}

/// A secret that is in memory alone, and that libvirt gives nobody. Number and purpose are ours, and need no escape.
fn defined(uuid: &str, purpose: &str) -> String {
    format!(r#"<secret ephemeral="yes" private="yes"><uuid>{uuid}</uuid>{purpose}</secret>"#)
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
        assert_eq!(defined("d15-1", OF_A_DISK), expected);
        let instance = InstanceId::new(7);
        let expected = format!(
            r#"<secret ephemeral="yes" private="yes"><uuid>ec2-1</uuid><usage type="ceph"><name>{instance}</name></usage></secret>"#
        );
        assert_eq!(defined("ec2-1", &of_the_pool(instance)), expected);
    }
}
