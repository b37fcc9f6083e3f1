//! Tests of aliases of images over a real database.

use std::time::Duration;

use cumulet_core::PageRequest;
use cumulet_domain::{Error, account::Principal, id::ImageId};
use cumulet_storage::{aliases::*, images};
use cumulet_store::authority::Permission;

use crate::test_support::{Rig, cloud, image};

const NAME: &str = "/aws/service/debian/12";

/// The images that the names stand for, to somebody.
async fn found(rig: &Rig, who: &Principal, names: &[&str]) -> Vec<ImageId> {
    let rows = named(&rig.cloud, who, Permission::GET_PARAMETERS, names).await;
    rows.unwrap().into_iter().map(|row| row.image.0).collect()
}

/// The names on a page, and after which the next one begins.
async fn page(
    rig: &Rig,
    path: &str,
    recursive: bool,
    request: PageRequest<String>,
) -> (Vec<String>, Option<String>) {
    let page = below(&rig.cloud, &rig.who, path, recursive, request)
        .await
        .unwrap();
    (page.rows.into_iter().map(|row| row.name).collect(), page.next)
}

#[tokio::test]
async fn a_name_that_is_set_again_has_another_version() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    let second = images::add(&parts, image(rig.who.account, "second", true))
        .await
        .unwrap()
        .id();
    let first = set(&parts, NAME, rig.image).await.unwrap();
    assert_eq!((first.version.0, first.image.0), (1, rig.image));
    rig.clock.advance(Duration::from_secs(7));
    let again = set(&parts, NAME, second).await.unwrap();
    assert_eq!((again.version.0, again.image.0), (2, second));
    assert_eq!(again.modified_at, first.modified_at + 7000);
    assert_eq!(list(&parts).await.unwrap(), [again]);
    for who in [&rig.who, &rig.stranger, &rig.reader()] {
        assert_eq!(found(&rig, who, &[NAME, "/aws/service/none"]).await, [second]);
    }
    remove(&parts, NAME).await.unwrap();
    assert!(matches!(
        remove(&parts, NAME).await,
        Err(Error::InvalidParameter { value, .. }) if value == NAME
    ));
    assert_eq!(set(&parts, NAME, second).await.unwrap().version.0, 1);
}

#[tokio::test]
async fn what_cannot_be_launched_gets_no_name() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    assert!(matches!(
        set(&parts, "/golden", rig.image).await,
        Err(Error::InvalidParameter { .. })
    ));
    assert!(matches!(
        set(&parts, NAME, ImageId::new(7)).await,
        Err(Error::NotFound { .. })
    ));
    images::deregister(&rig.cloud, &rig.who, rig.image, false)
        .await
        .unwrap();
    assert!(matches!(
        set(&parts, NAME, rig.image).await,
        Err(Error::Unusable { state, .. }) if state == "deregistered"
    ));
    assert!(list(&parts).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_alias_is_in_the_sight_of_those_who_see_its_image() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    let private = images::add(&parts, image(rig.who.account, "mine", false))
        .await
        .unwrap()
        .id();
    set(&parts, "/aws/service/mine", private).await.unwrap();
    set(&parts, NAME, rig.image).await.unwrap();
    let names = ["/aws/service/mine", NAME];
    assert_eq!(found(&rig, &rig.who, &names).await, [rig.image, private]);
    assert_eq!(found(&rig, &rig.stranger, &names).await, [rig.image]);
    images::deregister(&rig.cloud, &rig.who, rig.image, false)
        .await
        .unwrap();
    assert_eq!(found(&rig, &rig.who, &names).await, [private]);
    let all = page(&rig, "/aws/service", true, PageRequest::default()).await;
    assert_eq!(all, (vec!["/aws/service/mine".to_owned()], None));
    // The operator still sees what it is of.
    assert_eq!(list(&parts).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_image_with_an_alias_is_not_deleted() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    set(&parts, NAME, rig.image).await.unwrap();
    let refusal = images::delete(&parts, rig.image).await.unwrap_err();
    assert!(
        matches!(&refusal, Error::InUse { by, .. } if by == "the alias /aws/service/debian/12"),
        "{refusal:?}"
    );
    remove(&parts, NAME).await.unwrap();
    images::delete(&parts, rig.image).await.unwrap();
}

#[tokio::test]
async fn a_path_has_what_is_below_it_in_pages_that_meet() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    let all = [
        "/aws/service/a",
        "/aws/service/a-b/1",
        "/aws/service/a/1",
        "/aws/service/a/2/x",
        "/aws/service/a/2_x",
        "/aws/service/a0",
        "/aws/service/axb/1",
    ];
    for name in all {
        set(&parts, name, rig.image).await.unwrap();
    }
    for (path, recursive, expected) in [
        ("/aws/service", true, &all[..]),
        ("/aws/service", false, &["/aws/service/a", "/aws/service/a0"]),
        (
            "/aws/service/a",
            true,
            &["/aws/service/a/1", "/aws/service/a/2/x", "/aws/service/a/2_x"],
        ),
        (
            "/aws/service/a",
            false,
            &["/aws/service/a/1", "/aws/service/a/2_x"],
        ),
        ("/aws/service/a/1", true, &[]),
        // A character of a name is none of a pattern.
        ("/aws/service/a_b", false, &[]),
        ("/aws", true, &[]),
        ("", true, &[]),
    ] {
        let shown = page(&rig, path, recursive, PageRequest::default()).await;
        assert_eq!(
            shown,
            (expected.iter().map(ToString::to_string).collect(), None),
            "{path}"
        );
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let request = PageRequest {
            limit: Some(2),
            after,
        };
        let (names, next) = page(&rig, "/aws/service", true, request).await;
        seen.extend(names);
        pages += 1;
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((seen, pages), (all.map(str::to_owned).to_vec(), 4));
}
