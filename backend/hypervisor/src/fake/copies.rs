//! Copies of simulated guests' disks: they are whole as soon as they are begun, and there is nothing in them.

use cumulet_domain::id::InstanceId;

use super::{FakeHypervisor, Guest};
use crate::{ACTION, Copying, DiskCopy, Error, QUESTION, Result, outstanding::For};

impl FakeHypervisor {
    pub(super) async fn begin_copies(&self, instance: InstanceId, copies: &[DiskCopy]) -> Result<()> {
        let copies = copies.to_vec();
        let begin = move |guest: &mut Option<Guest>| {
            let guest = guest.as_mut().ok_or(Error::NotFound(instance))?;
            if !guest.on {
                return Err(Error::Unavailable(format!("the guest of {instance} is off")));
            }
            let has = |copy: &DiskCopy| guest.devices.disks.iter().any(|disk| disk.path == copy.disk);
            if !copies.iter().all(has) {
                return Err(Error::Unavailable(format!("{instance} has no such disk")));
            }
            guest.copied = true;
            Ok(())
        };
        self.act(For::Process(instance), ACTION, begin).await
    }

    pub(super) async fn copies_of(&self, instance: InstanceId) -> Result<Copying> {
        let tell = move |guest: &mut Option<Guest>| {
            let guest = guest.as_mut().ok_or(Error::NotFound(instance))?;
            Ok(match std::mem::take(&mut guest.copied) {
                true => Copying::Done,
                false => Copying::Nothing,
            })
        };
        self.act(For::Guest(instance), QUESTION, tell).await
    }

    pub(super) async fn end_copies(&self, instance: InstanceId) -> Result<()> {
        let end = |guest: &mut Option<Guest>| {
            if let Some(guest) = guest {
                guest.copied = false;
            }
            Ok(())
        };
        self.act(For::Guest(instance), ACTION, end).await
    }
}
