//! Ids of every kind: any 8 or 17 digits are well-formed, and the sentence has the id as it was sent. Those of every
//! operation are in `examples`.

use cumulet_backend::api::audit_log;
use cumulet_domain::ResourceKind;

use super::*;

/// Digits of every form: this cloud's, those of others, and the old ones.
const FORMS: [&str; 4] = [
    "0123456789abcdef0",
    "1234567890abcdef0",
    "fedcba98765432100",
    "1a2b3c4d",
];

#[tokio::test]
async fn tags_of_every_kind_of_resource() {
    let world = World::new().await;
    for kind in ResourceKind::ALL {
        for digits in FORMS {
            let id = format!("{}-{digits}", kind.prefix());
            let call = format!("Action=CreateTags&Tag.1.Key=a&ResourceId.1={id}");
            let refusal = world.try_as(&world.who, &call).await.unwrap_err();
            assert!(!refusal.code.ends_with(".Malformed"), "{id}: {}", refusal.code);
            assert!(refusal.message.contains(&id), "{id}: {}", refusal.message);
        }
    }
    let several =
        "Action=CreateTags&Tag.1.Key=a&ResourceId.1=i-1234567890abcdef0&ResourceId.2=i-2234567890abcdef0";
    let refusal = world.try_as(&world.who, several).await.unwrap_err();
    assert_eq!(
        refusal.message,
        "The instance IDs 'i-1234567890abcdef0, i-2234567890abcdef0' do not exist"
    );
}

/// Whatever a client writes in front of or behind an id's dash is no id, and no resource of the audit log.
#[tokio::test]
async fn only_ids_are_resources_in_the_audit_log() {
    let world = World::new().await;
    let fine = "i-0123456789abcdef0";
    let long = format!("i-{}", "a".repeat(60));
    for wrong in [
        "i-<script>alert(1)</script>",
        "i-",
        "i-0123456789abcdef",
        "i-0123456789ABCDEF0",
        "i-0123456789abcdef0,vpc-0123456789abcdef0",
        "vol-my disk",
        "sg-1",
        "eni-attach-x",
        &long,
    ] {
        for call in [
            "TerminateInstances&InstanceId",
            "CreateTags&Tag.1.Key=a&ResourceId",
        ] {
            world.advance(120);
            let body = format!(
                "Action={call}.1={fine}&{}.2={wrong}",
                call.rsplit('&').next().unwrap()
            );
            world.refused(&body).await;
            let log = audit_log::list(&world.cloud.parts(), world.who.account, 1)
                .await
                .unwrap();
            assert_eq!(log[0].resource.as_deref(), Some(fine), "{body}");
        }
    }
}
