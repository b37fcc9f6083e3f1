//! Guests' agents of all manners, and what is done with them.

use std::cell::{Cell, RefCell};

use super::*;

/// An agent that does as it is told to, and what it was asked for.
struct Told {
    answers: Result<bool, String>,
    freeze: Freeze,
    thaws: Cell<bool>,
    marked: Cell<bool>,
    asked: RefCell<Vec<&'static str>>,
}

impl Default for Told {
    fn default() -> Self {
        Told {
            answers: Ok(true),
            freeze: Freeze::Done(2),
            thaws: Cell::new(true),
            marked: Cell::new(false),
            asked: RefCell::default(),
        }
    }
}

impl Told {
    fn was(&self, what: &'static str) {
        self.asked.borrow_mut().push(what);
    }

    /// What it was asked for since.
    fn asked(&self) -> Vec<&'static str> {
        self.asked.take()
    }

    fn begin(&self) -> Outcome {
        let (done, outcome) = while_frozen(self, || {
            self.was("begin");
            7
        });
        assert_eq!(done, 7, "the copies begin whatever the agent does");
        outcome
    }
}

impl Agent for Told {
    fn answers(&self) -> Result<bool, String> {
        self.answers.clone()
    }

    fn is_marked(&self) -> Result<bool, String> {
        Ok(self.marked.get())
    }

    fn mark(&self, may_be_frozen: bool) -> Result<(), String> {
        self.was(if may_be_frozen { "mark" } else { "unmark" });
        self.marked.set(may_be_frozen);
        Ok(())
    }

    fn freeze(&self) -> Freeze {
        self.was("freeze");
        self.freeze.clone()
    }

    fn thaw(&self) -> Result<(), String> {
        self.was("thaw");
        if self.thaws.get() {
            Ok(())
        } else {
            Err("late".into())
        }
    }
}

const ONE: InstanceId = InstanceId::new(1 << 44);

#[test]
fn the_copies_begin_between_a_freeze_and_a_thaw_and_the_mark_is_there_all_the_while() {
    let agent = Told::default();
    let outcome = agent.begin();
    assert!(matches!(outcome.moment, Moment::Frozen(2, _)) && outcome.left.is_none());
    assert_eq!(agent.asked(), ["mark", "freeze", "begin", "thaw", "unmark"]);
}

#[test]
fn an_agent_that_is_not_there_or_does_not_answer_is_asked_for_nothing() {
    let agent = Told {
        answers: Ok(false),
        ..Told::default()
    };
    assert_eq!(agent.begin(), Outcome::thawed(Moment::NoAgent));
    assert_eq!(agent.asked(), ["begin"]);
    let agent = Told {
        answers: Err("hangs".into()),
        ..Told::default()
    };
    assert_eq!(agent.begin(), Outcome::thawed(Moment::Written("hangs".into())));
    assert_eq!(agent.asked(), ["begin"]);
}

#[test]
fn what_is_not_known_to_be_frozen_is_thawed_too_and_what_was_refused_is_not() {
    let agent = Told {
        freeze: Freeze::Unanswered("late".into()),
        ..Told::default()
    };
    assert_eq!(agent.begin(), Outcome::thawed(Moment::Written("late".into())));
    assert_eq!(agent.asked(), ["mark", "freeze", "begin", "thaw", "unmark"]);
    // The guest's own administrator may have frozen something.
    let agent = Told {
        freeze: Freeze::Refused("disabled".into()),
        ..Told::default()
    };
    assert_eq!(agent.begin(), Outcome::thawed(Moment::Written("disabled".into())));
    assert_eq!(agent.asked(), ["mark", "freeze", "begin", "unmark"]);
    let agent = Told {
        freeze: Freeze::Done(0),
        ..Told::default()
    };
    assert!(matches!(agent.begin().moment, Moment::Written(_)));
    assert_eq!(agent.asked(), ["mark", "freeze", "begin", "thaw", "unmark"]);
}

#[test]
fn what_could_not_be_thawed_stays_marked_and_is_not_frozen_again_before_it_is() {
    let (freezes, agent) = (Freezes::default(), Told::default());
    agent.thaws.set(false);
    freezes.around(ONE, &agent, || ());
    assert_eq!(agent.asked(), ["mark", "freeze", "thaw"]);
    assert_eq!((freezes.left(), agent.marked.get()), (vec![ONE], true));
    freezes.around(ONE, &agent, || ());
    assert_eq!(agent.asked(), ["thaw"]);
    let counts = Quiesced {
        frozen: 1,
        failed: 1,
        left: 1,
    };
    assert_eq!(freezes.counts(), counts);
    agent.thaws.set(true);
    assert_eq!(thaw_marked(&agent), Ok(true));
    assert_eq!(agent.asked(), ["thaw", "unmark"]);
    assert_eq!(thaw_marked(&agent), Ok(false));
    assert!(agent.asked().is_empty(), "who has frozen nothing thaws nothing");
    freezes.remove(ONE);
    freezes.around(ONE, &agent, || ());
    assert_eq!(freezes.counts().left, 0);
}

#[test]
fn what_a_process_of_before_has_left_is_thawed_before_the_next_freeze() {
    let agent = Told::default();
    agent.marked.set(true);
    assert!(matches!(agent.begin().moment, Moment::Frozen(2, _)));
    let all = ["thaw", "unmark", "mark", "freeze", "begin", "thaw", "unmark"];
    assert_eq!(agent.asked(), all);
    let gone = Told {
        answers: Ok(false),
        ..Told::default()
    };
    gone.marked.set(true);
    assert_eq!(thaw_marked(&gone), Err("its agent is not there".into()));
    let outcome = gone.begin();
    assert!(outcome.left.is_some() && gone.marked.get());
    assert_eq!(gone.asked(), ["begin"]);
}

#[test]
fn no_thaw_comes_between_a_freeze_and_its_moment() {
    let freezes = Freezes::default();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        freezes.alone(ONE, || {
            let other = sender.clone();
            scope.spawn(|| freezes.alone(ONE, move || other.send("second")));
            freezes.alone(InstanceId::new(2 << 44), || ());
            std::thread::yield_now();
            sender.send("first").unwrap();
        });
    });
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["first", "second"]);
}
