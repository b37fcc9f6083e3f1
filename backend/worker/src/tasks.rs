//! The tasks of a worker: all that it does at the same time goes through here, so that a simulator of many workers in
//! one thread can tell whose turn it is, hold one up, and end it as the end of a process would.

use std::{future::Future, pin::Pin};

use tokio::task::JoinHandle;

/// A task of a worker.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the tasks of one worker run in.
pub trait Tasks: Send + Sync + 'static {
    /// What is spawned for a task.
    fn within(&self, task: Task) -> Task;
}

/// Tasks that run as they are: of a worker that is alone in its process, or shares its fate with the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Free;

impl Tasks for Free {
    fn within(&self, task: Task) -> Task {
        task
    }
}

impl dyn Tasks {
    /// Spawns a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(self.within(Box::pin(task)))
    }
}
