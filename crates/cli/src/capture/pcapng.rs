//! Capture files: writes pcapng (draft-ietf-opsawg-pcapng), reads pcapng and the older pcap.

use std::io::{self, ErrorKind, Read, Write};

/// LINKTYPE_ETHERNET.
pub const ETHERNET: u16 = 1;
/// LINKTYPE_RAW: IP packets without link header.
pub const RAW: u16 = 101;
/// The longest block that is read.
const MAX_BLOCK: usize = 16 * 1024 * 1024;
const SNAP_LENGTH: u32 = 262_144;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;

const OPTION_COMMENT: u16 = 1;
const OPTION_IF_NAME: u16 = 2;
const OPTION_EPB_FLAGS: u16 = 2;
const OPTION_APPLICATION: u16 = 4;
const OPTION_IF_RESOLUTION: u16 = 9;

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The file does not say.
    Unknown,
    /// It was received.
    Received,
    /// It was sent.
    Sent,
}

impl Direction {
    /// The name on screens and in JSON.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Received => Some("received"),
            Self::Sent => Some("sent"),
        }
    }
}

/// An interface of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, if the file says one.
    pub name: String,
    /// What its packets begin with, a LINKTYPE number.
    pub link: u16,
    /// Nanoseconds in a unit of its timestamps, as a fraction.
    resolution: (u64, u64),
}

impl Interface {
    /// An interface with timestamps in nanoseconds.
    pub fn new(name: &str, link: u16) -> Self {
        Self { name: name.to_owned(), link, resolution: (1, 1) }
    }

    fn nanoseconds(&self, units: u64) -> u64 {
        let (times, per) = self.resolution;
        u64::try_from(u128::from(units) * u128::from(times) / u128::from(per.max(1))).unwrap_or(u64::MAX)
    }
}

/// A packet of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The position of its interface among all of the file.
    pub interface: usize,
    /// Nanoseconds since the Unix epoch.
    pub timestamp: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its length on the wire, in bytes.
    pub length: u32,
    /// Its bytes, link header first.
    pub data: Vec<u8>,
}

/// Writes a pcapng file, block by block, so that what is written is whole at any time.
pub struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Starts a section.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(BYTE_ORDER.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        body.extend(u64::MAX.to_le_bytes());
        put_option(&mut body, OPTION_APPLICATION, concat!("fairway ", env!("CARGO_PKG_VERSION")).as_bytes());
        put_option(&mut body, 0, &[]);
        write_block(&mut out, SECTION_HEADER, &body)?;
        Ok(Self { out })
    }

    /// Adds an interface; packets name interfaces in the order they were added.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn interface(&mut self, interface: &Interface) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend(interface.link.to_le_bytes());
        body.extend([0, 0]);
        body.extend(SNAP_LENGTH.to_le_bytes());
        put_option(&mut body, OPTION_IF_NAME, interface.name.as_bytes());
        put_option(&mut body, OPTION_IF_RESOLUTION, &[9]);
        put_option(&mut body, 0, &[]);
        write_block(&mut self.out, INTERFACE_DESCRIPTION, &body)
    }

    /// Adds a packet, with a comment if there is one.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn packet(&mut self, packet: &Packet, comment: Option<&str>) -> io::Result<()> {
        let kept = u32::try_from(packet.data.len()).unwrap_or(u32::MAX).min(SNAP_LENGTH);
        let interface = u32::try_from(packet.interface).unwrap_or(u32::MAX);
        let high = u32::try_from(packet.timestamp >> 32).unwrap_or(u32::MAX);
        let low = (packet.timestamp & u64::from(u32::MAX)) as u32;
        let mut body = Vec::with_capacity(packet.data.len() + 64);
        for word in [interface, high, low, kept, packet.length] {
            body.extend(word.to_le_bytes());
        }
        body.extend(packet.data.iter().take(kept as usize));
        pad(&mut body);
        if let Some(comment) = comment {
            put_option(&mut body, OPTION_COMMENT, comment.as_bytes());
        }
        let flags: u32 = match packet.direction {
            Direction::Unknown => 0,
            Direction::Received => 1,
            Direction::Sent => 2,
        };
        put_option(&mut body, OPTION_EPB_FLAGS, &flags.to_le_bytes());
        put_option(&mut body, 0, &[]);
        write_block(&mut self.out, ENHANCED_PACKET, &body)?;
        self.out.flush()
    }
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn put_option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(value.iter().take(usize::from(length)));
    pad(body);
}

fn write_block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    let mut block = Vec::with_capacity(body.len() + 12);
    block.extend(kind.to_le_bytes());
    block.extend(length.to_le_bytes());
    block.extend(body);
    block.extend(length.to_le_bytes());
    out.write_all(&block)
}

/// In which order the bytes of numbers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = bytes.get(at..)?.first_chunk().copied()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..)?.first_chunk().copied()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        })
    }
}

/// Reads a capture file of either kind.
pub struct Reader<R: Read> {
    input: R,
    order: Order,
    kind: Kind,
    interfaces: Vec<Interface>,
    /// Interfaces of sections before the present one.
    earlier: usize,
}

enum Kind {
    Pcap,
    Pcapng,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// When it is neither pcap nor pcapng, or cannot be read.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut magic = [0; 4];
        input.read_exact(&mut magic).map_err(|_| invalid("the file is shorter than any capture"))?;
        let (order, nanoseconds) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1),
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1000),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1),
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                let mut reader = Self {
                    input,
                    order: Order::Little,
                    kind: Kind::Pcapng,
                    interfaces: Vec::new(),
                    earlier: 0,
                };
                reader.section()?;
                return Ok(reader);
            }
            _ => return Err(invalid("the file is neither pcap nor pcapng")),
        };
        let mut rest = [0; 20];
        input.read_exact(&mut rest)?;
        let link = order.u32(&rest, 16).unwrap_or(0) & 0xffff;
        let interface = Interface { name: String::new(), link: link as u16, resolution: (nanoseconds, 1) };
        Ok(Self { input, order, kind: Kind::Pcap, interfaces: vec![interface], earlier: 0 })
    }

    /// The interfaces known so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The next packet, or nothing at the end.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn packet(&mut self) -> io::Result<Option<Packet>> {
        match self.kind {
            Kind::Pcap => self.old_packet(),
            Kind::Pcapng => loop {
                let Some(kind) = self.word()? else { return Ok(None) };
                if let Some(packet) = self.block(kind)? {
                    return Ok(Some(packet));
                }
            },
        }
    }

    fn old_packet(&mut self) -> io::Result<Option<Packet>> {
        let Some(seconds) = self.word()? else { return Ok(None) };
        let mut head = [0; 12];
        self.input.read_exact(&mut head)?;
        let word = |at| self.order.u32(&head, at).unwrap_or(0);
        let (fraction, kept, length) = (word(0), word(4), word(8));
        let data = self.bytes(kept as usize)?;
        let unit = self.interfaces.first().map_or(1, |interface| interface.resolution.0);
        let timestamp = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit;
        Ok(Some(Packet { interface: 0, timestamp, direction: Direction::Unknown, length, data }))
    }

    /// The rest of a block whose type was read; a packet if it holds one.
    fn block(&mut self, kind: u32) -> io::Result<Option<Packet>> {
        if kind == SECTION_HEADER {
            self.section()?;
            return Ok(None);
        }
        let length = self.word()?.ok_or_else(|| invalid("a block is cut short"))?;
        let body = self.body(length)?;
        match kind {
            INTERFACE_DESCRIPTION => self.describe(&body)?,
            ENHANCED_PACKET => return self.enhanced(&body).map(Some),
            SIMPLE_PACKET => return self.simple(&body).map(Some),
            _ => {}
        }
        Ok(None)
    }

    /// The rest of a section header, whose type was read.
    fn section(&mut self) -> io::Result<()> {
        let mut head = [0; 8];
        self.input.read_exact(&mut head)?;
        self.order = if Order::Little.u32(&head, 4) == Some(BYTE_ORDER) {
            Order::Little
        } else if Order::Big.u32(&head, 4) == Some(BYTE_ORDER) {
            Order::Big
        } else {
            return Err(invalid("a section has no byte order"));
        };
        let length = self.order.u32(&head, 0).unwrap_or(0) as usize;
        let rest = length.checked_sub(16).filter(|&rest| rest <= MAX_BLOCK);
        self.bytes(rest.ok_or_else(|| invalid("a section header has a wrong length"))?)?;
        self.bytes(4)?;
        self.earlier = self.interfaces.len();
        Ok(())
    }

    fn body(&mut self, length: u32) -> io::Result<Vec<u8>> {
        let length = length as usize;
        let body = length.checked_sub(12).filter(|body| *body <= MAX_BLOCK && body % 4 == 0);
        let body = self.bytes(body.ok_or_else(|| invalid("a block has a wrong length"))?)?;
        if self.word()?.map(|again| again as usize) != Some(length) {
            return Err(invalid("a block does not end as it begins"));
        }
        Ok(body)
    }

    fn describe(&mut self, body: &[u8]) -> io::Result<()> {
        let link = self.order.u16(body, 0).ok_or_else(|| invalid("an interface is cut short"))?;
        let mut interface = Interface { name: String::new(), link, resolution: (1000, 1) };
        for (code, value) in self.options(body, 8) {
            match (code, value) {
                (OPTION_IF_NAME, name) => interface.name = String::from_utf8_lossy(name).into_owned(),
                (OPTION_IF_RESOLUTION, [power]) if power & 0x80 == 0 && *power <= 9 => {
                    interface.resolution = (10u64.pow(9 - u32::from(*power)), 1);
                }
                (OPTION_IF_RESOLUTION, [power]) if power & 0x80 == 0 && *power <= 18 => {
                    interface.resolution = (1, 10u64.pow(u32::from(*power) - 9));
                }
                (OPTION_IF_RESOLUTION, [power]) => {
                    interface.resolution =
                        (1_000_000_000, 1u64.checked_shl(u32::from(power & 0x7f)).unwrap_or(1));
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn enhanced(&self, body: &[u8]) -> io::Result<Packet> {
        let word = |at| self.order.u32(body, at).ok_or_else(|| invalid("a packet is cut short"));
        let (interface, high, low, kept, length) =
            (word(0)?, word(4)?, word(8)?, word(12)? as usize, word(16)?);
        let interface = self.earlier + interface as usize;
        let known = self.interfaces.get(interface).ok_or_else(|| invalid("a packet is of no interface"))?;
        let end = kept.checked_add(20).ok_or_else(|| invalid("a packet is cut short"))?;
        let data = body.get(20..end).ok_or_else(|| invalid("a packet is cut short"))?.to_vec();
        let mut direction = Direction::Unknown;
        for (code, value) in self.options(body, end.next_multiple_of(4)) {
            if code == OPTION_EPB_FLAGS {
                direction = match self.order.u32(value, 0).unwrap_or(0) & 3 {
                    1 => Direction::Received,
                    2 => Direction::Sent,
                    _ => Direction::Unknown,
                };
            }
        }
        let timestamp = known.nanoseconds(u64::from(high) << 32 | u64::from(low));
        Ok(Packet { interface, timestamp, direction, length, data })
    }

    fn simple(&self, body: &[u8]) -> io::Result<Packet> {
        let length = self.order.u32(body, 0).ok_or_else(|| invalid("a packet is cut short"))?;
        if self.interfaces.len() <= self.earlier {
            return Err(invalid("a packet is of no interface"));
        }
        let data: Vec<u8> = body.iter().skip(4).take(length as usize).copied().collect();
        Ok(Packet { interface: self.earlier, timestamp: 0, direction: Direction::Unknown, length, data })
    }

    fn options<'a>(&self, body: &'a [u8], start: usize) -> Vec<(u16, &'a [u8])> {
        let mut options = Vec::new();
        let mut at = start;
        while let (Some(code), Some(length)) = (self.order.u16(body, at), self.order.u16(body, at + 2)) {
            let end = at + 4 + usize::from(length);
            let Some(value) = body.get(at + 4..end).filter(|_| code != 0) else { break };
            options.push((code, value));
            at = end.next_multiple_of(4);
        }
        options
    }

    /// A number, or nothing at the end of the file.
    fn word(&mut self) -> io::Result<Option<u32>> {
        let mut bytes = [0; 4];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.input.read(room)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(self.order.u32(&bytes, 0))
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if count > MAX_BLOCK {
            return Err(invalid("a block has a wrong length"));
        }
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        if read == count { Ok(bytes) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// The packet behind the link header, or nothing when it is not IP.
pub fn network_layer(link: u16, frame: &[u8]) -> Option<&[u8]> {
    match link {
        ETHERNET => behind_ethertype(frame, 12),
        // Raw IP by its several numbers.
        RAW | 12 | 14 | 228 | 229 => Some(frame),
        // LINUX_SLL and LINUX_SLL2.
        113 => behind_ethertype(frame, 14),
        276 => is_ip(Order::Big.u16(frame, 0)?).then(|| frame.get(20..))?,
        _ => None,
    }
}

/// What follows an EtherType at an offset, after VLAN tags.
fn behind_ethertype(frame: &[u8], mut at: usize) -> Option<&[u8]> {
    // Two tags at most: QinQ.
    for _ in 0..3 {
        match Order::Big.u16(frame, at)? {
            0x8100 | 0x88a8 => at += 4,
            kind => return is_ip(kind).then(|| frame.get(at + 2..))?,
        }
    }
    None
}

const fn is_ip(kind: u16) -> bool {
    matches!(kind, 0x0800 | 0x86dd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(interface: usize, direction: Direction) -> Packet {
        let timestamp = 1_700_000_000_123_456_789;
        Packet { interface, timestamp, direction, length: 61, data: vec![7; 61] }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        writer.interface(&Interface::new("wan", ETHERNET)).unwrap();
        writer.interface(&Interface::new("host", RAW)).unwrap();
        let packets =
            [packet(0, Direction::Received), packet(1, Direction::Sent), packet(1, Direction::Unknown)];
        for (packet, comment) in packets.iter().zip([None, Some("metadata"), None]) {
            writer.packet(packet, comment).unwrap();
        }
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        for expected in &packets {
            assert_eq!(reader.packet().unwrap().as_ref(), Some(expected));
        }
        assert_eq!(reader.packet().unwrap(), None);
        assert_eq!(reader.interfaces(), [Interface::new("wan", ETHERNET), Interface::new("host", RAW)]);
    }

    #[test]
    fn old_captures_are_read_in_both_orders() {
        for big in [false, true] {
            let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
            let mut bytes = Vec::new();
            for value in [0xa1b2_c3d4, 0, 0, 0, 65_535, 1, 1_700_000_000, 5, 3, 60] {
                bytes.extend(word(value));
            }
            bytes.extend([1, 2, 3]);
            let mut reader = Reader::new(bytes.as_slice()).unwrap();
            let packet = reader.packet().unwrap().unwrap();
            assert_eq!(
                (packet.timestamp, packet.length, packet.data),
                (1_700_000_000_000_005_000, 60, vec![1, 2, 3])
            );
            assert_eq!(reader.packet().unwrap(), None);
            assert_eq!(reader.interfaces()[0].link, ETHERNET);
        }
    }

    #[test]
    fn damaged_files_are_refused_and_never_panic() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        writer.interface(&Interface::new("wan", ETHERNET)).unwrap();
        writer.packet(&packet(0, Direction::Sent), Some("x")).unwrap();
        for cut in 0..bytes.len() {
            let Ok(mut reader) = Reader::new(&bytes[..cut]) else { continue };
            while let Ok(Some(_)) = reader.packet() {}
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let Ok(mut reader) = Reader::new(changed.as_slice()) else { continue };
                while let Ok(Some(_)) = reader.packet() {}
            }
        }
    }

    #[test]
    fn vlan_tags_are_passed() {
        let mut frame = vec![0; 12];
        frame.extend([0x81, 0, 0, 5, 0x08, 0, 0x45]);
        assert_eq!(network_layer(ETHERNET, &frame), Some(&[0x45][..]));
        assert_eq!(network_layer(ETHERNET, &frame[..14]), None);
        assert_eq!(network_layer(RAW, &[0x60]), Some(&[0x60][..]));
        frame[16] = 0x88;
        assert_eq!(network_layer(ETHERNET, &frame), None);
    }
}
