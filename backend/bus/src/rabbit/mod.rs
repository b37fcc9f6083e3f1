//! The bus over RabbitMQ.

mod answers;
mod consume;
mod dead;
mod envelope;
mod link;
mod permissions;
mod publish;
mod receipt;
mod subjects;
mod topology;

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use cumulet_domain::{
    id::HostId,
    message::{Command, Query, Report},
    time::Clock,
};
use lapin::{message::Delivery as Raw, tcp::OwnedTLSConfig, uri::AMQPUri};
use tokio::{sync::Mutex, task::JoinHandle, time::timeout};

use crate::{
    Bus, BusError, Counters, DEADLINE, HostMailbox, ReportMailbox, Wakeup, WakeupMailbox, boxed,
    counters::Tally,
};
use answers::Asker;
use consume::Ender;
use envelope::Kind;
use link::{Address, Link};
pub use permissions::{
    Permissions, control_permissions, control_user_commands, host_user, host_user_commands, permissions,
};
use publish::{Letter, Published, Publisher, unavailable};
use subjects::{ForHost, Reports, Taps};
use topology::Names;

/// How a RabbitMQ broker is reached, and what is asked of it.
#[derive(Clone)]
pub struct RabbitConfig {
    /// `amqp://` or `amqps://`, with user, password and virtual host. It is a secret, and not printed.
    pub url: String,
    /// What every name begins with: one for each cloud.
    pub prefix: String,
    /// A file of certificates (PEM) of the authority that vouches for the broker, for `amqps`.
    pub ca_file: Option<PathBuf>,
    /// Messages that one mailbox may hold without having acknowledged them.
    pub prefetch: u16,
    /// Messages that may wait in one queue.
    pub max_length: u32,
    /// Quorum queues, where the broker has them.
    pub quorum: bool,
    /// Whether the first connection, too, is tried again until the broker is there.
    pub patient: bool,
}

impl RabbitConfig {
    /// A broker at `url`, and a cloud's names under `prefix`.
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        RabbitConfig {
            url: url.into(),
            prefix: prefix.into(),
            ca_file: None,
            prefetch: 1000,
            max_length: 65_536,
            quorum: true,
            patient: false,
        }
    }
}

impl fmt::Debug for RabbitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitConfig")
            .field("prefix", &self.prefix)
            .field("ca_file", &self.ca_file)
            .field("prefetch", &self.prefetch)
            .field("max_length", &self.max_length)
            .field("quorum", &self.quorum)
            .field("patient", &self.patient)
            .finish_non_exhaustive()
    }
}

/// A bus over a RabbitMQ broker. It has two connections, because a broker that is short of something stops
/// reading from those that publish, and acknowledgements are not to wait for that.
#[derive(Clone)]
pub struct RabbitBus {
    shared: Arc<Shared>,
    asker: Arc<Asker>,
    mailboxes: Arc<Mutex<HashMap<HostId, Ender>>>,
    morgue: Arc<Mutex<Option<Morgue>>>,
}

/// Looks at dead letters, for as long as it is kept.
struct Morgue {
    _ender: Ender,
    task: JoinHandle<()>,
}

impl Drop for Morgue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all parts of a bus use.
pub(crate) struct Shared {
    config: RabbitConfig,
    names: Names,
    user: String,
    incoming: Link,
    publisher: Publisher,
    clock: Arc<dyn Clock>,
    tally: Arc<Tally>,
}

impl Shared {
    /// Whether the sender of a message may speak for the host: its own user, or one that the control plane
    /// uses itself. The broker lets nobody name another user.
    fn speaks_for(&self, raw: &Raw, host: &HostId) -> bool {
        let user = raw.properties.user_id().as_ref();
        user.is_some_and(|user| user.as_str() == self.user || user.as_str() == self.names.host(host))
    }
}

impl fmt::Debug for RabbitBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitBus")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl RabbitBus {
    /// Connects. From then on the connection is made again whenever it is lost.
    ///
    /// # Errors
    /// When the URL or the certificates can't be read, or, unless it is to be patient, the broker is not there
    /// or refuses.
    #[boxed]
    pub async fn connect(config: RabbitConfig, clock: Arc<dyn Clock>) -> Result<RabbitBus, BusError> {
        let wrong = |what: &str, why: String| BusError::Unavailable(format!("{what}: {why}"));
        let mut uri: AMQPUri = config.url.parse().map_err(|why| wrong("the broker's URL", why))?;
        uri.query.heartbeat.get_or_insert(10);
        let mut tls = OwnedTLSConfig::default();
        if let Some(path) = &config.ca_file {
            let read = tokio::fs::read_to_string(path).await;
            let text = read.map_err(|e| wrong(&path.display().to_string(), e.to_string()))?;
            tls.cert_chain = Some(text);
        }
        let user = uri.authority.userinfo.username.clone();
        let tally = Arc::new(Tally::default());
        let address = |name: &str| Address {
            uri: uri.clone(),
            tls: tls.clone(),
            name: format!("{} {name}", config.prefix),
        };
        // What the consuming connection waits for is not the publishers' concern.
        let incoming = Link::open(address("in"), Arc::new(Tally::default()), config.patient).await?;
        let outgoing = Link::open(address("out"), tally.clone(), config.patient).await?;
        let shared = Shared {
            names: Names::new(&config.prefix),
            publisher: Publisher::new(outgoing, user.clone(), tally.clone()),
            config,
            user,
            incoming,
            clock,
            tally,
        };
        Ok(RabbitBus {
            shared: Arc::new(shared),
            asker: Arc::default(),
            mailboxes: Arc::default(),
            morgue: Arc::default(),
        })
    }

    async fn publish(&self, letter: Letter<'_>) -> Result<Published, BusError> {
        self.shared.publisher.publish(letter).await
    }

    /// Sees to it that one conductor looks at dead letters.
    async fn keep_morgue(&self) -> Result<(), BusError> {
        let mut morgue = self.morgue.lock().await;
        if morgue.is_none() {
            let opened = open(&self.shared, dead::GivenUp).await?;
            *morgue = Some(Morgue {
                _ender: opened.1,
                task: tokio::spawn(dead::look(self.shared.clone(), opened.0)),
            });
        }
        Ok(())
    }
}

async fn open<S: consume::Subject>(
    shared: &Arc<Shared>,
    subject: S,
) -> Result<(consume::Mailbox<S::Item>, Ender), BusError> {
    match timeout(DEADLINE, consume::open(shared.clone(), subject)).await {
        Ok(opened) => opened.map_err(unavailable),
        Err(_) => Err(BusError::Unavailable("the broker is away".into())),
    }
}

fn written<T: serde::Serialize>(kind: Kind, version: u32, body: &T) -> Result<Vec<u8>, BusError> {
    envelope::write(kind, version, body).map_err(|error| BusError::Unavailable(error.to_string()))
}

#[async_trait]
impl Bus for RabbitBus {
    async fn send(&self, host: &HostId, command: Command) -> Result<(), BusError> {
        let body = written(Kind::Command, command.version(), &command)?;
        // What is past its deadline would only be dropped by the host.
        let left = command.deadline.since(self.shared.clock.now());
        let left = left.max(Duration::from_secs(1)).as_millis().to_string();
        let letter = Letter {
            exchange: "",
            key: &self.shared.names.host(host),
            body: &body,
            properties: self.shared.publisher.properties().with_expiration(left.into()),
            mandatory: true,
        };
        match self.publish(letter).await? {
            Published::Taken => Ok(()),
            Published::Nowhere => Err(BusError::NoSuchHost(host.clone())),
        }
    }

    async fn report(&self, report: Report) -> Result<(), BusError> {
        let body = written(Kind::Report, envelope::FIRST, &report)?;
        let letter = Letter {
            exchange: &self.shared.names.reports(),
            key: "",
            body: &body,
            properties: self.shared.publisher.properties(),
            mandatory: true,
        };
        match self.publish(letter).await? {
            Published::Taken => Ok(()),
            Published::Nowhere => Err(BusError::Unavailable("no conductor listens".into())),
        }
    }

    async fn query(&self, host: &HostId, query: Query) -> Result<Vec<u8>, BusError> {
        self.asker.ask(&self.shared, host, &query).await
    }

    async fn wake(&self, wakeup: Wakeup) -> Result<(), BusError> {
        let body = written(Kind::Wakeup, envelope::FIRST, &wakeup)?;
        let letter = Letter {
            exchange: &self.shared.names.wakeups(),
            key: "",
            body: &body,
            properties: self.shared.publisher.properties().with_delivery_mode(1),
            mandatory: false,
        };
        self.publish(letter).await.map(drop)
    }

    async fn host_mailbox(&self, host: &HostId) -> Result<HostMailbox, BusError> {
        let mut mailboxes = self.mailboxes.lock().await;
        if let Some(older) = mailboxes.remove(host) {
            older.end().await;
        }
        let (mailbox, ender) = open(&self.shared, ForHost(host.clone())).await?;
        mailboxes.insert(host.clone(), ender);
        Ok(HostMailbox::new(mailbox))
    }

    async fn report_mailbox(&self) -> Result<ReportMailbox, BusError> {
        self.keep_morgue().await?;
        let (mailbox, ender) = open(&self.shared, Reports).await?;
        Ok(ReportMailbox::new(Held(mailbox, ender)))
    }

    async fn wakeups(&self) -> Result<WakeupMailbox, BusError> {
        let name = self.shared.names.own(&self.shared.names.wakeups());
        let (mailbox, ender) = open(&self.shared, Taps(name)).await?;
        Ok(WakeupMailbox::new(Held(mailbox, ender)))
    }

    fn counters(&self) -> Counters {
        self.shared.tally.read()
    }
}

/// A mailbox that nobody else ends.
struct Held<T>(consume::Mailbox<T>, #[allow(dead_code)] Ender);

#[async_trait]
impl<T: Send + 'static> crate::mailbox::Source<T> for Held<T> {
    async fn take(&mut self, limit: usize, into: &mut Vec<T>) {
        self.0.take(limit, into).await;
    }
}
