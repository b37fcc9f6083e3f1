//! Checks that every operation of a registry must pass, whatever it works on: at each step that an engine leases it is
//! run twice, and loses its place to another operation. (Deaths at crash points are the simulator's.)

use cumulet_domain::id::HostId;
use sea_orm::{EntityTrait, QueryOrder};

use super::{Context, Kind, Look, Next, Step};
use cumulet_store::entity::{
    columns::Count,
    operation::{self, OperationStatus},
    operation_hold,
};

/// What the checks need of those whose operations they are.
pub trait Stage {
    /// What the operations work with.
    type Cx: Context;

    /// It.
    fn cx(&self) -> &Self::Cx;

    /// An operation of this kind that stands at this step and is due, on a resource of its own.
    async fn at(&self, kind: &str, step: &Step) -> operation::Model;

    /// Whether operations of these kinds work on resources of one kind, so that they can want the same.
    fn meet(&self, kind: &str, other: &str) -> bool {
        let _ = (kind, other);
        true
    }

    /// Wants something new of an operation's subject, and enqueues one of this kind for it.
    async fn want(&self, row: &operation::Model, kind: &str) -> cumulet_domain::Result<()>;

    /// What is heard when an operation's command has been carried out.
    async fn heard(&self, row: &operation::Model, host: &HostId) -> <Self::Cx as Context>::Heard;

    /// The host answers that an operation's command has been carried out, by the way that answers come.
    async fn answer(&self, row: &operation::Model, host: &HostId);

    /// All rows but the journal's, in words.
    async fn picture(&self) -> String;
}

/// Runs a step with a batch of its own.
async fn run<S: Stage>(stage: &S, kind: &dyn Kind<S::Cx>, row: &operation::Model, look: Look) -> Next {
    let batch = kind.load(stage.cx(), &[row], look).await.unwrap();
    kind.step(&batch, row).await.unwrap()
}

fn look<S: Stage>(stage: &S) -> Look {
    let now = stage.cx().now();
    Look { now, by: now }
}

/// Everything but the times at which operations are looked at again.
async fn everything<S: Stage>(stage: &S) -> String {
    let conn = stage.cx().store().read();
    let operations = operation::Entity::find().order_by_asc(operation::Column::Id);
    let mut operations = operations.all(conn).await.unwrap();
    for row in &mut operations {
        (row.next_at, row.attempts, row.lease_until, row.lease_owner) = (0, Count(0), 0, None);
    }
    let holds = operation_hold::Entity::find().order_by_asc(operation_hold::Column::Operation);
    let holds = holds.all(conn).await.unwrap();
    format!("{operations:#?}\n{holds:#?}\n{}", stage.picture().await)
}

/// The host that an operation told at this step.
fn told(next: Next, what: &str) -> HostId {
    match next {
        Next::Tell(host) => host,
        Next::Wait => panic!("{what}: nobody was told"),
    }
}

/// A step that runs twice, as when a lease runs out while an engine is slow, is as one that ran once; and so is an
/// answer. Each kind is on a stage of its own: everything is compared at each step, and is to be little.
pub async fn every_step_may_run_twice<S: Stage>(new: impl AsyncFn() -> S) {
    for kind in S::Cx::registry().kinds() {
        let stage = &new().await;
        for step in kind.steps().iter().filter(|step| step.is_leased) {
            let what = format!("{} at {}", kind.name(), step.name);
            let row = stage.at(kind.name(), step).await;
            assert!(step.is_of(&row), "{what}");
            // Both engines have looked before either of them writes.
            let batch = kind.load(stage.cx(), &[&row], look(stage)).await.unwrap();
            let host = told(kind.step(&batch, &row).await.unwrap(), &what);
            let once = everything(stage).await;
            kind.step(&batch, &row).await.unwrap();
            assert_eq!(everything(stage).await, once, "{what}: run twice");
            run(stage, *kind, &row, look(stage)).await;
            assert_eq!(everything(stage).await, once, "{what}: run again later");
            let now = again(stage, &row).await;
            stage.answer(&now, &host).await;
            let answered = everything(stage).await;
            assert_ne!(answered, once, "{what}: answered");
            stage.answer(&now, &host).await;
            assert_eq!(everything(stage).await, answered, "{what}: answered twice");
        }
    }
}

/// Where an operation loses its place, at whatever step, nothing that it still does or hears counts, and all that it
/// held is the other one's. One that does not take its place does not begin. Each step is on a stage of its own.
pub async fn each_may_lose_its_place_at_every_step<S: Stage>(new: impl AsyncFn() -> S) {
    let all = S::Cx::registry().kinds();
    for kind in all {
        for step in kind.steps().iter().filter(|step| step.is_leased) {
            let stage = &new().await;
            for other in all.iter().filter(|other| stage.meet(kind.name(), other.name())) {
                let what = format!("{} at {}, then {}", kind.name(), step.name, other.name());
                let row = stage.at(kind.name(), step).await;
                let batch = kind.load(stage.cx(), &[&row], look(stage)).await.unwrap();
                let host = HostId("host-1".into());
                let heard = stage.heard(&row, &host).await;
                let before = everything(stage).await;
                let asked = stage.want(&row, other.name()).await;
                if !other.supersedes().contains(&kind.name()) {
                    assert!(asked.is_err(), "{what}");
                    assert_eq!(everything(stage).await, before, "{what}");
                    continue;
                }
                asked.unwrap();
                let after = everything(stage).await;
                assert_eq!(kind.step(&batch, &row).await.unwrap(), Next::Wait, "{what}");
                assert_eq!(run(stage, *kind, &row, look(stage)).await, Next::Wait, "{what}");
                kind.heard(stage.cx(), row.clone(), heard).await.unwrap();
                stage.answer(&row, &host).await;
                assert_eq!(everything(stage).await, after, "{what}");
                let lost = again(stage, &row).await;
                assert_eq!(
                    (lost.status.0, lost.held),
                    (OperationStatus::Superseded, Some(0)),
                    "{what}"
                );
            }
        }
    }
}

/// An operation's row as it is now.
async fn again<S: Stage>(stage: &S, row: &operation::Model) -> operation::Model {
    let row = operation::Entity::find_by_id(row.id);
    row.one(stage.cx().store().read()).await.unwrap().unwrap()
}
