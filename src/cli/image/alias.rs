//! `cumulet image alias`: names of images, which tenants find in Parameter Store.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use cumulet_backend::{
    api::{Parts, aliases},
    entity::image_alias,
};
use cumulet_domain::id::ImageId;

use crate::{
    cli::{CloudArgs, operator},
    telemetry::say,
};

/// See the module.
#[derive(Debug, Subcommand)]
pub(crate) enum Alias {
    /// Give an image a name, or the name to another image; prints it with its version.
    Set(Set),
    /// List the aliases: name, image, version.
    List(CloudArgs),
    /// Take an alias away; the image stays.
    Remove(Remove),
}

/// `cumulet image alias set`.
#[derive(Args, Debug)]
pub(crate) struct Set {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The name, for instance /aws/service/debian/release/12/latest/amd64.
    name: String,
    /// The image's id.
    image: ImageId,
}

/// `cumulet image alias remove`.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The name.
    name: String,
}

impl Alias {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self {
            Alias::Set(set) => operator::run(&set.cloud.clone(), |_, parts| async move {
                show(&aliases::set(&parts, &set.name, set.image).await?);
                Ok(())
            }),
            Alias::List(cloud) => operator::run(&cloud, |_, parts| async move { list(&parts).await }),
            Alias::Remove(remove) => operator::run(&remove.cloud.clone(), |_, parts| async move {
                Ok(aliases::remove(&parts, &remove.name).await?)
            }),
        }
    }
}

async fn list(parts: &Parts) -> Result<()> {
    aliases::list(parts).await?.iter().for_each(show);
    Ok(())
}

fn show(row: &image_alias::Model) {
    say(format_args!("{}  {}  {}", row.name, row.image, row.version));
}
