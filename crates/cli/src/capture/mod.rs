//! `fairway capture`: packets of a running router as pcapng, and the metadata in such files.
//!
//! With the keys of the fabric, every packet with metadata gets a comment that says what it means;
//! Wireshark and tshark show it (`frame.comment`).

mod filter;
mod keys;
mod metadata;
mod pcapng;
mod pieces;
mod sessions;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::path::Path;

use fairway_router::api::{CaptureRequest, Captured, Request, Response};
use serde::Serialize;

use self::filter::Filter;
use self::keys::Keys;
use self::metadata::Metadata;
use self::pcapng::{Direction, Interface, Packet, Reader, Writer, network_layer};
use crate::args::{CaptureArgs, CaptureCommand, CaptureDecode};
use crate::client::Connection;
use crate::failure::{self, Failure, Outcome};
use crate::{output, table, units};

/// Runs the command.
pub fn run(args: CaptureArgs) -> Outcome {
    match &args.command {
        Some(CaptureCommand::Decode(decode)) => self::decode(decode),
        None => capture(&args),
    }
}

fn capture(args: &CaptureArgs) -> Outcome {
    let file = args.write.as_deref().ok_or_else(|| Failure::usage("no file is named").fix("add -w FILE"))?;
    let filter = args.filter.as_deref().map(Filter::parse).transpose()?;
    let mut keys = Keys::load(&args.keys)?;
    let mut router = Connection::open(&args.socket)?;
    let request = Request::Capture(CaptureRequest {
        interfaces: args.interfaces.clone(),
        // With a filter, it is here that packets are counted.
        packets: args.count.filter(|_| filter.is_none()),
        seconds: args.seconds,
        snap_bytes: None,
    });
    let begun = match router.ask(&request)? {
        Response::Capturing(begun) => begun,
        other => return Err(router.unexpected(&other)),
    };
    // A quiet network is no broken connection.
    router
        .client()
        .set_timeout(None)
        .map_err(|error| Failure::refused(format!("cannot wait for packets: {error}")))?;
    let interfaces: Vec<Interface> = begun
        .interfaces
        .iter()
        .map(|interface| {
            Interface::new(&interface.name, if interface.ethernet { pcapng::ETHERNET } else { pcapng::RAW })
        })
        .collect();
    let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
    output::note(&format!("capturing on {} of {}; end with Ctrl-C", names.join(", "), begun.router));
    let mut writer =
        Stream { writer: create(file)?, file, interfaces, decrypt: args.keys.decrypt, written: 0 };
    writer.begin()?;
    let captured = loop {
        match router.next()? {
            Response::Packet(packet) => writer.take(packet, filter.as_ref(), &mut keys)?,
            Response::Captured(captured) => break captured,
            other => return Err(router.unexpected(&other)),
        }
        if args.count.is_some_and(|count| writer.written >= count) {
            break Captured { packets: writer.written, lost: 0 };
        }
    };
    let lost = match captured.lost {
        0 => String::new(),
        lost => format!("; {lost} lost, because they were not read in time"),
    };
    let count = units::counted(usize::try_from(writer.written).unwrap_or(usize::MAX), "packet", "packets");
    output::note(&format!("{count} in {}{lost}", file.display()));
    Ok(failure::OK)
}

/// Packets on their way from a router into a file.
struct Stream<'a> {
    writer: Writer<Box<dyn Write>>,
    file: &'a Path,
    interfaces: Vec<Interface>,
    decrypt: bool,
    written: u64,
}

impl Stream<'_> {
    fn begin(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        for interface in &self.interfaces {
            result = result.and_then(|()| self.writer.interface(interface));
        }
        settle(result, self.file)
    }

    fn take(
        &mut self,
        packet: fairway_router::api::Packet,
        filter: Option<&Filter>,
        keys: &mut Keys,
    ) -> Result<(), Failure> {
        let interface = usize::try_from(packet.interface).unwrap_or(usize::MAX);
        let Some(known) = self.interfaces.get(interface) else { return Ok(()) };
        let network = network_layer(known.link, &packet.data);
        if filter.is_some_and(|filter| !network.is_some_and(|network| filter.wants(network))) {
            return Ok(());
        }
        let unix = packet.timestamp_nanoseconds / 1_000_000_000;
        let found =
            network.filter(|_| !keys.is_empty()).and_then(|network| Metadata::of(network, unix, keys));
        let mut comment = found.map(|found| found.comment());
        let clear = if self.decrypt { decrypted(known.link, &packet.data, keys) } else { None };
        let mut packet = Packet {
            interface,
            timestamp: packet.timestamp_nanoseconds,
            direction: if packet.sent { Direction::Sent } else { Direction::Received },
            length: packet.length_bytes,
            data: packet.data,
        };
        if let Some(clear) = clear {
            replace(&mut packet, clear, &mut comment);
        }
        self.written += 1;
        settle(self.writer.packet(&packet, comment.as_deref()), self.file)
    }
}

/// A frame between routers as a host sent it, if its session is known.
fn decrypted(link: u16, frame: &[u8], keys: &mut Keys) -> Option<Vec<u8>> {
    let network = network_layer(link, frame)?;
    let clear = keys.sessions.original(network)?;
    let mut whole = frame.get(..frame.len() - network.len())?.to_vec();
    if link == pcapng::ETHERNET {
        // The family outside may be the other one.
        let kind: [u8; 2] = if clear.first()? >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let at = whole.len().checked_sub(2)?;
        whole.get_mut(at..)?.copy_from_slice(&kind);
    }
    whole.extend_from_slice(&clear);
    Some(whole)
}

/// Puts the original packet in the place of the one between routers, and says so.
fn replace(packet: &mut Packet, clear: Vec<u8>, comment: &mut Option<String>) {
    let before = std::mem::replace(&mut packet.data, clear);
    packet.length = packet.data.len() as u32;
    let note = format!("as its host sent it; {} bytes between routers", before.len());
    *comment = Some(match comment.take() {
        Some(comment) => format!("{note}; {comment}"),
        None => note,
    });
}

/// Starts a capture file; `-` is standard output.
fn create(file: &Path) -> Result<Writer<Box<dyn Write>>, Failure> {
    let sink: Box<dyn Write> = if file == Path::new("-") {
        Box::new(BufWriter::new(io::stdout()))
    } else {
        // Unbuffered: whoever ends a capture with Ctrl-C keeps all of it.
        let made = File::create(file)
            .map_err(|error| Failure::refused(format!("cannot write {}: {error}", file.display())))?;
        Box::new(made)
    };
    Writer::new(sink).map_err(|error| Failure::refused(format!("cannot write {}: {error}", file.display())))
}

/// A reader that hung up ends the command with success.
fn settle(result: io::Result<()>, file: &Path) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => output::hung_up(),
        Err(error) => Err(Failure::refused(format!("cannot write {}: {error}", file.display()))),
    }
}

/// Metadata with the packet it is from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Decoded {
    /// The number of the packet in the file, from 1.
    number: u64,
    /// Nanoseconds since the Unix epoch.
    timestamp_nanoseconds: u64,
    /// The interface, if the file names it.
    interface: Option<String>,
    /// `received` or `sent`, if the file says so.
    direction: Option<&'static str>,
    #[serde(flatten)]
    metadata: Metadata,
}

fn decode(args: &CaptureDecode) -> Outcome {
    let mut keys = Keys::load(&args.keys)?;
    let unreadable = |error: io::Error| Failure::refused(format!("{}: {error}", args.file.display()));
    let input = File::open(&args.file).map_err(unreadable)?;
    let mut reader = Reader::new(BufReader::new(input)).map_err(unreadable)?;
    let mut copy =
        args.write.as_deref().map(|file| Ok::<_, Failure>((create(file)?, file, 0))).transpose()?;
    let (mut all, mut number, mut found) = (Vec::new(), 0, 0u64);
    while let Some(packet) = reader.packet().map_err(unreadable)? {
        number += 1;
        let Some(interface) = reader.interfaces().get(packet.interface) else { continue };
        let unix = packet.timestamp / 1_000_000_000;
        let metadata = network_layer(interface.link, &packet.data)
            .and_then(|network| Metadata::of(network, unix, &mut keys));
        if let Some((writer, file, announced)) = &mut copy {
            // Interfaces may come later than the first packets.
            for interface in reader.interfaces().iter().skip(*announced) {
                settle(writer.interface(interface), file)?;
                *announced += 1;
            }
            let mut comment = metadata.as_ref().map(Metadata::comment);
            let clear =
                if args.keys.decrypt { decrypted(interface.link, &packet.data, &mut keys) } else { None };
            let mut packet = packet.clone();
            if let Some(clear) = clear {
                replace(&mut packet, clear, &mut comment);
            }
            settle(writer.packet(&packet, comment.as_deref()), file)?;
        }
        let Some(metadata) = metadata else { continue };
        found += 1;
        let decoded = Decoded {
            number,
            timestamp_nanoseconds: packet.timestamp,
            interface: Some(interface.name.clone()).filter(|name| !name.is_empty()),
            direction: packet.direction.name(),
            metadata,
        };
        if args.json { all.push(decoded) } else { output::text(&described(&decoded))? }
    }
    if args.json {
        output::json(&all)?;
    } else {
        output::text(&format!("{found} of {number} packets carry metadata\n"))?;
    }
    Ok(failure::OK)
}

/// A packet's metadata, a line for each TLV.
fn described(decoded: &Decoded) -> String {
    let Decoded { number, timestamp_nanoseconds: time, interface, direction, metadata } = decoded;
    let mut head = format!("{number}. {} {} → {}", metadata.protocol, metadata.source, metadata.destination);
    let place = [direction.unwrap_or_default(), interface.as_deref().unwrap_or_default()];
    for word in place.into_iter().filter(|word| !word.is_empty()) {
        head.push_str(&format!(" {word}"));
    }
    head.push_str(&format!(" at {}.{:06}", time / 1_000_000_000, time % 1_000_000_000 / 1000));
    let mut text = table::paragraph(0, "", 0, &units::printable(&head));
    text.push_str(&table::paragraph(3, "", 0, &metadata.verdict()));
    for field in metadata.header.iter().chain(metadata.payload.iter().flatten()) {
        text.push_str(&table::paragraph(3, field.name, 21, &field.value));
    }
    if let Some(fault) = &metadata.fault {
        text.push_str(&table::paragraph(3, "fault", 21, fault));
    }
    match &metadata.bfd {
        Some(bfd) => text.push_str(&table::paragraph(3, "BFD", 21, bfd)),
        None => {
            text.push_str(&table::paragraph(3, "carries", 21, &units::bytes(metadata.carried_bytes as u64)))
        }
    }
    text.push('\n');
    text
}
