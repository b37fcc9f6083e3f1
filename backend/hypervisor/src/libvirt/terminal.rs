//! Consoles of running guests: the pty of the serial port, and the connection to the screen.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt as _, net::UnixStream as StdUnixStream},
    },
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use cumulet_domain::{console::ConsoleKind, id::InstanceId};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd},
    net::UnixStream,
};
use virt::{domain::Domain, error::Error as LibvirtError};

use super::{ffi, xml};
use crate::{ConsoleStream, Error, Result};

/// An open console that no runtime knows yet.
pub(super) enum Opened {
    Terminal(File),
    Screen(OwnedFd),
}

/// Opens a console of a guest that runs; blocks.
pub(super) fn open(
    domain: &Domain,
    instance: InstanceId,
    kind: ConsoleKind,
) -> Result<Result<Opened>, LibvirtError> {
    match kind {
        ConsoleKind::Serial => {
            let found = xml::serial_terminal(&domain.xml_desc(0)?);
            let Some(path) = found else {
                return Ok(Err(Error::NoConsole(instance, kind)));
            };
            let opened = raw(&path).map(Opened::Terminal);
            Ok(opened.map_err(|error| Error::Unavailable(format!("{}: {error}", path.display()))))
        }
        ConsoleKind::Vnc => Ok(Ok(Opened::Screen(ffi::open_screen(domain)?))),
    }
}

/// Opens a terminal that passes bytes on as they are. It forgets that when nobody has it open.
fn raw(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let mut settings = tcgetattr(&file)?;
    cfmakeraw(&mut settings);
    tcsetattr(&file, SetArg::TCSANOW, &settings)?;
    Ok(file)
}

impl Opened {
    /// The console as a stream. Needs a Tokio runtime.
    pub(super) fn stream(self) -> io::Result<Box<dyn ConsoleStream>> {
        Ok(match self {
            Opened::Terminal(file) => Box::new(Terminal(ffi::watched(file)?)),
            Opened::Screen(descriptor) => {
                let socket = StdUnixStream::from(descriptor);
                socket.set_nonblocking(true)?;
                Box::new(UnixStream::from_std(socket)?)
            }
        })
    }
}

/// A terminal as a stream of bytes.
struct Terminal(AsyncFd<File>);

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match ready.try_io(|file| file.get_ref().read(unfilled)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The other side of the terminal has gone, with the guest.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = ready.try_io(|file| file.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_terminal_passes_bytes_on_as_they_are_until_the_guest_goes() {
        let pair = openpty(None, None).unwrap();
        let path = nix::unistd::ttyname(&pair.slave).unwrap();
        let mut guest = File::from(pair.master);
        let mut console = Opened::Terminal(raw(&path).unwrap()).stream().unwrap();
        drop(pair.slave);
        console.write_all(b"a\x03\r\n").await.unwrap();
        let mut read = [0; 4];
        guest.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"a\x03\r\n");
        guest.write_all(b"login:\n").unwrap();
        let mut shown = [0; 7];
        console.read_exact(&mut shown).await.unwrap();
        assert_eq!(&shown, b"login:\n");
        drop(guest);
        assert_eq!(console.read(&mut shown).await.unwrap(), 0);
    }
}
