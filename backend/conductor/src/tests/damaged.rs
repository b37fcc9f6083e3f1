//! Damaged rows beside policies that are on their way.

use cumulet_domain::message::Action;
use cumulet_store::{entity::vpc, failed, groups};
use sea_orm::{ConnectionTrait as _, EntityTrait as _};

use crate::tests::*;

#[tokio::test]
async fn a_policy_that_cannot_be_made_holds_up_no_other() {
    let mut rig = Rig::start().await;
    // A VPC of the host that is looked at first.
    let another = format!(
        "INSERT INTO vpcs (id, account, cidr, is_default, policy_generation, created_at) \
         VALUES (1, {}, 'everything', 0, 5, 0)",
        rig.who.account.to_db()
    );
    let write = rig.cloud.store.write(move |txn| {
        let another = another.clone();
        Box::pin(async move {
            let pair = "INSERT INTO host_networks (host, vpc, applied_generation) VALUES ('host-a', 1, 0)";
            for sql in [another.as_str(), pair] {
                txn.execute_unprepared(sql).await.map_err(failed)?;
            }
            Ok(())
        })
    });
    write.await.unwrap();
    let id = rig.running(|_| ()).await;
    let its = rig.view(id).await.row.vpc;
    let row = vpc::Entity::find_by_id(its).one(rig.cloud.store.read()).await;
    let before = row.unwrap().unwrap().policy_generation;
    let write = rig
        .cloud
        .store
        .write(move |txn| Box::pin(async move { groups::bump_policy(txn, [its]).await }));
    write.await.unwrap();
    rig.cloud.wake.hosts();
    let newer = |action: &Action| matches!(action, Action::Network(policy) if policy.vpc == its.0 && policy.generation > before.0);
    rig.command(newer).await;
}
