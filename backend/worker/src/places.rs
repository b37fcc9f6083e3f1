//! Places for work that takes hours, of which a host does a few things at a time. Whoever the work is for take turns: the
//! next place is for the one that has waited for its turn longest, however much another wants done, and nobody has more
//! than a share of all places at a time. What may take longest leaves the last place to what others wait for. Copies of
//! whole disks have places, and snapshots that are taken have others; who waits for one has nothing else that somebody
//! waits for.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Places, and who waits for them. Clones are the same places.
#[derive(Clone, Debug)]
pub(crate) struct Places<K: Ord + Clone>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K: Ord + Clone> {
    state: Mutex<State<K>>,
    /// Places that one may have at a time.
    share: usize,
}

#[derive(Debug)]
struct State<K: Ord + Clone> {
    free: usize,
    /// Places that those may still take who leave the last one.
    but_last: usize,
    /// How many each has that has some.
    has: BTreeMap<K, usize>,
    /// Those that wait, in the order of their turns, each with all that it waits for.
    waiting: VecDeque<(K, VecDeque<Asked<K>>)>,
}

/// Which places one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Any,
    /// All but the last; where there is one alone, that.
    ButLast,
}

/// A place that is waited for.
#[derive(Debug)]
struct Asked<K: Ord + Clone> {
    which: Which,
    give: oneshot::Sender<Place<K>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Ord + Clone>(Option<(Places<K>, K, Which)>);

impl<K: Ord + Clone> Place<K> {
    /// Gives it back; the places that it was of.
    fn back(&mut self) -> Option<Places<K>> {
        let (places, of, which) = self.0.take()?;
        places.give_back(&of, which);
        Some(places)
    }
}

impl<K: Ord + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        if let Some(places) = self.back() {
            places.deal();
        }
    }
}

impl<K: Ord + Clone> Places<K> {
    /// So many places, and of them so many for one; at least one of both.
    pub(crate) fn new(places: usize, share: usize) -> Self {
        Places(Arc::new(Inner {
            state: Mutex::new(State {
                free: places.max(1),
                but_last: places.saturating_sub(1).max(1),
                has: BTreeMap::new(),
                waiting: VecDeque::new(),
            }),
            share: share.max(1),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. Who gives up waiting has given up its turn.
    pub(crate) async fn take(&self, of: K) -> Place<K> {
        self.wait(of, Which::Any).await
    }

    /// The same for what leaves the last place to others.
    pub(crate) async fn take_but_last(&self, of: K) -> Place<K> {
        self.wait(of, Which::ButLast).await
    }

    async fn wait(&self, of: K, which: Which) -> Place<K> {
        loop {
            let (give, given) = oneshot::channel();
            self.queue(of.clone(), Asked { which, give });
            self.deal();
            // Nobody is forgotten who waits.
            if let Ok(place) = given.await {
                return place;
            }
        }
    }

    fn queue(&self, of: K, asked: Asked<K>) {
        let mut state = self.state();
        for (_, theirs) in &mut state.waiting {
            theirs.retain(|asked| !asked.give.is_closed());
        }
        state.waiting.retain(|(_, theirs)| !theirs.is_empty());
        match state.waiting.iter_mut().find(|(other, _)| *other == of) {
            Some((_, theirs)) => theirs.push_back(asked),
            None => state.waiting.push_back((of, VecDeque::from([asked]))),
        }
    }

    /// Gives all places that can be given.
    fn deal(&self) {
        while let Some((place, give)) = self.next() {
            // Whoever has given up waiting has no use for it.
            if let Err(mut unwanted) = give.send(place) {
                unwanted.back();
            }
        }
    }

    /// A place, and whose turn it is.
    fn next(&self) -> Option<(Place<K>, oneshot::Sender<Place<K>>)> {
        let mut state = self.state();
        let State {
            free,
            but_last,
            has,
            waiting,
        } = &mut *state;
        if *free == 0 {
            return None;
        }
        let may = |of: &K| has.get(of).is_none_or(|count| *count < self.0.share);
        // What waits for any place passes by what leaves the last one.
        let fits = |asked: &Asked<K>| asked.which == Which::Any || *but_last > 0;
        let mut first = waiting.iter().enumerate().filter(|(_, (of, _))| may(of));
        let (at, nth) = first.find_map(|(at, (_, theirs))| Some((at, theirs.iter().position(fits)?)))?;
        let (of, mut theirs) = waiting.remove(at)?;
        let Asked { which, give } = theirs.remove(nth)?;
        if !theirs.is_empty() {
            // The rest is behind what all others wait for.
            waiting.push_back((of.clone(), theirs));
        }
        *free -= 1;
        if which == Which::ButLast {
            *but_last -= 1;
        }
        *has.entry(of.clone()).or_default() += 1;
        Some((Place(Some((self.clone(), of, which))), give))
    }

    fn give_back(&self, of: &K, which: Which) {
        let mut state = self.state();
        state.free += 1;
        if which == Which::ButLast {
            state.but_last += 1;
        }
        if let Some(count) = state.has.get_mut(of) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.has.remove(of);
            }
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state();
        let theirs = state.waiting.iter().flat_map(|(_, theirs)| theirs);
        theirs.filter(|asked| !asked.give.is_closed()).count()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin};

    use super::*;

    type Waits = Pin<Box<dyn Future<Output = Place<u8>>>>;

    /// Waits for a place from now on.
    fn waits(places: &Places<u8>, of: u8) -> Waits {
        waits_for(places, of, Which::Any)
    }

    fn waits_for(places: &Places<u8>, of: u8, which: Which) -> Waits {
        let places = places.clone();
        let mut waits: Waits = Box::pin(async move { places.wait(of, which).await });
        assert!(got(&mut waits).is_none(), "{of}");
        waits
    }

    /// The place, if it has come.
    fn got(waits: &mut Waits) -> Option<Place<u8>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match waits.as_mut().poll(&mut context) {
            std::task::Poll::Ready(place) => Some(place),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_much_waits_behind_what_others_wait_for_first() {
        let places = Places::new(1, 1);
        let held = places.take(9).await;
        let [mut a1, mut a2, mut a3, mut b1, mut c1] = [1, 1, 1, 2, 3].map(|of| waits(&places, of));
        assert_eq!(places.waiting(), 5);
        drop(held);
        for next in [&mut a1, &mut b1, &mut c1, &mut a2, &mut a3] {
            let place = got(next).expect("it is its turn");
            assert_eq!(place.0.as_ref().map(|(places, ..)| places.state().free), Some(0));
            drop(place);
        }
        assert_eq!(places.waiting(), 0);
        let state = places.state();
        assert!(state.free == 1 && state.has.is_empty() && state.waiting.is_empty());
    }

    #[tokio::test]
    async fn nobody_has_more_than_a_share() {
        let places = Places::new(4, 2);
        let (one, _two) = (places.take(1).await, places.take(1).await);
        let mut three = waits(&places, 1);
        // There is room for others, who don't wait for it.
        let _other = places.take(2).await;
        assert!(got(&mut three).is_none());
        drop(one);
        assert!(got(&mut three).is_some());
    }

    #[tokio::test]
    async fn whoever_gives_up_is_passed_over_and_loses_no_place() {
        let places = Places::new(1, 1);
        let held = places.take(1).await;
        let [gone, mut next] = [2, 3].map(|of| waits(&places, of));
        drop(gone);
        assert_eq!(places.waiting(), 1);
        drop(held);
        // Nor where it is given up when the place has come.
        let place = got(&mut next).unwrap();
        let (given, mut last) = (waits(&places, 4), waits(&places, 5));
        drop(place);
        assert!(got(&mut last).is_none());
        drop(given);
        assert!(got(&mut last).is_some());
        for _ in 0..1000 {
            drop(places.take(6).await);
        }
        assert!(places.state().waiting.is_empty());
    }

    #[tokio::test]
    async fn what_leaves_the_last_place_is_passed_by_what_does_not() {
        let places = Places::new(3, 3);
        let [one, two] = [places.take_but_last(1).await, places.take_but_last(1).await];
        let mut third = waits_for(&places, 1, Which::ButLast);
        // The last one: for somebody else, and for the same one, who waits for less.
        for of in [2, 1] {
            drop(places.take(of).await);
            assert!(got(&mut third).is_none(), "{of}");
        }
        let last = places.take(2).await;
        drop(one);
        let third = got(&mut third).expect("there is one that is not the last");
        drop((two, third, last));
        let state = places.state();
        assert_eq!((state.free, state.but_last), (3, 2));
    }

    /// Who gives up when the place has come gives back what it was.
    #[tokio::test]
    async fn what_leaves_the_last_place_loses_none_when_it_gives_up() {
        let places = Places::new(2, 2);
        let held = places.take_but_last(1).await;
        let [given, mut next] = [2, 3].map(|of| waits_for(&places, of, Which::ButLast));
        drop(held);
        assert!(got(&mut next).is_none());
        drop(given);
        assert!(got(&mut next).is_some());
        assert_eq!(places.state().but_last, 1);
    }

    #[tokio::test]
    async fn there_is_always_a_place() {
        drop(Places::new(0, 0).take(1).await);
        for places in [0, 1] {
            drop(Places::new(places, 1).take_but_last(1).await);
        }
    }
}
