//! All peer paths of a router.

use core::net::IpAddr;
use std::collections::VecDeque;

use fairway_bfd::{Config, Diagnostic, Session};
use fairway_crypto::{IV_LENGTH, Keyring};
use fairway_types::model::{PeerPath, RouterModel};
use fairway_types::{DropReason, Now, PathId, PeerId, Time};
use fairway_wire::bfd::State;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::message::{self, Outgoing};
use crate::status::PathStatus;

/// What peering has to say to the engine and the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Sessions may use the path.
    PathUp(PathId),
    /// Sessions may no longer use the path.
    PathDown {
        /// The path.
        path: PathId,
        /// Why.
        diagnostic: Diagnostic,
    },
    /// The peer has started anew since it was last heard, and lost its sessions.
    PeerRestarted(PeerId),
}

/// A message to send: from the path's local waypoint to its remote one, UDP port 1280 on both
/// sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The path.
    pub path: PathId,
    /// How many bytes of the buffer are the UDP payload.
    pub len: usize,
}

/// One peer: what holds for all of its paths.
#[derive(Debug)]
struct Peer {
    name: String,
    boot_id: Option<u64>,
}

/// One peer path.
#[derive(Debug)]
struct Path {
    peer: PeerId,
    local: IpAddr,
    remote: IpAddr,
    pathway: String,
    encrypt: bool,
    bfd: Config,
    session: Session,
    up_since: Option<Time>,
    sent: u64,
    received: u64,
}

/// All peer paths of a router.
///
/// A caller calls [`Self::poll_transmit`] and [`Self::poll_event`] until they give nothing after
/// every call that takes `&mut self`, and [`Self::handle_timeout`] at the time
/// [`Self::poll_timeout`] gives.
#[derive(Debug)]
pub struct Peering {
    own: String,
    boot_id: u64,
    /// Draws IVs, which must be unpredictable, and the seeds of jitter.
    random: ChaCha12Rng,
    next_discriminator: u32,
    /// By peer id.
    peers: Vec<Peer>,
    /// By path id.
    paths: Vec<Path>,
    /// The path that [`Self::poll_transmit`] asks first, so that none is starved.
    cursor: usize,
    events: VecDeque<Event>,
}

impl Peering {
    /// The peering of one start of a router. `boot_id` differs after every start; `seed` is random
    /// and secret. The first message of every path is due at once.
    #[must_use]
    pub fn new(now: Now, model: &RouterModel, boot_id: u64, seed: [u8; 32]) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        let mut peering = Self {
            own: String::new(),
            boot_id,
            next_discriminator: random.next_u32(),
            random,
            peers: Vec::new(),
            paths: Vec::new(),
            cursor: 0,
            events: VecDeque::new(),
        };
        peering.apply(now, model);
        peering
    }

    /// Takes a changed configuration.
    ///
    /// A path between the same waypoints to the peer of the same name keeps its BFD session and
    /// counters, whatever its ids are now; new timing is negotiated without taking it down. All
    /// other paths start anew. Nothing is reported for paths that are gone: from here on all ids are
    /// those of `model`, and the caller asks [`Self::is_up`] for each path.
    pub fn apply(&mut self, now: Now, model: &RouterModel) {
        let renamed = self.own != model.router;
        self.own.clone_from(&model.router);
        let old_peers = core::mem::take(&mut self.peers);
        let mut old_paths: Vec<_> = core::mem::take(&mut self.paths).into_iter().map(Some).collect();
        let mut moved = Moved { peers: vec![None; old_peers.len()], paths: vec![None; old_paths.len()] };

        for (id, peer) in (0u16..).map(PeerId).zip(&model.peers) {
            let old = old_peers.iter().position(|old| old.name == peer.name);
            let boot_id = old.and_then(|index| {
                moved.peers[index] = Some(id);
                old_peers[index].boot_id
            });
            self.peers.push(Peer { name: peer.name.clone(), boot_id });
        }
        for (id, configured) in (0u16..).map(PathId).zip(&model.paths) {
            let old = old_paths.iter().position(|old| {
                old.as_ref().is_some_and(|old| {
                    let same_peer = moved.peers.get(old.peer.index()) == Some(&Some(configured.peer));
                    same_peer && !renamed && old.local == configured.local && old.remote == configured.remote
                })
            });
            let kept = old.and_then(|index| {
                moved.paths[index] = Some(id);
                old_paths[index].take()
            });
            let encrypt =
                model.security.get(configured.security.index()).is_none_or(|policy| policy.encrypt_metadata);
            let path = match kept {
                Some(path) => path.reconfigure(configured, encrypt),
                None => self.start(now, configured, encrypt),
            };
            self.paths.push(path);
        }
        self.cursor = 0;
        self.events = self.events.iter().filter_map(|event| moved.event(event)).collect();
    }

    /// Takes the UDP payload of a packet to port 1280, which is decrypted in place.
    ///
    /// `local` and `remote` are the destination and source address of the packet. A genuine message
    /// from before the peer's restart that arrives late has no effect.
    ///
    /// # Errors
    /// Why the packet is dropped. Nothing changed, but that a genuine message is not accepted twice.
    pub fn handle_message(
        &mut self,
        now: Now,
        keyring: &Keyring,
        local: IpAddr,
        remote: IpAddr,
        udp_payload: &mut [u8],
    ) -> Result<(), DropReason> {
        let message = message::read(now, keyring, udp_payload)?;
        let is_its = |path: &Path| path.peer == message.peer && path.local == local && path.remote == remote;
        let index = self.paths.iter().position(is_its).ok_or(DropReason::PeerAddressMismatch)?;
        if !message.present {
            return Ok(());
        }
        self.note_boot_id(message.peer, message.boot_id);
        let path = self.paths.get_mut(index).ok_or(DropReason::PeerAddressMismatch)?;
        path.received += 1;
        let outcome = path.session.handle_packet(now.mono, &message.bfd).map_err(|_| DropReason::BfdInvalid);
        self.collect_events(index, now.mono);
        outcome
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        for index in 0..self.paths.len() {
            if let Some(path) = self.paths.get_mut(index) {
                path.session.handle_timeout(now.mono);
            }
            self.collect_events(index, now.mono);
        }
    }

    /// Writes a message that is due by `now` into `out`, if there is one. `out` has
    /// [`crate::MAX_MESSAGE_LEN`] bytes: what does not fit, or whose peer has no key, is not sent.
    pub fn poll_transmit(&mut self, now: Now, keyring: &Keyring, out: &mut [u8]) -> Option<Transmit> {
        for _ in 0..self.paths.len() {
            let index = self.cursor % self.paths.len();
            let path = self.paths.get_mut(index)?;
            let Some(bfd) = path.session.poll_transmit(now.mono) else {
                self.cursor = index + 1;
                continue;
            };
            let Some(sender) = keyring.sender(path.peer) else {
                self.cursor = index + 1;
                continue;
            };
            let iv = path.encrypt.then(|| {
                let mut iv = [0; IV_LENGTH];
                self.random.fill_bytes(&mut iv);
                iv
            });
            let (source_router, pathway) = (self.own.as_str(), path.pathway.as_str());
            let outgoing = Outgoing { source_router, pathway, boot_id: self.boot_id, bfd, iv };
            if let Some(len) = message::write(now, sender, &outgoing, out) {
                path.sent += 1;
                return Some(Transmit { path: PathId(u16::try_from(index).ok()?), len });
            }
        }
        None
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] are to be called again;
    /// [`Time::ZERO`] when a message is due at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.paths.iter().filter_map(|path| path.session.poll_timeout()).min()
    }

    /// Tells all peers that this router goes away, so that they need not wait for the detection
    /// time: one message for each path is due at once.
    pub fn shut_down(&mut self, now: Now) {
        for index in 0..self.paths.len() {
            if let Some(path) = self.paths.get_mut(index) {
                path.session.set_admin_down(now.mono, true);
            }
            self.collect_events(index, now.mono);
        }
    }

    /// Whether sessions may use a path.
    #[must_use]
    pub fn is_up(&self, path: PathId) -> bool {
        self.paths.get(path.index()).is_some_and(|path| path.session.is_up())
    }

    /// Whether BFD is up on a path, be it held down or not: worth a try when nothing else is up.
    #[must_use]
    pub fn is_alive(&self, path: PathId) -> bool {
        self.paths.get(path.index()).is_some_and(|path| path.session.state() == State::Up)
    }

    /// The boot id this router announces.
    #[must_use]
    pub const fn boot_id(&self) -> u64 {
        self.boot_id
    }

    /// The state of all paths, by path id.
    pub fn status(&self) -> impl Iterator<Item = PathStatus<'_>> + '_ {
        (0u16..).map(PathId).zip(&self.paths).map(|(id, path)| {
            let peer = self.peers.get(path.peer.index());
            PathStatus {
                path: id,
                peer: path.peer,
                peer_name: peer.map_or("", |peer| peer.name.as_str()),
                pathway: &path.pathway,
                local: path.local,
                remote: path.remote,
                up: path.session.is_up(),
                state: path.session.state(),
                remote_state: path.session.remote_state(),
                up_since: path.up_since,
                held_until: path.session.held_until(),
                last_change: path.session.changed(),
                diagnostic: path.session.diagnostic(),
                boot_id: peer.and_then(|peer| peer.boot_id),
                sent: path.sent,
                received: path.received,
            }
        })
    }

    fn start(&mut self, now: Now, configured: &PeerPath, encrypt: bool) -> Path {
        let bfd = Config::from(configured.bfd);
        let discriminator = self.next_discriminator.max(1);
        self.next_discriminator = discriminator.wrapping_add(1);
        Path {
            peer: configured.peer,
            local: configured.local,
            remote: configured.remote,
            pathway: configured.pathway.clone(),
            encrypt,
            bfd,
            session: Session::new(bfd, discriminator, self.random.next_u64(), now.mono),
            up_since: None,
            sent: 0,
            received: 0,
        }
    }

    fn note_boot_id(&mut self, id: PeerId, boot_id: u64) {
        let Some(peer) = self.peers.get_mut(id.index()) else { return };
        let known = peer.boot_id.replace(boot_id);
        if known.is_some_and(|known| known != boot_id) {
            self.events.push_back(Event::PeerRestarted(id));
        }
    }

    fn collect_events(&mut self, index: usize, now: Time) {
        let (Some(path), Ok(id)) = (self.paths.get_mut(index), u16::try_from(index).map(PathId)) else {
            return;
        };
        while let Some(event) = path.session.poll_event() {
            self.events.push_back(match event {
                fairway_bfd::Event::Up => {
                    path.up_since = Some(now);
                    Event::PathUp(id)
                }
                fairway_bfd::Event::Down { diagnostic } => {
                    path.up_since = None;
                    Event::PathDown { path: id, diagnostic }
                }
            });
        }
    }
}

impl Path {
    fn reconfigure(mut self, configured: &PeerPath, encrypt: bool) -> Self {
        let bfd = Config::from(configured.bfd);
        if bfd != self.bfd {
            self.session.reconfigure(bfd);
            self.bfd = bfd;
        }
        self.peer = configured.peer;
        self.pathway.clone_from(&configured.pathway);
        self.encrypt = encrypt;
        self
    }
}

/// The new id of each old peer and path that is kept.
struct Moved {
    peers: Vec<Option<PeerId>>,
    paths: Vec<Option<PathId>>,
}

impl Moved {
    /// An event with new ids, if what it is about is still there.
    fn event(&self, event: &Event) -> Option<Event> {
        let path = |id: PathId| self.paths.get(id.index()).copied().flatten();
        Some(match *event {
            Event::PathUp(id) => Event::PathUp(path(id)?),
            Event::PathDown { path: id, diagnostic } => Event::PathDown { path: path(id)?, diagnostic },
            Event::PeerRestarted(id) => Event::PeerRestarted(self.peers.get(id.index()).copied().flatten()?),
        })
    }
}

#[cfg(test)]
mod tests;
