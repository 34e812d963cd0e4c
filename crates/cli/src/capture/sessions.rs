//! Sessions as a capture shows them: their keys, from metadata that was decrypted, and from these their
//! packets as hosts sent them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use fairway_crypto::TAG_LENGTH;
use fairway_crypto::session::{Direction, Observer, SessionSecret, Suite};
use fairway_wire::ip::{self, Parsed};
use fairway_wire::svr::{self, Context, Fragment, Header, HeaderTlvs, PayloadTlvs};
use fairway_wire::{checksum, ipv4, ipv6, protocol, udp};

use super::pieces::Pieces;

/// So many flows are remembered; then all are forgotten.
const FLOWS: usize = 65_536;
/// Sender salts of a flow that are remembered.
const SALTS: usize = 4;

/// One direction between two waypoints: source, destination and protocol.
pub type Flow = (SocketAddr, SocketAddr, u8);

/// What is known of one direction of a session.
struct Known {
    /// Its addresses and ports outside the fabric.
    context: Context,
    /// Whether its payload is sealed, as its metadata said last.
    sealed: bool,
    /// By sender salt, the newest last.
    observers: Vec<([u8; 16], Observer)>,
}

/// All that was learnt.
#[derive(Default)]
pub struct Sessions {
    secrets: HashMap<[u8; 16], (Suite, SessionSecret)>,
    flows: HashMap<Flow, Known>,
    pieces: Pieces,
}

impl Sessions {
    /// Takes note of the metadata of a packet.
    pub fn learn(&mut self, flow: Flow, tlvs: &PayloadTlvs<'_>) {
        let Some(uuid) = tlvs.uuid else { return };
        if self.flows.len() > FLOWS {
            self.flows.clear();
            self.secrets.clear();
        }
        if let Some((&[number], secret)) = tlvs.session_key.and_then(<[u8]>::split_first_chunk)
            && let (Some(suite), Ok(secret)) = (Suite::of_number(number), secret.try_into())
        {
            self.secrets.insert(uuid, (suite, SessionSecret::from_bytes(secret)));
        }
        let (context, direction) = match (tlvs.forward, tlvs.reverse) {
            (Some(context), _) => (context, Direction::Forward),
            (None, Some(context)) => (context, Direction::Reverse),
            (None, None) => return,
        };
        let (source, destination, number) = flow;
        let back = Context { source: context.destination, destination: context.source, ..context };
        let fresh = |context| Known { context, sealed: false, observers: Vec::new() };
        self.flows.entry((destination, source, number)).or_insert_with(|| fresh(back));
        let known = self.flows.entry(flow).or_insert_with(|| fresh(context));
        if known.context != context {
            *known = fresh(context);
        }
        known.sealed = tlvs.session_encrypted;
        if let (Some(salt), Some((suite, secret))) = (tlvs.sender_salt, self.secrets.get(&uuid))
            && known.observers.iter().all(|(other, _)| *other != salt)
        {
            known.observers.push((salt, Observer::new(*suite, secret, direction, &salt)));
            let excess = known.observers.len().saturating_sub(SALTS);
            known.observers.drain(..excess);
        }
    }

    /// A packet between routers as a host sent it, from its IP header on; nothing if it is none of a
    /// session that is known, does not open, or is a piece of one that is not complete with it.
    pub fn original(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let parsed = ip::parse(packet).ok()?;
        let flow = flow_of(&parsed);
        let known = self.flows.get(&flow)?;
        let inner = known.context.protocol;
        let transport = packet.get(usize::from(parsed.header_len)..parsed.payload_end as usize)?;
        let header = usize::from(parsed.payload_offset) - usize::from(parsed.header_len);
        let (mut segment, piece) = without_metadata(transport, header)?;
        if let Some(piece) = piece {
            let whole = self.pieces.take(flow, &piece, segment.get(header..)?)?;
            segment.truncate(header);
            segment.extend_from_slice(&whole);
        }
        let carried = inner == protocol::TCP && parsed.protocol == protocol::UDP;
        let length = if inner == protocol::TCP { svr::tcp_header_len(&segment)? } else { header };
        let (head, sealed) = segment.split_at_checked(length)?;
        let mut buffer = [0; svr::MAX_ASSOCIATED];
        let associated =
            if inner == protocol::TCP { svr::associated(head, carried, &mut buffer) } else { &[] };
        let opened = known.observers.iter().rev().find_map(|(_, observer)| {
            let mut block = sealed.to_vec();
            observer.open(associated, &mut block).map(|range| block[range].to_vec())
        });
        // Without a seal, payload is what it is; with one that does not open, nothing is known.
        let payload = match opened {
            Some(payload) => payload,
            None if sealed.is_empty() || !known.sealed => sealed.to_vec(),
            None => return None,
        };
        rebuild(&known.context, head, carried, &payload, parsed.ttl)
    }
}

/// The flow of a packet.
pub fn flow_of(parsed: &Parsed) -> Flow {
    let source = SocketAddr::new(parsed.source, parsed.source_port);
    let destination = SocketAddr::new(parsed.destination, parsed.destination_port);
    (source, destination, parsed.protocol)
}

/// A transport header of `header` bytes with what follows its metadata, and which piece that is, if it is
/// one; nothing for packets that routers make themselves.
fn without_metadata(transport: &[u8], header: usize) -> Option<(Vec<u8>, Option<Fragment>)> {
    let (head, payload) = transport.split_at_checked(header)?;
    if !svr::starts_with_cookie(payload) {
        return Some((transport.to_vec(), None));
    }
    let view = Header::parse(payload).ok()?;
    let tlvs = HeaderTlvs::parse(view.header_tlvs()).ok()?;
    if tlvs.control.is_some() || tlvs.icmp_location.is_some() {
        return None;
    }
    let rest = view.rest();
    let segment = [head, rest.get(..rest.len().checked_sub(TAG_LENGTH)?)?].concat();
    Some((segment, tlvs.fragment))
}

/// The packet outside the fabric.
fn rebuild(context: &Context, head: &[u8], carried: bool, payload: &[u8], ttl: u8) -> Option<Vec<u8>> {
    let Context { source, destination, protocol: number } = *context;
    let mut segment = match number {
        protocol::TCP => head.to_vec(),
        protocol::UDP => {
            let repr = udp::Repr {
                source_port: source.port(),
                destination_port: destination.port(),
                payload_len: u16::try_from(payload.len()).ok()?,
            };
            let mut header = vec![0; udp::HEADER_LEN];
            repr.emit(&mut header)?;
            header
        }
        _ => Vec::new(),
    };
    if number == protocol::TCP {
        if carried {
            svr::restore_tcp(&mut segment);
        }
        segment.get_mut(..2)?.copy_from_slice(&source.port().to_be_bytes());
        segment.get_mut(2..4)?.copy_from_slice(&destination.port().to_be_bytes());
    }
    segment.extend_from_slice(payload);
    if matches!(number, protocol::TCP | protocol::UDP) {
        let at = checksum::field_offset(number)?;
        segment.get_mut(at..at + 2)?.fill(0);
        let sum = checksum::transport_checksum(source.ip(), destination.ip(), number, &segment);
        segment.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    }
    let length = u16::try_from(segment.len()).ok()?;
    let mut packet = vec![0; ipv6::HEADER_LEN];
    let header = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Repr {
            source,
            destination,
            protocol: number,
            ttl,
            traffic_class: 0,
            identification: 0,
            dont_fragment: true,
            payload_len: length,
        }
        .emit(&mut packet)?,
        (IpAddr::V6(source), IpAddr::V6(destination)) => ipv6::Repr {
            source,
            destination,
            next_header: number,
            hop_limit: ttl,
            traffic_class: 0,
            flow_label: 0,
            payload_len: length,
        }
        .emit(&mut packet)?,
        _ => return None,
    };
    packet.truncate(header);
    packet.extend_from_slice(&segment);
    Some(packet)
}
