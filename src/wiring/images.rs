//! The import of image files into the store and into the database, and the tiny image that every cloud starts
//! with.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use cumulet_backend::{
    api::{
        Parts,
        images::{NewImage, add, list},
    },
    images::{Converter, Stage, import},
};
use cumulet_domain::{
    account::AccountId,
    id::ImageId,
    image::{Architecture, BootMode, FileFormat, ImageState},
    volume::ROOT_DEVICE,
};

use crate::{config::Config, state::StateDir, telemetry::Progress};

/// The tiny image's name.
pub(crate) const TINY: &str = "cumulet-tiny";

/// A file to be imported.
#[derive(Clone, Debug)]
pub(crate) struct ImageFile {
    pub(crate) path: PathBuf,
    /// What the file is.
    pub(crate) format: FileFormat,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) public: bool,
    /// What it runs on.
    pub(crate) architecture: Architecture,
    /// What its root device is called.
    pub(crate) root_device: String,
    /// How it wants to be started.
    pub(crate) boot_mode: BootMode,
}

/// Who converts what is not kept as it is.
pub(crate) fn converter(config: &Config) -> Result<Converter> {
    let (uid, dhcp) = (config.images.convert_uid.get()?, config.network.dhcp_uid.get()?);
    ensure!(
        uid != dhcp,
        "configuration: images.convert_uid = {uid} is network.dhcp_uid, too"
    );
    Ok(Converter::new(uid))
}

/// Imports a file and registers it; the image's id. The stages are steps of `progress`.
pub(crate) async fn import_image(
    state: &StateDir,
    parts: &Parts,
    account: AccountId,
    source: &ImageFile,
    converter: Converter,
    progress: &Progress,
) -> Result<ImageId> {
    check_file(&source.path)?;
    let (path, format, store) = (source.path.clone(), source.format, state.images());
    let tell = stages(progress.clone(), &source.path);
    let copied = tokio::task::spawn_blocking(move || import(&path, format, &store, converter, tell));
    let imported = copied
        .await?
        .with_context(|| format!("{} can't be imported", source.path.display()))?;
    progress.step("registering the image");
    let new = NewImage {
        account,
        name: source.name.clone(),
        description: source.description.clone(),
        public: source.public,
        architecture: source.architecture,
        format: format.kept(),
        sha256: imported.sha256,
        size_bytes: imported.size_bytes,
        virtual_bytes: imported.inspected.virtual_bytes,
        root_device: source.root_device.clone(),
        boot_mode: source.boot_mode,
    };
    Ok(add(parts, new).await?.id())
}

/// Registers the tiny image unless there is one. Without a file there is none, and the answer says how
/// to get one.
pub(crate) async fn tiny(
    state: &StateDir,
    parts: &Parts,
    account: AccountId,
    given: Option<&Path>,
    simulated: bool,
    converter: Converter,
    progress: &Progress,
) -> Result<Option<ImageId>> {
    let has = |row: &&cumulet_backend::entity::image::Model| {
        row.name == TINY && row.is_imported() && row.state() == ImageState::Available
    };
    if let Some(row) = list(parts).await?.iter().find(has) {
        return Ok(Some(row.id.0));
    }
    let (path, format) = match (find(given)?, simulated) {
        (Some(path), _) => (path, FileFormat::Qcow2),
        // A simulated host reads no disk; any raw one will do.
        (None, true) => (placeholder(state)?, FileFormat::Raw),
        (None, false) => return Ok(None),
    };
    let source = ImageFile {
        path,
        format,
        name: TINY.into(),
        description: "A small Linux for trying things out".into(),
        public: true,
        architecture: Architecture::X86_64,
        root_device: ROOT_DEVICE.into(),
        boot_mode: BootMode::LegacyBios,
    };
    import_image(state, parts, account, &source, converter, progress)
        .await
        .map(Some)
}

/// Says in a sentence why a path can't be an image.
fn check_file(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => bail!("{} is a folder; expecting a disk", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no file {}", path.display()),
        Err(error) => Err(error).with_context(|| format!("{} can't be looked at", path.display())),
        Ok(_) => Ok(()),
    }
}

/// Makes steps of an import's stages.
fn stages(progress: Progress, file: &Path) -> impl FnMut(Stage) + Send + use<> {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let named = |verb| format!("{verb} {name}");
    let (looking, copying) = (named("looking at"), named("copying"));
    let (converting, hashing) = (named("converting"), named("hashing"));
    let (flushing, verifying) = (named("writing to disk:"), named("checking the copy of"));
    move |stage| match stage {
        Stage::Inspecting => progress.step(&looking),
        Stage::Copying { done, total } => {
            progress.step(&copying);
            progress.amount(done, total);
        }
        Stage::Converting { done, total } => {
            progress.step(&converting);
            progress.amount(done, total);
        }
        Stage::Hashing { done, total } => {
            progress.step(&hashing);
            progress.amount(done, total);
        }
        Stage::Flushing => progress.step(&flushing),
        Stage::Verifying => progress.step(&verifying),
    }
}

/// The file that was given, or the one that `make` leaves in the cache.
fn find(given: Option<&Path>) -> Result<Option<PathBuf>> {
    if let Some(path) = given {
        ensure!(path.exists(), "the tiny image {} is not there", path.display());
        return Ok(Some(path.to_owned()));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let candidate = cache.map(|cache| cache.join("cumulet/guests/tiny.qcow2"));
    Ok(candidate.filter(|path| path.exists()))
}

/// A megabyte of disk.
fn placeholder(state: &StateDir) -> Result<PathBuf> {
    let path = state.make_run()?.join("simulated.raw");
    let mut sector = vec![0_u8; 1 << 20];
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&path, sector).with_context(|| path.display().to_string())?;
    Ok(path)
}
