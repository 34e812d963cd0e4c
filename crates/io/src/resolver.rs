//! Link addresses on own links: what the kernel's neighbour table does for its devices.
//!
//! An entry exists for next hops that were asked for, and for nobody else: what others claim of
//! addresses that nobody asked for is not remembered. [`crate::neighbours`] decides whom to ask, when
//! again, and when packets have waited long enough; this only keeps what was heard, and for how long it
//! holds. Entries are reported in the words of the kernel (`NUD_*`). Several workers may ask for the same
//! next hop; it is asked for once.

use std::collections::HashMap;
use std::time::Duration;

use fairway_types::Time;

use crate::neighbours::Target;
use crate::netlink::message::{Neighbour, Report};

/// How long an answer holds (RFC 4861, `REACHABLE_TIME`).
const REACHABLE: Duration = Duration::from_secs(30);
/// How long an entry is kept after it was asked for last.
const KEPT: Duration = Duration::from_secs(60);
/// How many questions without answer mean that nobody is there (`MAX_UNICAST_SOLICIT`).
const QUESTIONS: u8 = 3;
/// How many next hops are known at once.
const ENTRIES: usize = 16_384;
/// How long nobody else asks again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often entries are looked at.
const REFRESH: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Entry {
    mac: Option<[u8; 6]>,
    /// When the link address was heard last.
    heard: Time,
    asked: Time,
    unanswered: u8,
    state: u16,
}

/// What is known of the neighbours on own links.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    entries: HashMap<Target, Entry>,
    next_refresh: Time,
}

impl Resolver {
    /// Notes that `target` is asked for; `None` when there is no room to remember the answer.
    pub(crate) fn ask(&mut self, target: Target, now: Time) -> Option<Asked> {
        if !self.entries.contains_key(&target) && self.entries.len() >= ENTRIES {
            return None;
        }
        let fresh = Entry { mac: None, heard: now, asked: now, unanswered: 0, state: libc::NUD_INCOMPLETE };
        let entry = self.entries.entry(target).or_insert(fresh);
        if entry.unanswered > 0 && now.since(entry.asked) < PAUSE {
            return Some(Asked { send: false, news: None });
        }
        entry.asked = now;
        if entry.state == libc::NUD_REACHABLE {
            // Whoever asks has not heard of it.
            return Some(Asked { send: false, news: Some(report(target, entry)) });
        }
        let silent = entry.unanswered >= QUESTIONS;
        entry.unanswered = entry.unanswered.saturating_add(1);
        // Nobody is there any more, but somebody else may come: it is asked on.
        let gave_up = silent && entry.mac.take().is_some();
        if silent {
            entry.state = libc::NUD_FAILED;
        }
        Some(Asked { send: true, news: gave_up.then(|| report(target, entry)) })
    }

    /// Somebody says which link address `target` has. A report comes if it was asked for.
    pub(crate) fn heard(&mut self, target: Target, mac: [u8; 6], now: Time) -> Option<Report> {
        let entry = self.entries.get_mut(&target)?;
        (entry.mac, entry.heard, entry.unanswered) = (Some(mac), now, 0);
        entry.state = libc::NUD_REACHABLE;
        Some(report(target, entry))
    }

    /// The link address that is known of `target`, if any.
    pub(crate) fn mac(&self, target: Target) -> Option<[u8; 6]> {
        self.entries.get(&target)?.mac
    }

    /// Reports what grew stale, and forgets what nobody asks for.
    pub(crate) fn handle_timeout(&mut self, now: Time, mut changed: impl FnMut(Target, Report)) {
        if now < self.next_refresh {
            return;
        }
        self.next_refresh = now + REFRESH;
        self.entries.retain(|&target, entry| {
            if now.since(entry.asked) >= KEPT && now.since(entry.heard) >= KEPT {
                let gone = Neighbour { index: target.0, address: target.1, mac: None, state: 0 };
                changed(target, Report::NeighbourGone(gone));
                return false;
            }
            if entry.state == libc::NUD_REACHABLE && now.since(entry.heard) >= REACHABLE {
                entry.state = libc::NUD_STALE;
                changed(target, report(target, entry));
            }
            true
        });
    }
}

/// What comes of asking for somebody.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Whether a question is to be sent.
    pub(crate) send: bool,
    /// What is known already, or does not hold any more.
    pub(crate) news: Option<Report>,
}

fn report((index, address): Target, entry: &Entry) -> Report {
    Report::Neighbour(Neighbour { index, address, mac: entry.mac, state: entry.state })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = (1 << 31, core::net::IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn neighbour(mac: Option<[u8; 6]>, state: u16) -> Report {
        Report::Neighbour(Neighbour { index: TARGET.0, address: TARGET.1, mac, state })
    }

    #[test]
    fn only_who_was_asked_for_is_heard() {
        let mut resolver = Resolver::default();
        let now = Time::from_secs(1);
        assert_eq!(resolver.heard(TARGET, [7; 6], now), None);
        assert_eq!(resolver.ask(TARGET, now), Some(Asked { send: true, news: None }));
        assert_eq!(resolver.ask(TARGET, now), Some(Asked { send: false, news: None }), "another worker");
        let known = neighbour(Some([7; 6]), libc::NUD_REACHABLE);
        assert_eq!(resolver.heard(TARGET, [7; 6], now), Some(known.clone()));
        assert_eq!(
            resolver.ask(TARGET, now),
            Some(Asked { send: false, news: Some(known) }),
            "who was not told"
        );
        // It has another link address now, and says so itself.
        assert_eq!(resolver.heard(TARGET, [8; 6], now), Some(neighbour(Some([8; 6]), libc::NUD_REACHABLE)));
        assert_eq!(resolver.mac(TARGET), Some([8; 6]));
    }

    #[test]
    fn what_was_heard_holds_for_a_while_and_fails_when_it_is_not_confirmed() {
        let mut resolver = Resolver::default();
        let mut reports = Vec::new();
        resolver.ask(TARGET, Time::ZERO);
        resolver.heard(TARGET, [7; 6], Time::ZERO);
        resolver.handle_timeout(Time::from_secs(29), |_, report| reports.push(report));
        assert!(reports.is_empty());
        resolver.handle_timeout(Time::from_secs(30), |_, report| reports.push(report));
        assert_eq!(reports, [neighbour(Some([7; 6]), libc::NUD_STALE)]);
        for second in 31..34 {
            assert_eq!(resolver.ask(TARGET, Time::from_secs(second)), Some(Asked { send: true, news: None }));
        }
        let failed = resolver.ask(TARGET, Time::from_secs(34)).unwrap().news;
        assert_eq!(failed, Some(neighbour(None, libc::NUD_FAILED)));
        assert_eq!(resolver.ask(TARGET, Time::from_secs(35)).unwrap().news, None, "said once");
        assert!(resolver.heard(TARGET, [9; 6], Time::from_secs(36)).is_some(), "and it may come back");
    }

    #[test]
    fn entries_are_bounded_and_forgotten() {
        let mut resolver = Resolver::default();
        let target = |number: u32| (TARGET.0, core::net::Ipv4Addr::from(number).into());
        let asked =
            (0..ENTRIES as u32 * 2).filter(|&n| resolver.ask(target(n), Time::ZERO).is_some()).count();
        assert_eq!(asked, ENTRIES);
        let mut gone = 0;
        resolver.handle_timeout(Time::ZERO + KEPT, |_, _| gone += 1);
        assert_eq!((gone, resolver.entries.len()), (ENTRIES, 0));
    }
}
