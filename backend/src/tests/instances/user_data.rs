//! User data at rest: sealed, bound to its instance, opened for those who may read it; and what an earlier
//! program kept in the clear.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cumulet_compute::instances::{AttributeChange, UserData, modify_attribute, user_data};
use cumulet_domain::{Error, id::InstanceId, instance::State};
use cumulet_store::{
    Location,
    entity::instance::{self, Column as C},
    failed,
    user_data::seal_kept,
};
use sea_orm::{ColumnTrait, ConnectionTrait as _, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{
    test_support::{Rig, cloud},
    tests::instances::{in_state, launched, seen},
};

const CANARY: &[u8] = b"password=canary-in-a-coal-mine; and some more of it";

async fn with_data(rig: &Rig) -> InstanceId {
    let mut spec = rig.spec();
    spec.user_data = UserData::new(CANARY.to_vec()).unwrap();
    launched(rig, spec).await.id()
}

/// As a program that did not seal would have written it.
async fn keep_in_the_clear(rig: &Rig, id: InstanceId, text: &str) {
    let text = text.to_owned();
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let update = instance::Entity::update_many()
                .col_expr(C::SealedUserData, Expr::value(Option::<String>::None))
                .col_expr(C::UserData, Expr::value(text))
                .filter(C::Id.eq(id.to_db()));
            update.exec(txn).await.map(drop).map_err(cumulet_store::failed)
        })
    });
    write.await.unwrap();
}

async fn read(rig: &Rig, id: InstanceId) -> Option<Vec<u8>> {
    let view = seen(rig, id).await;
    let data = user_data(&rig.cloud, &rig.who, &view).unwrap();
    data.map(|data| data.expose().clone())
}

/// Whether the database's files have a text in them. (Of servers nobody can say.)
fn in_the_files(rig: &Rig, needle: &[u8]) -> bool {
    let Location::Sqlite(path) = rig.database.options(1).location else {
        return false;
    };
    let folder = std::fs::read_dir(path.parent().unwrap()).unwrap();
    folder.into_iter().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(needle.len()).any(|part| part == needle)
    })
}

#[tokio::test]
async fn it_is_sealed_and_prints_nothing() {
    let rig = cloud().await;
    let id = with_data(&rig).await;
    let view = seen(&rig, id).await;
    assert_eq!(read(&rig, id).await.as_deref(), Some(CANARY));
    assert!(view.row.user_data.is_none() && view.row.sealed_user_data.is_some());
    let (plain, coded) = ("canary", STANDARD.encode(CANARY));
    let printed = format!("{view:?} {:#?}", view.row);
    assert!(!printed.contains(plain) && !printed.contains(&coded), "{printed}");
    let sealed = view.row.sealed_user_data.as_ref().unwrap().expose().to_owned();
    assert!(!printed.contains(&sealed), "{printed}");
    assert!(!in_the_files(&rig, plain.as_bytes()) && !in_the_files(&rig, coded.as_bytes()));
}

#[tokio::test]
async fn it_is_its_instance_s_alone() {
    let rig = cloud().await;
    let (one, other) = (with_data(&rig).await, with_data(&rig).await);
    let mut moved = seen(&rig, one).await;
    moved.row.sealed_user_data = seen(&rig, other).await.row.sealed_user_data;
    let opened = user_data(&rig.cloud, &rig.who, &moved);
    assert!(matches!(opened, Err(Error::Internal(_))), "{opened:?}");
}

#[tokio::test]
async fn what_was_kept_in_the_clear_is_read_and_sealed_at_the_next_start() {
    let rig = cloud().await;
    let coded = STANDARD.encode(CANARY);
    let (one, two, none) = (
        with_data(&rig).await,
        with_data(&rig).await,
        launched(&rig, rig.spec()).await.id(),
    );
    for id in [one, two] {
        keep_in_the_clear(&rig, id, &coded).await;
        assert_eq!(
            read(&rig, id).await.as_deref(),
            Some(CANARY),
            "before it is sealed"
        );
    }
    let printed = format!("{:?}", seen(&rig, one).await);
    assert!(!printed.contains(&coded), "{printed}");
    let seal = async || {
        let cloud = &rig.cloud;
        seal_kept(&cloud.store, &cloud.rng, &cloud.sealer).await.unwrap()
    };
    assert_eq!(seal().await, 2);
    for id in [one, two] {
        let row = seen(&rig, id).await.row;
        assert!(row.user_data.is_none() && row.sealed_user_data.is_some());
        assert_eq!(read(&rig, id).await.as_deref(), Some(CANARY));
    }
    assert_eq!(read(&rig, none).await, None);
    assert_eq!(seal().await, 0);
    if let Location::Sqlite(path) = rig.database.options(1).location {
        // What was written ahead is copied into the file, and nothing is left of it there.
        let file = rusqlite::Connection::open(path).unwrap();
        let copied = file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        assert_eq!(copied.unwrap(), 0);
        assert!(!in_the_files(&rig, &coded.as_bytes()[..24]));
    }
}

#[tokio::test]
async fn a_change_forgets_what_was_kept_in_the_clear() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Stopped).await;
    keep_in_the_clear(&rig, id, "b2xk").await;
    let new = UserData::new(b"new".to_vec()).unwrap();
    for (data, kept) in [(new, Some(b"new".to_vec())), (None, None)] {
        let change = AttributeChange::UserData(data);
        modify_attribute(&rig.cloud, &rig.who, id, change).await.unwrap();
        let row = seen(&rig, id).await.row;
        assert_eq!((row.user_data, read(&rig, id).await), (None, kept));
    }
}

#[tokio::test]
async fn damaged_data_stops_no_start() {
    let rig = cloud().await;
    let (bad, good) = (with_data(&rig).await, with_data(&rig).await);
    keep_in_the_clear(&rig, bad, "no base64!").await;
    keep_in_the_clear(&rig, good, "aGk=").await;
    let cloud = &rig.cloud;
    let damage = cloud.store.write(move |txn| {
        Box::pin(async move {
            let sql = format!("UPDATE instances SET state = 'lost' WHERE id = {}", bad.to_db());
            txn.execute_unprepared(&sql).await.map(drop).map_err(failed)
        })
    });
    damage.await.unwrap();
    assert_eq!(seal_kept(&cloud.store, &cloud.rng, &cloud.sealer).await, Ok(1));
    assert_eq!(read(&rig, good).await.as_deref(), Some(&b"hi"[..]));
}
