//! `cumulet up`: the cloud, or some of its roles, in the foreground.

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
    roles::{Role, Roles},
    state::StateDir,
    telemetry::{self, say},
    wiring::{self, Control},
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
    /// What this process does: all, or some of gateway, scheduler, conductor, compute, metadata, console.
    #[arg(long, value_name = "ROLE,…")]
    role: Option<String>,
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
        let given = [
            ("listen", self.listen.clone()),
            ("driver", self.driver.clone()),
            ("roles", self.role.clone()),
        ];
        let config = self.place.config(&given)?;
        let roles: Roles = config.get("roles")?;
        roles.check(&config)?;
        let state = self.place.create()?;
        let _locks = state.lock(&roles)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // File work only; hundreds of idle threads would each keep an arena of memory.
            .max_blocking_threads(BLOCKING)
            .build()?;
        let result = runtime.block_on(self.serve(&state, &config, &roles));
        // Calls that hang (a hypervisor that does not answer) must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(5));
        result.map(|()| ExitCode::SUCCESS)
    }

    async fn serve(&self, state: &StateDir, config: &Config, roles: &Roles) -> Result<()> {
        let (stop, stopped) = watch::channel(false);
        let bound = roles
            .has(Role::Gateway)
            .then(|| wiring::bind(config))
            .transpose()?;
        let (listener, endpoint) = bound.unzip();
        let mut assembled = wiring::assemble(state, config, roles, endpoint.unwrap_or_default()).await?;
        let control = assembled.control.take();
        let mut front = None;
        if let (Some(listener), Some(control)) = (listener, &control) {
            let door = wiring::door(listener, &control.cloud, config)?;
            front = Some((door, self.tiny(state, config, control).await?));
        }
        let mut tasks = assembled.start(control.as_ref(), &stopped);
        if let Some(control) = control.as_ref().filter(|_| roles.all()) {
            until_host(control, &mut tasks).await?;
        }
        match (front, &control) {
            (Some((door, tiny)), Some(control)) => {
                let (address, until) = (door.address(), stopped.clone());
                tasks.spawn(async move { door.serve(until).await });
                let endpoint = control.announce(config).await?;
                greet(&endpoint, state, &assembled.hypervisor, tiny, address);
            }
            _ => say(format_args!("cumulet is ready: {roles}")),
        }
        let ended = until_told(&mut tasks).await;
        stop.send_replace(true);
        while let Some(task) = tasks.join_next().await {
            task??;
        }
        ended
    }

    /// The tiny image, which is there from the first start on.
    async fn tiny(&self, state: &StateDir, config: &Config, control: &Control) -> Result<Option<ImageId>> {
        let (simulated, account) = (config.text("driver") == "fake", control.first.account);
        let file = self.tiny_image.as_deref();
        wiring::tiny(state, &control.parts, account, file, simulated).await
    }
}

/// Waits until every host has registered, so that what is ready can launch.
async fn until_host(control: &Control, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let registered = async {
        loop {
            let hosts = host::Entity::find().all(control.parts.store.read()).await?;
            let now = control.cloud.now();
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
        Some(ended) = tasks.join_next() => match ended? {
            Ok(()) => bail!("a role ended while the cloud started"),
            Err(error) => Err(error),
        },
    }
}

fn greet(endpoint: &str, state: &StateDir, hypervisor: &str, tiny: Option<ImageId>, address: SocketAddr) {
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
async fn until_told(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Some(ended) = tasks.join_next() => {
            ended??;
            bail!("a role ended by itself");
        }
    }
    tracing::info!("stopping; guests go on running");
    Ok(())
}
