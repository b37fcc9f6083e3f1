//! Tests of the family over a real database.

use cumulet_certs::KeyType;
use cumulet_compute::key_pairs::*;
use cumulet_domain::{Error, ResourceKind, account::Principal, error::Limit, tag::Tag};
use cumulet_store::entity::columns::Named;

use crate::test_support::cloud;

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJGcy3Lg7Gk/dWy5I2qTtD9hN9aQ1kD59ux+N14YnwLm somebody@somewhere";

fn named(name: &str) -> KeyPairRef {
    KeyPairRef::Name(name.into())
}

#[tokio::test]
async fn both_kinds_are_made_and_imported_back() {
    let rig = cloud().await;
    for (key_type, kind, prefix) in [
        (KeyType::Ed25519, "ed25519", "ssh-ed25519 "),
        (KeyType::Rsa, "rsa", "ssh-rsa "),
    ] {
        let made = create(&rig.cloud, &rig.who, kind, key_type, Vec::new())
            .await
            .unwrap();
        assert_eq!(made.view.row.kind, Named(key_type));
        assert!(made.view.row.public_key.starts_with(prefix));
        assert!(made.private_pem.expose().contains("PRIVATE KEY"));
        let again = format!("{kind} again");
        let imported = import(
            &rig.cloud,
            &rig.who,
            &again,
            made.view.row.public_key.as_bytes(),
            Vec::new(),
        )
        .await;
        assert_eq!(imported.unwrap().row.kind, Named(key_type));
    }
    let all = describe(&rig.cloud, &rig.who, &KeyPairQuery::default())
        .await
        .unwrap();
    let names: Vec<_> = all.iter().map(|key| key.row.name.as_str()).collect();
    assert_eq!(names, ["ed25519", "ed25519 again", "rsa", "rsa again"]);
}

#[tokio::test]
async fn names_are_checked_and_unique_in_an_account() {
    let rig = cloud().await;
    let import = async |who: &Principal, name: &str| {
        import(&rig.cloud, who, name, ED25519.as_bytes(), Vec::new())
            .await
            .map(drop)
    };
    for (name, ok) in [
        ("", false),
        (&*"x".repeat(255), true),
        (&*"x".repeat(256), false),
        ("a\nb", false),
        ("naïve", false),
        (" a", false),
    ] {
        assert_eq!(import(&rig.who, name).await.is_ok(), ok, "{name:?}");
    }
    import(&rig.who, "same").await.unwrap();
    assert!(matches!(
        import(&rig.who, "same").await,
        Err(Error::Duplicate {
            kind: ResourceKind::KeyPair,
            ..
        })
    ));
    import(&rig.stranger, "same").await.unwrap();
    assert!(matches!(
        import(&rig.reader(), "other").await,
        Err(Error::Unauthorized { .. })
    ));
    for bad in ["", "hello", "ssh-ed25519 AAAA"] {
        let answer =
            cumulet_compute::key_pairs::import(&rig.cloud, &rig.who, "bad", bad.as_bytes(), Vec::new()).await;
        assert!(matches!(answer, Err(Error::InvalidKeyFormat { .. })), "{bad:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_but_deleted() {
    let rig = cloud().await;
    let tags = vec![Tag {
        key: "a".into(),
        value: "b".into(),
    }];
    let made = create(&rig.cloud, &rig.who, "mine", KeyType::Ed25519, tags)
        .await
        .unwrap()
        .view;
    let by_id = KeyPairQuery {
        ids: vec![made.id()],
        ..KeyPairQuery::default()
    };
    let by_name = KeyPairQuery {
        names: vec!["mine".into(), "nope".into()],
        ..KeyPairQuery::default()
    };
    assert_eq!(
        describe(&rig.cloud, &rig.who, &by_id).await.unwrap(),
        std::slice::from_ref(&made)
    );
    assert!(matches!(
        describe(&rig.cloud, &rig.stranger, &by_id).await,
        Err(Error::NotFound { .. })
    ));
    let nope = describe(&rig.cloud, &rig.who, &by_name).await;
    assert!(matches!(nope, Err(Error::NotFound { id, .. }) if id == "nope"));
    for which in [named("mine"), KeyPairRef::Id(made.id())] {
        assert_eq!(delete(&rig.cloud, &rig.stranger, which).await, Ok(None));
    }
    assert_eq!(
        delete(&rig.cloud, &rig.who, KeyPairRef::Id(made.id())).await,
        Ok(Some(made))
    );
    assert_eq!(delete(&rig.cloud, &rig.who, named("mine")).await, Ok(None));
    assert!(
        describe(&rig.cloud, &rig.who, &KeyPairQuery::default())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn an_account_has_so_many_key_pairs_and_another_its_own() {
    let rig = cloud().await;
    let add = async |who: &Principal, name: String| {
        import(&rig.cloud, who, &name, ED25519.as_bytes(), Vec::new())
            .await
            .map(drop)
    };
    for n in 0..crate::test_support::QUOTAS.key_pairs {
        add(&rig.who, format!("k{n}")).await.unwrap();
    }
    let (limit, max) = (Limit::KeyPairs, crate::test_support::QUOTAS.key_pairs);
    let full = Err(Error::LimitExceeded { limit, max });
    assert_eq!(add(&rig.who, "more".into()).await, full);
    let made = create(&rig.cloud, &rig.who, "more", KeyType::Ed25519, Vec::new()).await;
    assert_eq!(made.map(drop), full);
    add(&rig.stranger, "more".into()).await.unwrap();
    delete(&rig.cloud, &rig.who, named("k0")).await.unwrap();
    add(&rig.who, "more".into()).await.unwrap();
}

#[tokio::test]
async fn two_who_want_the_last_place_come_one_after_the_other() {
    let rig = cloud().await;
    for n in 1..crate::test_support::QUOTAS.key_pairs {
        let name = format!("k{n}");
        import(&rig.cloud, &rig.who, &name, ED25519.as_bytes(), Vec::new())
            .await
            .unwrap();
    }
    let add = async |cloud: &crate::Cloud, name: &str| {
        import(cloud, &rig.who, name, ED25519.as_bytes(), Vec::new())
            .await
            .map(drop)
    };
    let (one, other) = rig
        .overlap(
            async |cloud| add(cloud, "a").await,
            async |cloud| add(cloud, "b").await,
        )
        .await;
    assert!(one.is_ok() && other.is_err(), "{one:?} {other:?}");
}

#[tokio::test]
async fn nothing_is_made_for_a_client_who_has_gone_or_only_rehearses() {
    let rig = cloud().await;
    let presence = cumulet_core::Presence::of_client();
    let call = rig.cloud.clone().for_client(presence.clone());
    presence.leave();
    let gone = create(&call, &rig.who, "k", KeyType::Rsa, Vec::new()).await;
    assert_eq!(gone.map(drop), Err(Error::Abandoned));
    // An RSA key takes a fifth of a second at least, on the fastest machine.
    let start = std::time::Instant::now();
    for _ in 0..20 {
        create(&rig.cloud.rehearsal(), &rig.who, "k", KeyType::Rsa, Vec::new())
            .await
            .unwrap();
    }
    assert!(start.elapsed().as_secs() < 4, "{:?}", start.elapsed());
    assert!(
        describe(&rig.cloud, &rig.who, &KeyPairQuery::default())
            .await
            .unwrap()
            .is_empty()
    );
}
