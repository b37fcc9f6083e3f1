//! Servers that don't keep to the protocol, or that keep nobody waiting for ever.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{NbdDisk, Source as _, Target as _, files::BLOCK_BYTES};

const SOON: Duration = Duration::from_millis(300);

/// A client of a server that says this, and hangs up.
fn client(said: &[u8]) -> io::Result<NbdDisk> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // More than the socket holds is sent while the client reads.
    let said = said.to_vec();
    thread::spawn(move || {
        // The client may have had enough.
        drop(theirs.write_all(&said));
        drop(theirs.shutdown(Shutdown::Write));
        drop(theirs.read_to_end(&mut Vec::new()));
    });
    NbdDisk::from_stream(ours, Duration::from_secs(10))
}

#[test]
fn a_handshake_that_is_wrong_is_an_error_with_words() {
    let until_go = &agreed()[..agreed().len() - option_reply(7, 1, &[]).len()];
    let until_go = &until_go[..until_go.len() - option_reply(7, 3, &export(0, 0)).len()];
    let until_context = [greeting(), option_reply(8, 1, &[])].concat();
    let context = |text: &[u8]| option_reply(10, 4, &[&[0; 4], text].concat());
    let go = |data: &[u8]| [until_go, &option_reply(7, 3, data)].concat();
    let contexts = |replies: &[Vec<u8>]| [&until_context[..], &replies.concat()].concat();
    let long = [&until_context[..], &option_reply(10, 4, &[])[..16], &[255; 4]].concat();
    let block_size = |least: u32, most: u32| {
        let sizes = [least, 4096, most].map(u32::to_be_bytes);
        [&[0, 3], sizes.as_flattened()].concat()
    };
    let cases: &[(&[u8], &str)] = &[
        (b"", "hung up"),
        (b"NBDMAGIX________", "no NBD server"),
        (b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53", "old style"),
        (b"NBDMAGICIHAVEOPT\x00\x02", "not fixed"),
        (&[&greeting()[..], &[0; 20]].concat(), "no reply to an option"),
        (
            &[greeting(), option_reply(9, 1, &[])].concat(),
            "a reply to option 9",
        ),
        (
            &[greeting(), option_reply(8, 0x8000_0001, b"no")].concat(),
            "refuses option 8, error 1: no",
        ),
        (
            &[greeting(), option_reply(8, 3, &[])].concat(),
            "a reply of kind 3",
        ),
        (&long, "4294967295 bytes"),
        (
            &contexts(&[context(b"qemu:x")]),
            "a context that was not asked for",
        ),
        (
            &contexts(&[context(b"base:allocation"), context(b"base:allocation")]),
            "not asked for",
        ),
        (
            &contexts(&[option_reply(10, 4, &[1])]),
            "a context that was not asked for",
        ),
        (
            &contexts(&[option_reply(10, 1, &[])]),
            "does not tell what is allocated",
        ),
        (&go(&[0]), "information of no kind"),
        (&go(&export(1, 0)[..5]), "no word on the disk's size"),
        (
            &go(&[&export(1, 0)[..], &[0]].concat()),
            "no word on the disk's size",
        ),
        (&go(&export(u64::MAX, 0)), "a disk of 18446744073709551615 bytes"),
        (&go(&block_size(4096, 1 << 25)), "requests of 4096 to"),
        (&go(&block_size(1, 4096)), "to 4096 bytes"),
        (&go(&[0, 3, 0]), "no word on the sizes of requests"),
        (
            &[until_go, &option_reply(7, 1, &[])].concat(),
            "no word on the disk's size",
        ),
        (
            &[until_go, &option_reply(7, 0x8000_0006, &[])].concat(),
            "refuses option 7, error 6",
        ),
        (&agreed()[..agreed().len() - 1], "hung up"),
    ];
    for (said, words) in cases {
        let error = client(said).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let good = client(&[&go(&block_size(512, 1 << 25))[..], &agreed()[until_go.len()..]].concat());
    assert_eq!(good.unwrap().size().unwrap(), SIZE);
}

/// What a client makes of an answer to its first request.
fn asked<T>(said: &[u8], ask: impl FnOnce(&NbdDisk) -> io::Result<T>) -> io::Result<T> {
    let disk = client(&[&agreed()[..], said].concat()).unwrap();
    let answer = ask(&disk);
    if answer.is_err() {
        // Nobody knows what comes next.
        let again = disk.read_block(0, &mut [0; 512]).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::NotConnected);
    }
    answer
}

const ONE: Cookie = Cookie(1);

#[test]
fn an_answer_with_content_that_is_wrong_is_an_error_with_words() {
    let content = [7; BLOCK_BYTES];
    let half = BLOCK_BYTES / 2;
    let data = |offset: usize, length: usize| data_chunk(false, ONE, offset as u64, &content[..length]);
    let cases: &[(&[u8], &str)] = &[
        (b"", "hung up"),
        (&[0; 40], "begins with 0x00000000"),
        (&data_chunk(true, Cookie(2), 0, &content), "to what was not asked"),
        (&simple(5, ONE), "Input/output error"),
        (&simple(5, Cookie(0)), "to what was not asked"),
        (&simple(1234, ONE), "error 1234"),
        (&simple(0, ONE), "without the content"),
        (&chunk(true, 0, ONE, &[]), "less than was asked for"),
        (&chunk(false, 0, ONE, &[]), "nothing, and not at the end"),
        (&chunk(true, 0, ONE, &[1]), "nothing, and not at the end"),
        (&chunk(true, 1, ONE, &[0; 8]), "chunk of kind 1 and 8 bytes"),
        (&chunk(true, 2, ONE, &[0; 13]), "chunk of kind 2 and 13 bytes"),
        (&chunk(true, 77, ONE, &[0; 13]), "chunk of kind 77"),
        (
            &[head(true, 1, ONE, u32::MAX), vec![0; 8]].concat(),
            "content that was not asked for",
        ),
        (
            &data_chunk(true, ONE, 1, &content),
            "content that was not asked for",
        ),
        (
            &data_chunk(true, ONE, u64::MAX, &content),
            "content that was not asked for",
        ),
        (
            &data_chunk(true, ONE, 0, &content[..half]),
            "less than was asked for",
        ),
        (&[data(0, half), data(half - 1, 1)].concat(), "came already"),
        (&[data(half, half), data(half - 1, 2)].concat(), "came already"),
        (&[data(0, half), data(0, half)].concat(), "came already"),
        (
            &hole_chunk(true, ONE, 0, u32::MAX),
            "content that was not asked for",
        ),
        (&hole_chunk(true, ONE, 0, 0), "content that was not asked for"),
        (
            &error_chunk(true, ONE, 28, b"disk\nis full"),
            "(os error 28): diskis full",
        ),
        (
            &[
                error_chunk(false, ONE, 5, b"rot"),
                data_chunk(true, ONE, 0, &content),
            ]
            .concat(),
            "rot",
        ),
        (&error_chunk(true, ONE, 0, b""), "an error that is none"),
        (&chunk(true, 0x8001, ONE, &[0, 0, 0, 5, 255, 255]), "cut off"),
        (&chunk(true, 0x8001, ONE, &[0]), "cut off"),
        (&head(true, 0x8001, ONE, u32::MAX), "an error of 4294967295 bytes"),
        (&head(true, 1, ONE, 9)[..19], "hung up"),
        (&data_chunk(true, ONE, 0, &content)[..1000], "hung up"),
    ];
    for (said, words) in cases {
        let mut into = [0; BLOCK_BYTES];
        let error = asked(said, |disk| disk.read_block(0, &mut into)).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(error.to_string().contains("NBD Read at 0"), "{error}");
    }
}

#[test]
fn a_status_that_is_wrong_is_an_error_with_words() {
    let zeros = [(u32::try_from(SIZE).unwrap(), 3)];
    let good = |is_last| status_chunk(is_last, ONE, 7, &zeros);
    let cases: &[(&[u8], &str)] = &[
        (&chunk(true, 0, ONE, &[]), "no status"),
        (&simple(0, ONE), "without the content"),
        (&simple(22, ONE), "Invalid argument"),
        (&status_chunk(true, ONE, 8, &zeros), "not asked for"),
        (&[good(false), good(true)].concat(), "not asked for"),
        (&status_chunk(true, ONE, 7, &[(0, 3)]), "no length"),
        (&status_chunk(true, ONE, 7, &[]), "kind 5 and 4 bytes"),
        (&chunk(true, 5, ONE, &[0; 11]), "kind 5 and 11 bytes"),
        (&head(true, 5, ONE, u32::MAX - 3), "4294967292 bytes"),
        (&data_chunk(true, ONE, 0, &[7]), "kind 1 and 9 bytes as a status"),
        (&error_chunk(true, ONE, 95, b"no"), "no"),
        (&good(true)[..30], "hung up"),
    ];
    for (said, words) in cases {
        let ask = |disk: &NbdDisk| disk.data_blocks().collect::<io::Result<Vec<u64>>>();
        let error = asked(said, ask).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let found = asked(&good(true), |disk| {
        disk.data_blocks().collect::<io::Result<Vec<u64>>>()
    });
    assert_eq!(found.unwrap(), []);
}

#[test]
fn an_answer_without_content_that_is_wrong_is_an_error_with_words() {
    let cases: &[(&[u8], &str)] = &[
        (&simple(28, ONE), "No space left on device"),
        (&simple(0, Cookie(3)), "to what was not asked"),
        (&chunk(false, 0, ONE, &[]), "kind 0 as all of an answer"),
        (&data_chunk(true, ONE, 0, &[7]), "kind 1 as all of an answer"),
        (&error_chunk(false, ONE, 5, b""), "kind 32769 as all"),
        (&error_chunk(true, ONE, 1, b"locked"), "locked"),
    ];
    for (said, words) in cases {
        for error in [
            asked(said, |disk| disk.write_at(512, &[7; 512])).unwrap_err(),
            asked(said, |disk| disk.flush()).unwrap_err(),
        ] {
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }
    for good in [simple(0, ONE), chunk(true, 0, ONE, &[])] {
        asked(&good, |disk| disk.flush()).unwrap();
    }
}

#[test]
fn what_is_beyond_the_disk_is_not_asked_for() {
    let disk = client(&agreed()).unwrap();
    let mut into = [7; 512];
    disk.read_block(SIZE, &mut into).unwrap();
    assert_eq!(into, [0; 512]);
    for offset in [SIZE - 511, SIZE, u64::MAX] {
        let error = disk.write_at(offset, &into).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let error = disk.prepare(SIZE + 1).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has 1048576 bytes, and 1048577 are needed"),
        "{error}"
    );
}

#[test]
fn a_server_that_is_silent_or_slow_is_not_waited_for_long() {
    let begun = Instant::now();
    // The longest time there is is none that overflows.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&agreed()).unwrap();
    drop(NbdDisk::from_stream(ours, Duration::MAX).unwrap());

    // Silent from the beginning, and in the middle.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let error = NbdDisk::from_stream(ours, SOON).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&agreed()).unwrap();
    let disk = NbdDisk::from_stream(ours, SOON).unwrap();
    let mut into = [0; BLOCK_BYTES];
    let error = disk.read_block(0, &mut into).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);

    // A byte now and then.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    theirs.write_all(&agreed()).unwrap();
    let server = thread::spawn(move || {
        // For some six seconds.
        for byte in &data_chunk(true, ONE, 0, &[7; BLOCK_BYTES])[..200] {
            let waited = stopped.recv_timeout(SOON / 10);
            if waited != Err(mpsc::RecvTimeoutError::Timeout) || theirs.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    let disk = NbdDisk::from_stream(ours, SOON).unwrap();
    let error = disk.read_block(0, &mut into).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(stop);
    server.join().unwrap();

    // One that takes nothing.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&agreed()).unwrap();
    let disk = NbdDisk::from_stream(ours, SOON).unwrap();
    let error = disk.write_at(0, &vec![7; BLOCK_BYTES * 2]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);

    // One that accepts nobody.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let error = NbdDisk::connect(&path, Duration::MAX).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let listener = UnixListener::bind(&path).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    for _ in 0..3 {
        let error = NbdDisk::connect(&path, SOON).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("socket: "), "{error}");
    }
    drop(listener);
    let error = NbdDisk::connect(&path, SOON).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(begun.elapsed() < Duration::from_secs(20));
}
