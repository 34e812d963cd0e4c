//! All workers of a router, to be asked at once; and a change that all of them make, or none.

use std::sync::mpsc::{Receiver, sync_channel};

use crate::command::{Handle, PATIENCE, Unanswered};
use crate::worker::Core;

/// The ways to all workers; the first of them leads.
pub(crate) struct Crew {
    leader: Handle,
    others: Vec<Handle>,
}

impl Crew {
    /// The workers behind these handles; the first of them leads.
    pub(crate) fn new(leader: Handle, others: Vec<Handle>) -> Self {
        Self { leader, others }
    }

    /// The one that speaks for all where all would say the same.
    pub(crate) const fn leader(&self) -> &Handle {
        &self.leader
    }

    fn all(&self) -> impl Iterator<Item = &Handle> {
        std::iter::once(&self.leader).chain(&self.others)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// One of them, by its number.
    pub(crate) fn get(&self, worker: usize) -> Option<&Handle> {
        self.all().nth(worker)
    }

    /// Lets every worker run `task`, all at the same time, and gives what comes of it in their order.
    pub(crate) fn ask_each<T: Send + 'static>(
        &self,
        task: impl Fn(&mut Core) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Unanswered> {
        let asked: Result<Vec<_>, _> = self.all().map(|handle| handle.begin(task.clone())).collect();
        asked?.into_iter().map(crate::command::Asked::answer).collect()
    }

    /// Lets every worker run `task`, and does not wait.
    pub(crate) fn order_each(&self, task: impl Fn(&mut Core) + Clone + Send + 'static) {
        for handle in self.all() {
            // A worker that has ended hears nothing, and need not.
            let _ = handle.order(task.clone());
        }
    }

    /// Makes a change in two steps. Each worker in turn, the leader first, does `prepare`, which may
    /// fail, and then decides about no packet until all have: then the leader does `commit` and after it
    /// the others, all at once, or those that have prepared `revert`.
    pub(crate) fn change<T: Send + 'static>(
        &self,
        prepare: impl Fn(&mut Core) -> Result<(), String> + Clone + Send + 'static,
        commit: impl Fn(&mut Core) -> T + Clone + Send + 'static,
        revert: impl Fn(&mut Core) + Clone + Send + 'static,
    ) -> Result<Vec<T>, String> {
        let mut prepared = Vec::new();
        for handle in self.all() {
            match Prepared::begin(handle, prepare.clone(), commit.clone(), revert.clone()) {
                Ok(worker) => prepared.push(worker),
                Err(problem) => {
                    // Dropping the others lets them revert.
                    return Err(problem);
                }
            }
        }
        let Some((leader, others)) = prepared.split_first() else { return Ok(Vec::new()) };
        leader.commit();
        let first = leader.answer()?;
        others.iter().for_each(Prepared::commit);
        std::iter::once(Ok(first)).chain(others.iter().map(Prepared::answer)).collect()
    }
}

/// A worker that waits for a change to be made; dropping this takes it back.
struct Prepared<T> {
    go: std::sync::mpsc::SyncSender<()>,
    result: Receiver<T>,
}

impl<T: Send + 'static> Prepared<T> {
    fn begin(
        handle: &Handle,
        prepare: impl Fn(&mut Core) -> Result<(), String> + Send + 'static,
        commit: impl Fn(&mut Core) -> T + Send + 'static,
        revert: impl Fn(&mut Core) + Send + 'static,
    ) -> Result<Self, String> {
        let (go, gone) = sync_channel::<()>(1);
        let (ready, is_ready) = sync_channel(1);
        let (done, result) = sync_channel(1);
        let ordered = handle.order(move |core| {
            let outcome = prepare(core);
            let failed = outcome.is_err();
            // Whoever asked may have given up: then nothing comes, either.
            let _ = ready.send(outcome);
            if failed {
                return;
            }
            match gone.recv_timeout(PATIENCE) {
                Ok(()) => {
                    let _ = done.send(commit(core));
                }
                Err(_) => revert(core),
            }
        });
        ordered.map_err(|error| error.to_string())?;
        is_ready.recv_timeout(PATIENCE).map_err(|_| Unanswered::Stuck.to_string())??;
        Ok(Self { go, result })
    }

    /// Lets it make the change. Its answer says whether it heard.
    fn commit(&self) {
        let _ = self.go.send(());
    }

    fn answer(&self) -> Result<T, String> {
        self.result.recv_timeout(PATIENCE).map_err(|_| Unanswered::Stuck.to_string())
    }
}
