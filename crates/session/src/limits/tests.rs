use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fairway_types::{Protocol, Tuple};
use proptest::prelude::*;

use super::*;
use crate::key::FlowKey;

const LIMITS: Limits =
    Limits { sessions: 400, half_open: 100, session_rate: 1_000_000, first_packets: 1, answers: 1 };

fn board() -> Arc<Board> {
    Arc::new(Board::new(7))
}

/// What is done to sessions.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody begins one.
    Begin {
        tenant: Option<u16>,
        host: bool,
        number: u16,
        opening: bool,
    },
    /// One changes its standing.
    Change {
        which: usize,
        standing: (bool, bool),
    },
    /// One is brought by another peer.
    Move {
        which: usize,
        peer: u16,
    },
    End {
        which: usize,
    },
    /// Tenants and peers get other numbers.
    Reload {
        shift: u16,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (prop::option::of(0u16..3), any::<bool>(), 0u16..40, any::<bool>())
            .prop_map(|(tenant, host, number, opening)| Step::Begin { tenant, host, number, opening }),
        4 => (any::<prop::sample::Index>(), any::<(bool, bool)>())
            .prop_map(|(which, standing)| Step::Change { which: which.index(1 << 20), standing }),
        1 => (any::<prop::sample::Index>(), 0u16..3)
            .prop_map(|(which, peer)| Step::Move { which: which.index(1 << 20), peer }),
        3 => any::<prop::sample::Index>().prop_map(|which| Step::End { which: which.index(1 << 20) }),
        1 => (0u16..3).prop_map(|shift| Step::Reload { shift }),
    ];
    prop::collection::vec(step, 1..300)
}

/// The flow of packets that a host sends.
pub(super) fn flow(interface: InterfaceId, host: IpAddr) -> FlowKey {
    let server = if host.is_ipv4() { "10.9.0.1:80" } else { "[fd09::1]:80" };
    let (source, destination) = (SocketAddr::new(host, 5000), server.parse().unwrap());
    FlowKey::new(interface, &Tuple { source, destination, protocol: Protocol::TCP })
}

fn source(number: u16) -> Source {
    Source::of(&flow(InterfaceId(0), IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::from(number)))))
}

fn quotas() -> Quotas {
    let quota = Quota { sessions: 60, half_open: 20, session_rate: 1_000_000 };
    Quotas { tenants: vec![quota; 3], without_tenant: quota, peers: vec![quota; 3], source: quota }
}

struct Model {
    ledger: Ledger,
    sessions: Vec<(Owner, bool, Standing)>,
}

impl Model {
    fn new() -> Self {
        let mut ledger = Ledger::new(Time::ZERO, &LIMITS, &quotas(), (3, 3), 7, board());
        // So few sets that sources have to share accounts.
        ledger.sources = Sources::tiny(quotas().source);
        Self { ledger, sessions: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Begin { tenant, host, number, opening } => self.begin(tenant, host, number, opening),
            Step::Change { which, standing: (half_open, answered) } => {
                let Some(at) = which.checked_rem(self.sessions.len()) else { return };
                let (owner, shared, was) = self.sessions[at];
                let is = Standing { half_open, proven: answered && !half_open };
                self.ledger.change(&owner, shared, was, is);
                self.sessions[at].2 = is;
            }
            Step::Move { which, peer } => {
                let Some(at) = which.checked_rem(self.sessions.len()) else { return };
                let (owner, _, standing) = &mut self.sessions[at];
                if matches!(owner.bringer, Bringer::Peer(_)) {
                    self.ledger.move_peer(&owner.bringer, PeerId(peer), *standing);
                    owner.bringer = Bringer::Peer(PeerId(peer));
                }
            }
            Step::End { which } => {
                let Some(at) = which.checked_rem(self.sessions.len()) else { return };
                let (owner, shared, standing) = self.sessions.swap_remove(at);
                self.ledger.end(&owner, shared, standing);
            }
            Step::Reload { shift } => self.reload(shift),
        }
    }

    fn begin(&mut self, tenant: Option<u16>, host: bool, number: u16, opening: bool) {
        let bringer = if host { Bringer::Host(source(number)) } else { Bringer::Peer(PeerId(number % 3)) };
        let owner = Owner { tenant: tenant.map(TenantId), bringer };
        let standing = Standing { half_open: opening, proven: false };
        if let Err(limit) = self.ledger.check(Time::ZERO, &owner, opening) {
            self.ledger.refuse(Time::ZERO, &limit);
            return;
        }
        let shared = self.ledger.begin(Time::ZERO, &owner, standing);
        self.sessions.push((owner, shared, standing));
    }

    /// The elements move up by `shift`; those that would be beyond the last one are gone, with their
    /// sessions.
    fn reload(&mut self, shift: u16) {
        let moved = |id: u16| (id + shift < 3).then_some(id + shift);
        let tenants: Vec<_> = (0..3).map(|id| moved(id).map(TenantId)).collect();
        let peers: Vec<_> = (0..3).map(|id| moved(id).map(PeerId)).collect();
        let mut kept = Vec::new();
        for (mut owner, shared, standing) in self.sessions.drain(..) {
            let tenant = owner.tenant.map(|id| tenants[id.index()]);
            let bringer = match owner.bringer {
                Bringer::Host(source) => Some(Bringer::Host(source)),
                Bringer::Peer(id) => peers[id.index()].map(Bringer::Peer),
            };
            match (tenant, bringer) {
                (Some(None), _) | (_, None) => self.ledger.end(&owner, shared, standing),
                (tenant, Some(bringer)) => {
                    owner = Owner { tenant: tenant.flatten(), bringer };
                    kept.push((owner, standing));
                }
            }
        }
        let tenants = Renumbered { new: &tenants, count: 3 };
        let peers = Renumbered { new: &peers, count: 3 };
        self.ledger.reconfigure(Time::ZERO, &LIMITS, &quotas(), tenants, peers, shift == 2);
        for (owner, standing) in kept {
            let shared = self.ledger.recount(Time::ZERO, &owner, standing);
            self.sessions.push((owner, shared, standing));
        }
    }

    fn refused(&self) -> u64 {
        self.ledger.views(Time::ZERO).iter().map(|view| view.refused).sum()
    }
}

proptest! {
    /// Whatever happens, the books say what a count of all sessions says.
    #[test]
    fn books_always_equal_a_recount(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
            let mistakes = model.ledger.mistakes(model.sessions.iter().copied());
            prop_assert!(mistakes.is_empty(), "after {:?}: {:?}", step, mistakes);
        }
        let held = model.ledger.views(Time::ZERO);
        let over = held.iter().find(|view| view.most.is_some_and(|most| view.peak > Some(most)));
        // A session that moved to a peer is not refused for it, and may have become half-open later.
        let bends = steps.iter().any(|step| matches!(step, Step::Change { .. } | Step::Move { .. }));
        prop_assert!(bends || over.is_none(), "{:?}", over);
    }
}

#[test]
fn each_limit_counts_its_own_refusals() {
    let owner = |tenant, bringer| Owner { tenant: Some(TenantId(tenant)), bringer };
    let mut model = Model::new();
    // Ten sources of a tenant with sixty sessions; each could have sixty. The first has an answer.
    let answered = Standing { half_open: false, proven: true };
    for number in 0..70 {
        model.begin(Some(0), true, number % 10, false);
        if number == 0 {
            let (owner, shared, was) = model.sessions[0];
            model.ledger.change(&owner, shared, was, answered);
            model.sessions[0].2 = answered;
        }
    }
    assert_eq!(model.sessions.len(), 54, "an eighth is kept, of which the first source had one");
    for _ in 0..20 {
        model.begin(Some(0), true, 0, false);
    }
    let views = model.ledger.views(Time::ZERO);
    let tenant = views.iter().find(|view| {
        view.limit == Limit { scope: LimitScope::Tenant(TenantId(0)), kind: LimitKind::Sessions }
    });
    let tenant = tenant.unwrap();
    assert_eq!((tenant.now, tenant.peak, tenant.allowed, tenant.refused), (Some(60), Some(60), 60, 30));
    assert_eq!(model.refused(), 30, "and no other limit counts them");
    let other = owner(1, Bringer::Host(source(1)));
    assert_eq!(model.ledger.check(Time::ZERO, &other, true), Ok(false));
    let by_peer = owner(0, Bringer::Peer(PeerId(0)));
    let limit = Limit { scope: LimitScope::Tenant(TenantId(0)), kind: LimitKind::Sessions };
    assert_eq!(model.ledger.check(Time::ZERO, &by_peer, false), Err(limit));
}

#[test]
fn tokens_of_a_tenant_leave_some_for_others_and_for_those_with_answers() {
    let limits = Limits { session_rate: 1000, ..LIMITS };
    let tenant = Quota { session_rate: 800, ..Quota::UNLIMITED };
    let quotas = Quotas { tenants: vec![tenant; 2], ..Quotas::default() };
    let mut ledger = Ledger::new(Time::ZERO, &limits, &quotas, (2, 0), 7, board());
    let known = Owner { tenant: Some(TenantId(0)), bringer: Bringer::Host(source(9999)) };
    let answered = Standing { half_open: false, proven: true };
    ledger.begin(Time::ZERO, &known, answered);
    let (mut of_known, mut of_other) = (0, 0);
    // Forged sources try a hundred times as much as may be, for a second.
    for step in 0..100_000u32 {
        let now = Time(u64::from(step) * 10_000);
        let forged = Owner { tenant: Some(TenantId(0)), bringer: Bringer::Host(source(step as u16 % 9000)) };
        let other = Owner { tenant: Some(TenantId(1)), bringer: Bringer::Host(source(9500)) };
        let mut attempt = |owner: &Owner| {
            let allowed = ledger.check(now, owner, false).is_ok();
            if allowed {
                let shared = ledger.begin(now, owner, Standing::default());
                ledger.end(owner, shared, Standing::default());
            }
            u32::from(allowed)
        };
        attempt(&forged);
        if step % 1000 == 0 {
            of_known += attempt(&known);
            of_other += attempt(&other);
        }
    }
    assert_eq!((of_known, of_other), (100, 100), "each attempt of each");
}
