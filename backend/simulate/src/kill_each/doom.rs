//! The death that a run is for: at which point, how often, and who dies of it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use cumulet_domain::crash::{self, Point, Role};

use crate::{
    host::{self, Host},
    roles::Api,
    roles::ConductorRole,
    world::World,
};

/// What is to happen at the points that a run passes.
#[derive(Default)]
pub(crate) struct Doom {
    state: Mutex<State>,
    mortals: OnceLock<Mortals>,
}

#[derive(Default)]
struct State {
    point: Option<Point>,
    /// Deaths that are still to come.
    left: u32,
    deaths: u32,
    /// All points that were passed since the death was planned.
    passed: BTreeSet<String>,
}

/// Who can die. In one process all of them die together.
pub(super) struct Mortals {
    pub(super) together: bool,
    pub(super) api: Arc<Api>,
    pub(super) scheduler: Arc<ConductorRole>,
    pub(super) conductor: Arc<ConductorRole>,
    pub(super) hosts: Vec<Arc<Host>>,
}

impl Doom {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the role that comes to the point dies, so many times; without one, points are only noted.
    pub(super) fn plan(&self, death: Option<(Point, u32)>) {
        let left = death.as_ref().map_or(0, |(_, deaths)| *deaths);
        *self.state() = State {
            left,
            point: death.map(|(point, _)| point),
            ..State::default()
        };
    }

    /// Nobody dies any more.
    pub(super) fn calm(&self) {
        self.state().left = 0;
    }

    /// How many have died.
    pub(super) fn deaths(&self) -> u32 {
        self.state().deaths
    }

    /// The points that were passed.
    pub(super) fn passed(&self) -> BTreeSet<String> {
        self.state().passed.clone()
    }

    /// Whether the role that passes this point dies of it; then the roles in the same process die too.
    fn strikes(&self, world: &World, name: &str) -> bool {
        let (role, again) = {
            let mut state = self.state();
            state.passed.insert(name.to_owned());
            let Some(point) = state.point.as_ref().filter(|point| point.name == name) else {
                return false;
            };
            let role = point.role;
            if state.left == 0 {
                return false;
            }
            state.left -= 1;
            state.deaths += 1;
            (role, state.deaths > 1)
        };
        world.note(format_args!("at {name}"));
        if let Some(mortals) = self.mortals.get() {
            mortals.die(role, again);
        }
        true
    }
}

impl Mortals {
    /// The processes with the role die. What a scheduler had placed before it died the conductor goes on with, so that from
    /// the second death on it can't be told which of the two it is: both.
    fn die(&self, role: Role, again: bool) {
        if self.together || role == Role::Gateway {
            self.api.kill();
        }
        let either = again && matches!(role, Role::Scheduler | Role::Conductor);
        if self.together || either || role == Role::Scheduler {
            self.scheduler.kill();
        }
        // Where both are one process, it has died by now.
        let apart = !Arc::ptr_eq(&self.scheduler, &self.conductor);
        if apart && (self.together || either || role == Role::Conductor) {
            self.conductor.kill();
        }
        if role == Role::Host
            && let Some(host) = host::current()
        {
            host.kill();
        }
        if self.together {
            self.hosts.iter().for_each(|host| host.kill());
        }
    }

    /// From now on these die where the run's death strikes.
    pub(super) fn meet(self, world: &Arc<World>, doom: &Arc<Doom>) {
        drop(doom.mortals.set(self));
        let (world, doom) = (world.clone(), doom.clone());
        crash::hook(Some(Box::new(move |name| doom.strikes(&world, name))));
    }
}
