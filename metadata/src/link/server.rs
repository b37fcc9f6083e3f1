//! The metadata process's end of the link.

use std::{
    fs, io,
    net::TcpListener,
    os::fd::OwnedFd,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

use cumulet_domain::id::{InstanceId, VpcId};
use rustix::net::{Shutdown, SocketAddrUnix, SocketFlags, accept_with, bind, listen as listen_on, shutdown};

use super::protocol::{Answer, Message, receive, send, socket};
use crate::MetadataService;

/// Serves links until it is dropped.
#[derive(Debug)]
pub struct Server {
    socket: std::sync::Arc<OwnedFd>,
    path: PathBuf,
    thread: Option<thread::JoinHandle<()>>,
}

/// Lets workers of this host (root alone) link to the service at `path`. One at a time: the next one is
/// heard when the one before has gone.
///
/// # Errors
/// The operating system's, when the socket can't be made.
pub fn listen(path: &Path, service: MetadataService) -> io::Result<Server> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Before it listens: nobody can connect in between.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen_on(&socket, 1)?;
    let socket = std::sync::Arc::new(socket);
    let accepting = socket.clone();
    let thread = thread::Builder::new()
        .name("metadata-link".into())
        .spawn(move || {
            let mut served = Served {
                service,
                vpcs: Vec::new(),
            };
            while let Ok(link) = accept_with(&*accepting, SocketFlags::CLOEXEC) {
                served.hear(&link);
            }
        })?;
    Ok(Server {
        socket,
        path: path.to_owned(),
        thread: Some(thread),
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the wait for the next link; one that is there ends with the process.
        let _ = shutdown(&*self.socket, Shutdown::Both);
        drop(fs::remove_file(&self.path));
        drop(self.thread.take());
    }
}

struct Served {
    service: MetadataService,
    vpcs: Vec<VpcId>,
}

impl Served {
    /// Does what a link says until it is gone.
    fn hear(&mut self, link: &OwnedFd) {
        loop {
            let answer = match receive(link) {
                Ok(Some((message, descriptor))) => self.obey(message, descriptor),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "a link speaks what nobody understands");
                    return;
                }
            };
            let answer = answer.map_or_else(|error| Answer::Refused(error.to_string()), |()| Answer::Done);
            if let Err(error) = send(link, &answer, None) {
                tracing::warn!(%error, "a link has gone before it was answered");
                return;
            }
        }
    }

    fn obey(&mut self, message: Message, descriptor: Option<OwnedFd>) -> io::Result<()> {
        match message {
            Message::Sync { instances, vpcs } => self.keep(&instances, &vpcs),
            Message::Put(snapshot) => {
                self.service.put(&snapshot);
                Ok(())
            }
            Message::Remove(instance) => {
                self.service.remove(instance);
                Ok(())
            }
            Message::Serve(vpc) => {
                let socket = descriptor.ok_or_else(|| io::Error::other("no socket came along"))?;
                self.service.serve(vpc, TcpListener::from(socket))?;
                if !self.vpcs.contains(&vpc) {
                    self.vpcs.push(vpc);
                }
                Ok(())
            }
            Message::Stop(vpc) => {
                self.vpcs.retain(|known| *known != vpc);
                self.service.stop(vpc)
            }
        }
    }

    /// Forgets what is none of these.
    fn keep(&mut self, instances: &[InstanceId], vpcs: &[VpcId]) -> io::Result<()> {
        for instance in self.service.registered() {
            if !instances.contains(&instance) {
                self.service.remove(instance);
            }
        }
        for vpc in std::mem::take(&mut self.vpcs) {
            if vpcs.contains(&vpc) {
                self.vpcs.push(vpc);
            } else {
                self.service.stop(vpc)?;
            }
        }
        Ok(())
    }
}
