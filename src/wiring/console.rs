//! The wiring of consoles: the server on a host, and the proxy in front of all hosts. In one process they
//! meet in memory; elsewhere over TCP, with the cloud's public key on both sides.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use async_trait::async_trait;
use cumulet_backend::{
    api::{Parts, consoles},
    store::settings,
};
use cumulet_certs::ConsoleVerifier;
use cumulet_domain::{console::IN_PROCESS, time::SystemClock};
use cumulet_gateway::console::{ConsoleDoor, ConsoleLimits, HostStream, Hosts};
use cumulet_worker::{
    Worker,
    console::{ConsoleHost, ConsoleLimits as HostLimits},
};
use tokio::{net::TcpStream, sync::watch, task::JoinSet};

use super::listen::bind;
use crate::{
    config::Config,
    roles::{Role, Roles},
};

/// Where the role listens by itself.
const LISTEN: &str = "127.0.0.1:6080";

/// Where it listens in a process with all roles, of which a machine may have several.
const ANYWHERE: &str = "127.0.0.1:0";

/// A process's part in consoles: bound, and not serving yet.
pub(super) struct Consoles {
    /// `None` where nothing here has to do with consoles.
    verifier: Option<ConsoleVerifier>,
    door: Option<TcpListener>,
    host: Option<TcpListener>,
    address: Option<String>,
    sessions: usize,
    idle: Duration,
}

/// Binds what the roles need.
pub(super) async fn prepare(config: &Config, roles: &Roles, parts: Option<&Parts>) -> Result<Consoles> {
    let taken = &config.console.address;
    let (mut door, mut host, mut address) = (None, None, None);
    if roles.has(Role::Console) {
        let listener = bind(door_address(config, roles), config.console.listen.name())?;
        if let Some(parts) = parts {
            announce(parts, listener.local_addr()?.to_string()).await?;
        }
        door = Some(listener);
    }
    if roles.has(Role::Compute) {
        if !taken.is_empty() {
            host = Some(bind(taken.text(), taken.name())?);
            address = Some(taken.text().to_owned());
        } else if door.is_some() {
            address = Some(IN_PROCESS.to_owned());
        }
    }
    // Whatever the roles: it is there when the operator asks for it, who only looks.
    let made = match parts {
        Some(parts) => Some(consoles::prepare(parts).await.context("the consoles' key")?),
        None => None,
    };
    let verifier = match made {
        _ if door.is_none() && address.is_none() => None,
        Some(made) => Some(made),
        None => Some(config.console.public_key.get()?),
    };
    let seconds = config.console.idle.get()?;
    Ok(Consoles {
        verifier,
        door,
        host,
        address,
        sessions: config.console.sessions.get()?,
        idle: Duration::from_secs(seconds.max(1)),
    })
}

/// Finds out whether what the roles will listen on can be had.
pub(crate) fn try_addresses(config: &Config, roles: &Roles) -> Result<()> {
    if roles.has(Role::Console) {
        bind(door_address(config, roles), config.console.listen.name())?;
    }
    let taken = &config.console.address;
    if roles.has(Role::Compute) && !taken.is_empty() {
        bind(taken.text(), taken.name())?;
    }
    Ok(())
}

/// Where the role listens.
fn door_address<'a>(config: &'a Config, roles: &Roles) -> &'a str {
    match config.console.listen.text() {
        "" if roles.all() => ANYWHERE,
        "" => LISTEN,
        given => given,
    }
}

/// Writes down where the door of this process is, for `cumulet admin console`.
async fn announce(parts: &Parts, address: String) -> Result<()> {
    let write = parts.store.write(move |txn| {
        let address = address.clone();
        Box::pin(async move { settings::put(txn, settings::CONSOLE_ENDPOINT, &address).await })
    });
    Ok(write.await?)
}

/// The console role's address as clients write it.
pub(crate) async fn endpoint(config: &Config, parts: &Parts) -> Result<String> {
    for given in [&config.console.endpoint, &config.console.listen] {
        let given = given.text();
        if !given.is_empty() && !given.ends_with(":0") {
            return Ok(given.to_owned());
        }
    }
    let announced = settings::get(parts.store.read(), settings::CONSOLE_ENDPOINT).await?;
    Ok(announced.unwrap_or_else(|| LISTEN.to_owned()))
}

/// How long a token is good.
pub(crate) fn token_time(config: &Config) -> Result<Duration> {
    let seconds = config.console.token_ttl.get()?;
    anyhow::ensure!(seconds > 0, "configuration: console.token_ttl is at least 1");
    Ok(Duration::from_secs(seconds.into()))
}

impl Consoles {
    /// Where hosts of this process take console connections.
    pub(super) fn address(&self) -> Option<String> {
        self.address.clone()
    }

    /// Serves until `shutdown` says so.
    pub(super) fn start(
        &mut self,
        workers: &[Arc<Worker>],
        tasks: &mut JoinSet<Result<()>>,
        shutdown: &watch::Receiver<bool>,
    ) {
        let Some(verifier) = self.verifier.take() else {
            return;
        };
        let mut here = None;
        if self.address.is_some() {
            let limits = HostLimits {
                sessions: self.sessions,
                idle: self.idle,
            };
            let clock = Arc::new(SystemClock);
            here = Some(ConsoleHost::new(
                workers.to_vec(),
                verifier.clone(),
                clock,
                limits,
            ));
        }
        if let (Some(listener), Some(host)) = (self.host.take(), here.clone()) {
            let until = shutdown.clone();
            tasks.spawn(async move {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                host.serve(listener, until).await.context("this host's consoles")
            });
        }
        if let Some(listener) = self.door.take() {
            let door = ConsoleDoor {
                verifier,
                clock: Arc::new(SystemClock),
                hosts: Arc::new(Ways { here }),
                limits: ConsoleLimits {
                    sessions: self.sessions,
                    idle: self.idle,
                },
            };
            let until = shutdown.clone();
            tasks.spawn(async move { door.serve(listener, until).await.context("the console's server") });
        }
    }
}

/// The ways to hosts: within the process, and over TCP.
struct Ways {
    here: Option<Arc<ConsoleHost>>,
}

#[async_trait]
impl Hosts for Ways {
    async fn connect(&self, address: &str) -> io::Result<Box<dyn HostStream>> {
        if address == IN_PROCESS {
            let here = self.here.as_ref();
            let here =
                here.ok_or_else(|| io::Error::other("its host takes consoles in its own process only"))?;
            return Ok(Box::new(here.connect()));
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
