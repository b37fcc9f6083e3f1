//! Rows that disagree with each other, each kind made in a cloud and told by the audit.

use cumulet_compute::instances::launch;
use cumulet_store::{
    consistency::Hanging,
    entity::{instance, interface},
    failed,
};
use sea_orm::{ConnectionTrait as _, EntityTrait as _};

use crate::test_support::{Rig, cloud};

async fn findings(rig: &Rig) -> Vec<String> {
    let conn = rig.cloud.store.read();
    let instances = instance::Entity::find().all(conn).await.unwrap();
    let interfaces = interface::Entity::find().all(conn).await.unwrap();
    Hanging::load(conn)
        .await
        .unwrap()
        .findings(&instances, &interfaces)
}

#[tokio::test]
async fn each_kind_of_disagreement_is_told() {
    for (sql, told) in [
        ("DELETE FROM volume_attachments", "has 0 root volumes"),
        (
            "UPDATE volume_attachments SET boot_index = NULL",
            "has 0 root volumes",
        ),
        ("DELETE FROM volumes", "and not in use"),
        ("UPDATE volumes SET state = 'available'", "and not in use"),
        ("UPDATE volumes SET state = 'deleted'", "was deleted at None"),
        ("UPDATE instances SET terminated_at = 1", "which has ended"),
        ("UPDATE volumes SET size_gib = 77", "is of 77 GiB, and i-"),
        ("DELETE FROM interface_addresses", "has 0 primary addresses"),
        (
            "UPDATE interface_addresses SET address_index = 1",
            "has 0 primary addresses",
        ),
        ("UPDATE interface_addresses SET subnet = 7", "in another subnet"),
        (
            "UPDATE interface_addresses SET public_address = NULL",
            "has the addresses",
        ),
        ("DELETE FROM interfaces", "which is gone"),
    ] {
        let rig = cloud().await;
        launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
        assert_eq!(findings(&rig).await, [""; 0]);
        let damage = rig.cloud.store.write(move |txn| {
            Box::pin(async move { txn.execute_unprepared(sql).await.map(drop).map_err(failed) })
        });
        damage.await.unwrap();
        let found = findings(&rig).await.join("; ");
        assert!(found.contains(told), "{sql}: {found}");
    }
}
