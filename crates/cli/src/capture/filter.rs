//! Which packets are wanted: a small language in the manner of tcpdump's.
//!
//! ```text
//! expression = term { "or" term }        term = factor { "and" factor }
//! factor     = "not" factor | "(" expression ")" | word
//! word       = tcp | udp | icmp | icmp6 | ip | ip6 | metadata
//!            | host ADDRESS | net PREFIX | src ADDRESS | dst ADDRESS | port PORT
//! ```

use core::net::IpAddr;

use fairway_types::{IpNet, Protocol};
use fairway_wire::{ip, svr};

use crate::failure::Failure;

/// The deepest nesting of `not` and parentheses.
const DEPTH: usize = 64;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// One of them holds.
    Or(Vec<Filter>),
    /// All of them hold.
    And(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// The packet is of this protocol.
    Protocol(Protocol),
    /// The packet is IPv6, or not.
    Version6(bool),
    /// The packet carries metadata.
    Metadata,
    /// An address on either side is in this prefix.
    Net(IpNet),
    /// The source.
    Source(IpAddr),
    /// The destination.
    Destination(IpAddr),
    /// The port on either side.
    Port(u16),
}

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// Says at which word it goes wrong.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut parser = Parser { words: &words, at: 0, depth: 0 };
        let filter = parser.expression().map_err(wrong)?;
        match parser.peek() {
            None => Ok(filter),
            Some(word) => Err(wrong(format!("`{word}` is one word too many; join words with and, or"))),
        }
    }

    /// Whether a packet, from its IP header on, is wanted. Broken packets are not.
    pub fn wants(&self, packet: &[u8]) -> bool {
        ip::parse(packet).is_ok_and(|parsed| self.holds(&parsed, packet))
    }

    fn holds(&self, parsed: &ip::Parsed, packet: &[u8]) -> bool {
        match self {
            Self::Or(filters) => filters.iter().any(|filter| filter.holds(parsed, packet)),
            Self::And(filters) => filters.iter().all(|filter| filter.holds(parsed, packet)),
            Self::Not(filter) => !filter.holds(parsed, packet),
            Self::Protocol(protocol) => parsed.protocol == protocol.0,
            Self::Version6(v6) => parsed.source.is_ipv6() == *v6,
            Self::Metadata => svr::starts_with_cookie(parsed.payload(packet)),
            Self::Net(prefix) => prefix.contains(&parsed.source) || prefix.contains(&parsed.destination),
            Self::Source(address) => parsed.source == *address,
            Self::Destination(address) => parsed.destination == *address,
            Self::Port(port) => {
                Protocol(parsed.protocol).has_ports()
                    && (parsed.source_port == *port || parsed.destination_port == *port)
            }
        }
    }
}

fn wrong(why: String) -> Failure {
    Failure::usage(format!("--filter: {why}")).fix(
        "use tcp, udp, icmp, icmp6, ip, ip6, metadata, host A, net P, src A, dst A, port N with and, or, not, ( )",
    )
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Result<&'a str, String> {
        let word = self.peek().ok_or("the expression ends too early")?;
        self.at += 1;
        Ok(word)
    }

    fn skip(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn expression(&mut self) -> Result<Filter, String> {
        let mut terms = vec![self.term()?];
        while self.skip("or") {
            terms.push(self.term()?);
        }
        Ok(if terms.len() == 1 { terms.remove(0) } else { Filter::Or(terms) })
    }

    fn term(&mut self) -> Result<Filter, String> {
        let mut factors = vec![self.factor()?];
        while self.skip("and") {
            factors.push(self.factor()?);
        }
        Ok(if factors.len() == 1 { factors.remove(0) } else { Filter::And(factors) })
    }

    fn factor(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("more than {DEPTH} levels of `not` and parentheses"));
        }
        let filter = if self.skip("not") {
            Filter::Not(Box::new(self.factor()?))
        } else if self.skip("(") {
            let inner = self.expression()?;
            if !self.skip(")") {
                return Err("a parenthesis is not closed".to_owned());
            }
            inner
        } else {
            self.word()?
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn word(&mut self) -> Result<Filter, String> {
        let word = self.next()?;
        Ok(match word {
            "tcp" => Filter::Protocol(Protocol::TCP),
            "udp" => Filter::Protocol(Protocol::UDP),
            "icmp" => Filter::Protocol(Protocol::ICMP),
            "icmp6" => Filter::Protocol(Protocol::ICMPV6),
            "ip" => Filter::Version6(false),
            "ip6" => Filter::Version6(true),
            "metadata" => Filter::Metadata,
            "host" => Filter::Net(IpNet::from(self.value::<IpAddr>("an address")?)),
            "net" => Filter::Net(self.value("a prefix")?),
            "src" => Filter::Source(self.value("an address")?),
            "dst" => Filter::Destination(self.value("an address")?),
            "port" => Filter::Port(self.value("a port")?),
            other => return Err(format!("`{other}` is no word of a filter")),
        })
    }

    fn value<T: core::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next()?;
        word.parse().map_err(|_| format!("`{word}` is not {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn and_binds_tighter_than_or() {
        let tcp = Filter::Protocol(Protocol::TCP);
        let filter = Filter::parse("udp or tcp and (port 443 or not metadata)").unwrap();
        let inner = Filter::Or(vec![Filter::Port(443), Filter::Not(Box::new(Filter::Metadata))]);
        let expected = Filter::Or(vec![Filter::Protocol(Protocol::UDP), Filter::And(vec![tcp, inner])]);
        assert_eq!(filter, expected);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let cases = ["", "tcp udp", "port x", "host", "(tcp", "quic", "tcp and", "net 10.0.0.0/40"];
        for text in cases {
            let error = Filter::parse(text).unwrap_err().to_string();
            assert!(error.contains("--filter"), "{text}: {error}");
        }
        assert!(Filter::parse(&"not ".repeat(100_000)).is_err());
    }

    #[test]
    fn packets_are_told_apart() {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x04, 0xd2, 0, 53, 0, 8, 0, 0]);
        let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        let wants = |text: &str| Filter::parse(text).unwrap().wants(&packet);
        for text in
            ["udp", "port 53", "host 10.0.0.2", "net 10.0.0.0/8", "src 10.0.0.1 and dst 10.0.0.2", "ip"]
        {
            assert!(wants(text), "{text}");
        }
        for text in ["tcp", "port 443", "host 10.0.0.3", "metadata", "ip6", "not udp"] {
            assert!(!wants(text), "{text}");
        }
    }
}
