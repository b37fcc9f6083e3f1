//! Copies of a libvirt guest's disks: a backup job of QEMU's, which keeps what a guest overwrites until it is copied.

use std::{io, time::Duration};

use cumulet_domain::{id::InstanceId, image::DiskFormat, message::Power};
use quick_xml::Writer;
use tokio::time::Instant;
use virt::{
    domain::Domain,
    error::{Error as LibvirtError, ErrorNumber},
    sys,
};

use super::{
    For, Libvirt,
    devices::{PROCESS, there},
    driver::status_of,
    ffi, is,
    secrets::{Lent, encryption},
    thaw::Guest,
    xml,
};
use crate::{ACTION, Copying, DiskCopy, DiskSecret, Error, QUESTION, Result};

/// The job that is under way, or the last that has ended, where that was one of copies.
fn told(domain: &Domain, flags: sys::virDomainGetJobStatsFlags) -> Result<Option<Copying>, LibvirtError> {
    let job = match ffi::job(domain, flags) {
        Ok(job) => job,
        // It is off.
        Err(error) if is(&error, ErrorNumber::OperationInvalid) => return Ok(None),
        Err(error) => return Err(error),
    };
    if job.operation != sys::VIR_DOMAIN_JOB_OPERATION_BACKUP {
        return Ok(None);
    }
    let why = || job.error.clone().unwrap_or_else(|| "it does not say why".into());
    Ok(match job.kind {
        sys::VIR_DOMAIN_JOB_BOUNDED | sys::VIR_DOMAIN_JOB_UNBOUNDED => Some(Copying::Running {
            done: job.done,
            of: job.total,
        }),
        sys::VIR_DOMAIN_JOB_COMPLETED if !job.has_failed => Some(Copying::Done),
        sys::VIR_DOMAIN_JOB_COMPLETED | sys::VIR_DOMAIN_JOB_FAILED => Some(Copying::Failed(why())),
        sys::VIR_DOMAIN_JOB_CANCELLED => Some(Copying::Failed("it was ended".into())),
        _ => None,
    })
}

/// A backup of some of a guest's disks: what each is copied to, by its name on the bus. All others are named, too:
/// libvirt takes those that are not for wanted.
fn backup(copies: &[(String, DiskCopy)], disks: impl Iterator<Item = String>) -> io::Result<String> {
    let mut out = Writer::new(Vec::new());
    let others = disks.filter(|disk| !copies.iter().any(|(target, _)| target == disk));
    let others: Vec<String> = others.collect();
    out.create_element("domainbackup")
        .with_attribute(("mode", "push"))
        .write_inner_content(|out| {
            out.create_element("disks").write_inner_content(|out| {
                for (target, DiskCopy { copy, secret, .. }) in copies {
                    let format = match secret {
                        Some(_) => DiskFormat::Qcow2,
                        None => DiskFormat::Raw,
                    };
                    let named = [("name", target.as_str()), ("backup", "yes"), ("type", "file")];
                    out.create_element("disk")
                        .with_attributes(named)
                        .write_inner_content(|out| {
                            xml::empty(out, "driver", &[("type", format.name())])?;
                            let to = out.create_element("target");
                            let file = xml::path(copy)?;
                            let to = to.with_attribute(("file", file.as_str()));
                            match secret {
                                None => to.write_empty(),
                                Some(secret) => to.write_inner_content(|out| encryption(out, &secret.uuid)),
                            }
                            .map(drop)
                        })?;
                }
                for other in &others {
                    xml::empty(out, "disk", &[("name", other), ("backup", "no")])?;
                }
                Ok(())
            })?;
            Ok(())
        })?;
    String::from_utf8(out.into_inner()).map_err(io::Error::other)
}

/// How long a job may take to end that was given up, and how often that is looked at.
const ENDED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

impl Libvirt {
    pub(super) async fn begin_copies(&self, instance: InstanceId, copies: &[DiskCopy]) -> Result<()> {
        let (copies, freezes) = (copies.to_vec(), self.freezes.clone());
        let begin = move |domain: Option<Domain>| {
            let Some(domain) = domain else {
                return Ok(Err(Error::NotFound(instance)));
            };
            if status_of(&domain, instance)?.power != Power::On {
                return Ok(Err(Error::Unavailable(format!("the guest of {instance} is off"))));
            }
            let has = there(&domain, PROCESS)?;
            let target = |copy: &DiskCopy| {
                let disk = has.disks.iter().find(|disk| disk.path == copy.disk);
                disk.map(|disk| (disk.target.clone(), copy.clone()))
            };
            let Some(targets) = copies.iter().map(target).collect::<Option<Vec<_>>>() else {
                return Ok(Err(Error::Unavailable(format!("{instance} has no such disk"))));
            };
            let others = has.disks.iter().map(|disk| disk.target.clone());
            let text = match backup(&targets, others) {
                Ok(text) => text,
                Err(error) => return Ok(Err(Error::Refused(error.to_string()))),
            };
            // What an earlier one has come to is not to be taken for what this one does.
            told(&domain, sys::VIR_DOMAIN_JOB_STATS_COMPLETED)?;
            let secrets: Vec<&DiskSecret> = copies.iter().filter_map(|copy| copy.secret.as_ref()).collect();
            let _lent = Lent::to(&domain.connect()?, secrets.iter().copied())?;
            let guest = Guest {
                domain: &domain,
                instance,
            };
            let begin = || ffi::begin_backup(&domain, &text, !secrets.is_empty());
            freezes.around(instance, &guest, begin).map(Ok)
        };
        self.call(For::Process(instance), ACTION, begin).await?
    }

    pub(super) async fn copies_of(&self, instance: InstanceId) -> Result<Copying> {
        let look = move |domain: Option<Domain>| {
            let Some(domain) = domain else {
                return Ok(Err(Error::NotFound(instance)));
            };
            if let Some(running) = told(&domain, 0)? {
                return Ok(Ok(running));
            }
            let ended = told(&domain, sys::VIR_DOMAIN_JOB_STATS_COMPLETED)?;
            Ok(Ok(ended.unwrap_or(Copying::Nothing)))
        };
        self.call(For::Guest(instance), QUESTION, look).await?
    }

    pub(super) async fn end_copies(&self, instance: InstanceId) -> Result<()> {
        let end = move |domain: Option<Domain>| {
            let Some(domain) = domain else { return Ok(()) };
            if !matches!(told(&domain, 0)?, Some(Copying::Running { .. })) {
                return Ok(());
            }
            match ffi::abort_job(&domain) {
                Err(error) if is(&error, ErrorNumber::OperationInvalid) => Ok(()),
                other => other,
            }
        };
        self.call(For::Process(instance), ACTION, end).await?;
        // libvirt only asks for the end of a job.
        let patience = Instant::now() + ENDED;
        while matches!(self.copies_of(instance).await, Ok(Copying::Running { .. })) {
            if Instant::now() > patience {
                let text = format!("the copies of {instance}'s disks go on, though they were given up");
                return Err(Error::Unavailable(text));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_that_are_not_wanted_are_named_too() {
        let copy = DiskCopy {
            disk: "/s/disk".into(),
            copy: "/s/a & b".into(),
            secret: None,
        };
        let copies = [("vdb".to_owned(), copy)];
        let disks = ["vda", "vdb", "vdc"].map(str::to_owned);
        let expected = r#"<domainbackup mode="push"><disks><disk name="vdb" backup="yes" type="file"><driver type="raw"/><target file="/s/a &amp; b"/></disk><disk name="vda" backup="no"/><disk name="vdc" backup="no"/></disks></domainbackup>"#;
        assert_eq!(backup(&copies, disks.into_iter()).unwrap(), expected);
    }
}
