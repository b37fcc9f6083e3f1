//! The worker's end of the link.

use std::{
    collections::BTreeMap,
    io,
    net::TcpListener,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use cumulet_domain::{
    id::{InstanceId, VpcId},
    metadata::InstanceMetadata,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        SocketAddrUnix, connect,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::protocol::{Answer, Message, receive, send, socket};

/// How often it is looked whether the other side is (still) there.
const LOOK: Duration = Duration::from_millis(250);

/// How long an answer may take; a process that does not answer is taken to be gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// The metadata service of another process.
#[derive(Debug)]
pub struct Link {
    state: Arc<Mutex<State>>,
    _ends: Sender<()>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    socket: Option<OwnedFd>,
    snapshots: BTreeMap<InstanceId, InstanceMetadata>,
    listeners: BTreeMap<VpcId, TcpListener>,
}

impl Link {
    /// A link to the service whose socket is (or will be) at `path`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(path: &Path) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State {
            path: path.to_owned(),
            socket: None,
            snapshots: BTreeMap::new(),
            listeners: BTreeMap::new(),
        }));
        let (ends, ended) = channel();
        let watched = Arc::downgrade(&state);
        thread::Builder::new()
            .name("metadata-link".into())
            .spawn(move || keep(&watched, &ended))?;
        let link = Link { state, _ends: ends };
        link.state().renew();
        Ok(link)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// As [`MetadataService::put`](crate::MetadataService::put): at once where the service is there,
    /// otherwise as soon as it is.
    pub fn put(&self, snapshot: &InstanceMetadata) {
        let mut state = self.state();
        let known = state.snapshots.get(&snapshot.instance);
        if known.is_some_and(|known| known.revision >= snapshot.revision) {
            return;
        }
        state.snapshots.insert(snapshot.instance, snapshot.clone());
        state.tell(&Message::Put(Box::new(snapshot.clone())));
    }

    /// The instance reads nothing any more.
    pub fn remove(&self, instance: InstanceId) {
        let mut state = self.state();
        state.snapshots.remove(&instance);
        state.tell(&Message::Remove(instance));
    }

    /// Answers on a listener that was bound inside the VPC's network namespace.
    pub fn serve(&self, vpc: VpcId, listener: TcpListener) {
        let mut state = self.state();
        state.listeners.insert(vpc, listener);
        state.tell(&Message::Serve(vpc));
    }

    /// Closes the VPC's listener. On return neither side holds a socket of it.
    pub fn stop(&self, vpc: VpcId) {
        let mut state = self.state();
        state.listeners.remove(&vpc);
        state.tell(&Message::Stop(vpc));
    }

    /// The instances that are served, or will be.
    pub fn registered(&self) -> Vec<InstanceId> {
        self.state().snapshots.keys().copied().collect()
    }

    /// Whether the service is there.
    pub fn connected(&self) -> bool {
        self.state().socket.is_some()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after the connection until the link is dropped.
fn keep(state: &Weak<Mutex<State>>, ended: &Receiver<()>) {
    while matches!(ended.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout)) {
        let Some(state) = state.upgrade() else { return };
        lock(&state).renew();
    }
}

impl State {
    /// Connects where there is no connection (any more), and says everything.
    fn renew(&mut self) {
        if self.socket.as_ref().is_some_and(gone) {
            tracing::warn!("the metadata process has gone; guests wait for the next one");
            self.socket = None;
        }
        if self.socket.is_none()
            && let Ok(socket) = open(&self.path)
        {
            self.socket = Some(socket);
            self.tell_all();
        }
    }

    fn tell_all(&mut self) {
        self.tell(&Message::Sync {
            instances: self.snapshots.keys().copied().collect(),
            vpcs: self.listeners.keys().copied().collect(),
        });
        let snapshots = self.snapshots.values().cloned();
        let puts = snapshots.map(|snapshot| Message::Put(Box::new(snapshot)));
        let serves = self.listeners.keys().copied().map(Message::Serve);
        for message in puts.chain(serves).collect::<Vec<_>>() {
            self.tell(&message);
        }
    }

    /// Says it, if a metadata process is connected; otherwise everything is said to the next one.
    fn tell(&mut self, message: &Message) {
        let Some(socket) = &self.socket else { return };
        let with = match message {
            Message::Serve(vpc) => self.listeners.get(vpc).map(|listener| listener.as_fd()),
            _ => None,
        };
        match ask(socket, message, with) {
            Ok(Answer::Done) => {}
            Ok(Answer::Refused(reason)) => tracing::error!(reason, "the metadata process refuses"),
            Err(error) => {
                tracing::warn!(%error, "the metadata process does not answer");
                self.socket = None;
            }
        }
    }
}

fn ask(socket: &OwnedFd, message: &Message, with: Option<BorrowedFd<'_>>) -> io::Result<Answer> {
    send(socket, message, with)?;
    match receive(socket)? {
        Some((answer, _)) => Ok(answer),
        None => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Nothing is said unasked, so whatever there is to read is the end.
fn gone(socket: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(socket, PollFlags::IN)];
    matches!(poll(&mut watched, Some(&Timespec::default())), Ok(ready) if ready > 0)
}
