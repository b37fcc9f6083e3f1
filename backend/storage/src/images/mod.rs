//! Machine images: an account sees its own, those that it was given, and the public ones. One is made of a file, which
//! the operator imports, or of snapshots, and is then a row with a row for each disk.

mod attributes;
mod copy;
mod create;
mod deprecate;
mod deregister;
mod describe;
mod disable;
mod disks;
mod insert;
mod operator;
mod protect;
mod register;
mod share;

use cumulet_domain::{
    Error, ResourceKind, Result, account::AccountId, id::ImageId, image::ImageState, tag::Tag,
};
use cumulet_store::{
    authority::Grant,
    entity::{image, image_mapping},
    resource::{self, Lock},
    settings,
};
use sea_orm::{ColumnTrait as _, ConnectionTrait};

pub use crate::sharing::{Grantees, Sharing};
pub use attributes::{IMDS_V2, ImageAttributes, ImageChange, attributes, modify};
pub use copy::{ImageCopy, copy};
pub use create::{CreatedImage, create};
pub use deprecate::{deprecate, undeprecate};
pub use deregister::{Deleted, deregister};
pub use describe::{Executable, ImageQuery, Owners, describe};
pub use disable::{disable, enable};
pub use disks::AskedDisk;
pub use operator::{NewImage, add, delete, list};
pub use protect::{protect, unprotect};
pub use register::{Registration, register};
pub use share::{reset, share};

/// An image with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageView {
    /// The image.
    pub row: image::Model,
    /// Its disks, in the order of their devices; none where it is made of a file.
    pub disks: Vec<image_mapping::Model>,
    /// Its tags, sorted by key, which only its owner sees.
    pub tags: Vec<Tag>,
    /// It is one of the cloud's own: a public one of the operator's account.
    pub is_clouds: bool,
}

impl ImageView {
    /// Its id.
    pub fn id(&self) -> ImageId {
        self.row.id.0
    }

    /// Whether every account sees it.
    pub fn is_public(&self) -> bool {
        self.row.public.0
    }
}

/// An image that a launch can use. Its row stays until the transaction ends.
pub async fn usable(conn: &impl ConnectionTrait, grant: &Grant, id: ImageId) -> Result<image::Model> {
    let row = registered(conn, grant, id, Lock::Shared).await?;
    match row.state() {
        ImageState::Available => Ok(row),
        state => Err(unusable(id, state.name())),
    }
}

/// The row of an id, as [`resource::find`] has it. One that was deregistered is said to be so, as long as its row is
/// there.
async fn registered(
    conn: &impl ConnectionTrait,
    grant: &Grant,
    id: ImageId,
    lock: Lock,
) -> Result<image::Model> {
    let which = image::known(grant.visibility()).add(image::Column::Id.eq(id.to_db()));
    let row = resource::one::<image::Entity>(conn, grant, which, lock).await?;
    let row = row.ok_or_else(|| resource::not_found::<image::Entity>(id.to_string()))?;
    match row.deregistered_at {
        None => Ok(row),
        Some(_) => Err(unusable(id, "deregistered")),
    }
}

fn unusable(id: ImageId, state: &str) -> Error {
    Error::Unusable {
        kind: ResourceKind::Image,
        id: id.to_string(),
        state: state.into(),
    }
}

/// The operator's account, which the cloud's own images are of: the first one.
async fn clouds_account(conn: &impl ConnectionTrait) -> Result<Option<AccountId>> {
    let first = settings::get(conn, settings::FIRST_ACCOUNT).await?;
    Ok(first.and_then(|account| account.parse().ok()))
}
