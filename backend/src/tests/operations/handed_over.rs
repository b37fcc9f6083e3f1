//! Commands that a host is handed, and those that it can't be: the one rule for all operations of when they are sent
//! again.

use cumulet_journal::{Look, Next, testing::Stage as _};
use cumulet_operations::REGISTRY;
use cumulet_store::entity::operation;
use sea_orm::EntityTrait as _;

use super::Instances;

/// In milliseconds: when a command is sent again that no host has heard of, and one that one has.
const UNHEARD: i64 = 1000;
const HEARD: i64 = 15_000;

#[tokio::test]
async fn every_operation_soon_tells_again_what_no_host_has_heard_of() {
    for kind in REGISTRY.kinds() {
        for step in kind.steps().iter().filter(|step| step.is_leased) {
            for (listens, after) in [(true, HEARD), (false, UNHEARD)] {
                let what = format!("{} at {}, heard: {listens}", kind.name(), step.name);
                let mut on = Instances::new().await;
                let row = on.at(kind.name(), step).await;
                if !listens {
                    on.mailboxes.clear();
                }
                let now = on.rig.cloud.now();
                let look = Look { now, by: now };
                let batch = kind.load(&on.conductor, &[&row], look).await.unwrap();
                let Next::Tell(host) = kind.step(&batch, &row).await.unwrap() else {
                    panic!("{what}: nobody is told");
                };
                kind.tell(&batch, &row, &host).await.unwrap();
                let row = operation::Entity::find_by_id(row.id);
                let row = row.one(on.conductor.store.read()).await.unwrap().unwrap();
                assert_eq!((row.next_at - now.0, row.lease_until), (after, 0), "{what}");
            }
        }
    }
}
