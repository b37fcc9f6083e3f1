//! Packets of the link: JSON, one packet a message, each answered by one packet.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use cumulet_domain::{
    id::{InstanceId, VpcId},
    metadata::InstanceMetadata,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};

/// The largest packet: a snapshot with the most user data and tags is a third of it, and the kernel takes
/// no larger ones by default.
const PACKET: usize = 200 * 1024;

/// What the worker's side says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    /// There is nothing but this; it is followed by all of it.
    Sync {
        instances: Vec<InstanceId>,
        vpcs: Vec<VpcId>,
    },
    Put(Box<InstanceMetadata>),
    Remove(InstanceId),
    /// With the listening socket.
    Serve(VpcId),
    Stop(VpcId),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    Done,
    Refused(String),
}

/// A socket of packets, for either side.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let (family, kind, flags) = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(socket_with(family, kind, flags, None)?)
}

/// Sends a packet, with a file descriptor where one goes along.
pub(super) fn send(
    socket: impl AsFd,
    packet: &impl Serialize,
    with: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(packet)?;
    if bytes.len() > PACKET {
        return Err(io::Error::other(format!("a packet of {} bytes", bytes.len())));
    }
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = with.into_iter().collect();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a file descriptor"));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a packet; `None` when the other side has gone.
pub(super) fn receive<T: for<'de> Deserialize<'de>>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; PACKET];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::other("a packet that is too long"));
    }
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptor = descriptors.next();
        }
    }
    let message = serde_json::from_slice(&bytes[..received.bytes])?;
    Ok(Some((message, descriptor)))
}
