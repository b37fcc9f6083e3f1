//! Tests of the family over a real database.

use cumulet_core::PageRequest;
use cumulet_domain::{Error, account::Principal, id::ImageId};
use cumulet_storage::images::*;

use crate::test_support::{cloud, image};

#[tokio::test]
async fn an_account_sees_its_own_and_the_public_ones() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    let private = register(&parts, image(rig.who.account, "mine", false))
        .await
        .unwrap()
        .id();
    let theirs = register(&parts, image(rig.stranger.account, "theirs", false))
        .await
        .unwrap()
        .id();
    let all = async |who: &Principal, query: ImageQuery| {
        let page = describe(&rig.cloud, who, &query, PageRequest::default()).await;
        page.map(|page| {
            page.rows
                .iter()
                .map(ImageView::id)
                .collect::<std::collections::BTreeSet<_>>()
        })
    };
    let only = |ids: &[ImageId]| ImageQuery {
        ids: ids.to_vec(),
        owned: false,
    };
    assert_eq!(
        all(&rig.who, only(&[])).await.unwrap(),
        [rig.image, private].into()
    );
    assert_eq!(
        all(&rig.stranger, only(&[])).await.unwrap(),
        [rig.image, theirs].into()
    );
    assert_eq!(
        all(
            &rig.stranger,
            ImageQuery {
                owned: true,
                ..only(&[])
            }
        )
        .await
        .unwrap(),
        [theirs].into()
    );
    assert_eq!(
        all(&rig.who, only(&[private, private])).await.unwrap(),
        [private].into()
    );
    let missing = all(&rig.stranger, only(&[rig.image, private])).await;
    assert!(matches!(missing, Err(Error::NotFound { id, .. }) if id == private.to_string()));
}

#[tokio::test]
async fn deregistering_is_for_the_owner_and_hides() {
    let rig = cloud().await;
    let private = register(&rig.cloud.parts(), image(rig.who.account, "mine", false))
        .await
        .unwrap()
        .id();
    let gone = async |who: &Principal, id| deregister(&rig.cloud, who, id).await;
    assert!(matches!(
        gone(&rig.stranger, private).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        gone(&rig.reader(), private).await,
        Err(Error::Unauthorized { .. })
    ));
    gone(&rig.who, private).await.unwrap();
    assert!(matches!(
        gone(&rig.who, private).await,
        Err(Error::NotFound { .. })
    ));
    let query = ImageQuery {
        ids: vec![private],
        owned: false,
    };
    assert!(
        describe(&rig.cloud, &rig.who, &query, PageRequest::default())
            .await
            .is_err()
    );
    // Its name is free again.
    register(&rig.cloud.parts(), image(rig.who.account, "mine", false))
        .await
        .unwrap();
}

#[tokio::test]
async fn names_are_checked_and_unique_in_an_account() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    for (name, ok) in [
        ("ab", false),
        ("a/b-(1.0) [x]'@_", true),
        (&*"x".repeat(129), false),
        ("a\tbc", false),
        ("tiny", false),
    ] {
        let answer = register(&parts, image(rig.who.account, name, false)).await;
        assert_eq!(answer.is_ok(), ok, "{name:?}");
    }
}

#[tokio::test]
async fn a_file_goes_with_its_last_image() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    let second = register(&parts, image(rig.who.account, "same file", false))
        .await
        .unwrap()
        .id();
    assert!(!delete(&parts, rig.image).await.unwrap().1);
    assert!(delete(&parts, second).await.unwrap().1);
    assert!(matches!(
        delete(&parts, second).await,
        Err(Error::NotFound { .. })
    ));
    assert!(list(&parts).await.unwrap().is_empty());
}
