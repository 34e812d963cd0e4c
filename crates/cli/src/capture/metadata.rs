//! Metadata of one packet in words: verified and decrypted where the keys are at hand.

use core::net::SocketAddr;

use fairway_crypto::{HopKeys, TAG_LENGTH};
use fairway_types::Protocol;
use fairway_wire::svr::{
    self, Context, Control, Header, HeaderTlvs, HealthCheck, MetadataError, PayloadTlvs,
};
use fairway_wire::{bfd, ip};
use serde::Serialize;

use super::keys::Keys;
use crate::units;

/// Whether a tag is genuine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tag {
    /// It is, and these two routers made and read it.
    Valid {
        /// Who sent the packet.
        sender: String,
        /// Whom it is for.
        receiver: String,
    },
    /// It fits none of the keys at hand.
    Wrong,
    /// There is no key at hand for the security id.
    NoKey,
}

/// A TLV in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// What it is.
    pub name: &'static str,
    /// What it says.
    pub value: String,
}

/// The metadata of one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metadata {
    /// The protocol between the routers.
    pub protocol: String,
    /// The sender's waypoint.
    pub source: SocketAddr,
    /// The receiver's waypoint.
    pub destination: SocketAddr,
    /// Whether the tag is genuine.
    pub tag: Tag,
    /// Whether the payload section is encrypted.
    pub encrypted: bool,
    /// The header TLVs.
    pub header: Vec<Field>,
    /// The payload TLVs; nothing when they are encrypted and no key is at hand.
    pub payload: Option<Vec<Field>>,
    /// What is wrong with it.
    pub fault: Option<String>,
    /// What the liveness message behind the metadata says, on the port of BFD.
    pub bfd: Option<String>,
    /// Bytes of the session's own payload behind the metadata.
    pub carried_bytes: usize,
}

impl Metadata {
    /// The metadata of a packet that starts with its IP header, seen at a time in seconds since the
    /// Unix epoch; nothing if it carries none.
    pub fn of(packet: &[u8], unix: u64, keys: &mut Keys) -> Option<Self> {
        let parsed = ip::parse(packet).ok()?;
        let protocol = Protocol(parsed.protocol);
        let payload = parsed.payload(packet);
        if !protocol.has_ports() || !svr::starts_with_cookie(payload) {
            return None;
        }
        let mut metadata = Self {
            protocol: protocol.to_string(),
            source: SocketAddr::new(parsed.source, parsed.source_port),
            destination: SocketAddr::new(parsed.destination, parsed.destination_port),
            tag: Tag::NoKey,
            encrypted: false,
            header: Vec::new(),
            payload: None,
            fault: None,
            bfd: None,
            carried_bytes: 0,
        };
        if let Err(error) = metadata.read(parsed.protocol, payload, unix, keys) {
            metadata.fault = Some(error.to_string());
        }
        Some(metadata)
    }

    fn read(
        &mut self,
        number: u8,
        l4_payload: &[u8],
        unix: u64,
        keys: &mut Keys,
    ) -> Result<(), MetadataError> {
        let header = Header::parse(l4_payload)?;
        let carried = header.rest();
        let carried = carried.get(..carried.len().saturating_sub(TAG_LENGTH)).unwrap_or_default();
        self.carried_bytes = carried.len();
        if self.destination.port() == svr::BFD_PORT {
            self.bfd = liveness(carried);
        }
        let tlvs = HeaderTlvs::parse(header.header_tlvs())?;
        self.header = header_fields(&tlvs);
        self.encrypted = tlvs.metadata_encrypted;
        let mut section = header.payload_section().to_vec();
        let (tag, readable) = protection(l4_payload, &tlvs, &mut section, unix, keys);
        self.tag = tag;
        if let Some(readable) = readable {
            let tlvs = PayloadTlvs::parse(readable)?;
            keys.sessions.learn((self.source, self.destination, number), &tlvs);
            self.payload = Some(payload_fields(&tlvs));
        }
        Ok(())
    }

    /// On one line, for the comment of a packet.
    pub fn comment(&self) -> String {
        let mut text = format!("SVR metadata, {}", self.verdict());
        for field in self.header.iter().chain(self.payload.iter().flatten()) {
            text.push_str(&format!("; {}: {}", field.name, field.value));
        }
        if let Some(bfd) = &self.bfd {
            text.push_str(&format!("; BFD: {bfd}"));
        }
        if let Some(fault) = &self.fault {
            text.push_str(&format!("; {fault}"));
        }
        text
    }

    /// Who speaks to whom, and whether that is proved.
    pub fn verdict(&self) -> String {
        let clear = match (self.encrypted, &self.payload) {
            (true, Some(_)) => "decrypted",
            (true, None) => "encrypted",
            (false, _) => "in the clear",
        };
        match &self.tag {
            Tag::Valid { sender, receiver } => format!("{sender} to {receiver}, tag valid, {clear}"),
            Tag::Wrong => format!("tag WRONG (or a super-packet, captured whole), {clear}"),
            Tag::NoKey => format!("tag not checked: no key, {clear}"),
        }
    }
}

/// Verifies the tag, and gives the payload section in the clear if that is possible.
fn protection<'a>(
    l4_payload: &[u8],
    tlvs: &HeaderTlvs,
    section: &'a mut [u8],
    unix: u64,
    keys: &mut Keys,
) -> (Tag, Option<&'a [u8]>) {
    let encrypted = tlvs.metadata_encrypted;
    let candidates = match (tlvs.security_id, &tlvs.key_salt) {
        (Some(id), Some(salt)) => keys.candidates(id, salt),
        _ => Vec::new(),
    };
    let signed = l4_payload.len().checked_sub(TAG_LENGTH).and_then(|end| l4_payload.split_at_checked(end));
    let valid = |keys: &HopKeys| {
        let tag = signed.and_then(|(bytes, tag)| Some((bytes, tag.first_chunk()?)));
        tag.is_some_and(|(bytes, tag)| keys.verify(bytes, tag, unix, 0).is_ok())
    };
    let proved = candidates.iter().find(|candidate| valid(candidate.keys));
    let tag = match (proved, candidates.is_empty()) {
        (Some(candidate), _) => {
            Tag::Valid { sender: candidate.sender.to_owned(), receiver: candidate.receiver.to_owned() }
        }
        (None, false) => Tag::Wrong,
        (None, true) => Tag::NoKey,
    };
    if !encrypted {
        return (tag, Some(section));
    }
    // A captured super-packet has its tag further in front, and can be decrypted all the same.
    let Some(candidate) = proved.or(candidates.first()) else { return (tag, None) };
    (tag, decrypted(candidate.keys, section))
}

fn decrypted<'a>(keys: &HopKeys, section: &'a mut [u8]) -> Option<&'a [u8]> {
    let (iv, text) = section.split_first_chunk_mut()?;
    let length = keys.decrypt_metadata(iv, text).ok()?;
    text.get(..length)
}

struct Fields(Vec<Field>);

impl Fields {
    fn add(&mut self, name: &'static str, value: Option<impl ToString>) {
        self.0.extend(value.map(|value| Field { name, value: units::printable(&value.to_string()) }));
    }

    fn flag(&mut self, name: &'static str, present: bool) {
        self.add(name, present.then_some("yes"));
    }
}

fn header_fields(tlvs: &HeaderTlvs) -> Vec<Field> {
    let mut fields = Fields(Vec::new());
    fields.add("security id", tlvs.security_id.map(|id| format!("{id:#010x}")));
    fields.add("key salt", tlvs.key_salt.map(|salt| units::hex(&salt)));
    fields.add("sequence", tlvs.sequence);
    fields.add("control", tlvs.control.map(control));
    fields.add("ICMP error from", tlvs.icmp_location);
    fields.flag("stop sending metadata", tlvs.disable_forward);
    fields.add(
        "fragment",
        tlvs.fragment.map(|fragment| {
            let more = if fragment.more_fragments { ", more follow" } else { ", the last" };
            format!("of {:#010x} at byte {}{more}", fragment.extended_id, u32::from(fragment.offset) * 8)
        }),
    );
    fields.add(
        "path metrics",
        tlvs.path_metrics.map(|metrics| {
            format!(
                "sent {} ms colour {}, received {} ms colour {}, {} of the colour before{}",
                metrics.tx_time,
                metrics.tx_color,
                metrics.rx_time,
                metrics.rx_color,
                metrics.previous_rx_color_count,
                if metrics.drop { ", drop" } else { "" }
            )
        }),
    );
    fields.add(
        "modify request",
        tlvs.modify
            .map(|modify| format!("{}, forward {}, done {}", modify.sequence, modify.forward, modify.done)),
    );
    fields.add(
        "health check",
        tlvs.health_check.map(|check| match check {
            HealthCheck::Request => "request".to_owned(),
            HealthCheck::RequestAfterTimeout => "request after a timeout".to_owned(),
            HealthCheck::Other(number) => number.to_string(),
        }),
    );
    fields.add(
        "block",
        tlvs.sequence_repair.map(|place| {
            format!(
                "{} packet {} of {}+{}, number {}",
                place.block, place.index, place.k, place.m, place.sequence
            )
        }),
    );
    fields.add("unknown TLVs", (tlvs.unknown > 0).then_some(tlvs.unknown));
    fields.0
}

fn control(control: Control) -> String {
    match control {
        Control::Unknown => "unknown".to_owned(),
        Control::KeepAlive => "keep alive".to_owned(),
        Control::EnableMetadata => "enable metadata".to_owned(),
        Control::DisableMetadata => "disable metadata".to_owned(),
        Control::DeleteSession => "delete session".to_owned(),
        Control::StateExists => "state exists".to_owned(),
        Control::Other(number) => number.to_string(),
    }
}

fn context(context: Context) -> String {
    let protocol = Protocol(context.protocol);
    let (source, destination) = (context.source.ip(), context.destination.ip());
    match protocol {
        protocol if protocol.has_ports() => {
            format!("{protocol} {} → {}", context.source, context.destination)
        }
        // An echo has its identifier in both ports.
        protocol if protocol.is_icmp() => {
            format!("{protocol} {source} → {destination}, identifier {}", context.source.port())
        }
        protocol => format!("{protocol} {source} → {destination}"),
    }
}

/// What a liveness message says.
fn liveness(bytes: &[u8]) -> Option<String> {
    let packet = bfd::Packet::new_checked(bytes).ok()?;
    let state = match packet.state() {
        bfd::State::AdminDown => "admin-down",
        bfd::State::Down => "down",
        bfd::State::Init => "init",
        bfd::State::Up => "up",
    };
    Some(format!(
        "{state}, sends every {} ms, wants at most one in {} ms, detects after {} lost",
        packet.desired_min_tx() / 1000,
        packet.required_min_rx() / 1000,
        packet.detect_multiplier()
    ))
}

fn payload_fields(tlvs: &PayloadTlvs<'_>) -> Vec<Field> {
    let mut fields = Fields(Vec::new());
    fields.add("forward", tlvs.forward.map(context));
    fields.add("reverse", tlvs.reverse.map(context));
    fields.add("session", tlvs.uuid.as_ref().map(units::uuid));
    fields.add("tenant", tlvs.tenant);
    fields.add("service", tlvs.service);
    fields.add("from router", tlvs.source_router);
    fields.add("to router", tlvs.destination_router);
    fields.add("security policy", tlvs.security_policy);
    fields.add(
        "pathway",
        tlvs.pathway.map(|pathway| match core::str::from_utf8(pathway) {
            Ok(text) => text.to_owned(),
            Err(_) => units::hex(pathway),
        }),
    );
    fields.add("epoch", tlvs.epoch);
    fields.add("boot id", tlvs.boot_id.map(|id| format!("{id:#018x}")));
    fields.add("sender salt", tlvs.sender_salt.map(|salt| units::hex(&salt)));
    fields.add("interface id", tlvs.global_interface);
    fields.add("source NAT", tlvs.source_nat);
    fields.add("application", tlvs.application);
    fields.add("sessions in service", tlvs.sessions_in_service);
    fields.add(
        "remaining time",
        tlvs.remaining_session_time
            .map(|seconds| units::duration(core::time::Duration::from_secs(u64::from(seconds)))),
    );
    // The secret of a session is nobody's to print.
    fields.add("session key", tlvs.session_key.map(|key| format!("{} bytes, not shown", key.len())));
    fields.flag("payload encrypted", tlvs.session_encrypted);
    fields.flag("TCP as UDP", tlvs.tcp_syn);
    fields.flag("stop sending metadata", tlvs.disable_forward);
    fields.add("multicast", tlvs.multicast.map(|group| format!("{} → {}", group.source, group.group)));
    fields.add(
        "multicast egress",
        tlvs.multicast_egress.map(|list| list.iter().collect::<Vec<_>>().join(", ")),
    );
    fields.add("unknown TLVs", (tlvs.unknown > 0).then_some(tlvs.unknown));
    fields.0
}

#[cfg(test)]
mod tests;
