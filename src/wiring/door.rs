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
use crate::{
    config::{Config, Setting},
    descriptors,
};

/// The door, bound to its address and not yet serving.
pub(crate) struct BoundDoor {
    gateway: Gateway,
    cloud: Cloud,
    address: SocketAddr,
}

/// Binds the API's address; with where clients find it.
pub(crate) fn bind(config: &Config) -> Result<(TcpListener, String)> {
    let listener = listen::bind(config.listen.text(), "--listen")?;
    let endpoint = match config.endpoint.text() {
        "" => listener.local_addr()?.to_string(),
        given => given.to_owned(),
    };
    Ok((listener, endpoint))
}

/// The door on a bound socket.
pub(crate) fn door(listener: TcpListener, cloud: &Cloud, config: &Config) -> Result<BoundDoor> {
    let address = listener.local_addr()?;
    let mut gateway = Gateway::new(vec![listener]);
    let workers = config.http.workers.get()?;
    let processors = std::thread::available_parallelism().map_or(2, NonZero::get);
    gateway.workers = if workers == 0 { processors } else { workers };
    let seconds = |setting: &Setting<NonZero<u32>>| {
        let count = setting.get()?;
        anyhow::Ok(Duration::from_secs(count.get().into()))
    };
    let files: usize = descriptors::raise()?.try_into()?;
    gateway.limits = Limits {
        // The rest is for the guests' metadata, files and programs.
        connections: config.http.connections.get()?.min(files / 2),
        idle: seconds(&config.http.idle)?,
        head: seconds(&config.http.head)?,
        body: seconds(&config.http.body)?,
        stall: seconds(&config.http.stall)?,
    };
    gateway.requests = requests(config)?;
    gateway.body_memory = config.http.body_memory.get()?.saturating_mul(1 << 20);
    if config.auth.sigv2.get()? {
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
    let share = |in_flight: &Setting<u32>, per_second: &Setting<u32>, burst: &Setting<u32>| {
        anyhow::Ok(Share {
            in_flight: in_flight.get()?,
            rate: Rate {
                per_second: per_second.get()?,
                burst: burst.get()?,
            },
        })
    };
    let of = &config.requests;
    Ok(RequestLimits {
        account: share(&of.account_in_flight, &of.account_rate, &of.account_burst)?,
        key: share(&of.key_in_flight, &of.key_rate, &of.key_burst)?,
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
        let config = Config::of(&[]);
        assert_eq!(requests(&config).unwrap(), RequestLimits::default());
        let gateway = Gateway::new(Vec::new());
        let memory = config.http.body_memory.get().unwrap();
        assert_eq!(memory << 20, gateway.body_memory);
    }
}
