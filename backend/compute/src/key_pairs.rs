//! Key pairs: the public half is kept, the private half is shown once.

mod forge;

use cumulet_certs::{KeyType, PublicKey, SecretString, import_public_key};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    error::Limit,
    id::{KeyPairId, marker},
    tag::Tag,
};
use rand::{SeedableRng as _, rngs::StdRng};
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait as _, QueryFilter};

pub use forge::KeyForge;

use crate::Compute;
use crate::boxed;
use cumulet_core::{RequestContext, quota, tag_room::room as tag_room};
use cumulet_store::{
    authority::{Grant, Permission},
    entity::{
        columns::{Key, Named, Owner},
        key_pair,
    },
    failed,
    resource::{self, Lock},
    rows, tags,
};

/// A key pair's public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPairView {
    /// The key pair.
    pub row: key_pair::Model,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

impl KeyPairView {
    /// Its id.
    pub fn id(&self) -> KeyPairId {
        self.row.id.0
    }
}

/// A new key pair with its private half, which is kept nowhere.
#[derive(Clone, Debug)]
pub struct CreatedKeyPair {
    /// The public half.
    pub view: KeyPairView,
    /// The private half as PEM.
    pub private_pem: SecretString,
}

/// Which key pairs are wanted. Empty lists mean any; given ones must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct KeyPairQuery {
    pub ids: Vec<KeyPairId>,
    pub names: Vec<String>,
}

/// A key pair by its id or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeyPairRef {
    Id(KeyPairId),
    Name(String),
}

/// Makes a key pair.
///
/// # Errors
/// `Duplicate` when the name is taken; `LimitExceeded`; `InvalidParameter`.
#[boxed]
pub async fn create(
    compute: &Compute,
    who: &Principal,
    name: &str,
    key_type: KeyType,
    tags: Vec<Tag>,
) -> Result<CreatedKeyPair> {
    let grant = compute.authorise(who, Permission::CREATE_KEY_PAIR)?;
    check_name(name)?;
    tags::validate(&tags)?;
    // What can't be kept is not made. (Whether it can is decided where it is written.)
    refuse_early(compute, &grant, name).await?;
    // A rehearsal's is thrown away, whichever kind it is.
    let key_type = if compute.store.is_rehearsal() {
        KeyType::Ed25519
    } else {
        key_type
    };
    // A generator of its own: making an RSA key takes long and others share the cloud's.
    let rng = compute.rng.with(StdRng::from_rng);
    let made = tokio::select! {
        biased;
        () = compute.presence().gone() => return Err(Error::Abandoned),
        made = compute.keys.make(who.account, key_type, rng) => made?,
    };
    let fingerprint = made.fingerprint.clone();
    let view = insert(compute, grant, name, &made.public, fingerprint, tags).await?;
    Ok(CreatedKeyPair {
        view,
        private_pem: made.private_pem,
    })
}

/// Imports the public half of a key pair. `material` is what the base64 of the request stood for.
///
/// # Errors
/// `InvalidKeyFormat`; `Duplicate` when the name is taken; `LimitExceeded`; `InvalidParameter`.
#[boxed]
pub async fn import(
    cx: &RequestContext,
    who: &Principal,
    name: &str,
    material: &[u8],
    tags: Vec<Tag>,
) -> Result<KeyPairView> {
    let grant = cx.authorise(who, Permission::IMPORT_KEY_PAIR)?;
    check_name(name)?;
    let public = import_public_key(material).map_err(|error| Error::InvalidKeyFormat {
        reason: error.to_string(),
    })?;
    let fingerprint = public.fingerprint().to_owned();
    insert(cx, grant, name, &public, fingerprint, tags).await
}

/// Whether there is no room, or the name is taken, as far as can be seen now.
async fn refuse_early(cx: &RequestContext, grant: &Grant, name: &str) -> Result<()> {
    let (conn, max) = (cx.store.read(), cx.config.quotas.key_pairs);
    let all = key_pair::Entity::find().filter(resource::sight::<key_pair::Entity>(grant));
    let named = all.clone().filter(key_pair::Column::Name.eq(name));
    if rows::one(named, conn).await?.is_some() {
        return Err(resource::duplicate::<key_pair::Entity>(name));
    }
    if all.count(conn).await.map_err(failed)? >= max {
        let limit = Limit::KeyPairs;
        return Err(Error::LimitExceeded { limit, max });
    }
    Ok(())
}

/// CreateKeyPair's rule for names: up to 255 ASCII characters; here also none that is not printable.
fn check_name(name: &str) -> Result<()> {
    let printable = name.bytes().all(|b| (0x20..0x7f).contains(&b));
    if name.is_empty() || name.len() > 255 || !printable || name.trim() != name {
        let reason = "a key pair's name has 1 to 255 ASCII characters and no space around it";
        return Err(Error::invalid("KeyName", name, reason));
    }
    Ok(())
}

async fn insert(
    cx: &RequestContext,
    grant: Grant,
    name: &str,
    public: &PublicKey,
    fingerprint: String,
    mut new_tags: Vec<Tag>,
) -> Result<KeyPairView> {
    tags::validate(&new_tags)?;
    let room = tag_room(cx, grant.account(), new_tags.len());
    new_tags.sort();
    let row = key_pair::Model {
        id: Key(cx.rng.id::<marker::KeyPair>()),
        account: Owner(grant.account()),
        name: name.into(),
        kind: Named(public.key_type()),
        fingerprint,
        public_key: public.openssh_line(name),
        created_at: cx.now().0,
    };
    let view = KeyPairView { row, tags: new_tags };
    cx.made(&view.id());
    let (kept, max) = (view.clone(), cx.config.quotas.key_pairs);
    let write = cx.store.write(move |txn| {
        Box::pin(async move {
            let all = key_pair::Entity::find().filter(resource::sight::<key_pair::Entity>(&grant));
            quota::room_for_one(txn, grant.account(), all, Limit::KeyPairs, max).await?;
            resource::insert::<key_pair::Entity>(txn, &grant, kept.row, &kept.tags).await?;
            room.check(txn).await
        })
    });
    write.await?;
    Ok(view)
}

/// Key pairs, sorted by name.
///
/// # Errors
/// `NotFound`, naming every id or name that is not there.
#[boxed]
pub async fn describe(
    cx: &RequestContext,
    who: &Principal,
    query: &KeyPairQuery,
) -> Result<Vec<KeyPairView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_KEY_PAIRS)?;
    let conn = cx.store.read();
    let rows = resource::list_named::<key_pair::Entity>(conn, &grant, &query.ids, &query.names).await?;
    resource::with_tags::<key_pair::Entity, _>(conn, rows, |row, tags| KeyPairView { row, tags }).await
}

/// Deletes a key pair and answers it; `None` when there was none, which EC2 calls a success too.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn delete(cx: &RequestContext, who: &Principal, which: KeyPairRef) -> Result<Option<KeyPairView>> {
    let grant = cx.authorise(who, Permission::DELETE_KEY_PAIR)?;
    let call = cx.clone();
    let write = cx.store.write(move |txn| {
        Box::pin(async move {
            let sight = resource::sight::<key_pair::Entity>(&grant);
            let which = match which {
                KeyPairRef::Id(id) => sight.add(key_pair::Column::Id.eq(id.to_db())),
                KeyPairRef::Name(name) => sight.add(key_pair::Column::Name.eq(name)),
            };
            let Some(row) = resource::one::<key_pair::Entity>(txn, &grant, which, Lock::None).await? else {
                return Ok(None);
            };
            let view = |row, tags| KeyPairView { row, tags };
            let mut views = resource::with_tags::<key_pair::Entity, _>(txn, vec![row], view).await?;
            let Some(view) = views.pop() else { return Ok(None) };
            if !resource::delete::<key_pair::Entity>(txn, view.id(), Condition::all()).await? {
                return Ok(None); // another request was quicker
            }
            call.made(&view.id());
            Ok(Some(view))
        })
    });
    write.await
}
