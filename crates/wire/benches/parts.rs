//! What reading and writing packets costs: nanoseconds a packet, or a section of metadata.
//!
//! Everything measured is in the cache. Each figure is the median of its rounds, with the fastest and the
//! slowest one; `--only PART` measures what has that in its name, `QUICK=1` takes three short rounds.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::unwrap_used, reason = "everything measured is made here")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use fairway_wire::segment::SuperPacket;
use fairway_wire::svr::{self, Context, Header, HeaderTlvs, PayloadTlvs};
use fairway_wire::{checksum, ip, ipv4, ipv6, protocol, tcp, udp};

/// How much is measured, and what.
struct Effort {
    rounds: usize,
    /// Nanoseconds of a round, about.
    round: u64,
    only: Option<String>,
}

impl Effort {
    fn chosen() -> Self {
        let mut arguments = std::env::args().skip_while(|argument| argument != "--only");
        let only = arguments.nth(1);
        if std::env::var_os("QUICK").is_some() {
            Self { rounds: 3, round: 2_000_000, only }
        } else {
            Self { rounds: 15, round: 50_000_000, only }
        }
    }

    /// Measures `work`, which does what it does `each` times, and prints the figure.
    fn measure(&self, name: &str, each: usize, mut work: impl FnMut()) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        let mut timed = |turns: u64| {
            let start = Instant::now();
            (0..turns).for_each(|_| work());
            start.elapsed().as_nanos() as f64
        };
        let turn = timed(200) / 200.0;
        let turns = (self.round as f64 / turn.max(1.0)) as u64 + 1;
        let mut rounds: Vec<f64> =
            (0..self.rounds).map(|_| timed(turns) / turns as f64 / each as f64).collect();
        rounds.sort_unstable_by(f64::total_cmp);
        let (median, least, most) = (rounds[self.rounds / 2], rounds[0], rounds[self.rounds - 1]);
        println!("{name:<52} {median:>9.1} {least:>9.1} {most:>9.1}  ns");
    }
}

/// A packet of TCP or UDP with right checksums.
fn packet(ipv6: bool, protocol: u8, payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|at| (at * 7) as u8).collect();
    let mut transport = vec![0; if protocol == protocol::TCP { tcp::HEADER_LEN } else { udp::HEADER_LEN }];
    if protocol == protocol::TCP {
        let flags = tcp::flag::ACK;
        let repr = tcp::Repr {
            source_port: 40_000,
            destination_port: 443,
            sequence: 1,
            acknowledgement: 2,
            flags,
            window: 501,
        };
        repr.emit(&mut transport).unwrap();
    } else {
        let repr = udp::Repr { source_port: 40_000, destination_port: 53, payload_len: payload.len() as u16 };
        repr.emit(&mut transport).unwrap();
    }
    transport.extend(payload);
    let (source, destination) = ends(ipv6);
    let at = checksum::field_offset(protocol).unwrap();
    let sum = checksum::transport_checksum(source, destination, protocol, &transport);
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let payload_len = transport.len() as u16;
    let mut bytes = vec![0; if ipv6 { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN }];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let repr = ipv4::Repr {
                source,
                destination,
                protocol,
                ttl: 64,
                traffic_class: 0,
                identification: 7,
                dont_fragment: true,
                payload_len,
            };
            repr.emit(&mut bytes).unwrap();
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let repr = ipv6::Repr {
                source,
                destination,
                next_header: protocol,
                hop_limit: 64,
                traffic_class: 0,
                flow_label: 0,
                payload_len,
            };
            repr.emit(&mut bytes).unwrap();
        }
        _ => {}
    }
    bytes.extend(transport);
    bytes
}

fn ends(ipv6: bool) -> (IpAddr, IpAddr) {
    if ipv6 {
        ("fd00:1::10".parse().unwrap(), "fd00:2::10".parse().unwrap())
    } else {
        ("10.1.0.10".parse().unwrap(), "10.2.0.10".parse().unwrap())
    }
}

fn parsing(effort: &Effort) {
    for (family, ipv6) in [("IPv4", false), ("IPv6", true)] {
        for (name, number) in [("UDP", protocol::UDP), ("TCP", protocol::TCP)] {
            let packet = packet(ipv6, number, 64);
            effort.measure(&format!("parse {family} and {name}"), 1, || {
                black_box(ip::parse(black_box(&packet)).unwrap());
            });
        }
    }
}

fn checksums(effort: &Effort) {
    let (source, destination) = ends(false);
    for length in [64, 1400, 65_000] {
        let packet = packet(false, protocol::UDP, length);
        let segment = &packet[ipv4::HEADER_LEN..];
        effort.measure(&format!("checksum of a UDP payload of {length} B"), 1, || {
            let valid = checksum::transport_checksum_is_valid(
                black_box(source),
                destination,
                protocol::UDP,
                black_box(segment),
            );
            assert!(valid);
        });
    }
}

/// The TLVs of a first packet.
fn first<'a>(original: Context) -> (HeaderTlvs, PayloadTlvs<'a>) {
    let header = HeaderTlvs {
        security_id: Some(1),
        key_salt: Some([3; 16]),
        sequence: Some(77),
        ..HeaderTlvs::default()
    };
    let payload = PayloadTlvs {
        forward: Some(original),
        uuid: Some([5; 16]),
        tenant: Some("corp"),
        service: Some("web"),
        source_router: Some("branch"),
        security_policy: Some("default"),
        pathway: Some(b"branch-dc"),
        session_encrypted: true,
        session_key: Some(&[9; 33]),
        sender_salt: Some([6; 16]),
        epoch: Some(1_800_000_000),
        ..PayloadTlvs::default()
    };
    (header, payload)
}

fn metadata(effort: &Effort) {
    for (family, ipv6) in [("IPv4", false), ("IPv6", true)] {
        let (source, destination) = ends(ipv6);
        let original = Context {
            source: SocketAddr::new(source, 40_000),
            destination: SocketAddr::new(destination, 443),
            protocol: protocol::TCP,
        };
        let (header, payload) = first(original);
        let mut buffer = [0; 512];
        let write = |buffer: &mut [u8]| {
            let section = payload.encoded_len();
            let at = svr::emit_header(buffer, &header, section).unwrap();
            at + payload.emit(&mut buffer[at..]).unwrap()
        };
        effort.measure(&format!("write the metadata of a first packet, {family}"), 1, || {
            black_box(write(black_box(&mut buffer)));
        });
        let length = write(&mut buffer);
        let section = &buffer[..length];
        effort.measure(&format!("parse the metadata of a first packet, {family}"), 1, || {
            let view = Header::parse(black_box(section)).unwrap();
            black_box(HeaderTlvs::parse(view.header_tlvs()).unwrap());
            black_box(PayloadTlvs::parse(view.payload_section()).unwrap());
        });
    }
}

fn cutting(effort: &Effort) {
    let mut segment = [0; 2048];
    for (family, ipv6) in [("IPv4", false), ("IPv6", true)] {
        for (name, number) in [("UDP", protocol::UDP), ("TCP", protocol::TCP)] {
            let whole = packet(ipv6, number, 45 * 1400);
            let name = format!("cut 63 KB of {family} and {name}, a segment of 1400 B");
            effort.measure(&name, 45, || {
                let cut = SuperPacket::new(black_box(&whole), 1400).unwrap();
                assert_eq!(cut.count(), 45);
                for index in 0..45 {
                    black_box(cut.emit(index, black_box(&mut segment)).unwrap());
                }
            });
        }
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run with: cargo bench -p fairway-wire");
        return;
    }
    let effort = Effort::chosen();
    println!("{:<52} {:>9} {:>9} {:>9}", "", "median", "fastest", "slowest");
    parsing(&effort);
    checksums(&effort);
    metadata(&effort);
    cutting(&effort);
}
