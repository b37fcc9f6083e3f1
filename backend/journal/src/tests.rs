//! The journal with operations on something that this cloud has not: nothing of it may need an instance.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::AccountId,
    crash::Role,
    id::{HostId, OperationId},
    rng::SharedRng,
    time::{Clock, ManualClock, Timestamp},
};
use futures::future::BoxFuture;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter,
};
use serde::{Deserialize, Serialize};

use super::*;
use cumulet_store::{
    Store, connect,
    entity::{
        columns::{Key, Named},
        operation::{Column, Entity, Model, OperationStatus},
        operation_hold,
    },
    failed,
    scratch::Scratch,
};

/// What was done, in order.
type Log = Arc<Mutex<Vec<String>>>;

#[derive(Clone)]
struct Workshop {
    store: Store,
    clock: Arc<ManualClock>,
    rng: SharedRng,
    log: Log,
}

impl Workshop {
    async fn open() -> (Scratch, Workshop) {
        let database = Scratch::migrated().await;
        let store = connect(&database.options(2)).await.unwrap();
        let workshop = Workshop {
            store,
            clock: Arc::new(ManualClock::new(Timestamp(1_767_323_045_000))),
            rng: SharedRng::seeded(3),
            log: Log::default(),
        };
        (database, workshop)
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    fn noted(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    async fn ask<O: Operation<Cx = Workshop>>(&self, on: i64, state: O::State) -> Result<OperationId> {
        let target = Target {
            account: AccountId(1),
            subject: volume(on),
            generation: 1,
        };
        let new = NewOperation::of::<O>(self.next_id(), target, &state, self.now())?;
        let write = self
            .store
            .write(move |txn| Box::pin(async move { enqueue(txn, new).await }));
        write.await
    }

    async fn round(&self) -> usize {
        let steps = REGISTRY.steps_of(&[Role::Scheduler, Role::Conductor]);
        engine::round(self, &steps).await.unwrap()
    }

    async fn row(&self, id: OperationId) -> Model {
        let row = Entity::find_by_id(Key(id)).one(self.store.read()).await;
        row.unwrap().unwrap()
    }

    async fn held(&self) -> Vec<(String, i64, i64)> {
        let all = operation_hold::Entity::find()
            .all(self.store.read())
            .await
            .unwrap();
        let mut all: Vec<_> = all
            .into_iter()
            .map(|hold| (hold.kind, hold.resource, hold.operation.to_db()))
            .collect();
        all.sort();
        all
    }
}

fn volume(id: i64) -> Resource {
    Resource {
        kind: ResourceKind::Volume,
        id,
    }
}

static REGISTRY: Registry<Workshop> = Registry::new(&[&Of::<CopyVolume>::new(), &Of::<Wipe>::new()]);

impl Context for Workshop {
    type Heard = ();

    fn registry() -> &'static Registry<Self> {
        &REGISTRY
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn owner(&self) -> &str {
        "workshop"
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn by(&self, now: Timestamp) -> Timestamp {
        now
    }

    fn next_id(&self) -> OperationId {
        self.rng.id::<cumulet_domain::id::marker::Operation>()
    }

    fn wake(&self) {}

    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// One for all that are due, of both kinds.
struct Bench(Workshop);

impl Batch<Workshop> for Bench {
    async fn load(workshop: &Workshop, due: &[&Model], _: Look) -> Result<Self> {
        workshop.note(format!("loaded for {}", due.len()));
        Ok(Bench(workshop.clone()))
    }
}

/// Copies a volume into a snapshot, which it holds too.
struct CopyVolume;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct CopyState {
    snapshot: i64,
}

const FIND: Step = Step::leased("find", Role::Scheduler, &["leased"]);
const WRITE: Step = Step::leased("write", Role::Conductor, &["written"]);

impl Operation for CopyVolume {
    type Cx = Workshop;
    type State = CopyState;
    type Batch = Bench;

    const NAME: &'static str = "copy";
    const STEPS: &'static [Step] = &[FIND, WRITE];
    const DEADLINE: Duration = Duration::from_secs(60);
    const SUPERSEDES: &'static [&'static str] = &[];

    fn holds(_: Resource, state: &CopyState) -> Vec<Resource> {
        vec![Resource {
            kind: ResourceKind::Snapshot,
            id: state.snapshot,
        }]
    }

    async fn step(Bench(workshop): &Bench, row: &Model) -> Result<Next> {
        workshop.note(format!("{} of {:?}", row.step, row.subject()));
        if FIND.is_of(row) {
            go_on(&workshop.store, row, &WRITE, 0, workshop.now()).await?;
            return Ok(Next::Wait);
        }
        let later = workshop.now().after(Duration::from_secs(9));
        go_on(&workshop.store, row, &WRITE, 0, later).await?;
        Ok(Next::Tell(HostId("shelf".into())))
    }

    async fn tell(Bench(workshop): &Bench, _: &Model, host: &HostId) -> Result<()> {
        workshop.note(format!("told {host}"));
        Ok(())
    }

    async fn heard(workshop: &Workshop, row: Model, (): ()) -> Result<()> {
        end::<Self>(workshop, row, How::Done).await.map(drop)
    }

    async fn lock(_: &DatabaseTransaction, _: &Model) -> Result<()> {
        Ok(())
    }

    async fn ended(txn: &DatabaseTransaction, row: &Model, end: &End) -> Result<()> {
        // What it changes is in the transaction.
        let mut change = row.clone().into_active_model();
        change.state = Set(format!("{:?}", end.how));
        change.update(txn).await.map(drop).map_err(failed)
    }
}

/// Ends a volume, whatever is done to it.
struct Wipe;

impl Operation for Wipe {
    type Cx = Workshop;
    type State = ();
    type Batch = Bench;

    const NAME: &'static str = "wipe";
    const STEPS: &'static [Step] = &[WRITE];
    const DEADLINE: Duration = Duration::from_secs(60);
    const SUPERSEDES: &'static [&'static str] = &[CopyVolume::NAME];

    async fn step(Bench(workshop): &Bench, row: &Model) -> Result<Next> {
        workshop.note("wiped");
        end::<Self>(workshop, row.clone(), How::Done).await?;
        Ok(Next::Wait)
    }

    async fn tell(_: &Bench, _: &Model, _: &HostId) -> Result<()> {
        Ok(())
    }

    async fn heard(_: &Workshop, _: Model, (): ()) -> Result<()> {
        Ok(())
    }

    async fn lock(_: &DatabaseTransaction, _: &Model) -> Result<()> {
        Ok(())
    }

    async fn ended(_: &DatabaseTransaction, _: &Model, _: &End) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_operation_on_anything_runs_its_steps_and_gives_free_what_it_held() {
    let (_database, workshop) = Workshop::open().await;
    let id = workshop
        .ask::<CopyVolume>(5, CopyState { snapshot: 6 })
        .await
        .unwrap();
    let other = workshop.ask::<Wipe>(7, ()).await.unwrap();
    let (row, number) = (workshop.row(id).await, id.to_db());
    assert_eq!((row.subject(), row.held), (("volume", 5), Some(2)));
    assert_eq!((row.instance, row.active_instance), (0, None));
    let holds = vec![
        ("snapshot".to_owned(), 6, number),
        ("volume".to_owned(), 5, number),
        ("volume".to_owned(), 7, other.to_db()),
    ];
    assert_eq!(workshop.held().await, holds);

    assert_eq!(workshop.round().await, 2);
    let mut noted = workshop.noted();
    noted.sort();
    assert_eq!(noted, ["find of (\"volume\", 5)", "loaded for 2", "wiped"]);
    assert_eq!(workshop.round().await, 1);
    assert_eq!(
        workshop.noted(),
        ["loaded for 1", "write of (\"volume\", 5)", "told shelf"]
    );
    assert_eq!(workshop.round().await, 0);

    let row = workshop.row(id).await;
    let copy = REGISTRY.find("copy").unwrap();
    copy.heard(&workshop, row.clone(), ()).await.unwrap();
    copy.heard(&workshop, row, ()).await.unwrap(); // it had ended already
    let row = workshop.row(id).await;
    assert_eq!(
        (row.status.0.name(), row.state.as_str(), row.held),
        ("done", "Done", Some(0))
    );
    assert_eq!(workshop.held().await, []);
}

#[tokio::test]
async fn what_one_holds_keeps_others_from_beginning_unless_they_take_its_place() {
    let (_database, workshop) = Workshop::open().await;
    let first = workshop
        .ask::<CopyVolume>(5, CopyState { snapshot: 6 })
        .await
        .unwrap();
    for (on, snapshot) in [(8, 6), (5, 9), (5, 6)] {
        let refused = workshop.ask::<CopyVolume>(on, CopyState { snapshot }).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    // Nothing is left of those.
    assert_eq!(Entity::find().count(workshop.store.read()).await.unwrap(), 1);
    assert_eq!(workshop.held().await.len(), 2);

    let wipe = workshop.ask::<Wipe>(5, ()).await.unwrap();
    let row = workshop.row(first).await;
    assert_eq!(
        (row.status.0.name(), row.state.as_str()),
        ("superseded", "Superseded")
    );
    assert_eq!(workshop.held().await, [("volume".to_owned(), 5, wipe.to_db())]);
    // The snapshot is free with it.
    workshop
        .ask::<CopyVolume>(8, CopyState { snapshot: 6 })
        .await
        .unwrap();
}

/// Two that look at the same time: the key decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_one_begins() {
    let (_database, workshop) = Workshop::open().await;
    let asked = (1..=8).map(|on| workshop.ask::<CopyVolume>(on, CopyState { snapshot: 6 }));
    let answers = futures::future::join_all(asked).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.is_ok()).count(),
        1,
        "{answers:?}"
    );
    assert_eq!(workshop.held().await.len(), 2);
}

/// What a program of before does to the table.
async fn before(
    workshop: &Workshop,
    change: impl Fn(&mut cumulet_store::entity::operation::ActiveModel),
    id: OperationId,
) {
    let mut row = workshop.row(id).await.into_active_model();
    change(&mut row);
    let write = workshop
        .store
        .write(move |txn| Box::pin(async move { row.update(txn).await.map(drop).map_err(failed) }));
    write.await.unwrap();
}

#[tokio::test]
async fn an_older_program_beside_this_one_is_put_up_with() {
    let (_database, workshop) = Workshop::open().await;
    // It ends an operation, and leaves the holds.
    let old = workshop
        .ask::<CopyVolume>(5, CopyState { snapshot: 6 })
        .await
        .unwrap();
    before(
        &workshop,
        |row| row.status = Set(Named(OperationStatus::Done)),
        old,
    )
    .await;
    let next = workshop
        .ask::<CopyVolume>(5, CopyState { snapshot: 6 })
        .await
        .unwrap();
    assert_eq!(workshop.held().await.len(), 2);
    before(
        &workshop,
        |row| row.status = Set(Named(OperationStatus::Done)),
        next,
    )
    .await;
    let next = workshop.ask::<Wipe>(7, ()).await.unwrap();
    adopt(&workshop.store, "workshop", workshop.now()).await.unwrap();
    assert_eq!(workshop.held().await, [("volume".to_owned(), 7, next.to_db())]);

    // It begins one, on an instance, without any.
    let begun = workshop.ask::<Wipe>(8, ()).await.unwrap();
    let beginning = |row: &mut cumulet_store::entity::operation::ActiveModel| {
        (row.instance, row.active_instance) = (Set(8), Set(Some(8)));
        (row.subject_kind, row.subject, row.held) = (Set(None), Set(None), Set(None));
    };
    before(&workshop, beginning, begun).await;
    let forget = workshop.store.write(move |txn| {
        Box::pin(async move {
            let all = operation_hold::Entity::delete_by_id(("volume".to_owned(), 8));
            all.exec(txn).await.map(drop).map_err(failed)
        })
    });
    forget.await.unwrap();
    assert_eq!(workshop.row(begun).await.subject(), ("instance", 8));
    let instance = Resource {
        kind: ResourceKind::Instance,
        id: 8,
    };
    let found = active(workshop.store.read(), instance).await.unwrap();
    assert_eq!(found.map(|row| row.id.0), Some(begun));
    adopt(&workshop.store, "workshop", workshop.now()).await.unwrap();
    let holds = [
        ("instance".to_owned(), 8, begun.to_db()),
        ("volume".to_owned(), 7, next.to_db()),
    ];
    assert_eq!(workshop.held().await, holds);
    assert_eq!(workshop.row(begun).await.held, Some(1));
}

#[tokio::test]
async fn a_newer_programs_operation_is_left_to_it_and_holds_up_no_other() {
    let (_database, workshop) = Workshop::open().await;
    let unknown = workshop.ask::<Wipe>(1, ()).await.unwrap();
    before(&workshop, |row| row.kind = Set("migrate".into()), unknown).await;
    workshop.ask::<Wipe>(2, ()).await.unwrap();
    assert_eq!(workshop.round().await, 2);
    assert_eq!(workshop.noted(), ["loaded for 1", "wiped"]);
    let row = workshop.row(unknown).await;
    assert_eq!(row.status.0, OperationStatus::Active);
    assert!(row.next_at > workshop.now().0, "it is looked at again later");
}

impl Workshop {
    /// Accounts ask one after the other, each for so many at once.
    async fn asked_by(&self, accounts: &[usize]) {
        let mut on = 0;
        for (account, count) in (1..).zip(accounts) {
            self.clock.advance(Duration::from_millis(1));
            let mut new = Vec::with_capacity(*count);
            for _ in 0..*count {
                on += 1;
                let target = Target {
                    account: AccountId(account),
                    subject: volume(on),
                    generation: 1,
                };
                let one = NewOperation::of::<Wipe>(self.next_id(), target, &(), self.now());
                new.push(one.unwrap());
            }
            let write = self
                .store
                .write(move |txn| Box::pin(async move { enqueue_new(txn, &new).await }));
            write.await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_an_account_asks_for_is_begun_in_the_first_round_however_much_another_has_asked_for() {
    let (_database, workshop) = Workshop::open().await;
    workshop.asked_by(&[1000, 3]).await;
    assert_eq!(workshop.round().await, 256);
    let theirs = Entity::find()
        .filter(Column::Account.eq(AccountId(2).to_db()))
        .all(workshop.store.read())
        .await
        .unwrap();
    let states: Vec<_> = theirs.iter().map(|row| row.status.0).collect();
    assert_eq!(states, [OperationStatus::Done; 3]);
}

#[tokio::test]
async fn accounts_take_turns_where_more_is_due_than_a_round_takes() {
    let cases: [(&[usize], u64, &[usize]); 6] = [
        (&[5, 3], 9, &[5, 3]),
        (&[5, 3], 8, &[5, 3]),
        (&[8, 1], 8, &[7, 1]),
        // The oldest of each, then the next.
        (&[20, 20, 1], 8, &[4, 3, 1]),
        (&[1, 1, 20], 8, &[1, 1, 6]),
        // Where there are too many accounts, those that have asked last wait for another round.
        (&[9, 2, 2, 2], 3, &[1, 1, 1, 0]),
    ];
    for (asked, limit, expected) in cases {
        let (_database, workshop) = Workshop::open().await;
        workshop.asked_by(asked).await;
        let steps = REGISTRY.steps_of(&[Role::Conductor]);
        let leased = lease(&workshop.store, "workshop", &steps, workshop.now(), limit).await;
        let mut found = vec![0_usize; asked.len()];
        for row in leased.unwrap() {
            found[usize::try_from(row.account.0.0).unwrap() - 1] += 1;
        }
        assert_eq!(found, expected, "{asked:?} in {limit}");
    }
}

#[test]
fn points_and_counts_come_from_the_steps() {
    let passages = REGISTRY.passages();
    let points = vec![(Role::Scheduler, "leased"), (Role::Conductor, "written")];
    assert_eq!((passages[0].operation, &passages[0].points), ("copy", &points));
    let counts = REGISTRY.counts();
    let names: Vec<_> = counts
        .steps()
        .iter()
        .map(|count| (count.operation, count.what))
        .collect();
    assert_eq!(names, [("copy", "find"), ("copy", "write"), ("wipe", "write")]);
}
