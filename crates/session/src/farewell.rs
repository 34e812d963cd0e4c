//! Telling neighbours that sessions are gone, when a new configuration ended them.
//!
//! That may be all sessions there are, at once. To sign and send so many messages takes seconds, in which no
//! packet would be looked at and peers would think that this router is gone; and a neighbour that heard them
//! as fast as they can be sent would lose most of them. So they wait here, and go out a few at a time.

use std::collections::VecDeque;
use std::time::Duration;

use fairway_types::{InterfaceId, Now, Outlet, PathId, Time};
use fairway_wire::svr::{Control, HeaderTlvs};

use crate::control::Neighbour;
use crate::engine::Engine;
use crate::session::{Session, Side};

/// So many go out together, and so soon after the last of them the next: 16,000 a second.
const AT_ONCE: usize = 64;
const INTERVAL: Duration = Duration::from_millis(4);

/// Those that are still to hear of the end of a session.
#[derive(Default)]
pub(crate) struct Farewells {
    waiting: VecDeque<Neighbour>,
    next: Time,
}

impl Farewells {
    /// When some of them are due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then_some(self.next)
    }

    /// Has the neighbours of a session told soon.
    pub(crate) fn push(&mut self, session: &Session) {
        self.waiting.extend(Side::BOTH.into_iter().filter_map(|side| Neighbour::of(session, side)));
    }

    /// Goes over to other numbers. Whom nothing leads to any more will not hear.
    pub(crate) fn renumber(
        &mut self,
        interface: impl Fn(InterfaceId) -> Option<InterfaceId>,
        path: impl Fn(PathId) -> Option<PathId>,
    ) {
        self.waiting.retain_mut(|to| match (interface(to.key.interface), path(to.path)) {
            (Some(interface), Some(path)) => {
                (to.key.interface, to.path) = (interface, path);
                true
            }
            _ => false,
        });
    }
}

impl Engine {
    /// Tells some of those that wait.
    pub(crate) fn say_farewells(&mut self, now: Now, outlet: &mut Outlet<'_>) {
        if self.farewells.deadline().is_none_or(|due| due > now.mono) {
            return;
        }
        self.farewells.next = now.mono + INTERVAL;
        for _ in 0..AT_ONCE.min(outlet.room() / 2) {
            let Some(to) = self.farewells.waiting.pop_front() else { break };
            let header = HeaderTlvs { control: Some(Control::DeleteSession), ..HeaderTlvs::default() };
            self.send_control_to(now, &to, header, outlet);
        }
    }
}
