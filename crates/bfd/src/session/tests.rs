use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

const CONFIG: Config = Config {
    desired_tx: Duration::from_millis(100),
    required_rx: Duration::from_millis(50),
    multiplier: 3,
    hold_down: Duration::ZERO,
};

/// A packet of a peer that knows discriminator 1 and calls itself 2.
fn says(state: State) -> Repr {
    Repr {
        state,
        detect_multiplier: 3,
        my_discriminator: 2,
        your_discriminator: 1,
        desired_min_tx: 100_000,
        required_min_rx: 50_000,
        ..Repr::default()
    }
}

fn session() -> Session {
    Session::new(CONFIG, 1, 42, Time::ZERO)
}

fn up() -> Session {
    let mut session = session();
    session.handle_packet(Time::ZERO, &says(State::Init)).unwrap();
    assert_eq!(session.poll_event(), Some(Event::Up));
    while session.poll_transmit(Time::ZERO).is_some() {}
    session
}

/// Two sessions joined by wires that can be cut, each with its own delay, in virtual time.
struct Pair {
    now: Time,
    sides: [Session; 2],
    /// Arrival, receiver, packet.
    wire: Vec<(Time, usize, Repr)>,
    cut: [bool; 2],
    loss: Box<dyn FnMut() -> bool>,
    sent: [Vec<(Time, Repr)>; 2],
    events: [Vec<(Time, Event)>; 2],
}

impl Pair {
    fn new(configs: [Config; 2]) -> Self {
        Self {
            now: Time::ZERO,
            sides: [0, 1].map(|i| Session::new(configs[i], i as u32 + 1, i as u64 + 7, Time::ZERO)),
            wire: Vec::new(),
            cut: [false; 2],
            loss: Box::new(|| false),
            sent: Default::default(),
            events: Default::default(),
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            for side in 0..2 {
                self.drain(side);
            }
            let timers = self.sides.iter().filter_map(Session::poll_timeout);
            let next = timers.chain(self.wire.iter().map(|w| w.0)).min().unwrap_or(end).max(self.now);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next;
            for session in &mut self.sides {
                session.handle_timeout(next);
            }
            let (due, later): (Vec<_>, _) = self.wire.drain(..).partition(|w| w.0 <= next);
            self.wire = later;
            for (_, to, packet) in due {
                // A packet for a session before its restart is discarded; that is part of the game.
                let _ = self.sides[to].handle_packet(next, &packet);
                self.drain(to);
            }
        }
    }

    fn drain(&mut self, side: usize) {
        for _ in 0..10 {
            let Some(packet) = self.sides[side].poll_transmit(self.now) else { break };
            self.sent[side].push((self.now, packet));
            if !self.cut[side] && !(self.loss)() {
                self.wire.push((self.now + 10 * MS, 1 - side, packet));
            }
        }
        assert!(self.sides[side].poll_transmit(self.now).is_none(), "a storm");
        while let Some(event) = self.sides[side].poll_event() {
            self.events[side].push((self.now, event));
        }
    }

    fn both_up(&self) -> bool {
        self.sides.iter().all(Session::is_up)
    }
}

#[test]
fn two_sessions_come_up_within_a_few_round_trips() {
    let mut pair = Pair::new([CONFIG; 2]);
    pair.run(100 * MS);
    assert!(pair.both_up());
    assert_eq!(pair.events.each_ref().map(|e| e.len()), [1, 1]);
}

#[test]
fn a_session_is_slow_until_it_is_up_and_then_as_fast_as_negotiated() {
    let mut pair = Pair::new([CONFIG, Config { required_rx: 300 * MS, ..CONFIG }]);
    pair.cut = [true, true];
    pair.run(10_000 * MS);
    assert!((10..=14).contains(&pair.sent[0].len()), "{}", pair.sent[0].len());
    pair.cut = [false, false];
    pair.run(2000 * MS);
    assert!(pair.both_up());
    assert_eq!(pair.sides.each_ref().map(Session::transmit_interval), [300 * MS, 100 * MS]);
    pair.sent = Default::default();
    pair.run(9000 * MS);
    for (sent, interval) in pair.sent.iter().zip([300, 100]) {
        for window in sent.windows(2) {
            let gap = window[1].0 - window[0].0;
            assert!(interval * 3 / 4 * MS <= gap && gap <= interval * MS, "{gap:?} at {interval}");
        }
    }
}

#[test]
fn silence_takes_a_session_down_after_the_detection_time_and_not_before() {
    let mut pair = Pair::new([CONFIG; 2]);
    pair.run(3000 * MS);
    pair.events = Default::default();
    pair.cut[0] = true;
    let last = pair.wire.iter().filter(|w| w.1 == 1).map(|w| w.0).max();
    let last = last.unwrap_or(pair.sent[0].last().unwrap().0 + 10 * MS);
    assert_eq!(pair.sides[1].detection_time(), 300 * MS);
    pair.run(1000 * MS);
    let down = Event::Down { diagnostic: Diagnostic::ControlDetectionTimeExpired };
    assert_eq!(pair.events[1], [(last + 300 * MS, down)]);
    let told = Event::Down { diagnostic: Diagnostic::NeighborSignaledSessionDown };
    assert_eq!(pair.events[0], [(last + 310 * MS, told)], "the peer is told at once");
}

#[test]
fn a_session_that_came_back_is_held_down_and_a_relapse_is_never_reported() {
    let hold = Config { hold_down: 5000 * MS, ..CONFIG };
    let mut pair = Pair::new([hold; 2]);
    pair.run(500 * MS);
    assert!(pair.both_up(), "the first time is reported at once");
    pair.cut = [true, true];
    pair.run(1000 * MS);
    pair.events = Default::default();
    pair.cut = [false, false];
    pair.run(3000 * MS);
    assert_eq!(pair.sides.each_ref().map(Session::state), [State::Up; 2]);
    assert!(!pair.both_up() && pair.sides[0].held_until().is_some());
    pair.cut = [true, true];
    pair.run(1000 * MS);
    pair.cut = [false, false];
    pair.run(4000 * MS);
    assert_eq!(pair.events, [vec![], vec![]]);
    pair.run(4000 * MS);
    assert!(pair.both_up());
    for (side, events) in pair.sides.iter().zip(&pair.events) {
        assert_eq!(events.as_slice(), [(side.changed() + 5000 * MS, Event::Up)]);
    }
}

#[test]
fn a_restarted_peer_is_noticed_and_learned_anew() {
    let mut pair = Pair::new([CONFIG; 2]);
    pair.run(3000 * MS);
    pair.events = Default::default();
    pair.sides[1] = Session::new(CONFIG, 99, 3, pair.now);
    pair.run(200 * MS);
    assert!(pair.both_up());
    let diagnostic = Diagnostic::NeighborSignaledSessionDown;
    let events: Vec<_> = pair.events[0].iter().map(|e| e.1).collect();
    assert_eq!(events, [Event::Down { diagnostic }, Event::Up]);
}

#[test]
fn an_operator_takes_a_session_down_and_brings_it_back() {
    let mut pair = Pair::new([CONFIG; 2]);
    pair.run(1000 * MS);
    pair.sides[0].set_admin_down(pair.now, true);
    pair.run(1000 * MS);
    assert_eq!(pair.sides[0].state(), State::AdminDown);
    assert_eq!(pair.sides[1].state(), State::Down);
    let reasons = pair.events.each_ref().map(|e| e.last().unwrap().1);
    assert_eq!(reasons[0], Event::Down { diagnostic: Diagnostic::AdministrativelyDown });
    assert_eq!(reasons[1], Event::Down { diagnostic: Diagnostic::NeighborSignaledSessionDown });
    pair.run(5000 * MS);
    assert_eq!(pair.sides[1].state(), State::Down);
    pair.sides[0].set_admin_down(pair.now, false);
    pair.run(200 * MS);
    assert!(pair.both_up());
}

#[test]
fn slower_packets_are_announced_before_they_are_sent() {
    let mut pair = Pair::new([CONFIG; 2]);
    pair.run(3000 * MS);
    pair.events = Default::default();
    for desired_tx in [2000, 100, 700] {
        pair.sides[0].reconfigure(Config { desired_tx: desired_tx * MS, ..CONFIG });
        pair.run(6000 * MS);
        assert_eq!(pair.sides[0].transmit_interval(), desired_tx * MS);
        assert_eq!(pair.sides[1].detection_time(), 3 * desired_tx * MS);
    }
    assert_eq!(pair.events, [vec![], vec![]], "no change of timing takes a session down");
    assert!(!pair.sent[0].last().unwrap().1.poll, "the last poll was answered");
}

#[test]
fn a_poll_is_answered_at_once_and_never_with_another_poll() {
    let mut session = up();
    session.handle_packet(Time::from_millis(1), &Repr { poll: true, ..says(State::Up) }).unwrap();
    assert_eq!(session.poll_timeout(), Some(Time::ZERO));
    let answer = session.poll_transmit(Time::from_millis(1)).unwrap();
    assert!(answer.is_final && !answer.poll);
    assert_eq!(session.poll_transmit(Time::from_millis(1)), None);
}

#[test]
fn a_peer_that_requires_no_packets_gets_none_periodically() {
    let mut session = up();
    session
        .handle_packet(Time::from_millis(1), &Repr { required_min_rx: 0, is_final: true, ..says(State::Up) })
        .unwrap();
    assert_eq!(session.poll_transmit(Time::from_millis(250)), None);
    assert_eq!(session.poll_timeout(), Some(Time::from_millis(301)), "only detection");
}

#[test]
fn a_peer_that_asks_for_demand_mode_still_gets_packets() {
    let mut session = up();
    session.handle_packet(Time::from_millis(1), &Repr { demand: true, ..says(State::Up) }).unwrap();
    assert!(session.poll_transmit(Time::from_millis(110)).is_some());
}

#[test]
fn what_the_rfc_discards_changes_nothing() {
    for (packet, reason) in [
        (Repr { detect_multiplier: 0, ..says(State::Down) }, Discarded::MultiplierZero),
        (Repr { my_discriminator: 0, ..says(State::Down) }, Discarded::DiscriminatorZero),
        (Repr { your_discriminator: 3, ..says(State::Down) }, Discarded::OtherSession),
        (Repr { your_discriminator: 0, ..says(State::Init) }, Discarded::DiscriminatorMissing),
        (Repr { your_discriminator: 0, ..says(State::Up) }, Discarded::DiscriminatorMissing),
    ] {
        let mut session = up();
        let before = format!("{session:?}");
        assert_eq!(session.handle_packet(Time::from_millis(5), &packet), Err(reason));
        assert_eq!(format!("{session:?}"), before);
    }
}

#[test]
fn the_first_packet_is_due_at_once_and_says_what_is_known() {
    let mut session = session();
    assert_eq!(session.poll_timeout(), Some(Time::ZERO));
    let packet = session.poll_transmit(Time::ZERO).unwrap();
    assert_eq!((packet.state, packet.my_discriminator, packet.your_discriminator), (State::Down, 1, 0));
    assert_eq!(
        (packet.desired_min_tx, packet.required_min_rx, packet.required_min_echo_rx),
        (1_000_000, 50_000, 0)
    );
    assert_eq!(session.poll_transmit(Time::ZERO), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sessions_come_up_under_loss_and_stay_up_without(seed in any::<u64>(), percent in 0u64..40) {
        let mut pair = Pair::new([CONFIG; 2]);
        let mut random = seed | 1;
        pair.loss = Box::new(move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % 100 < percent
        });
        pair.run(60_000 * MS);
        pair.loss = Box::new(|| false);
        pair.run(10_000 * MS);
        prop_assert!(pair.both_up());
        pair.events = Default::default();
        pair.run(60_000 * MS);
        prop_assert!(pair.both_up() && pair.events.iter().all(Vec::is_empty));
    }

    #[test]
    fn events_alternate_and_agree_with_the_state(
        steps in prop::collection::vec((0u64..700, 0u8..7, any::<bool>(), any::<bool>()), 1..200),
        hold in 0u64..1000,
    ) {
        let mut session = Session::new(Config { hold_down: Duration::from_millis(hold), ..CONFIG }, 1, 9, Time::ZERO);
        let (mut now, mut reported) = (Time::ZERO, false);
        for (millis, action, poll, is_final) in steps {
            now = now + Duration::from_millis(millis);
            session.handle_timeout(now);
            match action {
                0 => session.set_admin_down(now, poll),
                1 => {}
                _ => {
                    let state = [State::AdminDown, State::Down, State::Init, State::Up, State::Up][usize::from(action) - 2];
                    let _ = session.handle_packet(now, &Repr { poll, is_final, ..says(state) });
                }
            }
            while let Some(event) = session.poll_event() {
                prop_assert_eq!(reported, event != Event::Up);
                reported = event == Event::Up;
            }
            prop_assert_eq!(session.is_up(), reported);
            prop_assert!(!reported || session.state() == State::Up);
            let mut sent = 0;
            while let Some(packet) = session.poll_transmit(now) {
                prop_assert!(!(packet.poll && packet.is_final));
                prop_assert_eq!(packet.state, session.state());
                prop_assert!(packet.state == State::Up || packet.desired_min_tx >= 1_000_000);
                sent += 1;
            }
            prop_assert!(sent <= 2);
        }
    }
}
