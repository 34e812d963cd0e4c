//! Lexical rules: names, addresses, prefixes, protocols, sources.

use core::net::IpAddr;

use fairway_types::Protocol;
use ipnet::IpNet;

/// Protocols that have a name, with their numbers; only by this name they may be written.
pub(crate) const PROTOCOLS: &[Protocol] = &[
    Protocol::TCP,
    Protocol::UDP,
    Protocol::ICMP,
    Protocol::ICMPV6,
    Protocol::GRE,
    Protocol::ESP,
    Protocol::SCTP,
];

/// The protocol of that name.
pub(crate) fn protocol(name: &str) -> Option<Protocol> {
    PROTOCOLS.iter().copied().find(|protocol| protocol.name() == Some(name))
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Words of letters, digits and `_`, joined by single characters of `joints`.
pub(crate) fn is_joined_words(text: &str, joints: &[u8]) -> bool {
    text.as_bytes()
        .split(|byte| joints.contains(byte))
        .all(|word| !word.is_empty() && word.iter().all(|&b| is_word(b)))
}

/// A name Linux accepts for a network device, without characters that only confuse.
pub(crate) fn is_device(text: &str) -> bool {
    text.bytes().next().is_some_and(is_word) && text.bytes().all(|b| is_word(b) || b"-.@".contains(&b))
}

/// A path without white space or characters a shell would mind.
pub(crate) fn is_file(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| is_word(b) || b"-./~@+".contains(&b))
}

/// Characters a YANG string may hold (RFC 7950, section 9.4).
pub(crate) fn is_text(text: &str) -> bool {
    text.chars().all(|c| match u32::from(c) {
        0x9 | 0xa | 0xd => true,
        0..0x20 | 0xfdd0..=0xfdef => false,
        code => code & 0xfffe != 0xfffe,
    })
}

/// An address without zone.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// A prefix; bits behind its length are kept.
pub(crate) fn prefix(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let canonical = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    if !canonical {
        return None;
    }
    IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()
}

/// The source of an access-policy line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source<'a> {
    pub(crate) tenant: Option<&'a str>,
    pub(crate) prefix: Option<IpNet>,
}

/// `tenant`, `prefix` or `tenant@prefix`. The tenant's existence is not checked here.
pub(crate) fn source(text: &str) -> Option<Source<'_>> {
    if let Some(prefix) = prefix(text) {
        return Some(Source { tenant: None, prefix: Some(prefix) });
    }
    let (tenant, prefix) = match text.split_once('@') {
        Some((tenant, rest)) => (tenant, Some(prefix(rest)?)),
        None => (text, None),
    };
    let sound = is_joined_words(tenant, b".-") && tenant.len() <= 63;
    sound.then_some(Source { tenant: Some(tenant), prefix })
}

/// The name of the parent in a hierarchy: what follows the first dot.
pub(crate) fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

/// The candidate most like `written`, if one is alike enough to be meant.
pub(crate) fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 64 {
        return None;
    }
    candidates
        .filter(|candidate| candidate.len().abs_diff(written.len()) <= candidate.len().max(3) / 3)
        .take(5_000)
        .map(|candidate| (strsim::osa_distance(written, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= candidate.len().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_single_joints() {
        for good in ["a", "branch-1", "a.b.c", "A_b", "0"] {
            assert!(is_joined_words(good, b".-"), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "a..b", "a b", "a/b", "ä", "a@b"] {
            assert!(!is_joined_words(bad, b".-"), "{bad}");
        }
        assert!(is_joined_words("web@dc-1", b".@-"));
    }

    #[test]
    fn prefixes_need_a_length_in_plain_digits() {
        assert!(prefix("10.0.0.0/8").is_some());
        assert!(prefix("::/0").is_some());
        for bad in
            ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0/8", "fe80::1%eth0/64", "x/1"]
        {
            assert!(prefix(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_source_is_a_tenant_a_prefix_or_both() {
        let both = source("guests.acme@10.1.0.0/16");
        assert_eq!(both, Some(Source { tenant: Some("guests.acme"), prefix: prefix("10.1.0.0/16") }));
        assert_eq!(source("10.1.0.0/16"), Some(Source { tenant: None, prefix: prefix("10.1.0.0/16") }));
        assert_eq!(source("acme"), Some(Source { tenant: Some("acme"), prefix: None }));
        for bad in ["", "@10.0.0.0/8", "acme@", "acme@10.0.0.0", "a@b@10.0.0.0/8"] {
            assert_eq!(source(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let names = ["tenant", "service", "router"];
        assert_eq!(nearest("tennant", names.into_iter()), Some("tenant"));
        assert_eq!(nearest("banana", names.into_iter()), None);
    }
}
