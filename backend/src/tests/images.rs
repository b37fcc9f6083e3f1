//! Tests of the family over a real database.

use cumulet_core::{ClientToken, PageRequest};
use cumulet_domain::{Error, account::Principal, id::ImageId, time::Timestamp};
use cumulet_storage::images::*;

use crate::test_support::{cloud, image};

#[tokio::test]
async fn an_account_sees_its_own_and_the_public_ones() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    let private = add(&parts, image(rig.who.account, "mine", false))
        .await
        .unwrap()
        .id();
    let theirs = add(&parts, image(rig.stranger.account, "theirs", false))
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
        ..ImageQuery::default()
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
                owners: Some(Owners {
                    accounts: vec![rig.stranger.account],
                    cloud: false,
                }),
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
    let private = add(&rig.cloud.parts(), image(rig.who.account, "mine", false))
        .await
        .unwrap()
        .id();
    let gone = async |who: &Principal, id| deregister(&rig.cloud, who, id, false).await;
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
        Err(Error::Unusable { state, .. }) if state == "deregistered"
    ));
    let query = ImageQuery {
        ids: vec![private],
        ..ImageQuery::default()
    };
    let listed = async |who| describe(&rig.cloud, who, &query, PageRequest::default()).await;
    assert_eq!(listed(&rig.who).await.unwrap().rows, []);
    assert!(matches!(listed(&rig.stranger).await, Err(Error::NotFound { .. })));
    // Its name is free again.
    add(&rig.cloud.parts(), image(rig.who.account, "mine", false))
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
        let answer = add(&parts, image(rig.who.account, name, false)).await;
        assert_eq!(answer.is_ok(), ok, "{name:?}");
    }
}

#[tokio::test]
async fn a_file_goes_with_its_last_image() {
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    let second = add(&parts, image(rig.who.account, "same file", false))
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

#[tokio::test]
async fn others_launch_what_they_are_given_and_find_it() {
    let rig = cloud().await;
    let id = add(&rig.cloud.parts(), image(rig.who.account, "mine", false))
        .await
        .unwrap()
        .id();
    let sharing = |add: Grantees, remove: Grantees| ImageChange::Launchers(Sharing { add, remove });
    let them = || Grantees {
        all: false,
        accounts: [rig.stranger.account].into(),
    };
    let change = async |who: &Principal, change| modify(&rig.cloud, who, id, change).await;
    let sees = async |who: &Principal, executable: Option<Executable>| {
        let query = ImageQuery {
            executable,
            ..ImageQuery::default()
        };
        let page = describe(&rig.cloud, who, &query, PageRequest::default()).await;
        page.unwrap().rows.iter().any(|view| view.id() == id)
    };
    let given = Executable {
        all: false,
        accounts: vec![rig.stranger.account],
    };
    assert!(!sees(&rig.stranger, None).await);
    let refused = change(&rig.stranger, sharing(them(), Grantees::default())).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
    change(&rig.who, sharing(them(), Grantees::default()))
        .await
        .unwrap();
    assert!(sees(&rig.stranger, None).await && sees(&rig.stranger, Some(given.clone())).await);
    // Its owner asks for whom it is, too.
    assert!(sees(&rig.who, Some(given)).await);
    let refused = change(&rig.stranger, ImageChange::ImdsV2).await;
    assert!(matches!(refused, Err(Error::Unauthorized { .. })));
    let found = attributes(&rig.cloud, &rig.who, id).await.unwrap();
    assert_eq!(found.launchers, them());
    assert!(attributes(&rig.cloud, &rig.stranger, id).await.is_err());
    // Disabled, it is nobody's but its owner's, and enabled again it stays so.
    disable(&rig.cloud, &rig.who, id).await.unwrap();
    assert!(!sees(&rig.stranger, None).await && !sees(&rig.who, None).await);
    let refused = change(&rig.who, sharing(them(), Grantees::default())).await;
    assert!(matches!(refused, Err(Error::Unusable { .. })));
    enable(&rig.cloud, &rig.who, id).await.unwrap();
    assert!(!sees(&rig.stranger, None).await && sees(&rig.who, None).await);
    change(&rig.who, sharing(them(), Grantees::default()))
        .await
        .unwrap();
    reset(&rig.cloud, &rig.who, id).await.unwrap();
    assert!(!sees(&rig.stranger, None).await);
}

#[tokio::test]
async fn a_deprecated_image_is_shown_to_others_that_ask_for_it() {
    let rig = cloud().await;
    let at = Timestamp(rig.cloud.now().0 + 60_000);
    let sees = async |who: &Principal, query: ImageQuery| {
        let page = describe(&rig.cloud, who, &query, PageRequest::default()).await;
        page.unwrap().rows.len()
    };
    let asked = || ImageQuery {
        deprecated: true,
        ..ImageQuery::default()
    };
    let named = || ImageQuery {
        ids: vec![rig.image],
        ..ImageQuery::default()
    };
    let past = deprecate(&rig.cloud, &rig.who, rig.image, Timestamp(0)).await;
    assert!(matches!(past, Err(Error::InvalidParameter { .. })));
    deprecate(&rig.cloud, &rig.who, rig.image, at).await.unwrap();
    assert_eq!(sees(&rig.stranger, ImageQuery::default()).await, 1);
    rig.pass(std::time::Duration::from_secs(120));
    assert_eq!(sees(&rig.stranger, ImageQuery::default()).await, 0);
    for (who, query) in [
        (&rig.who, ImageQuery::default()),
        (&rig.stranger, asked()),
        (&rig.stranger, named()),
    ] {
        assert_eq!(sees(who, query.clone()).await, 1, "{query:?}");
    }
    undeprecate(&rig.cloud, &rig.who, rig.image).await.unwrap();
    assert_eq!(sees(&rig.stranger, ImageQuery::default()).await, 1);
}

#[tokio::test]
async fn a_protected_image_is_not_deregistered() {
    use cumulet_domain::image::DeregistrationProtection as How;
    let rig = cloud().await;
    let gone = async || deregister(&rig.cloud, &rig.who, rig.image, false).await;
    let protected = |answer| matches!(answer, Err(Error::Protected { .. }));
    protect(&rig.cloud, &rig.who, rig.image, How::EnabledWithoutCooldown)
        .await
        .unwrap();
    assert!(protected(gone().await));
    protect(&rig.cloud, &rig.who, rig.image, How::EnabledWithCooldown)
        .await
        .unwrap();
    unprotect(&rig.cloud, &rig.who, rig.image).await.unwrap();
    unprotect(&rig.cloud, &rig.who, rig.image).await.unwrap();
    assert!(protected(gone().await));
    rig.pass(std::time::Duration::from_secs(24 * 3600));
    gone().await.unwrap();
}

#[tokio::test]
async fn a_protected_image_is_not_deleted_by_the_operator_either() {
    use cumulet_domain::image::DeregistrationProtection as How;
    let rig = cloud().await;
    let parts = rig.cloud.parts();
    protect(&rig.cloud, &rig.who, rig.image, How::EnabledWithCooldown)
        .await
        .unwrap();
    // Each time the sentence says what is to be done first.
    let refused = delete(&parts, rig.image).await.unwrap_err();
    assert!(matches!(refused, Error::Protected { .. }), "{refused}");
    let told = format!(
        "{}: its deregistration protection is enabled; its account {} takes that off first: \
         `aws ec2 disable-image-deregistration-protection --image-id {0}`",
        rig.image, rig.who.account
    );
    assert_eq!(refused.to_string(), told);
    unprotect(&rig.cloud, &rig.who, rig.image).await.unwrap();
    let refused = delete(&parts, rig.image).await.unwrap_err();
    assert!(matches!(refused, Error::Protected { .. }), "{refused}");
    let until = Timestamp(rig.cloud.now().0 + 24 * 3_600_000);
    assert!(
        refused.to_string().ends_with(&format!("delete it after {until}")),
        "{refused}"
    );
    assert_eq!(list(&parts).await.unwrap().len(), 1);
    rig.pass(std::time::Duration::from_secs(24 * 3600));
    delete(&parts, rig.image).await.unwrap();
    assert_eq!(list(&parts).await.unwrap().len(), 0);
}

#[tokio::test]
async fn the_clouds_own_images_are_found_by_their_owner() {
    let rig = cloud().await;
    add(&rig.cloud.parts(), image(rig.who.account, "private", false))
        .await
        .unwrap();
    let query = ImageQuery {
        owners: Some(Owners {
            accounts: Vec::new(),
            cloud: true,
        }),
        ..ImageQuery::default()
    };
    for who in [&rig.who, &rig.stranger] {
        let page = describe(&rig.cloud, who, &query, PageRequest::default()).await;
        let found: Vec<_> = page.unwrap().rows;
        assert_eq!(found.len(), 1);
        assert!(found[0].id() == rig.image && found[0].is_clouds);
    }
}

#[tokio::test]
async fn a_copy_of_a_file_has_the_same_file() {
    let rig = cloud().await;
    let what = |name: &str, token: Option<&str>| ImageCopy {
        source: rig.image,
        name: name.into(),
        description: "another's".into(),
        copy_tags: true,
        encryption: Default::default(),
        tags: Vec::new(),
        snapshot_tags: Vec::new(),
        client_token: token.map(|token| ClientToken {
            token: token.into(),
            request_hash: name.into(),
        }),
    };
    let made = copy(&rig.cloud, &rig.stranger, what("copy", Some("t")))
        .await
        .unwrap();
    let again = copy(&rig.cloud, &rig.stranger, what("copy", Some("t"))).await;
    assert_eq!(again, Ok(made));
    let other = copy(&rig.cloud, &rig.stranger, what("other", Some("t"))).await;
    assert!(matches!(other, Err(Error::IdempotentParameterMismatch { .. })));
    let taken = copy(&rig.cloud, &rig.stranger, what("copy", None)).await;
    assert!(matches!(taken, Err(Error::ImageNameTaken { by, .. }) if by == made.to_string()));
    // The file goes with the last of them.
    assert!(!delete(&rig.cloud.parts(), rig.image).await.unwrap().1);
    assert!(delete(&rig.cloud.parts(), made).await.unwrap().1);
    // There is no more room than the quota says.
    for n in 0..10 {
        add(
            &rig.cloud.parts(),
            image(rig.who.account, &format!("n-{n}"), true),
        )
        .await
        .unwrap();
    }
    let source = list(&rig.cloud.parts()).await.unwrap()[0].id.0;
    let full = copy(
        &rig.cloud,
        &rig.who,
        ImageCopy {
            source,
            ..what("more", None)
        },
    );
    assert!(matches!(full.await, Err(Error::LimitExceeded { .. })));
}
