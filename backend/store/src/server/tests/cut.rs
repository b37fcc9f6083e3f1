//! Connections that are cut while they are made or while they commit: a proxy between the program and the server hangs
//! up on newcomers, or forwards the commit and keeps the answer to itself, or never forwards it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

const PASS: u8 = 0;
/// The next commit reaches the server, its answer reaches nobody.
const SWALLOW_ANSWER: u8 = 1;
/// The next commit does not reach the server, whose side of the connection stays open.
const SWALLOW_COMMIT: u8 = 2;

/// What the proxy shall do.
#[derive(Default)]
struct Faults {
    /// With the next commit.
    commit: AtomicU8,
    /// Newcomers that are hung up on.
    newcomers: AtomicU8,
}

impl Faults {
    fn refuses(&self) -> bool {
        let one_less = |left: u8| left.checked_sub(1);
        let order = (Ordering::SeqCst, Ordering::SeqCst);
        self.newcomers.fetch_update(order.0, order.1, one_less).is_ok()
    }
}

/// A proxy in front of a server.
async fn proxy(server: String) -> (SocketAddr, Arc<Faults>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, faults) = (listener.local_addr().unwrap(), Arc::new(Faults::default()));
    let told = faults.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if !told.refuses() {
                let upstream = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, upstream, told.clone()));
            }
        }
    });
    (address, faults)
}

async fn carry(client: TcpStream, upstream: TcpStream, faults: Arc<Faults>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let answers = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        let asked = &buffer[..count];
        let commits = asked.windows(8).any(|part| part == b"; COMMIT");
        match if commits {
            faults.commit.swap(PASS, Ordering::SeqCst)
        } else {
            PASS
        } {
            SWALLOW_ANSWER => {
                answers.abort();
                to_server.write_all(asked).await.unwrap();
                // The client's side is cut at once; the server's stays until it has done its work.
                drop(from_client);
                drop(answers.await);
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                return;
            }
            SWALLOW_COMMIT => {
                answers.abort();
                drop(from_client);
                drop(answers.await);
                tokio::time::sleep(std::time::Duration::from_secs(20)).await;
                return;
            }
            _ => {
                if to_server.write_all(asked).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The database through a proxy.
async fn through(database: &Scratch) -> (Store, Arc<Faults>) {
    let options = database.options(4);
    let (faults, location) = match options.location {
        Location::Postgres(it) => {
            let (address, faults) = proxy(format!("{}:{}", it.get_host(), it.get_port())).await;
            let it = it.host("127.0.0.1").port(address.port());
            (faults, Location::Postgres(Box::new(it)))
        }
        Location::MySql(it) => {
            let (address, faults) = proxy(format!("{}:{}", it.get_host(), it.get_port())).await;
            let it = it.host("127.0.0.1").port(address.port());
            (faults, Location::MySql(Box::new(it)))
        }
        Location::Sqlite(_) => unreachable!(),
    };
    let options = Options { location, readers: 4 };
    (connect(&options).await.unwrap(), faults)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_and_not_done_twice() {
    let Some((database, _direct)) = server().await else {
        return;
    };
    let (store, faults) = through(&database).await;
    for i in 0..10 {
        faults.commit.store(SWALLOW_ANSWER, Ordering::SeqCst);
        put(&store, format!("n{i}")).await.unwrap();
    }
    let counters = store.counters();
    // Where the question overtook the commit, that was shut out and done once more.
    let known = counters.resolved > 0 && counters.resolved + counters.retried == 10;
    assert!(known && counters.unknown == 0, "{counters:?}");
    assert_eq!(rows(&store).await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrived_is_done_again_once_the_old_session_is_ended() {
    let Some((database, _direct)) = server().await else {
        return;
    };
    let (store, faults) = through(&database).await;
    faults.commit.store(SWALLOW_COMMIT, Ordering::SeqCst);
    put(&store, "n".into()).await.unwrap();
    let counters = store.counters();
    assert_eq!(
        (counters.resolved, counters.retried, counters.unknown),
        (0, 1, 0),
        "{counters:?}"
    );
    assert_eq!(rows(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_while_they_are_made_are_made_anew() {
    let Some((database, _direct)) = server().await else {
        return;
    };
    let (store, faults) = through(&database).await;
    for i in 0..3 {
        database.end_sessions().await;
        faults.newcomers.store(4, Ordering::SeqCst);
        // One for writes, then one for reads.
        put(&store, format!("n{i}")).await.unwrap();
        assert_eq!(faults.newcomers.load(Ordering::SeqCst), 0);
        database.end_sessions().await;
        faults.newcomers.store(4, Ordering::SeqCst);
        assert_eq!(rows(&store).await, i + 1);
        assert_eq!(faults.newcomers.load(Ordering::SeqCst), 0);
    }
    // A server that hangs up on everybody is told as one that is away.
    database.end_sessions().await;
    faults.newcomers.store(u8::MAX, Ordering::SeqCst);
    let asked = tokio::time::Instant::now();
    let error = put(&store, "late".into()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    assert!(asked.elapsed() < std::time::Duration::from_secs(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_ended_under_load_lose_nothing_and_double_nothing() {
    let Some((database, store)) = server().await else {
        return;
    };
    let killer = async {
        for _ in 0..8 {
            database.end_sessions().await;
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        }
    };
    let work = join_all((0..2000).map(|i| put(&store, format!("n{i}"))));
    let (all, ()) = tokio::join!(work, killer);
    assert!(
        all.iter().all(Result::is_ok),
        "{:?}",
        all.iter().find(|answer| answer.is_err())
    );
    assert_eq!(rows(&store).await, 2000);
    let counters = store.counters();
    assert!(counters.retried + counters.resolved > 0, "{counters:?}");
}
