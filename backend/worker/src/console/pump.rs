//! The byte pump of a console: both ways until either side ends, or a write has waited too long.

use std::{io, sync::Mutex, time::Duration};

use cumulet_hypervisor::ConsoleStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::Instant,
};

use super::lock;

/// What is read at once.
const PIECE: usize = 8 * 1024;

/// How long a side may take nothing: a guest whose output nobody takes waits with it.
const STALL: Duration = Duration::from_secs(30);

/// Why a console was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client has gone.
    Client,
    /// The guest's side has ended.
    Guest,
    /// Nothing has gone for too long, or was taken.
    Idle,
}

/// See the module. Returns with both sides closed.
pub(super) async fn pump(client: impl ConsoleStream, guest: impl ConsoleStream, idle: Duration) -> End {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_guest, to_guest) = tokio::io::split(guest);
    let last = Mutex::new(Instant::now());
    // A side that breaks has ended as well.
    tokio::select! {
        biased;
        ended = copy(from_guest, to_client, &last) => of(ended, End::Guest),
        ended = copy(from_client, to_guest, &last) => of(ended, End::Client),
        () = silence(&last, idle) => End::Idle,
    }
}

fn of(ended: io::Result<()>, side: End) -> End {
    match ended {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => End::Idle,
        _ => side,
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &Mutex<Instant>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return Ok(());
        }
        let written = async {
            to.write_all(&piece[..count]).await?;
            to.flush().await
        };
        tokio::time::timeout(STALL, written).await??;
        *lock(last) = Instant::now();
    }
}

async fn silence(last: &Mutex<Instant>, idle: Duration) {
    loop {
        let end = *lock(last) + idle;
        if end <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn bytes_go_both_ways_until_a_side_ends() {
        let ((mut client, near), (far, mut guest)) = (duplex(16), duplex(16));
        let pumped = tokio::spawn(pump(near, far, IDLE));
        client.write_all(b"typed").await.unwrap();
        let mut read = [0; 5];
        guest.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"typed");
        // More than the pipe holds, then the end: all of it comes.
        let text = vec![b'x'; 1000];
        let shown = text.clone();
        tokio::spawn(async move { guest.write_all(&shown).await });
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, text);
        assert_eq!(pumped.await.unwrap(), End::Guest);
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_it() {
        let ((client, near), (far, mut guest)) = (duplex(16), duplex(16));
        let pumped = tokio::spawn(pump(near, far, IDLE));
        drop(client);
        assert_eq!(pumped.await.unwrap(), End::Client);
        assert_eq!(guest.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_so_does_a_client_that_takes_nothing() {
        let ((mut client, near), (far, mut guest)) = (duplex(16), duplex(16));
        let start = Instant::now();
        let pumped = tokio::spawn(pump(near, far, IDLE));
        tokio::time::sleep(IDLE / 2).await;
        client.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let full = tokio::spawn(async move { guest.write_all(&[0; 1000]).await });
        assert_eq!(pumped.await.unwrap(), End::Idle);
        // From the last bytes that were taken on.
        let waited = start.elapsed().as_secs();
        assert!((60..=62).contains(&waited), "{waited}");
        assert!(full.await.unwrap().is_err());
    }
}
