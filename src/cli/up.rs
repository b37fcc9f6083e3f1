//! `cumulet up`: the cloud, or some of its roles, in the foreground.

mod needed;
mod preflight;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use cumulet_backend::{entity::host, store::rows};
use cumulet_domain::{
    id::ImageId,
    time::{Clock as _, SystemClock, Timestamp},
};
use cumulet_worker::{BLOCKING_THREADS, COPYING_THREADS};
use sea_orm::EntityTrait;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::CloudArgs;
use crate::{
    config::Config,
    roles::{Role, Roles},
    state::StateDir,
    telemetry::{self, Progress, say},
    wiring::{self, Assembled, Control},
};

/// How long the first heartbeat of a host may take.
const HOST_DEADLINE: Duration = Duration::from_secs(30);

/// Threads for file work at the most: those that a worker may have, and as many for all others in the process.
const BLOCKING: usize = 2 * BLOCKING_THREADS + COPYING_THREADS;

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    cloud: CloudArgs,
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
        let mut config = self.cloud.config()?;
        config.listen.replace(self.listen.clone());
        config.driver.replace(self.driver.clone());
        config.roles.replace(self.role.clone());
        let log = telemetry::start(config.log.format.get()?, config.log.colour.get()?)?;
        let roles: Roles = config.roles.get()?;
        needed::check(&roles, &config)?;
        let state = self.cloud.create()?;
        let _locks = state.lock(&roles)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // File work only; hundreds of idle threads would each keep an arena of memory.
            .max_blocking_threads(BLOCKING)
            .build()?;
        let result = runtime.block_on(self.serve(&state, &config, &roles, &log.progress()));
        // Calls that hang (a hypervisor that does not answer) must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(5));
        result.map(|()| ExitCode::SUCCESS)
    }

    async fn serve(
        &self,
        state: &StateDir,
        config: &Config,
        roles: &Roles,
        progress: &Progress,
    ) -> Result<()> {
        let (stop, stopped) = watch::channel(false);
        let mut told = Told::listen()?;
        let (mut tasks, _parts) = tokio::select! {
            started = self.start(state, config, roles, progress, &stopped) => started?,
            () = told.wait() => {
                progress.abandon();
                return Ok(());
            }
        };
        let ended = until_told(&mut told, &mut tasks).await;
        stop.send_replace(true);
        while let Some(task) = tasks.join_next().await {
            task??;
        }
        ended
    }

    /// Starts the roles and says that they are ready: their tasks, and what has to live as long as they do. It may be dropped at any point: a start is as safe from that as from
    /// a crash.
    async fn start(
        &self,
        state: &StateDir,
        config: &Config,
        roles: &Roles,
        progress: &Progress,
        stopped: &watch::Receiver<bool>,
    ) -> Result<(JoinSet<Result<()>>, Assembled)> {
        let began = SystemClock.now();
        let bound = roles
            .has(Role::Gateway)
            .then(|| wiring::bind(config))
            .transpose()?;
        preflight::check(state, config, roles).await?;
        let (listener, endpoint) = bound.unzip();
        let endpoint = endpoint.unwrap_or_default();
        let mut assembled = wiring::assemble(state, config, roles, endpoint, progress).await?;
        let control = assembled.control.take();
        let mut front = None;
        if let (Some(listener), Some(control)) = (listener, &control) {
            let door = wiring::door(listener, &control.cloud, config)?;
            front = Some((door, self.tiny(state, config, control, progress).await?));
        }
        let mut tasks = assembled.start(control.as_ref(), stopped);
        if let Some(control) = control.as_ref().filter(|_| roles.all()) {
            progress.step("waiting for the host's first heartbeat");
            until_host(control, began, &mut tasks).await?;
        }
        progress.end();
        match (front, &control) {
            (Some((door, tiny)), Some(control)) => {
                warn_of_others(door.address());
                warn_of_hosts(control).await?;
                let until = stopped.clone();
                tasks.spawn(async move { door.serve(until).await });
                let endpoint = control.announce(config).await?;
                greet(&endpoint, state, &assembled.hypervisor, tiny);
            }
            _ => say(format_args!("cumulet is ready: {roles}")),
        }
        if telemetry::is_interactive() {
            say("Ctrl-C stops the cloud; guests go on running");
        }
        assembled.control = control;
        Ok((tasks, assembled))
    }

    /// The tiny image, which is there from the first start on.
    async fn tiny(
        &self,
        state: &StateDir,
        config: &Config,
        control: &Control,
        progress: &Progress,
    ) -> Result<Option<ImageId>> {
        let (simulated, account) = (config.driver.text() == "fake", control.first.account);
        let file = self.tiny_image.as_deref();
        let converter = wiring::converter(config)?;
        wiring::tiny(
            state,
            &control.parts,
            account,
            file,
            simulated,
            converter,
            progress,
        )
        .await
    }
}

/// Waits until a host was heard of since `began`, so that what is ready can launch: what an earlier process has heard says
/// nothing of how the host is now.
async fn until_host(control: &Control, began: Timestamp, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let registered = async {
        loop {
            let hosts = hosts(control).await?;
            if hosts.iter().any(|row| Timestamp(row.last_seen) >= began) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = tokio::time::timeout(HOST_DEADLINE, registered) => done.map_err(|_| {
            let seconds = HOST_DEADLINE.as_secs();
            anyhow!("nothing was heard of this machine's host within {seconds} s; `cumulet doctor` looks for what it lacks")
        })?,
        Some(ended) = tasks.join_next() => match ended? {
            Ok(()) => bail!("a role ended while the cloud started"),
            Err(error) => Err(error),
        },
    }
}

/// Says that the cloud is ready, and how to go on: the last that is to be seen.
fn greet(endpoint: &str, state: &StateDir, hypervisor: &str, tiny: Option<ImageId>) {
    say(format_args!(
        "cumulet is ready: {endpoint}  (EC2, IAM, STS on one endpoint; hypervisor: {hypervisor})"
    ));
    let program = std::env::args().next().unwrap_or_else(|| "cumulet".into());
    say(format_args!(
        "  eval \"$({} env --state-dir {})\"",
        shell_word(&program),
        shell_word(&state.path().display().to_string())
    ));
    match tiny {
        Some(_) => say("  aws ec2 run-instances --image-id $CUMULET_IMAGE --instance-type t3.nano"),
        None => say("  no image yet: cumulet image import --name NAME FILE.qcow2"),
    }
}

fn warn_of_others(address: SocketAddr) {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the API is reachable from other machines, in clear text");
    }
}

/// The hosts whose rows can be read: a damaged one keeps no cloud from its start.
async fn hosts(control: &Control) -> Result<Vec<host::Model>> {
    let hosts = rows::sound(host::Entity::find(), control.parts.store.read());
    Ok(hosts.await?.rows)
}

/// Says which hosts take no launches, why, and what helps: a cloud that is ready with them refuses what it is asked for.
async fn warn_of_hosts(control: &Control) -> Result<()> {
    for row in hosts(control).await? {
        if let Some(reason) = row.not_ready_reason {
            let cure = row.not_ready_cure.unwrap_or_default();
            tracing::warn!(
                host = row.id,
                reason,
                cure,
                "a host is not ready, and launches are refused"
            );
        }
    }
    Ok(())
}

/// A text as one word for a shell.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Ctrl-C and SIGTERM, from when it is made.
struct Told {
    interrupt: Signal,
    terminate: Signal,
}

impl Told {
    fn listen() -> Result<Self> {
        Ok(Told {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Until one of them comes.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        tracing::info!("stopping; guests go on running");
    }
}

/// Until Ctrl-C or SIGTERM, or a role ends by itself, which is an error.
async fn until_told(told: &mut Told, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    tokio::select! {
        () = told.wait() => Ok(()),
        Some(ended) = tasks.join_next() => {
            ended??;
            bail!("a role ended by itself")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_pasted_is_one_word() {
        for (text, word) in [
            ("/var/lib/cumulet", "/var/lib/cumulet"),
            ("my clouds/one", "'my clouds/one'"),
            ("it's $HOME", r"'it'\''s $HOME'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
