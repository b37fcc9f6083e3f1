//! DescribeImages: the images that an account can launch, and its own that it can't, in the order of their ids.

use std::collections::HashSet;

use cumulet_core::{Page, PageRequest, RequestContext};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    id::ImageId,
    image::ImageState,
};
use cumulet_store::{
    authority::{Grant, Permission},
    batch::chunks,
    column,
    entity::{columns::Named, image, image_permission as given},
    images, resource, tags,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _, QuerySelect as _,
    QueryTrait as _,
};

use super::{ImageView, clouds_account};
use crate::boxed;

/// Which images are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageQuery {
    /// Empty means any; given ones must all exist, or have been deregistered: of those nothing is shown.
    pub ids: Vec<ImageId>,
    /// Only of these; `None`: of anybody.
    pub owners: Option<Owners>,
    /// Only those that are said to be for these; `None`: for anybody.
    pub executable: Option<Executable>,
    /// Deprecated ones of others, too. (The account's own are there anyway, and those that are named.)
    pub deprecated: bool,
    /// Disabled ones, too.
    pub disabled: bool,
}

/// Whose images are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// Of these accounts.
    pub accounts: Vec<AccountId>,
    /// And the cloud's own.
    pub cloud: bool,
}

/// Whom images are wanted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executable {
    /// Those for everybody.
    pub all: bool,
    /// Those that one of these was given.
    pub accounts: Vec<AccountId>,
}

/// Images in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there and is not a deregistered image's.
#[boxed]
pub async fn describe(
    cx: &RequestContext,
    who: &Principal,
    query: &ImageQuery,
    page: PageRequest,
) -> Result<Page<ImageView>> {
    let mut grant = cx.authorise(who, Permission::DESCRIBE_IMAGES)?;
    let own = |owners: &Owners| owners.accounts == [who.account] && !owners.cloud;
    if query.owners.as_ref().is_some_and(own) {
        grant = grant.own();
    }
    let conn = cx.store.read();
    let clouds = clouds_account(conn).await?;
    let mut also = life(cx, who, query);
    if let Some(owners) = &query.owners {
        also = also.add(of(owners, clouds));
    }
    if let Some(executable) = &query.executable {
        also = also.add(for_whom(executable));
    }
    let Page { rows, next } = listed(conn, &grant, &query.ids, also, &page).await?;
    let rows = views(conn, who.account, clouds, rows).await?;
    Ok(Page { rows, next })
}

/// A page of the images in sight. Who names one that was deregistered is shown nothing for it as long as its row is there,
/// by which clients see that it is gone.
async fn listed(
    conn: &impl ConnectionTrait,
    grant: &Grant,
    ids: &[ImageId],
    also: Condition,
    page: &PageRequest,
) -> Result<Page<image::Model>> {
    match resource::list::<image::Entity>(conn, grant, ids, also.clone(), page).await {
        Err(Error::NotFound { .. }) => {}
        answer => return answer,
    }
    let gone = deregistered(conn, grant, ids).await?;
    let left: Vec<ImageId> = ids.iter().copied().filter(|id| !gone.contains(id)).collect();
    if left.is_empty() {
        // No ids would be all images.
        return Ok(Page {
            rows: Vec::new(),
            next: None,
        });
    }
    resource::list::<image::Entity>(conn, grant, &left, also, page).await
}

/// Those of these images that were in sight until they were deregistered.
async fn deregistered(
    conn: &impl ConnectionTrait,
    grant: &Grant,
    ids: &[ImageId],
) -> Result<HashSet<ImageId>> {
    use image::Column as C;
    let ids: Vec<i64> = ids.iter().map(|id| id.to_db()).collect();
    let mut gone = HashSet::new();
    for chunk in chunks(&ids) {
        let query = image::Entity::find()
            .select_only()
            .column(C::Id)
            .filter(image::known(grant.visibility()))
            .filter(C::DeregisteredAt.is_not_null())
            .filter(C::Id.is_in(chunk));
        let found: Vec<i64> = column(query, conn).await?;
        gone.extend(found.into_iter().map(ImageId::from_db));
    }
    Ok(gone)
}

/// Rows with what hangs on them.
pub(super) async fn views(
    conn: &impl ConnectionTrait,
    account: AccountId,
    clouds: Option<AccountId>,
    rows: Vec<image::Model>,
) -> Result<Vec<ImageView>> {
    let ids = |wanted: &dyn Fn(&image::Model) -> bool| -> Vec<i64> {
        let rows = rows.iter().filter(|row| wanted(row));
        rows.map(|row| row.id.to_db()).collect()
    };
    let mut disks = images::mappings(conn, &ids(&|row| row.sha256.is_empty())).await?;
    // Tags are their account's.
    let own = ids(&|row| row.account.0 == account);
    let mut tags = tags::of(conn, ResourceKind::Image, &own).await?;
    let view = |row: image::Model| ImageView {
        disks: disks.remove(&row.id.to_db()).unwrap_or_default(),
        tags: tags.remove(&row.id.to_db()).unwrap_or_default(),
        is_clouds: row.public.0 && Some(row.account.0) == clouds,
        row,
    };
    Ok(rows.into_iter().map(view).collect())
}

/// Those whose life is such that they are shown.
fn life(cx: &RequestContext, who: &Principal, query: &ImageQuery) -> Condition {
    use image::Column as C;
    let mut shown = Condition::all();
    if !query.disabled {
        let enabled = Condition::any()
            .add(C::Phase.is_null())
            .add(C::Phase.ne(Named(ImageState::Disabled)));
        shown = shown.add(enabled);
    }
    if !query.deprecated && query.ids.is_empty() {
        let current = Condition::any()
            .add(C::Account.eq(who.account.to_db()))
            .add(C::DeprecatedAt.is_null())
            .add(C::DeprecatedAt.gt(cx.now().0));
        shown = shown.add(current);
    }
    shown
}

fn of(owners: &Owners, clouds: Option<AccountId>) -> Condition {
    use image::Column as C;
    let accounts = owners.accounts.iter().map(|account| account.to_db());
    let mut any = Condition::any().add(C::Account.is_in(accounts));
    if let Some(account) = clouds.filter(|_| owners.cloud) {
        let theirs = Condition::all()
            .add(C::Account.eq(account.to_db()))
            .add(C::Public.eq(1));
        any = any.add(theirs);
    }
    any
}

fn for_whom(executable: &Executable) -> Condition {
    use image::Column as C;
    let accounts = executable.accounts.iter().map(|account| account.to_db());
    let theirs = given::Entity::find()
        .select_only()
        .column(given::Column::Image)
        .filter(given::Column::Account.is_in(accounts));
    let mut any = Condition::any().add(C::Id.in_subquery(theirs.into_query()));
    if executable.all {
        any = any.add(C::Public.eq(1));
    }
    any
}
