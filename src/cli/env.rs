//! `cumulet env`: the environment variables that a shell needs to use the cloud.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use cumulet_backend::{
    api::{Parts, accounts, images},
    bootstrap,
    store::settings,
};
use cumulet_domain::image::ImageState;

use super::{CloudArgs, operator};
use crate::{telemetry::say, wiring};

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct Env {
    #[command(flatten)]
    cloud: CloudArgs,
}

impl Env {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        operator::run(&self.cloud, |_, parts| async move {
            for (name, value) in variables(&parts).await? {
                say(format_args!("export {name}='{value}'"));
            }
            Ok(())
        })
    }
}

/// The variables in the order in which they are printed. Values hold no quote: they are made here.
async fn variables(parts: &Parts) -> Result<Vec<(&'static str, String)>> {
    let missing = "the cloud has not been started yet; `cumulet up` first";
    let setting = async |name| anyhow::Ok(settings::get(parts.store.read(), name).await?);
    let endpoint = setting(wiring::ENDPOINT).await?.context(missing)?;
    let region = setting(wiring::REGION).await?.context(missing)?;
    let key = bootstrap::existing(parts.store.read())
        .await?
        .context(missing)?
        .access_key_id;
    let secret = accounts::access_key_secret(parts, &key).await?;
    let mut variables = vec![
        ("AWS_ENDPOINT_URL", endpoint.clone()),
        ("AWS_ACCESS_KEY_ID", key.clone()),
        ("AWS_SECRET_ACCESS_KEY", secret.expose().clone()),
        ("AWS_DEFAULT_REGION", region.clone()),
        ("AWS_REGION", region.clone()),
        // euca2ools: one address for every service, and the region that it signs for.
        ("EC2_URL", endpoint.clone()),
        ("AWS_IAM_URL", endpoint.clone()),
        ("TOKEN_URL", endpoint),
        ("AWS_AUTH_REGION", region),
        ("EC2_ACCESS_KEY", key),
        ("EC2_SECRET_KEY", secret.expose().clone()),
    ];
    if let Some(image) = default_image(parts).await? {
        variables.push(("CUMULET_IMAGE", image));
    }
    Ok(variables)
}

/// The tiny image, or the oldest image there is.
async fn default_image(parts: &Parts) -> Result<Option<String>> {
    let images = images::list(parts).await?;
    let usable = images
        .iter()
        .filter(|row| row.state() == ImageState::Available && row.is_imported());
    let tiny = usable.min_by_key(|row| (row.name != wiring::TINY, row.created_at));
    Ok(tiny.map(|row| row.id.0.to_string()))
}
