//! The common part of operators' commands: they open the database beside a running cloud, or without one.

use std::{future::Future, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use cumulet_backend::{
    api::{Parts, SharedRng},
    store::connect,
};
use cumulet_domain::time::SystemClock;

use super::CloudArgs;
use crate::{config::Config, state::StateDir, wiring};

/// The parts of a cloud that was started before.
pub(super) async fn parts(state: &StateDir, config: &Config) -> Result<Parts> {
    let options = state.existing(config, 1)?;
    let sealer = state.sealer()?;
    let store = connect(&options)
        .await
        .with_context(|| format!("the database {}", options.location))?;
    wiring::check_key(state, &store, &sealer).await?;
    Ok(Parts::new(
        store,
        Arc::new(SystemClock),
        SharedRng::system(),
        Arc::new(sealer),
    ))
}

/// Runs an operator's command to its end.
pub(super) fn run<F, W>(cloud: &CloudArgs, work: W) -> Result<ExitCode>
where
    W: FnOnce(StateDir, Parts) -> F,
    F: Future<Output = Result<()>>,
{
    let (state, config) = (cloud.open()?, cloud.config()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let parts = parts(&state, &config).await?;
        work(state, parts).await
    })?;
    Ok(ExitCode::SUCCESS)
}
