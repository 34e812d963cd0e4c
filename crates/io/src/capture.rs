//! A tap on what is received and sent, for `fairway capture`, and a writer for pcapng files
//! (draft-ietf-opsawg-pcapng).

use std::io::{self, Write};
use std::time::Duration;

use fairway_types::InterfaceId;

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

/// One packet as it was received or sent.
#[derive(Clone, Copy, Debug)]
pub struct CaptureRecord<'a> {
    /// The interface.
    pub interface: InterfaceId,
    /// Which way it went.
    pub direction: Direction,
    /// The Ethernet header; empty on a TUN.
    pub link_header: &'a [u8],
    /// The packet from its IP header on. Super-packets of TCP are whole, and unfinished checksums are as
    /// they are; of datagrams that are sent or arrive together, each is a packet.
    pub packet: &'a [u8],
    /// The time since the Unix epoch.
    pub timestamp: Duration,
}

/// What is called for every packet while a capture runs. It must be quick: the worker waits for it.
pub type CaptureHook = Box<dyn FnMut(&CaptureRecord<'_>) + Send>;

/// What a pcapng interface carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet frames (LINKTYPE_ETHERNET).
    Ethernet,
    /// IP packets without link header (LINKTYPE_RAW).
    Raw,
}

/// Bytes of every packet that are kept: all of the longest super-packet.
const SNAP_LENGTH: u32 = 262_144;
const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const OPTION_IF_NAME: u16 = 2;
const OPTION_IF_TSRESOL: u16 = 9;
const OPTION_EPB_FLAGS: u16 = 2;

/// Writes pcapng: a section header, interfaces, then packets with nanosecond timestamps.
#[derive(Debug)]
pub struct PcapngWriter<W: Write> {
    out: W,
    block: Vec<u8>,
    interfaces: u32,
}

impl<W: Write> PcapngWriter<W> {
    /// Starts a section.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut out: W, application: &str) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend_from_slice(&0x1A2B_3C4D_u32.to_le_bytes());
        body.extend_from_slice(&1u16.to_le_bytes());
        body.extend_from_slice(&0u16.to_le_bytes());
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        put_option(&mut body, 4, application.as_bytes());
        put_option(&mut body, 0, &[]);
        write_block(&mut out, SECTION_HEADER, &body)?;
        Ok(Self { out, block: body, interfaces: 0 })
    }

    /// Adds an interface and returns its number in the file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn interface(&mut self, name: &str, link: LinkType) -> io::Result<u32> {
        let link: u16 = match link {
            LinkType::Ethernet => 1,
            LinkType::Raw => 101,
        };
        self.block.clear();
        self.block.extend_from_slice(&link.to_le_bytes());
        self.block.extend_from_slice(&0u16.to_le_bytes());
        self.block.extend_from_slice(&SNAP_LENGTH.to_le_bytes());
        put_option(&mut self.block, OPTION_IF_NAME, name.as_bytes());
        put_option(&mut self.block, OPTION_IF_TSRESOL, &[9]);
        put_option(&mut self.block, 0, &[]);
        write_block(&mut self.out, INTERFACE_DESCRIPTION, &self.block)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Writes one packet of the interface numbered `interface` in the file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn packet(&mut self, interface: u32, record: &CaptureRecord<'_>) -> io::Result<()> {
        let length = record.link_header.len() + record.packet.len();
        let length = u32::try_from(length).unwrap_or(u32::MAX).min(SNAP_LENGTH);
        let nanos = u64::try_from(record.timestamp.as_nanos()).unwrap_or(u64::MAX);
        let flags: u32 = match record.direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        self.block.clear();
        for word in [interface, (nanos >> 32) as u32, nanos as u32, length, length] {
            self.block.extend_from_slice(&word.to_le_bytes());
        }
        let data = record.link_header.iter().chain(record.packet).take(length as usize);
        self.block.extend(data);
        pad(&mut self.block);
        put_option(&mut self.block, OPTION_EPB_FLAGS, &flags.to_le_bytes());
        put_option(&mut self.block, 0, &[]);
        write_block(&mut self.out, ENHANCED_PACKET, &self.block)
    }

    /// Flushes and gives the writer back.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

fn put_option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    block.extend_from_slice(&code.to_le_bytes());
    block.extend_from_slice(&(value.len() as u16).to_le_bytes());
    block.extend_from_slice(value);
    pad(block);
}

fn write_block<W: Write>(out: &mut W, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = (body.len() + 12) as u32;
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(body)?;
    out.write_all(&length.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_padded_and_carry_their_length_twice() {
        let mut writer = PcapngWriter::new(Vec::new(), "fairway").unwrap();
        let index = writer.interface("wan", LinkType::Ethernet).unwrap();
        let record = CaptureRecord {
            interface: InterfaceId(3),
            direction: Direction::Outbound,
            link_header: &[1; 14],
            packet: &[2; 21],
            timestamp: Duration::from_nanos(0x1_0000_0002),
        };
        writer.packet(index, &record).unwrap();
        let bytes = writer.finish().unwrap();
        let mut rest = bytes.as_slice();
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let length = word(4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(length - 4) as usize, length);
            kinds.push(word(0));
            if word(0) == ENHANCED_PACKET {
                assert_eq!((word(8), word(12), word(16), word(20)), (0, 1, 2, 35));
                assert_eq!(&rest[28 + 14..28 + 35], &[2; 21]);
                assert_eq!(&rest[64..72], &[2, 0, 4, 0, 2, 0, 0, 0]);
            }
            rest = &rest[length..];
        }
        assert_eq!(kinds, [SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET]);
    }
}
