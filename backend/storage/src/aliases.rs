//! Aliases of images: names that the operator gives and tenants find as public parameters. An alias is in the sight of
//! those who see its image, so that what is deregistered or somebody else's has none.

use cumulet_core::{Page, PageRequest, Parts, RequestContext};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::ImageId,
    image::ImageState,
    parameter::{PUBLIC, check_name},
};
use cumulet_store::{
    Invalidates,
    authority::{Grant, Operator, Permission},
    entity::{
        columns::{Amount, Key},
        image, image_alias as alias,
    },
    failed, is_taken,
    resource::{self, Lock},
    rows,
};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
    sea_query::{Expr, ExprTrait as _},
};

use crate::boxed;

/// Gives an image a name, which may have been another one's: its version is one more then. For the operator.
///
/// # Errors
/// `InvalidParameter` for what is no public parameter's name; `NotFound`; `Unusable` where the image can't be launched.
#[boxed]
pub async fn set(parts: &Parts, name: &str, id: ImageId) -> Result<alias::Model> {
    check_name(name)?;
    let (name, now) = (name.to_owned(), parts.clock.now());
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            // Nobody deletes it until its alias is there, which then is in the way.
            let image = resource::find::<image::Entity>(txn, &Operator, id, Lock::Shared).await?;
            launchable(&image)?;
            let update = alias::Entity::update_many()
                .col_expr(alias::Column::Image, Expr::value(Key(id)))
                .col_expr(alias::Column::Version, Expr::col(alias::Column::Version).add(1))
                .col_expr(alias::Column::ModifiedAt, Expr::value(now.0))
                .filter(alias::Column::Name.eq(&name));
            if update.exec(txn).await.map_err(failed)?.rows_affected == 0 {
                let row = alias::Model {
                    name: name.clone(),
                    image: Key(id),
                    version: Amount(1),
                    modified_at: now.0,
                };
                let insert = alias::Entity::insert(alias::ActiveModel::from(row));
                let taken = |error| match is_taken(&error) {
                    true => Error::Unavailable("somebody else sets the alias at this moment".into()),
                    false => failed(error),
                };
                insert.exec_without_returning(txn).await.map_err(taken)?;
            }
            let row = rows::one(alias::Entity::find_by_id(&name), txn).await?;
            row.ok_or_else(|| Error::Internal(format!("the alias {name} was set and is not there")))
        })
    });
    write.await
}

/// An alias is for launches.
fn launchable(image: &image::Model) -> Result<()> {
    let state = match image.deregistered_at {
        Some(_) => "deregistered",
        None if image.state() == ImageState::Available => return Ok(()),
        None => image.state().name(),
    };
    Err(Error::Unusable {
        kind: ResourceKind::Image,
        id: image.id.to_string(),
        state: state.into(),
    })
}

/// Every alias, by name, those of deregistered images too. For the operator.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list(parts: &Parts) -> Result<Vec<alias::Model>> {
    let query = alias::Entity::find().order_by_asc(alias::Column::Name);
    rows::all(query, parts.store.read()).await
}

/// Takes an alias away. For the operator.
///
/// # Errors
/// `InvalidParameter` where there is none of this name.
#[boxed]
pub async fn remove(parts: &Parts, name: &str) -> Result<()> {
    let name = name.to_owned();
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let delete = alias::Entity::delete_by_id(&name).exec(txn);
            match delete.await.map_err(failed)?.rows_affected {
                0 => Err(Error::invalid("NAME", &name, "there is no such alias")),
                _ => Ok(()),
            }
        })
    });
    write.await
}

/// Refuses to take away an image that has an alias. Its row is locked.
pub(crate) async fn none_of(txn: &impl ConnectionTrait, id: ImageId) -> Result<()> {
    let query = alias::Entity::find()
        .filter(alias::Column::Image.eq(id.to_db()))
        .order_by_asc(alias::Column::Name);
    match rows::one(query, txn).await? {
        None => Ok(()),
        Some(row) => Err(Error::InUse {
            kind: ResourceKind::Image,
            id: id.to_string(),
            by: format!("the alias {}", row.name),
        }),
    }
}

/// The aliases of these names that the caller sees, by name.
///
/// # Errors
/// `Unauthorized`; those of the database.
#[boxed]
pub async fn named(
    cx: &RequestContext,
    who: &Principal,
    permission: Permission,
    names: &[&str],
) -> Result<Vec<alias::Model>> {
    let grant = cx.authorise(who, permission)?;
    let query = alias::Entity::find()
        .filter(in_sight(&grant))
        .filter(alias::Column::Name.is_in(names.iter().copied()))
        .order_by_asc(alias::Column::Name);
    rows::all(query, cx.store.read()).await
}

/// A page of the aliases that the caller sees below a path, which begins with `/` and does not end with one, by name:
/// those of the next level, or all of them. What is above the public ones has none: it is the account's.
///
/// # Errors
/// `Unauthorized`; those of the database.
#[boxed]
pub async fn below(
    cx: &RequestContext,
    who: &Principal,
    path: &str,
    recursive: bool,
    page: PageRequest<String>,
) -> Result<Page<alias::Model, String>> {
    let grant = cx.authorise(who, Permission::GET_PARAMETERS_BY_PATH)?;
    let first = format!("{path}/");
    if !first.starts_with(PUBLIC) {
        return Ok(Page {
            rows: Vec::new(),
            next: None,
        });
    }
    // The character after `/`, so that no name's own ones are taken for a pattern's.
    let (deeper, end) = (format!("{first}%/%"), format!("{path}0"));
    let mut query = alias::Entity::find()
        .filter(in_sight(&grant))
        .filter(alias::Column::Name.gte(first))
        .filter(alias::Column::Name.lt(end))
        .order_by_asc(alias::Column::Name)
        .limit(page.read_limit());
    if !recursive {
        query = query.filter(alias::Column::Name.not_like(deeper));
    }
    if let Some(after) = &page.after {
        query = query.filter(alias::Column::Name.gt(after));
    }
    let rows = rows::all(query, cx.store.read()).await?;
    Ok(Page::cut(rows, &page, |row| row.name.clone()))
}

/// Those of images that are in sight.
fn in_sight(grant: &Grant) -> Condition {
    let images = image::Entity::find()
        .select_only()
        .column(image::Column::Id)
        .filter(resource::sight::<image::Entity>(grant));
    Condition::all().add(alias::Column::Image.in_subquery(images.into_query()))
}
