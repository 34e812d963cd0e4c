//! The TLVs of the payload section, which may be encrypted.

use core::net::Ipv4Addr;

use super::MetadataError;
use super::choices::{MAX_PATHWAY_LEN, tlv};
use super::section::{Reader, Writer, empty, exact, once};
use super::values::{Context, EgressList, MulticastContext, ipv4, name};

/// Everything the payload section can say; what is absent is `None` or false.
///
/// Whoever prints this must not print [`Self::session_key`]; `Debug` leaves it out.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PayloadTlvs<'a> {
    /// TLV 2 or 3: the original tuple, client to server.
    pub forward: Option<Context>,
    /// TLV 4 or 5: the original tuple, server to client.
    pub reverse: Option<Context>,
    /// TLV 6: names the session on all hops.
    pub uuid: Option<[u8; 16]>,
    /// TLV 7: the tenant.
    pub tenant: Option<&'a str>,
    /// TLV 8: the interface the session came in on.
    pub global_interface: Option<u32>,
    /// TLV 10: the service.
    pub service: Option<&'a str>,
    /// TLV 11: the session's payload is encrypted.
    pub session_encrypted: bool,
    /// TLV 12: TCP travels as UDP on this hop.
    pub tcp_syn: bool,
    /// TLV 13: sessions the egress router has in this service; reverse metadata only.
    pub sessions_in_service: Option<u64>,
    /// TLV 14: the router the packet comes from.
    pub source_router: Option<&'a str>,
    /// TLV 15: the security policy.
    pub security_policy: Option<&'a str>,
    /// TLV 17: the router the packet goes to.
    pub destination_router: Option<&'a str>,
    /// TLV 18, accepted here too: the handshake is acknowledged.
    pub disable_forward: bool,
    /// TLV 19: names the path, opaque to the receiver; at most 255 bytes.
    pub pathway: Option<&'a [u8]>,
    /// TLV 25: the address the egress router uses as source.
    pub source_nat: Option<Ipv4Addr>,
    /// TLV 35: the application.
    pub application: Option<&'a str>,
    /// TLV 42: remaining time of the session in seconds.
    pub remaining_session_time: Option<u32>,
    /// TLV 46: the secret of the session. Its presence forces encryption of the metadata.
    pub session_key: Option<&'a [u8]>,
    /// TLV 50: the multicast group of the session.
    pub multicast: Option<MulticastContext>,
    /// TLV 51: the egress routers of the multicast group.
    pub multicast_egress: Option<EgressList<'a>>,
    /// TLV 0x8001 (F): made fresh whenever the sender creates its state of the session.
    pub sender_salt: Option<[u8; 16]>,
    /// TLV 0x8002 (F): rises with every re-trigger.
    pub epoch: Option<u32>,
    /// TLV 0x8006 (F): differs after every start of the router.
    pub boot_id: Option<u64>,
    /// TLVs that were skipped when parsing because their type is unknown here; not written.
    pub unknown: u16,
}

impl<'a> PayloadTlvs<'a> {
    /// Reads a payload section in the clear.
    ///
    /// # Errors
    /// Any of the TLV errors of [`MetadataError`].
    pub fn parse(section: &'a [u8]) -> Result<Self, MetadataError> {
        let mut tlvs = Self::default();
        let mut reader = Reader::new(section);
        while let Some((kind, value)) = reader.next()? {
            tlvs.read(kind, value)?;
        }
        Ok(tlvs)
    }

    fn read(&mut self, kind: u16, value: &'a [u8]) -> Result<(), MetadataError> {
        match kind {
            tlv::FORWARD_CONTEXT_V4 => once(&mut self.forward, Context::parse_v4(value)?)?,
            tlv::FORWARD_CONTEXT_V6 => once(&mut self.forward, Context::parse_v6(value)?)?,
            tlv::REVERSE_CONTEXT_V4 => once(&mut self.reverse, Context::parse_v4(value)?)?,
            tlv::REVERSE_CONTEXT_V6 => once(&mut self.reverse, Context::parse_v6(value)?)?,
            tlv::SESSION_UUID => self.uuid = Some(exact(value)?),
            tlv::TENANT => self.tenant = Some(name(value)?),
            tlv::GLOBAL_INTERFACE => self.global_interface = Some(u32::from_be_bytes(exact(value)?)),
            tlv::SERVICE => self.service = Some(name(value)?),
            tlv::SESSION_ENCRYPTED => self.session_encrypted = empty(value)?,
            tlv::TCP_SYN => self.tcp_syn = empty(value)?,
            tlv::SESSIONS_IN_SERVICE => {
                self.sessions_in_service = Some(u64::from_be_bytes(exact(value)?));
            }
            tlv::SOURCE_ROUTER => self.source_router = Some(name(value)?),
            tlv::SECURITY_POLICY => self.security_policy = Some(name(value)?),
            tlv::DESTINATION_ROUTER => self.destination_router = Some(name(value)?),
            tlv::DISABLE_FORWARD => self.disable_forward = empty(value)?,
            tlv::PATHWAY if value.len() > MAX_PATHWAY_LEN => return Err(MetadataError::TlvLength),
            tlv::PATHWAY => self.pathway = Some(value),
            tlv::SOURCE_NAT => self.source_nat = Some(ipv4(value)?),
            tlv::APPLICATION => self.application = Some(name(value)?),
            tlv::REMAINING_SESSION_TIME => {
                self.remaining_session_time = Some(u32::from_be_bytes(exact(value)?));
            }
            tlv::SESSION_KEY if value.is_empty() => return Err(MetadataError::TlvLength),
            tlv::SESSION_KEY => self.session_key = Some(value),
            tlv::MULTICAST_CONTEXT => self.multicast = Some(MulticastContext::parse(value)?),
            tlv::MULTICAST_EGRESS => self.multicast_egress = Some(EgressList::parse(value)?),
            tlv::SENDER_SALT => self.sender_salt = Some(exact(value)?),
            tlv::EPOCH => self.epoch = Some(u32::from_be_bytes(exact(value)?)),
            tlv::BOOT_ID => self.boot_id = Some(u64::from_be_bytes(exact(value)?)),
            _ => self.unknown += 1,
        }
        Ok(())
    }

    /// Writes the TLVs in ascending order of type. Gives their length in bytes, or `None` when
    /// `buffer` is too small or a value may not be sent.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(buffer);
        self.write(&mut writer);
        writer.finish()
    }

    /// Bytes that [`Self::emit`] writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut writer = Writer::measuring();
        self.write(&mut writer);
        writer.len()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        if let Some(forward) = &self.forward {
            forward.write(tlv::FORWARD_CONTEXT_V4, tlv::FORWARD_CONTEXT_V6, writer);
        }
        if let Some(reverse) = &self.reverse {
            reverse.write(tlv::REVERSE_CONTEXT_V4, tlv::REVERSE_CONTEXT_V6, writer);
        }
        write_array(writer, tlv::SESSION_UUID, self.uuid);
        write_name(writer, tlv::TENANT, self.tenant);
        write_array(writer, tlv::GLOBAL_INTERFACE, self.global_interface.map(u32::to_be_bytes));
        write_name(writer, tlv::SERVICE, self.service);
        writer.flag(tlv::SESSION_ENCRYPTED, self.session_encrypted);
        writer.flag(tlv::TCP_SYN, self.tcp_syn);
        write_array(writer, tlv::SESSIONS_IN_SERVICE, self.sessions_in_service.map(u64::to_be_bytes));
        write_name(writer, tlv::SOURCE_ROUTER, self.source_router);
        write_name(writer, tlv::SECURITY_POLICY, self.security_policy);
        write_name(writer, tlv::DESTINATION_ROUTER, self.destination_router);
        writer.flag(tlv::DISABLE_FORWARD, self.disable_forward);
        match self.pathway {
            Some(pathway) if pathway.len() > MAX_PATHWAY_LEN => writer.fail(),
            Some(pathway) => writer.tlv(tlv::PATHWAY, &[pathway]),
            None => {}
        }
        write_array(writer, tlv::SOURCE_NAT, self.source_nat.map(|address| address.octets()));
        write_name(writer, tlv::APPLICATION, self.application);
        write_array(writer, tlv::REMAINING_SESSION_TIME, self.remaining_session_time.map(u32::to_be_bytes));
        match self.session_key {
            Some([]) => writer.fail(),
            Some(session_key) => writer.tlv(tlv::SESSION_KEY, &[session_key]),
            None => {}
        }
        if let Some(multicast) = &self.multicast {
            multicast.write(writer);
        }
        if let Some(egress) = &self.multicast_egress {
            writer.tlv(tlv::MULTICAST_EGRESS, &[egress.as_bytes()]);
        }
        write_array(writer, tlv::SENDER_SALT, self.sender_salt);
        write_array(writer, tlv::EPOCH, self.epoch.map(u32::to_be_bytes));
        write_array(writer, tlv::BOOT_ID, self.boot_id.map(u64::to_be_bytes));
    }
}

fn write_name(writer: &mut Writer<'_>, kind: u16, text: Option<&str>) {
    match text.map(|text| name(text.as_bytes())) {
        Some(Ok(text)) => writer.tlv(kind, &[text.as_bytes()]),
        Some(Err(_)) => writer.fail(),
        None => {}
    }
}

fn write_array<const N: usize>(writer: &mut Writer<'_>, kind: u16, value: Option<[u8; N]>) {
    if let Some(value) = value {
        writer.tlv(kind, &[&value]);
    }
}

impl core::fmt::Debug for PayloadTlvs<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PayloadTlvs")
            .field("forward", &self.forward)
            .field("reverse", &self.reverse)
            .field("uuid", &self.uuid)
            .field("tenant", &self.tenant)
            .field("service", &self.service)
            .field("source_router", &self.source_router)
            .field("security_policy", &self.security_policy)
            .field("destination_router", &self.destination_router)
            .field("epoch", &self.epoch)
            .field("boot_id", &self.boot_id)
            .field("unknown", &self.unknown)
            .finish_non_exhaustive()
    }
}
