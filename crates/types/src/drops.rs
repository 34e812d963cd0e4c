//! Why a packet was dropped. Each drop has exactly one reason and moves exactly one counter.

/// On whose side the cause of a drop lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Culprit {
    /// The bytes of the packet.
    Packet,
    /// The configuration says so.
    Policy,
    /// A peer, or somebody who pretends to be one.
    Peer,
    /// The state of the session, or the lack of one.
    State,
    /// A limit or a lack of resources of this router.
    Resource,
}

impl Culprit {
    /// The name on screens and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Policy => "policy",
            Self::Peer => "peer",
            Self::State => "state",
            Self::Resource => "resource",
        }
    }
}

macro_rules! drop_reasons {
    ($($culprit:ident { $($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+ })+) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($($(#[doc = $help])+ $variant,)+)+ }

        impl DropReason {
            /// All reasons, in the order they are shown.
            pub const ALL: &[Self] = &[$($(Self::$variant,)+)+];

            /// The name on screens, in metrics and in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)+)+ }
            }

            /// What it means, in one or two sentences for an operator.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $($(Self::$variant => concat!($($help,)+),)+)+ }
            }

            /// On whose side the cause lies.
            #[must_use]
            pub const fn culprit(self) -> Culprit {
                match self { $($(Self::$variant => Culprit::$culprit,)+)+ }
            }
        }
    };
}

drop_reasons! {
    Packet {
        /// The IP header is cut short, contradicts itself or carries a bad checksum.
        MalformedIp = "malformed-ip",
        /// The transport header is cut short or contradicts the packet's length.
        MalformedTransport = "malformed-transport",
        /// The transport checksum is wrong and the packet was about to be changed beyond repair.
        BadChecksum = "bad-checksum",
        /// A source or destination that no forwarded packet may have: loopback, multicast, unspecified.
        MartianAddress = "martian-address",
        /// A fragment that no packet can have: empty, of an odd length with more to follow, reaching beyond
        /// 65,535 bytes, or a fragment of fragments.
        FragmentMalformed = "fragment-malformed",
        /// A fragment, or a peer's piece, that overlaps another one or contradicts it; its packet is refused.
        FragmentOverlap = "fragment-overlap",
        /// Fragments or pieces of a packet that has more than 64 of them.
        FragmentLimit = "fragment-limit",
        /// The TTL or hop limit ran out here.
        TtlExpired = "ttl-expired",
        /// An ICMP error about a packet that belongs to no session.
        IcmpErrorUnmatched = "icmp-error-unmatched",
        /// The packet does not fit the MTU of the link it should leave by.
        TooBig = "too-big",
    }
    Policy {
        /// The source belongs to no tenant on this interface.
        NoTenant = "no-tenant",
        /// No service matches destination, protocol and port.
        NoService = "no-service",
        /// The most specific service does not allow this tenant or source.
        AccessDenied = "access-denied",
        /// The service has no service-route on this router.
        NoRoute = "no-route",
        /// Every service-route of the service leads over a path that is down.
        PathDown = "path-down",
        /// The route leads back to where the session came from, or through this router twice.
        RouteLoop = "route-loop",
        /// A protocol that cannot share an address, or a family of which the interface has none: source
        /// NAT knows TCP, UDP and ICMP echo.
        NatProtocol = "nat-protocol",
        /// A TCP packet in mid-flow without a session, refused by transport-state-enforcement.
        TcpMidFlow = "tcp-mid-flow",
        /// A peer claims a tenant it is not allowed to claim.
        TenantNotAllowed = "tenant-not-allowed",
        /// A peer claims a tenant that this router's configuration does not know.
        UnknownTenant = "unknown-tenant",
    }
    Peer {
        /// The metadata is shorter than its header.
        MetadataTruncated = "metadata-truncated",
        /// The header length or payload length of metadata contradicts the packet.
        MetadataLength = "metadata-length",
        /// A metadata version other than 1.
        MetadataVersion = "metadata-version",
        /// A TLV runs past the end of its section.
        TlvOverrun = "tlv-overrun",
        /// A TLV of a known type has the wrong length.
        TlvLength = "tlv-length",
        /// A TLV type occurs twice.
        TlvDuplicate = "tlv-duplicate",
        /// A TLV holds a value it may not hold, such as a name that is not UTF-8.
        TlvValue = "tlv-value",
        /// A TLV that this message needs is absent.
        TlvMissing = "tlv-missing",
        /// The security id names no hop key of this router.
        UnknownSecurityId = "unknown-security-id",
        /// The signature does not match: another key, another time, or changed bytes.
        BadTag = "bad-tag",
        /// Metadata that was already received once.
        MetadataReplayed = "metadata-replayed",
        /// Metadata signed before this router started.
        MetadataBeforeStart = "metadata-before-start",
        /// The encrypted metadata does not decrypt to whole TLVs.
        MetadataDecryption = "metadata-decryption",
        /// Metadata from an address that does not belong to the peer that signed it.
        PeerAddressMismatch = "peer-address-mismatch",
        /// Metadata on an interface that has no peers.
        MetadataUnexpected = "metadata-unexpected",
        /// A path move with an epoch that is not higher than the session's.
        StaleEpoch = "stale-epoch",
        /// A payload whose tag is wrong: changed on the way, made for another session or direction, or
        /// not sealed at all.
        PayloadForged = "payload-forged",
        /// A payload that was already received once, or is too old to tell.
        PayloadReplayed = "payload-replayed",
        /// A payload that came before the metadata that tells its keys, which was asked for.
        PayloadUnannounced = "payload-unannounced",
        /// A session whose keys are older than what this router remembers of it; fresh ones were asked
        /// for. Often after a restart; without one, clocks differ by more than 30 seconds.
        SessionKeysStale = "session-keys-stale",
        /// A genuine message whose BFD packet RFC 5880 says to discard, such as one for a session
        /// before this router's restart.
        BfdInvalid = "bfd-invalid",
    }
    State {
        /// A packet without metadata to a waypoint port that no session uses.
        UnknownWaypoint = "unknown-waypoint",
        /// A packet of a session from the wrong side, or to this router's own address by way of the fabric.
        WrongDirection = "wrong-direction",
        /// Another session already has this tuple on the link where this one would leave the fabric.
        TupleInUse = "tuple-in-use",
        /// A TCP reset outside the window of its session.
        TcpResetOutsideWindow = "tcp-reset-outside-window",
        /// Fragments or pieces that were kept for 15 seconds, and the rest of their packet never came.
        FragmentTimeout = "fragment-timeout",
    }
    Resource {
        /// No port or identifier of the address of source NAT is free for the protocol.
        NatExhausted = "nat-exhausted",
        /// No pair of waypoint ports is free on the path.
        WaypointsExhausted = "waypoints-exhausted",
        /// The router, or the tenant, source or peer, holds as many sessions as it may.
        /// `fairway show limits` says which.
        SessionLimit = "session-limit",
        /// Too many TCP sessions of the router, or of the tenant, source or peer, wait for their
        /// handshake to complete. `fairway show limits` says whose.
        HalfOpenLimit = "half-open-limit",
        /// The router, or the tenant, source or peer, begins sessions faster than it may.
        /// `fairway show limits` says which.
        SessionRateLimit = "session-rate-limit",
        /// First packets and control messages of peers arrive faster than they may.
        RateLimited = "rate-limited",
        /// The keys of a session could not be made, or are used up.
        SessionKeysFailed = "session-keys-failed",
        /// No room for another packet of the router's own making.
        OutputFull = "output-full",
        /// The worker that owns the packet's flow has no room for it: it does not keep up.
        WorkerBusy = "worker-busy",
        /// Fragments or pieces that gave way to newer ones: what is kept for an interface or a peer is at
        /// most 1 MiB. Or a reload numbered interfaces or peers anew.
        FragmentEvicted = "fragment-evicted",
        /// The next hop did not answer ARP or neighbour discovery.
        NextHopUnresolved = "next-hop-unresolved",
        /// The interface is down or gone.
        InterfaceDown = "interface-down",
        /// The kernel refused the packet.
        SendFailed = "send-failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_kebab_case() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        for name in &names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
