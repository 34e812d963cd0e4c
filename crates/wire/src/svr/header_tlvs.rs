//! The TLVs of the header section, which are never encrypted.

use core::net::IpAddr;

use super::MetadataError;
use super::choices::tlv;
use super::section::{Reader, Writer, empty, exact, once};
use super::values::{Control, Fragment, HealthCheck, ModifyRequest, PathMetrics, SequenceRepair, ipv4, ipv6};

/// Everything the header section can say; what is absent is `None` or false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderTlvs {
    /// TLV 1: this is one piece of a larger packet.
    pub fragment: Option<Fragment>,
    /// TLV 16: index of the hop key, allocated by the receiver.
    pub security_id: Option<u32>,
    /// TLV 18: the handshake is acknowledged; stop sending metadata.
    pub disable_forward: bool,
    /// TLV 20 or 21: who issued the ICMP error being relayed.
    pub icmp_location: Option<IpAddr>,
    /// TLV 24: a control message.
    pub control: Option<Control>,
    /// TLV 26: path measurement.
    pub path_metrics: Option<PathMetrics>,
    /// TLV 28: a change of the session.
    pub modify: Option<ModifyRequest>,
    /// TLV 46: a health check of the session.
    pub health_check: Option<HealthCheck>,
    /// TLV 0x8003 (F): place among duplicated or repairable packets.
    pub sequence_repair: Option<SequenceRepair>,
    /// TLV 0x8004 (F): salt of the hop key.
    pub key_salt: Option<[u8; 16]>,
    /// TLV 0x8005 (F): number of this metadata packet under its key salt.
    pub sequence: Option<u64>,
    /// TLV 0x8007 (F): the payload section is IV and ciphertext.
    pub metadata_encrypted: bool,
    /// TLVs that were skipped when parsing because their type is unknown here; not written.
    pub unknown: u16,
}

impl HeaderTlvs {
    /// Reads a header section ([`super::Header::header_tlvs`]).
    ///
    /// # Errors
    /// Any of the TLV errors of [`MetadataError`].
    pub fn parse(section: &[u8]) -> Result<Self, MetadataError> {
        let mut tlvs = Self::default();
        let mut reader = Reader::new(section);
        while let Some((kind, value)) = reader.next()? {
            tlvs.read(kind, value)?;
        }
        Ok(tlvs)
    }

    fn read(&mut self, kind: u16, value: &[u8]) -> Result<(), MetadataError> {
        match kind {
            tlv::FRAGMENT => self.fragment = Some(Fragment::parse(value)?),
            tlv::SECURITY_ID => self.security_id = Some(u32::from_be_bytes(exact(value)?)),
            tlv::DISABLE_FORWARD => self.disable_forward = empty(value)?,
            tlv::ICMP_LOCATION_V4 => once(&mut self.icmp_location, IpAddr::V4(ipv4(value)?))?,
            tlv::ICMP_LOCATION_V6 => once(&mut self.icmp_location, IpAddr::V6(ipv6(value)?))?,
            tlv::CONTROL => {
                let [number] = exact(value)?;
                self.control = Some(Control::from_number(number));
            }
            tlv::PATH_METRICS => self.path_metrics = Some(PathMetrics::parse(value)?),
            tlv::MODIFY => self.modify = Some(ModifyRequest::parse(value)?),
            tlv::HEALTH_CHECK => {
                let [number] = exact(value)?;
                self.health_check = Some(HealthCheck::from_number(number));
            }
            tlv::SEQUENCE_REPAIR => self.sequence_repair = Some(SequenceRepair::parse(value)?),
            tlv::KEY_SALT => self.key_salt = Some(exact(value)?),
            tlv::METADATA_SEQUENCE => self.sequence = Some(u64::from_be_bytes(exact(value)?)),
            tlv::METADATA_ENCRYPTED => self.metadata_encrypted = empty(value)?,
            _ => self.unknown += 1,
        }
        Ok(())
    }

    /// Writes the TLVs in ascending order of type. Gives their length in bytes, or `None` when
    /// `buffer` is too small or a value does not fit its field.
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
        if let Some(fragment) = &self.fragment {
            fragment.write(writer);
        }
        if let Some(security_id) = self.security_id {
            writer.tlv(tlv::SECURITY_ID, &[&security_id.to_be_bytes()]);
        }
        writer.flag(tlv::DISABLE_FORWARD, self.disable_forward);
        match self.icmp_location {
            Some(IpAddr::V4(address)) => writer.tlv(tlv::ICMP_LOCATION_V4, &[&address.octets()]),
            Some(IpAddr::V6(address)) => writer.tlv(tlv::ICMP_LOCATION_V6, &[&address.octets()]),
            None => {}
        }
        if let Some(control) = self.control {
            writer.tlv(tlv::CONTROL, &[&[control.number()]]);
        }
        if let Some(path_metrics) = &self.path_metrics {
            path_metrics.write(writer);
        }
        if let Some(modify) = &self.modify {
            modify.write(writer);
        }
        if let Some(health_check) = self.health_check {
            writer.tlv(tlv::HEALTH_CHECK, &[&[health_check.number()]]);
        }
        if let Some(sequence_repair) = &self.sequence_repair {
            sequence_repair.write(writer);
        }
        if let Some(key_salt) = &self.key_salt {
            writer.tlv(tlv::KEY_SALT, &[key_salt]);
        }
        if let Some(sequence) = self.sequence {
            writer.tlv(tlv::METADATA_SEQUENCE, &[&sequence.to_be_bytes()]);
        }
        writer.flag(tlv::METADATA_ENCRYPTED, self.metadata_encrypted);
    }
}
