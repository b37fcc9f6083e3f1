//! The service handle, by which a worker runs the service.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, mpsc as sync_mpsc},
    thread,
    time::Duration,
};

use cumulet_domain::{
    id::{InstanceId, VpcId},
    metadata::InstanceMetadata,
    time::{Clock, Timestamp},
};
use rand::{CryptoRng, SeedableRng as _, rngs::StdRng};
use tokio::sync::mpsc;

use crate::{
    config::{Config, TokenSecret},
    counters::{Cell, Counters},
    registry::Registry,
    server::{Command, Shared, run},
};

/// How long a thread may take to carry out a command; they only open and close sockets.
const PATIENCE: Duration = Duration::from_secs(5);

/// The running service. Clones are the same service; it ends when the last one is dropped.
#[derive(Clone)]
pub struct MetadataService(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    secret: TokenSecret,
    workers: Vec<Worker>,
}

struct Worker {
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl MetadataService {
    /// Starts the service's threads; it listens nowhere yet.
    ///
    /// # Errors
    /// The operating system's, when a thread can't be started.
    pub fn start<R: CryptoRng + ?Sized>(
        config: Config,
        secret: TokenSecret,
        clock: Arc<dyn Clock>,
        rng: &mut R,
    ) -> io::Result<Self> {
        let threads = config.threads.max(1);
        let shared = Arc::new(Shared {
            config,
            clock,
            registry: Registry::new(),
            strangers: Cell::default(),
            open_strangers: 0.into(),
        });
        let mut running = Running {
            shared,
            secret,
            workers: Vec::new(),
        };
        for index in 0..threads {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            let worker = Worker::start(index, running.shared.clone(), StdRng::from_seed(seed))?;
            running.workers.push(worker);
        }
        Ok(MetadataService(Arc::new(running)))
    }

    /// Installs an instance's snapshot under the addresses of its interfaces: before its first vCPU
    /// runs, for a guest that asks too early may give up. `false` if the same revision or a newer one
    /// is there already.
    pub fn put(&self, metadata: &InstanceMetadata) -> bool {
        let Running { shared, secret, .. } = &*self.0;
        shared.registry.put(metadata, &shared.config, secret)
    }

    /// Forgets an instance: before its addresses can be given to another. `false` if it isn't known.
    pub fn remove(&self, instance: InstanceId) -> bool {
        self.0.shared.registry.remove(instance)
    }

    /// Answers on a listener that was bound inside the VPC's network namespace, instead of on an
    /// earlier one of the VPC.
    ///
    /// # Errors
    /// The operating system's, when the socket can't be used.
    pub fn serve(&self, vpc: VpcId, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let mut copies = Vec::with_capacity(self.0.workers.len());
        for _ in &self.0.workers {
            copies.push(listener.try_clone()?);
        }
        drop(listener);
        let mut copies = copies.into_iter();
        self.0.command(|done| {
            let copy = copies.next()?;
            Some(Command::Serve(vpc, copy, done))
        })
    }

    /// Closes the VPC's listener and connections. On return no socket of the service is left in its
    /// network namespace.
    ///
    /// # Errors
    /// When a thread doesn't respond.
    pub fn stop(&self, vpc: VpcId) -> io::Result<()> {
        self.0.command(|done| Some(Command::Stop(vpc, done)))
    }

    /// The instances that are served, for the host's audit.
    pub fn registered(&self) -> Vec<InstanceId> {
        self.0.shared.registry.ids()
    }

    /// The revision of an instance's snapshot.
    pub fn revision(&self, instance: InstanceId) -> Option<u64> {
        let instance = self.0.shared.registry.get(instance)?;
        Some(instance.snapshot.load().revision)
    }

    /// When an instance first asked for something: a sign that its guest's network is up.
    pub fn first_contact(&self, instance: InstanceId) -> Option<Timestamp> {
        self.0.shared.registry.get(instance)?.first_contact()
    }

    /// What has been answered to everybody, callers that are no instance included.
    pub fn counters(&self) -> Counters {
        let mut sum = self.0.shared.registry.counters();
        sum += self.0.shared.strangers.read();
        sum
    }

    /// What has been answered to one instance.
    pub fn counters_of(&self, instance: InstanceId) -> Option<Counters> {
        Some(self.0.shared.registry.get(instance)?.counters.read())
    }
}

impl Running {
    /// Sends a command to every thread and waits until all have carried it out.
    fn command(
        &self,
        mut make: impl FnMut(sync_mpsc::Sender<io::Result<()>>) -> Option<Command>,
    ) -> io::Result<()> {
        let gone = || io::Error::other("a thread of the metadata service has ended");
        let (done, outcomes) = sync_mpsc::channel();
        for worker in &self.workers {
            let command = make(done.clone()).ok_or_else(gone)?;
            let commands = worker.commands.as_ref().ok_or_else(gone)?;
            commands.send(command).map_err(|_| gone())?;
        }
        for _ in &self.workers {
            outcomes.recv_timeout(PATIENCE).map_err(|_| gone())??;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            drop(worker.commands.take());
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Worker {
    fn start(index: usize, shared: Arc<Shared>, rng: StdRng) -> io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        // A runtime belongs to its thread, but its failure is the caller's to know.
        let (ready, is_ready) = sync_mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("imds-{index}"))
            .spawn(move || match actix_rt::Runtime::new() {
                Ok(runtime) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(run(shared, rng, inbox));
                }
                Err(error) => drop(ready.send(Err(error))),
            })?;
        is_ready
            .recv()
            .map_err(|_| io::Error::other("the thread has ended"))??;
        Ok(Worker {
            commands: Some(commands),
            thread: Some(thread),
        })
    }
}
