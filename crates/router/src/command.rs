//! Questions and orders to a worker, answered between two batches.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use fairway_io::Waker;

use crate::worker::{Core, Task};

/// Tasks that wait for the worker at most.
const WAITING: usize = 64;
/// How long an answer may take before the worker counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why the worker did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Too many tasks wait already.
    #[error("the router is busy with other requests")]
    Busy,
    /// The worker has ended.
    #[error("the router is shutting down")]
    Ended,
    /// The worker did not get to it in time.
    #[error("the worker did not answer in {} seconds", PATIENCE.as_secs())]
    Stuck,
}

/// A question that a worker has not answered yet.
pub(crate) struct Asked<T>(Receiver<T>);

impl<T> Asked<T> {
    /// Waits for the answer.
    pub(crate) fn answer(self) -> Result<T, Unanswered> {
        self.0.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => Unanswered::Stuck,
            RecvTimeoutError::Disconnected => Unanswered::Ended,
        })
    }
}

/// The way to a worker; clones lead to the same one.
#[derive(Clone)]
pub(crate) struct Handle {
    tasks: SyncSender<Task>,
    waker: Waker,
}

impl Handle {
    /// A way to the worker that `waker` wakes, and its other end.
    pub(crate) fn new(waker: Waker) -> (Self, Receiver<Task>) {
        let (tasks, receiver) = sync_channel(WAITING);
        (Self { tasks, waker }, receiver)
    }

    /// Lets the worker run `task`, and waits for what it gives.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.begin(task)?.answer()
    }

    /// [`Self::ask`], without waiting yet.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<Asked<T>, Unanswered> {
        let (sender, answer) = sync_channel(1);
        self.order(move |core| {
            // Whoever asked may have given up.
            let _ = sender.send(task(core));
        })?;
        Ok(Asked(answer))
    }

    /// Lets the worker run `task`, and does not wait.
    pub(crate) fn order(&self, task: impl FnOnce(&mut Core) + Send + 'static) -> Result<(), Unanswered> {
        self.tasks.try_send(Box::new(task)).map_err(|error| match error {
            TrySendError::Full(_) => Unanswered::Busy,
            TrySendError::Disconnected(_) => Unanswered::Ended,
        })?;
        self.waker.wake();
        Ok(())
    }
}
