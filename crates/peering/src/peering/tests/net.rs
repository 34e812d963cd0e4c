//! The routers, and what is between them.

use core::time::Duration;

use fairway_crypto::{KeyringEntry, PeerKey};
use fairway_types::model::{self, Bfd, DefaultSessionTypes, Limits, Quotas, SecurityPolicy};
use fairway_types::{InterfaceId, SecurityId, SessionTypeId};

use super::super::*;
use crate::MAX_MESSAGE_LEN;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const EPOCH: u64 = 1_800_000_000;
pub(super) const BFD: Bfd = Bfd {
    desired_tx: Duration::from_millis(100),
    required_rx: Duration::from_millis(50),
    multiplier: 3,
    hold_down: Duration::ZERO,
};
pub(super) const NAMES: [&str; 2] = ["branch", "dc"];

pub(super) fn address(side: usize, path: u8) -> IpAddr {
    IpAddr::from([192, 0, path, side as u8 + 1])
}

pub(super) fn path(side: usize, number: u8, bfd: Bfd) -> PeerPath {
    PeerPath {
        peer: PeerId(0),
        interface: InterfaceId(0),
        local: address(side, number),
        remote: address(1 - side, number),
        cost: 0,
        local_ports: None,
        remote_ports: None,
        max_waypoints: 1000,
        security: SecurityId(u16::from(number) % 2),
        udp_transform: model::UdpTransform::Encrypted,
        pathway: format!("wan{number}"),
        bfd,
        origin: String::new(),
    }
}

/// Path 0 is encrypted, path 1 is not.
pub(super) fn model_of(side: usize) -> RouterModel {
    let policy = |name: &str, encrypt_metadata| SecurityPolicy {
        name: name.into(),
        encrypt_metadata,
        payload: None,
        adaptive: false,
        origin: String::new(),
    };
    let session_type = SessionTypeId(0);
    RouterModel {
        authority: "test".into(),
        router: NAMES[side].into(),
        tenants: vec![],
        memberships: vec![],
        services: vec![],
        security: vec![policy("encrypted", true), policy("clear", false)],
        session_types: vec![],
        default_session_types: DefaultSessionTypes {
            tcp: session_type,
            udp: session_type,
            dns: session_type,
            icmp: session_type,
            other: session_type,
        },
        interfaces: vec![],
        peers: vec![model::Peer {
            name: NAMES[1 - side].into(),
            key_file: "key".into(),
            tenants: None,
            origin: String::new(),
        }],
        paths: vec![path(side, 0, BFD), path(side, 1, BFD)],
        routes: vec![],
        limits: Limits { sessions: 1, half_open: 1, session_rate: 1, first_packets: 1, answers: 1 },
        quotas: Quotas::default(),
    }
}

pub(super) struct Router {
    pub(super) peering: Peering,
    pub(super) keyring: Keyring,
    pub(super) events: Vec<(u64, Event)>,
    pub(super) drops: Vec<DropReason>,
}

impl Router {
    pub(super) fn start(side: usize, boot: u64, key: u8, millis: u64) -> Self {
        let mut keyring = Keyring::new();
        let entry = KeyringEntry {
            peer: PeerId(0),
            name: NAMES[1 - side].into(),
            key: PeerKey::from_bytes([key; 32]),
            sender_salt: [boot as u8; 16],
        };
        keyring.replace(NAMES[side], [entry], at(millis).unix).unwrap();
        let peering = Peering::new(at(millis), &model_of(side), boot, [boot as u8; 32]);
        Self { peering, keyring, events: vec![], drops: vec![] }
    }

    pub(super) fn ups(&self) -> [bool; 2] {
        [self.peering.is_up(PathId(0)), self.peering.is_up(PathId(1))]
    }
}

pub(super) fn at(millis: u64) -> Now {
    Now { mono: Time::from_millis(millis), unix: EPOCH + millis / 1000 }
}

/// A message under way: arrival in ms, receiving side, path number, UDP payload.
#[derive(Clone)]
pub(super) struct Flying(pub(super) u64, pub(super) usize, pub(super) u8, pub(super) Vec<u8>);

pub(super) struct Net {
    pub(super) millis: u64,
    pub(super) routers: [Router; 2],
    pub(super) wire: Vec<Flying>,
    /// By sender and path.
    pub(super) cut: [[bool; 2]; 2],
    pub(super) loss: Box<dyn FnMut() -> bool>,
    /// Everything that was ever sent.
    pub(super) captured: Vec<Flying>,
}

impl Net {
    pub(super) fn new() -> Self {
        Self::with([Router::start(0, 1, 7, 0), Router::start(1, 2, 7, 0)])
    }

    pub(super) fn with(routers: [Router; 2]) -> Self {
        Self {
            millis: 0,
            routers,
            wire: vec![],
            cut: [[false; 2]; 2],
            loss: Box::new(|| false),
            captured: vec![],
        }
    }

    /// A net whose four path ends are up, five seconds after its start.
    pub(super) fn up() -> Self {
        let mut net = Self::new();
        net.run(5000);
        assert_eq!(net.routers.each_ref().map(Router::ups), [[true; 2]; 2]);
        net.forget();
        net
    }

    pub(super) fn forget(&mut self) {
        for router in &mut self.routers {
            router.events.clear();
            router.drops.clear();
        }
    }

    /// Lets time pass, one millisecond after the other.
    pub(super) fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.step();
            self.millis += 1;
        }
    }

    pub(super) fn step(&mut self) {
        let now = at(self.millis);
        let (due, later): (Vec<_>, _) = self.wire.drain(..).partition(|flying| flying.0 <= self.millis);
        self.wire = later;
        for flying in due {
            self.deliver(&flying);
        }
        for side in 0..2 {
            let router = &mut self.routers[side];
            if router.peering.poll_timeout().is_some_and(|timeout| timeout <= now.mono) {
                router.peering.handle_timeout(now);
            }
            let mut buffer = [0; MAX_MESSAGE_LEN];
            while let Some(transmit) = router.peering.poll_transmit(now, &router.keyring, &mut buffer) {
                let status = router.peering.status().nth(transmit.path.index()).unwrap();
                let IpAddr::V4(local) = status.local else { panic!("IPv4 only") };
                let number = local.octets()[2];
                let flying = Flying(self.millis + 10, 1 - side, number, buffer[..transmit.len].to_vec());
                self.captured.push(flying.clone());
                if !self.cut[side][usize::from(number)] && !(self.loss)() {
                    self.wire.push(flying);
                }
            }
            while let Some(event) = router.peering.poll_event() {
                router.events.push((self.millis, event));
            }
        }
    }

    pub(super) fn deliver(&mut self, flying: &Flying) {
        let router = &mut self.routers[flying.1];
        let (local, remote) = (address(flying.1, flying.2), address(1 - flying.1, flying.2));
        let mut payload = flying.3.clone();
        let outcome =
            router.peering.handle_message(at(self.millis), &router.keyring, local, remote, &mut payload);
        router.drops.extend(outcome.err());
    }
}

pub(super) fn down(path: u16, diagnostic: Diagnostic) -> Event {
    Event::PathDown { path: PathId(path), diagnostic }
}

pub(super) fn only_events(router: &Router) -> Vec<Event> {
    router.events.iter().map(|event| event.1).collect()
}
