//! The connection to an NBD server. An exchange has an end in time, which no single read or write can put off: who sends
//! a byte now and then is too late as well.

use std::{
    io::{self, Read, Write},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout,
    },
    time::{TimeVal, TimeValLike as _},
};

/// None at all would be no limit.
const LEAST: Duration = Duration::from_millis(1);

/// What can be added to any moment.
const MOST: Duration = Duration::from_hours(24);

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    stream: UnixStream,
    timeout: Duration,
    /// When the exchange is too late.
    end: Instant,
}

impl Socket {
    /// Connects; a server that accepts nobody is too late, too.
    pub(super) fn connect(path: &Path, timeout: Duration) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let timeout = timeout.clamp(LEAST, MOST);
        let millis = i64::try_from(timeout.as_millis()).map_err(io::Error::other)?;
        setsockopt(&socket, SendTimeout, &TimeVal::milliseconds(millis))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
            .map_err(|error| in_time(io::Error::from(error)))?;
        Socket::new(UnixStream::from(socket), timeout)
    }

    pub(super) fn new(stream: UnixStream, timeout: Duration) -> io::Result<Self> {
        let timeout = timeout.clamp(LEAST, MOST);
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Socket {
            stream,
            timeout,
            end: Instant::now() + timeout,
        })
    }

    /// An exchange begins.
    pub(super) fn begin(&mut self) {
        self.end = Instant::now() + self.timeout;
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.end
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.is_late() {
            return Err(late());
        }
        self.stream.read(into).map_err(in_time)
    }
}

impl Write for Socket {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        if self.is_late() {
            return Err(late());
        }
        self.stream.write(content).map_err(in_time)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time")
}

/// A socket's timeout has the same error as one that does not block.
fn in_time(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => late(),
        _ => error,
    }
}
