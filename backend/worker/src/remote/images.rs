//! Images' files from afar. What has come of one stays, whoever is cut off or ends, and is gone on from.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use cumulet_domain::{image::ImageRef, storage::PIECE};

use super::{
    client::StorageClient,
    grants::{Grants, Of},
};
use crate::{blocking::copying, image_cache::ImageSource};

/// See the module.
#[derive(Clone, Debug)]
pub struct RemoteImages {
    client: Arc<StorageClient>,
    grants: Arc<Grants>,
}

impl RemoteImages {
    /// The images at a storage door.
    pub const fn new(client: Arc<StorageClient>, grants: Arc<Grants>) -> Self {
        RemoteImages { client, grants }
    }
}

#[async_trait]
impl ImageSource for RemoteImages {
    async fn fetch(&self, image: &ImageRef, dest: &Path) -> io::Result<()> {
        let grant = self.grants.of(&Of::Image(image.sha256.clone()))?;
        let (client, dest) = (self.client.clone(), dest.to_owned());
        let (path, bytes) = (format!("/images/{}", image.sha256), image.size_bytes);
        copying(move || fetch(&client, &grant, &path, bytes, &dest)).await
    }

    fn goes_on(&self) -> bool {
        true
    }
}

/// Fetches what a file lacks of so many bytes.
fn fetch(client: &StorageClient, grant: &str, path: &str, bytes: u64, dest: &Path) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.append(true).create(true).mode(0o600).open(dest)?;
    let mut there = file.seek(io::SeekFrom::End(0))?;
    if there > bytes {
        file.set_len(0)?;
        there = 0;
    }
    while there < bytes {
        let (piece, all) = client.get(grant, path, there, PIECE.min(bytes - there))?;
        if all != bytes || piece.is_empty() {
            let why = format!("the image has {all} bytes and not {bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if let Err(error) = file.write_all(&piece) {
            // Half a piece is none of it.
            drop(file.set_len(there));
            return Err(error);
        }
        there += piece.len() as u64;
    }
    file.sync_data()
}
