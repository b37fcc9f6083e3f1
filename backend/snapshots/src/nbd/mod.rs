//! A disk that an NBD server has, reached over a UNIX socket: what `qemu-nbd` makes of a qcow2 file or an encrypted one.
//! A client that blocks, with one request at a time. The server is not trusted: what it says it sends is bounded before
//! memory is taken for it, and an exchange that takes too long is an error, however slowly it goes on. After any error
//! the connection is of no use, since nobody knows what comes next on it.
//!
//! - `socket`: the connection, and how long it may take.
//! - `handshake`: what the server and this client agree on.
//! - `reply`: what the server answers with.
//! - `extents`: where a disk has data.
//!
//! The protocol is that of <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>: fixed newstyle,
//! structured replies, and the metadata context `base:allocation`.

mod extents;
mod handshake;
mod reply;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use self::{
    extents::DataBlocks,
    handshake::Export,
    reply::{Cookie, Extent},
    socket::Socket,
};
use crate::{
    files::BLOCK_BYTES,
    source::{Source, Target, is_zero},
};

const REQUEST: u32 = 0x2560_9513;

/// The commands that are sent.
#[derive(Clone, Copy, Debug)]
enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    BlockStatus = 7,
}

/// The disk of a server. When it is dropped the server is told that the client leaves.
#[derive(Debug)]
pub struct NbdDisk {
    export: Export,
    connection: Mutex<Connection>,
}

impl NbdDisk {
    /// How long an exchange with a server may take, unless the caller knows better.
    pub const TIMEOUT: Duration = Duration::from_secs(60);

    /// Connects to the server that listens at this path, for its default export. Each exchange may take so long.
    ///
    /// # Errors
    /// Those of the socket; `TimedOut`; `InvalidData` where the server does not keep to the protocol; `Unsupported`
    /// where it has not what is needed.
    pub fn connect(path: &Path, timeout: Duration) -> io::Result<Self> {
        let connected = Socket::connect(path, timeout).and_then(NbdDisk::over);
        connected.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// The disk of a server that is connected already.
    ///
    /// # Errors
    /// As `connect`.
    pub fn from_stream(stream: UnixStream, timeout: Duration) -> io::Result<Self> {
        NbdDisk::over(Socket::new(stream, timeout)?)
    }

    fn over(mut socket: Socket) -> io::Result<Self> {
        socket.begin();
        let export = handshake::negotiate(&mut socket)?;
        Ok(NbdDisk {
            export,
            connection: Mutex::new(Connection {
                socket,
                last: Cookie(0),
                is_broken: false,
            }),
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes of a request from an offset on the disk has.
    fn within(&self, offset: u64, most: u64) -> u64 {
        self.export.size.saturating_sub(offset).min(most)
    }

    /// What is known of a stretch of the disk, from its start on. It may be less than was asked for, or more.
    fn status(&self, offset: u64, length: u32) -> io::Result<Vec<Extent>> {
        let context = self.export.context;
        let mut connection = self.connection();
        connection.send(Command::BlockStatus, offset, length, &[])?;
        connection.hear(Command::BlockStatus, offset, |socket, cookie| {
            reply::status(socket, cookie, context)
        })
    }
}

impl Drop for NbdDisk {
    fn drop(&mut self) {
        let mut connection = self.connection();
        // There is no answer to it, and nothing to do about an error.
        if !connection.is_broken {
            drop(connection.send(Command::Disconnect, 0, 0, &[]));
        }
    }
}

impl Source for NbdDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.export.size)
    }

    fn data_blocks(&self) -> Box<dyn Iterator<Item = io::Result<u64>> + '_> {
        let ask = |offset, length| self.status(offset, length);
        Box::new(DataBlocks::new(self.export.size, ask))
    }

    fn read_block(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let there = self.within(offset, into.len() as u64);
        let length = u32::try_from(there).map_err(io::Error::other)?;
        let there = usize::try_from(there).map_err(io::Error::other)?;
        let (there, beyond) = into.split_at_mut(there);
        beyond.fill(0);
        if there.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection();
        connection.send(Command::Read, offset, length, &[])?;
        connection.hear(Command::Read, offset, |socket, cookie| {
            reply::data(socket, cookie, offset, there)
        })
    }
}

impl Target for NbdDisk {
    /// Its size is the server's. That it is zeros is looked at, since nothing else makes it so.
    fn prepare(&self, bytes: u64) -> io::Result<()> {
        let refused = |kind, why: &str| Err(io::Error::new(kind, format!("the NBD server's disk {why}")));
        if self.export.is_read_only() {
            return refused(io::ErrorKind::PermissionDenied, "may only be read");
        }
        if !self.export.can_flush() {
            return refused(io::ErrorKind::Unsupported, "can't be flushed");
        }
        if self.export.size < bytes {
            let why = format!("has {} bytes, and {bytes} are needed", self.export.size);
            return refused(io::ErrorKind::InvalidInput, &why);
        }
        let mut buffer = vec![0; BLOCK_BYTES];
        for offset in self.data_blocks() {
            self.read_block(offset?, &mut buffer)?;
            if !is_zero(&buffer) {
                return refused(io::ErrorKind::InvalidInput, "has content already");
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, content: &[u8]) -> io::Result<()> {
        if self.within(offset, content.len() as u64) < content.len() as u64 {
            let why = "a write beyond the end of the NBD server's disk";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        for (part, at) in content.chunks(BLOCK_BYTES).zip((offset..).step_by(BLOCK_BYTES)) {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            let mut connection = self.connection();
            connection.send(Command::Write, at, length, part)?;
            connection.hear(Command::Write, at, reply::done)?;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut connection = self.connection();
        connection.send(Command::Flush, 0, 0, &[])?;
        connection.hear(Command::Flush, 0, reply::done)
    }
}

/// The connection, between requests.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// What the last request was known by.
    last: Cookie,
    /// Where an exchange has not ended as it should.
    is_broken: bool,
}

impl Connection {
    /// Sends a request. From here on it counts as broken, until the answer has been heard.
    fn send(&mut self, command: Command, offset: u64, length: u32, content: &[u8]) -> io::Result<()> {
        if self.is_broken {
            let why = "the connection to the NBD server is of no use after an error";
            return Err(io::Error::new(io::ErrorKind::NotConnected, why));
        }
        self.is_broken = true;
        self.last = Cookie(self.last.0.wrapping_add(1));
        let mut request = Vec::with_capacity(28);
        request.extend_from_slice(&REQUEST.to_be_bytes());
        // No flags.
        request.extend_from_slice(&0_u16.to_be_bytes());
        request.extend_from_slice(&(command as u16).to_be_bytes());
        request.extend_from_slice(&self.last.0.to_be_bytes());
        request.extend_from_slice(&offset.to_be_bytes());
        request.extend_from_slice(&length.to_be_bytes());
        self.socket.begin();
        let sent = self.socket.write_all(&request);
        let sent = sent.and_then(|()| self.socket.write_all(content));
        sent.map_err(|error| about(command, offset, &error))
    }

    fn hear<T>(
        &mut self,
        command: Command,
        offset: u64,
        answer: impl FnOnce(&mut Socket, Cookie) -> io::Result<T>,
    ) -> io::Result<T> {
        let heard = answer(&mut self.socket, self.last);
        self.is_broken = heard.is_err();
        heard.map_err(|error| about(command, offset, &error))
    }
}

fn about(command: Command, offset: u64, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("NBD {command:?} at {offset}: {error}"))
}
