//! `cumulet image`: machine images.

mod alias;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cumulet_backend::{
    api::{Parts, images},
    bootstrap,
    images::Converter,
};
use cumulet_domain::{
    account::AccountId,
    id::ImageId,
    image::{Architecture, BootMode, FileFormat},
    volume::{ROOT_DEVICE, ROOT_DEVICES},
};

use super::{CloudArgs, operator};
use crate::{
    state::StateDir,
    telemetry::{self, Progress, say},
    wiring,
};

/// See the module.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Import a disk (raw, qcow2, VMDK, VHD or VHDX); prints the image's id.
    Import(Import),
    /// List the images.
    List(CloudArgs),
    /// Delete an image that no instance is made from, that has no alias and that its owner does not protect.
    Delete(Delete),
    /// Name images, for `resolve:ssm:NAME` and Parameter Store.
    #[command(subcommand)]
    Alias(alias::Alias),
}

/// `cumulet image import`.
#[derive(Args, Debug)]
pub(crate) struct Import {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The disk.
    file: PathBuf,
    /// The image's name.
    #[arg(long)]
    name: String,
    /// What the file is: raw, qcow2, vmdk (monolithic sparse or stream-optimised), vhd (fixed or dynamic), vhdx (without
    /// a parent). All but raw and qcow2 are converted to qcow2, in a jail.
    #[arg(long, default_value = "qcow2")]
    format: FileFormat,
    /// What it runs on: x86_64 or arm64.
    #[arg(long, default_value = "x86_64")]
    architecture: Architecture,
    /// What instances' root devices are called.
    #[arg(long, default_value = ROOT_DEVICE, value_parser = ROOT_DEVICES)]
    root_device: String,
    /// How instances are started: legacy-bios, uefi or uefi-preferred.
    #[arg(long, default_value = "legacy-bios")]
    boot_mode: BootMode,
    /// A description.
    #[arg(long, default_value = "")]
    description: String,
    /// The owner, an account's 12 digits; by default the first account.
    #[arg(long)]
    account: Option<AccountId>,
    /// Only the owner may use it.
    #[arg(long)]
    private: bool,
}

/// `cumulet image delete`.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The image's id.
    image: String,
}

impl Image {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Image::Import(import) => {
                let cloud = import.cloud.clone();
                let config = cloud.config()?;
                let (log, converter) = (&config.log, wiring::converter(&config)?);
                let progress = telemetry::start(log.format.get()?, log.colour.get()?)?.progress();
                operator::run(&cloud, |state, parts| async move {
                    import.run(&state, &parts, converter, &progress).await
                })
            }
            Image::List(cloud) => operator::run(&cloud, |_, parts| async move { list(&parts).await }),
            Image::Alias(alias) => alias.run(),
            Image::Delete(delete) => operator::run(&delete.cloud.clone(), |state, parts| async move {
                let id: ImageId = delete.image.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
                delete_image(&state, &parts, id).await
            }),
        }
    }
}

impl Import {
    async fn run(
        &self,
        state: &StateDir,
        parts: &Parts,
        converter: Converter,
        progress: &Progress,
    ) -> Result<()> {
        let account = match self.account {
            Some(account) => account,
            None => first_account(parts).await?,
        };
        let source = wiring::ImageFile {
            path: self.file.clone(),
            format: self.format,
            name: self.name.clone(),
            description: self.description.clone(),
            public: !self.private,
            architecture: self.architecture,
            root_device: self.root_device.clone(),
            boot_mode: self.boot_mode,
        };
        let image = wiring::import_image(state, parts, account, &source, converter, progress).await?;
        progress.end();
        say(image);
        Ok(())
    }
}

async fn first_account(parts: &Parts) -> Result<AccountId> {
    let first = bootstrap::existing(parts.store.read()).await?;
    Ok(first
        .context("the cloud has not been started yet; `cumulet up` first")?
        .account)
}

/// The row first, then the file, unless another image has the same content.
async fn delete_image(state: &StateDir, parts: &Parts, id: ImageId) -> Result<()> {
    let (row, last) = images::delete(parts, id).await?;
    if last {
        let path = state.images().join(&row.sha256);
        std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

async fn list(parts: &Parts) -> Result<()> {
    for row in images::list(parts).await? {
        let (id, mib) = (row.id.0, row.size_bytes.0 >> 20);
        say(format_args!(
            "{id}  {:12}  {:5}  {mib:6} MiB  {}",
            row.state(),
            row.format,
            row.name
        ));
    }
    Ok(())
}
