//! What an observer on the links between routers may see, and by which links packets went.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use fairway_wire::ip::{self, Parsed};
use fairway_wire::protocol;
use fairway_wire::svr::{self, Header, HeaderTlvs, tlv};

use crate::marker;
use crate::network::NodeId;
use crate::packet::is_intact;
use crate::plan::Payload;

/// From one router to another.
pub type Hop = (NodeId, NodeId);

/// Watches every packet that one router sends to another.
#[derive(Debug, Default)]
pub struct Wiretap {
    /// Addresses of hosts, which must not be seen.
    secret: Vec<IpAddr>,
    /// Whether metadata has to be encrypted on every path.
    encrypted: bool,
    /// How payload is protected.
    payload: Option<Payload>,
    /// The links that marked packets took, by conversation and direction.
    hops: HashMap<(u32, bool), BTreeSet<Hop>>,
    packets: u64,
}

impl Wiretap {
    /// A tap that must never see `secret`, not even in metadata if that is `encrypted`.
    #[must_use]
    pub fn new(secret: &[IpAddr], encrypted: bool) -> Self {
        Self { secret: secret.to_vec(), encrypted, ..Self::default() }
    }

    /// Says how payload is protected: encrypted, no mark may be seen on a link.
    #[must_use]
    pub const fn payload(mut self, payload: Payload) -> Self {
        self.payload = Some(payload);
        self
    }

    /// How many packets it saw.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// A packet leaves one router for another.
    ///
    /// # Panics
    /// When it shows an address that it must not.
    pub fn see(&mut self, from: NodeId, to: NodeId, packet: &[u8], seed: u64) {
        self.packets += 1;
        let parsed = ip::parse(packet);
        assert!(parsed.is_ok(), "seed {seed}: {from:?} sends {parsed:?}");
        let Ok(parsed) = parsed else { return };
        let outer = [parsed.source, parsed.destination];
        assert!(!self.secret.iter().any(|a| outer.contains(a)), "seed {seed}: {outer:?} on a link");
        // What a link before this one damaged shows what it should not: without its cookie, metadata is
        // payload, and a mark is somebody else's. No host will accept it.
        if !is_intact(packet) {
            return;
        }
        let payload = parsed.payload(packet);
        let sealed = self.payload == Some(Payload::Encrypted);
        let joinable = self.payload == Some(Payload::Plain) && bears_metadata_unpushed(&parsed, payload);
        assert!(!joinable, "seed {seed}: segments may be put behind metadata of {from:?}: {packet:02x?}");
        for piece in self.open_parts(packet, &parsed) {
            // In ciphertext, four bytes are seen by chance every now and then.
            let ciphertext = sealed && !svr::starts_with_cookie(payload);
            for address in self.secret.iter().filter(|address| address.is_ipv6() || !ciphertext) {
                assert!(
                    !shows(piece, *address),
                    "seed {seed}: {address} from {from:?} to {to:?}: {packet:02x?}"
                );
            }
        }
        let seen = marker::find(payload);
        assert!(
            !(sealed && seen.is_some()),
            "seed {seed}: payload {seen:?} from {from:?} to {to:?}: {packet:02x?}"
        );
        if let Some(mark) = seen.filter(|_| !relays_error(payload)) {
            self.hops.entry((mark.conversation, mark.answer)).or_default().insert((from, to));
        }
    }

    /// The parts of a packet in which no original address may be: all of its transport payload but
    /// ciphertext and tag, and metadata that need not be encrypted.
    fn open_parts<'a>(&self, packet: &'a [u8], parsed: &Parsed) -> Vec<&'a [u8]> {
        let payload = parsed.payload(packet);
        if !svr::starts_with_cookie(payload) {
            return vec![payload];
        }
        let Ok(header) = Header::parse(payload) else { return vec![payload] };
        let mut parts = Vec::new();
        let mut rest = header.header_tlvs();
        let mut encrypted = false;
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let kind = u16::from_be_bytes([head[0], head[1]]);
            let (value, tail) = tail.split_at(usize::from(u16::from_be_bytes([head[2], head[3]])));
            encrypted |= kind == tlv::METADATA_ENCRYPTED;
            parts.push(value);
            rest = tail;
        }
        if self.encrypted && !encrypted {
            parts.push(header.payload_section());
        }
        let rest = header.rest();
        parts.push(rest.get(..rest.len() - svr::TAG_LEN).unwrap_or(rest));
        parts
    }

    /// The links that the packets of a conversation took in one direction.
    #[must_use]
    pub fn hops(&self, conversation: u32, answers: bool) -> BTreeSet<Hop> {
        self.hops.get(&(conversation, answers)).cloned().unwrap_or_default()
    }
}

/// Whether a TCP segment with metadata, other than a SYN, a reset or a piece of a packet, does not bear PSH.
fn bears_metadata_unpushed(parsed: &Parsed, payload: &[u8]) -> bool {
    const SYN_RST_PSH: u8 = 0x0e;
    parsed.protocol == protocol::TCP
        && parsed.tcp_flags & SYN_RST_PSH == 0
        && header_tlvs(payload).is_some_and(|tlvs| tlvs.fragment.is_none())
}

/// An ICMP error quotes what it is about, mark included.
fn relays_error(payload: &[u8]) -> bool {
    header_tlvs(payload).is_some_and(|tlvs| tlvs.icmp_location.is_some())
}

/// The header TLVs of metadata, if a payload begins with some that is well-formed.
fn header_tlvs(payload: &[u8]) -> Option<HeaderTlvs> {
    let header = svr::starts_with_cookie(payload).then(|| Header::parse(payload).ok()).flatten()?;
    HeaderTlvs::parse(header.header_tlvs()).ok()
}

fn shows(bytes: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => bytes.windows(4).any(|window| window == v4.octets()),
        IpAddr::V6(v6) => bytes.windows(16).any(|window| window == v6.octets()),
    }
}
