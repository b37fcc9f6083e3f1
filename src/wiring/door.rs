//! The wiring of the API's door: bound before anything else, served when everything behind it is there.

use std::{
    net::{SocketAddr, TcpListener},
    num::NonZero,
    time::Duration,
};

use anyhow::{Context, Result};
use cumulet_backend::api::Cloud;
use cumulet_gateway::{Gateway, Limits, Rate, RequestLimits, Share, auth::SigV2Policy};
use tokio::sync::watch;

use super::listen;
use crate::{config::Config, descriptors};

/// The door, bound to its address and not yet serving.
pub(crate) struct BoundDoor {
    gateway: Gateway,
    cloud: Cloud,
    address: SocketAddr,
}

/// Binds the API's address; with where clients find it.
pub(crate) fn bind(config: &Config) -> Result<(TcpListener, String)> {
    let listener = listen::bind(config.text("listen"), "--listen")?;
    let endpoint = match config.text("endpoint") {
        "" => listener.local_addr()?.to_string(),
        given => given.to_owned(),
    };
    Ok((listener, endpoint))
}

/// The door on a bound socket.
pub(crate) fn door(listener: TcpListener, cloud: &Cloud, config: &Config) -> Result<BoundDoor> {
    let address = listener.local_addr()?;
    let mut gateway = Gateway::new(vec![listener]);
    let workers: usize = config.get("http.workers")?;
    let processors = std::thread::available_parallelism().map_or(2, NonZero::get);
    gateway.workers = if workers == 0 { processors } else { workers };
    let seconds = |key| {
        let count: NonZero<u32> = config.get(key)?;
        anyhow::Ok(Duration::from_secs(count.get().into()))
    };
    let files: usize = descriptors::raise()?.try_into()?;
    gateway.limits = Limits {
        // The rest is for the guests' metadata, files and programs.
        connections: config.get::<usize>("http.connections")?.min(files / 2),
        idle: seconds("http.idle")?,
        head: seconds("http.head")?,
        body: seconds("http.body")?,
        stall: seconds("http.stall")?,
    };
    gateway.requests = requests(config)?;
    gateway.body_memory = config.get::<usize>("http.body_memory")?.saturating_mul(1 << 20);
    if config.get("auth.sigv2")? {
        gateway.auth.sigv2 = SigV2Policy::Sha256;
    }
    Ok(BoundDoor {
        gateway,
        cloud: cloud.clone(),
        address,
    })
}

/// What accounts and keys may use.
fn requests(config: &Config) -> Result<RequestLimits> {
    let share = |of: &str| {
        anyhow::Ok(Share {
            in_flight: config.get(&format!("requests.{of}_in_flight"))?,
            rate: Rate {
                per_second: config.get(&format!("requests.{of}_rate"))?,
                burst: config.get(&format!("requests.{of}_burst"))?,
            },
        })
    };
    Ok(RequestLimits {
        account: share("account")?,
        key: share("key")?,
    })
}

impl BoundDoor {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` says so.
    pub(crate) async fn serve(self, mut shutdown: watch::Receiver<bool>) -> Result<()> {
        let mut running = self.gateway.start(self.cloud)?;
        tokio::select! {
            ended = running.ended() => return ended.context("the API's server"),
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        running.stop().await.context("the API's server")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_as_the_gateway_says() {
        let config = Config::load(None, &[]).unwrap();
        assert_eq!(requests(&config).unwrap(), RequestLimits::default());
        let gateway = Gateway::new(Vec::new());
        let memory: usize = config.get("http.body_memory").unwrap();
        assert_eq!(memory << 20, gateway.body_memory);
    }
}
