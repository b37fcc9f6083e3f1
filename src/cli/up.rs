//! `cumulet up`: the cloud, in the foreground.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use cumulet_backend::entity::host;
use cumulet_domain::id::ImageId;
use sea_orm::EntityTrait;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::Place;
use crate::{
    config::Config,
    state::StateDir,
    telemetry::{self, say},
    wiring::{self, Assembled},
};

/// How long the first heartbeat of a host may take.
const HOST_DEADLINE: Duration = Duration::from_secs(30);

/// Threads for file work at the most.
const BLOCKING: usize = 16;

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    place: Place,
    /// Address and port of the API.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// What runs instances: libvirt, or fake, which simulates.
    #[arg(long)]
    driver: Option<String>,
    /// The tiny image's file, registered at the first start.
    #[arg(long, env = "CUMULET_TINY_IMAGE", value_name = "FILE")]
    tiny_image: Option<PathBuf>,
}

impl Up {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        telemetry::start();
        let given = [("listen", self.listen.clone()), ("driver", self.driver.clone())];
        let config = self.place.config(&given)?;
        let state = self.place.create()?;
        let _lock = state.lock()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // File work only; hundreds of idle threads would each keep an arena of memory.
            .max_blocking_threads(BLOCKING)
            .build()?;
        let result = runtime.block_on(self.serve(&state, &config));
        // Calls that hang (a hypervisor that does not answer) must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(5));
        result.map(|()| ExitCode::SUCCESS)
    }

    async fn serve(&self, state: &StateDir, config: &Config) -> Result<()> {
        let (stop, stopped) = watch::channel(false);
        let (listener, endpoint) = wiring::bind(config)?;
        let mut assembled = wiring::assemble(state, config, endpoint).await?;
        let door = wiring::door(listener, &assembled, config)?;
        let simulated = config.text("driver") == "fake";
        let account = assembled.first.account;
        let tiny = wiring::tiny(
            state,
            &assembled.parts,
            account,
            self.tiny_image.as_deref(),
            simulated,
        )
        .await?;
        let mut roles = assembled.start(&stopped);
        until_host(&assembled, &mut roles).await?;
        let address = door.address();
        let until = stopped.clone();
        roles.spawn(async move { door.serve(until).await });
        let endpoint = assembled.announce(config).await?;
        greet(&endpoint, state, &assembled, tiny, address);
        let ended = until_told(&mut roles).await;
        stop.send_replace(true);
        while let Some(role) = roles.join_next().await {
            role??;
        }
        ended
    }
}

/// Waits until every host has registered, so that what is ready can launch.
async fn until_host(assembled: &Assembled, roles: &mut JoinSet<Result<()>>) -> Result<()> {
    let registered = async {
        loop {
            let hosts = host::Entity::find().all(assembled.parts.store.read()).await?;
            let now = assembled.cloud.now();
            if hosts
                .iter()
                .any(|row| now.since(cumulet_domain::time::Timestamp(row.last_seen)) < HOST_DEADLINE)
            {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = tokio::time::timeout(HOST_DEADLINE, registered) => done.context("no host has registered")?,
        Some(ended) = roles.join_next() => match ended? {
            Ok(()) => bail!("a role ended while the cloud started"),
            Err(error) => Err(error),
        },
    }
}

fn greet(
    endpoint: &str,
    state: &StateDir,
    assembled: &Assembled,
    tiny: Option<ImageId>,
    address: SocketAddr,
) {
    let hypervisor = &assembled.cloud.config.hypervisor;
    say(format_args!(
        "cumulet is ready: {endpoint}  (EC2, IAM, STS on one endpoint; hypervisor: {hypervisor})"
    ));
    let program = std::env::args().next().unwrap_or_else(|| "cumulet".into());
    say(format_args!(
        "  eval \"$({program} env --state-dir {})\"",
        state.path().display()
    ));
    match tiny {
        Some(_) => say("  aws ec2 run-instances --image-id $CUMULET_IMAGE --instance-type t3.nano"),
        None => say("  no image yet: cumulet image import --name NAME FILE.qcow2"),
    }
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the API is reachable from other machines, in clear text");
    }
}

/// Until Ctrl-C or SIGTERM, or a role ends by itself, which is an error.
async fn until_told(roles: &mut JoinSet<Result<()>>) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Some(ended) = roles.join_next() => {
            ended??;
            bail!("a role ended by itself");
        }
    }
    tracing::info!("stopping; guests go on running");
    Ok(())
}
