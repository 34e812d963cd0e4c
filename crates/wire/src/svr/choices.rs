//! Every number of the SVR wire: those other implementations depend on, and Fairway's own.
//!
//! Whatever is marked *F* is our choice where nothing public is precise, and may be flipped here,
//! and only here, when a capture of another implementation proves it wrong.

/// The first eight bytes of metadata.
pub const COOKIE: [u8; 8] = [0x4c, 0x48, 0xdb, 0xc6, 0xdd, 0xf6, 0x67, 0x0c];
/// The version of the metadata header.
pub const VERSION: u8 = 1;
/// Bytes of a metadata header without TLVs.
pub const HEADER_LEN: usize = 12;
/// The longest header: the length field has 12 bits.
pub const MAX_HEADER_LEN: usize = 0x0fff;
/// Bytes of type and length in front of every TLV value.
pub const TLV_HEADER_LEN: usize = 4;
/// Bytes of the hop tag, HMAC-SHA256 cut to 128 bits (F).
pub const TAG_LEN: usize = 16;
/// Bytes of the IV in front of encrypted metadata (F).
pub const IV_LEN: usize = 16;
/// Block size of metadata encryption; padding is PKCS#7 (F).
pub const BLOCK_LEN: usize = 16;
/// Seconds in a time slot of a hop tag (F).
pub const TIME_SLOT_SECONDS: u64 = 2;
/// The UDP port of BFD between waypoints.
pub const BFD_PORT: u16 = 1280;
/// Most TLVs a section may hold (F); one more counts as an overrun.
pub const MAX_TLVS: usize = 64;
/// Most bytes of a name (F).
pub const MAX_NAME_LEN: usize = 255;
/// Most bytes of a peer pathway id.
pub const MAX_PATHWAY_LEN: usize = 255;
/// Most bytes of the inner transport header that a relayed ICMP error carries (F).
pub const MAX_RELAYED_LEN: usize = 64;

/// Bytes of the value of TLV 46 in the payload section: the number of a suite, and a secret (F).
pub const SESSION_KEY_LEN: usize = 33;

/// TLV types.
pub mod tlv {
    /// Header: the packet is one piece of a larger one.
    pub const FRAGMENT: u16 = 1;
    /// Payload: the original tuple, client to server, IPv4.
    pub const FORWARD_CONTEXT_V4: u16 = 2;
    /// Payload: the original tuple, client to server, IPv6.
    pub const FORWARD_CONTEXT_V6: u16 = 3;
    /// Payload: the original tuple, server to client, IPv4.
    pub const REVERSE_CONTEXT_V4: u16 = 4;
    /// Payload: the original tuple, server to client, IPv6.
    pub const REVERSE_CONTEXT_V6: u16 = 5;
    /// Payload: names the session on all hops.
    pub const SESSION_UUID: u16 = 6;
    /// Payload: the tenant.
    pub const TENANT: u16 = 7;
    /// Payload: the interface the session came in on.
    pub const GLOBAL_INTERFACE: u16 = 8;
    /// Payload: the service.
    pub const SERVICE: u16 = 10;
    /// Payload: the session's payload is encrypted.
    pub const SESSION_ENCRYPTED: u16 = 11;
    /// Payload: TCP travels as UDP on this hop.
    pub const TCP_SYN: u16 = 12;
    /// Payload: load feedback of the egress router.
    pub const SESSIONS_IN_SERVICE: u16 = 13;
    /// Payload: the router the packet comes from.
    pub const SOURCE_ROUTER: u16 = 14;
    /// Payload: the security policy.
    pub const SECURITY_POLICY: u16 = 15;
    /// Header: index of the hop key.
    pub const SECURITY_ID: u16 = 16;
    /// Payload: the router the packet goes to.
    pub const DESTINATION_ROUTER: u16 = 17;
    /// Either section: metadata is acknowledged without reverse traffic.
    pub const DISABLE_FORWARD: u16 = 18;
    /// Payload: names the path, for the receiver to echo.
    pub const PATHWAY: u16 = 19;
    /// Header: who issued the ICMP error being relayed, IPv4.
    pub const ICMP_LOCATION_V4: u16 = 20;
    /// Header: who issued the ICMP error being relayed, IPv6.
    pub const ICMP_LOCATION_V6: u16 = 21;
    /// Header: a control message.
    pub const CONTROL: u16 = 24;
    /// Payload: the address the egress router uses as source.
    pub const SOURCE_NAT: u16 = 25;
    /// Header: colours and times that measure the path.
    pub const PATH_METRICS: u16 = 26;
    /// Header: a change of the session is announced.
    pub const MODIFY: u16 = 28;
    /// Payload: the application.
    pub const APPLICATION: u16 = 35;
    /// Payload: seconds the session may stay idle from now.
    pub const REMAINING_SESSION_TIME: u16 = 42;
    /// Header: session health check. The same number as [`SESSION_KEY`].
    pub const HEALTH_CHECK: u16 = 46;
    /// Payload: the secret of the session. The same number as [`HEALTH_CHECK`].
    pub const SESSION_KEY: u16 = 46;
    /// Payload: the multicast group of the session.
    pub const MULTICAST_CONTEXT: u16 = 50;
    /// Payload: the egress routers of the multicast group.
    pub const MULTICAST_EGRESS: u16 = 51;
    /// Payload (F): made fresh whenever the sender creates its state of the session.
    pub const SENDER_SALT: u16 = 0x8001;
    /// Payload (F): rises with every re-trigger of a session.
    pub const EPOCH: u16 = 0x8002;
    /// Header (F): place of the packet in a block of duplicated or repairable ones.
    pub const SEQUENCE_REPAIR: u16 = 0x8003;
    /// Header (F): salt of hop keys that come from a configuration file.
    pub const KEY_SALT: u16 = 0x8004;
    /// Header (F): rises by one with every metadata packet under one key salt.
    pub const METADATA_SEQUENCE: u16 = 0x8005;
    /// Payload (F): differs after every start of the router.
    pub const BOOT_ID: u16 = 0x8006;
    /// Header (F): the payload section is encrypted.
    pub const METADATA_ENCRYPTED: u16 = 0x8007;
}
