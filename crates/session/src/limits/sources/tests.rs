use std::net::Ipv4Addr;

use super::*;

const LAN: InterfaceId = InterfaceId(1);

fn of(interface: InterfaceId, address: IpAddr) -> Source {
    Source::of(&crate::limits::tests::flow(interface, address))
}

const UNANSWERED: Standing = Standing { half_open: false, proven: false };
const ANSWERED: Standing = Standing { half_open: false, proven: true };

fn source(number: u32) -> Source {
    of(LAN, IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)))
}

fn quota(sessions: u32, session_rate: u32) -> Quota {
    Quota { sessions, half_open: 5, session_rate }
}

fn held(sources: &Sources, source: &Source) -> Option<Holding> {
    sources.holdings().find(|((own, _), _)| own.as_ref() == Some(source)).map(|(_, holding)| holding)
}

#[test]
fn ipv6_hosts_of_one_prefix_are_one_source() {
    let [a, b, c]: [IpAddr; 3] = ["fd00::1", "fd00::ffff:1:2:3", "fd00:0:0:1::1"].map(|a| a.parse().unwrap());
    assert_eq!(of(LAN, a), of(LAN, b));
    assert_ne!(of(LAN, a), of(LAN, c));
    assert_ne!(of(LAN, a), of(InterfaceId(2), a));
    assert_eq!(of(LAN, b).address(), "fd00::".parse::<IpAddr>().unwrap());
    let v4: IpAddr = "10.0.0.1".parse().unwrap();
    assert_eq!(of(LAN, v4).address(), v4);
    let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
    assert_ne!(of(LAN, v4), of(LAN, mapped));
}

#[test]
fn a_source_has_its_quota_and_no_more() {
    let mut sources = Sources::new(100, quota(3, 100), 1, Arc::new(Board::new(1)));
    let (one, other) = (source(1), source(2));
    for _ in 0..3 {
        assert_eq!(sources.check(Time::ZERO, &one, false), Ok(false));
        assert!(!sources.join(Time::ZERO, &one, UNANSWERED, false));
    }
    assert_eq!(sources.check(Time::ZERO, &one, false), Err(LimitKind::Sessions));
    assert_eq!(sources.check(Time::ZERO, &other, false), Ok(false));
    sources.change(&one, false, UNANSWERED, ANSWERED);
    sources.leave(&one, false, UNANSWERED);
    assert_eq!(sources.check(Time::ZERO, &one, false), Ok(true), "it has a session with an answer");
    assert_eq!(held(&sources, &one), Some(Holding { sessions: 2, half_open: 0, proven: 1 }));
}

#[test]
fn a_source_begins_sessions_at_its_rate() {
    let mut sources = Sources::new(100, quota(u32::MAX, 50), 1, Arc::new(Board::new(1)));
    let one = source(1);
    let mut begun = 0;
    for millis in 0..10_000 {
        let now = Time::from_millis(millis);
        if sources.check(now, &one, false).is_ok() {
            sources.join(now, &one, UNANSWERED, false);
            begun += 1;
        }
    }
    assert!((500..=510).contains(&begun), "{begun}");
}

#[test]
fn half_open_sessions_are_limited_apart() {
    let mut sources = Sources::new(100, quota(100, 1000), 1, Arc::new(Board::new(1)));
    let opening = Standing { half_open: true, proven: false };
    for _ in 0..5 {
        sources.join(Time::ZERO, &source(1), opening, false);
    }
    assert_eq!(sources.check(Time::ZERO, &source(1), true), Err(LimitKind::HalfOpen));
    assert_eq!(sources.check(Time::ZERO, &source(1), false), Ok(false));
}

/// A million sources with a session each, while the table has room for a thousand.
#[test]
fn a_flood_of_sources_neither_grows_the_table_nor_takes_accounts_away() {
    let mut sources = Sources::new(1000, quota(100, 1000), 1, Arc::new(Board::new(1)));
    let bytes = sources.bytes();
    let victim = source(0);
    sources.join(Time::ZERO, &victim, ANSWERED, false);
    let mut shared = 0;
    for number in 1..=1_000_000 {
        shared += usize::from(sources.join(Time::from_secs(1), &source(number), UNANSWERED, false));
    }
    assert_eq!(sources.bytes(), bytes);
    assert!(bytes < 64 * 1024, "{bytes}");
    assert!(shared > 990_000, "{shared}");
    assert_eq!(held(&sources, &victim), Some(Holding { sessions: 1, half_open: 0, proven: 1 }));
    assert_eq!(sources.check(Time::from_secs(1), &victim, false), Ok(true));
    let sum: u32 = sources.holdings().map(|(_, holding)| holding.sessions).sum();
    assert_eq!(sum, 1_000_001);
}

#[test]
fn an_account_that_is_idle_longest_gives_its_place() {
    let mut sources = Sources::with_sets(1, quota(10, 10), 1, Arc::new(Board::new(1)));
    for number in 0..WAYS as u32 {
        let now = Time::from_secs(1 + u64::from(number));
        sources.join(now, &source(number), UNANSWERED, false);
    }
    assert!(sources.join(Time::from_secs(20), &source(50), UNANSWERED, false), "all are in use");
    sources.leave(&source(3), false, UNANSWERED);
    sources.leave(&source(5), false, UNANSWERED);
    assert!(!sources.join(Time::from_secs(20), &source(51), UNANSWERED, false));
    assert_eq!(held(&sources, &source(51)).map(|holding| holding.sessions), Some(1));
    // Source 5 was idle, too, but not so long: it has its tokens still.
    sources.quota.session_rate = 1;
    assert_eq!(sources.set_number(&source(5)), 0);
    assert!(matches!(sources.sets[0].place(&source(5)), Place::Own(_)));
    assert!(matches!(sources.sets[0].place(&source(3)), Place::Free(_)));
}

/// Sources that share an account, and get one of their own later: never more than twice the quota.
#[test]
fn sharing_an_account_gives_no_source_more_than_twice_its_quota() {
    let mut sources = Sources::with_sets(1, quota(10, 1_000_000), 1, Arc::new(Board::new(1)));
    for number in 0..WAYS as u32 {
        sources.join(Time::ZERO, &source(number), UNANSWERED, false);
    }
    let greedy = source(100);
    let mut begun = 0;
    for _ in 0..100 {
        if sources.check(Time::ZERO, &greedy, false).is_ok() {
            sources.join(Time::ZERO, &greedy, UNANSWERED, false);
            begun += 1;
        }
    }
    assert_eq!(begun, 10);
    sources.leave(&source(0), false, UNANSWERED);
    for _ in 0..100 {
        if sources.check(Time::ZERO, &greedy, false).is_ok() {
            sources.join(Time::ZERO, &greedy, UNANSWERED, false);
            begun += 1;
        }
    }
    assert_eq!(begun, 20);
}

#[test]
fn every_worker_knows_who_has_an_answer_at_any_of_them() {
    let board = Arc::new(Board::new(1));
    let mut workers = [2, 3].map(|secret| Sources::new(100, quota(100, 1000), secret, Arc::clone(&board)));
    let preferred = |workers: &[Sources; 2], number| {
        workers.each_ref().map(|worker| worker.check(Time::ZERO, &source(number), false).unwrap())
    };
    let shared = workers[0].join(Time::ZERO, &source(1), UNANSWERED, false);
    assert_eq!(preferred(&workers, 1), [false; 2]);
    workers[0].change(&source(1), shared, UNANSWERED, ANSWERED);
    workers[0].join(Time::ZERO, &source(2), ANSWERED, false);
    assert_eq!(preferred(&workers, 1), [true; 2]);
    assert_eq!(preferred(&workers, 3), [false; 2]);
    workers[0].leave(&source(1), shared, ANSWERED);
    assert_eq!(preferred(&workers, 1), [false; 2]);
    assert_eq!(preferred(&workers, 2), [true; 2]);
    // What is counted anew is counted once.
    workers[0].clear(false);
    assert_eq!(preferred(&workers, 2), [false; 2]);
    workers[0].join(Time::ZERO, &source(2), ANSWERED, true);
    assert_eq!(preferred(&workers, 2), [true; 2]);
}
