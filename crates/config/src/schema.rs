//! The tree of `yang/` as the walker needs it: names, types, ranges, defaults, keys.
//!
//! A test holds it against the YANG modules, statement by statement.

/// The type of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Words joined by single `.` or `-`, of at most so many characters.
    Name(usize),
    /// Words joined by single `.`, `-` or `@`, of at most so many characters.
    RouteName(usize),
    /// A Linux device name.
    Device,
    /// A file name.
    File,
    /// Free text of at most so many characters.
    Text(usize),
    /// A whole number, bounds included.
    Uint(u32, u32),
    /// True or false.
    Bool,
    /// One of some words.
    Enum(&'static [&'static str]),
    /// An IPv4 or IPv6 address.
    Address,
    /// An IPv4 or IPv6 prefix.
    Prefix,
    /// A protocol's name, or the number of one without name.
    Protocol,
    /// `tenant`, `prefix` or `tenant@prefix`.
    Source,
    /// The name of another element.
    Reference(Target),
}

/// What a reference points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Tenant,
    Security,
    SessionType,
    Service,
    Router,
    /// A network-interface of the router the reference is in.
    Interface,
}

/// What a node holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Leaf {
        ty: Type,
        default: Option<&'static str>,
        mandatory: bool,
    },
    LeafList {
        ty: Type,
        max: usize,
    },
    Container {
        presence: bool,
        children: &'static [Node],
    },
    List {
        keys: &'static [&'static str],
        max: usize,
        children: &'static [Node],
        choice: &'static [&'static str],
    },
}

/// One node of the data model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

const fn leaf(name: &'static str, ty: Type) -> Node {
    Node { name, kind: Kind::Leaf { ty, default: None, mandatory: false } }
}

const fn needed(name: &'static str, ty: Type) -> Node {
    Node { name, kind: Kind::Leaf { ty, default: None, mandatory: true } }
}

const fn preset(name: &'static str, ty: Type, default: &'static str) -> Node {
    Node { name, kind: Kind::Leaf { ty, default: Some(default), mandatory: false } }
}

const fn leaves(name: &'static str, ty: Type, max: usize) -> Node {
    Node { name, kind: Kind::LeafList { ty, max } }
}

const fn container(name: &'static str, children: &'static [Node]) -> Node {
    Node { name, kind: Kind::Container { presence: false, children } }
}

const fn optional(name: &'static str, children: &'static [Node]) -> Node {
    Node { name, kind: Kind::Container { presence: true, children } }
}

const fn list(
    name: &'static str,
    keys: &'static [&'static str],
    max: usize,
    children: &'static [Node],
) -> Node {
    Node { name, kind: Kind::List { keys, max, children, choice: &[] } }
}

const fn either(
    name: &'static str,
    keys: &'static [&'static str],
    max: usize,
    children: &'static [Node],
    choice: &'static [&'static str],
) -> Node {
    Node { name, kind: Kind::List { keys, max, children, choice } }
}

const NAME: Type = Type::Name(63);
const SHORT: Type = Type::Name(32);
const TEXT: Type = Type::Text(255);
const COST: Type = Type::Uint(0, 1_000_000);
const PORT: Type = Type::Uint(0, 65_535);
const WAYPOINT_PORT: Type = Type::Uint(1_024, 65_535);
const PREFIX_LENGTH: Type = Type::Uint(1, 128);
const DENIED: Type = Type::Enum(&["silent", "reset", "prohibited"]);
const SECURITY_REF: Type = Type::Reference(Target::Security);
const UDP_TRANSFORM: Type = Type::Enum(&["encrypted", "always", "never"]);
const TENANT_REF: Type = Type::Reference(Target::Tenant);

/// The members of `/fairway:authority`.
pub(crate) const AUTHORITY: &[Node] = &[
    needed("name", NAME),
    leaf("description", TEXT),
    list("tenant", &["name"], 10_000, TENANT),
    list("security", &["name"], 1_000, SECURITY),
    list("session-type", &["name"], 1_000, SESSION_TYPE),
    list("service", &["name"], 100_000, SERVICE),
    list("router", &["name"], 10_000, ROUTER),
];

const TENANT: &[Node] = &[
    needed("name", NAME),
    leaf("description", TEXT),
    list(
        "member",
        &["neighborhood"],
        10_000,
        &[needed("neighborhood", SHORT), leaves("address", Type::Prefix, 10_000)],
    ),
    container("limits", QUOTA),
];

const SECURITY: &[Node] = &[
    needed("name", NAME),
    preset("encrypt-metadata", Type::Bool, "true"),
    preset("encrypt", Type::Bool, "true"),
    preset("encryption-cipher", Type::Enum(&["aes-cbc-128", "aes-cbc-256", "aes-gcm-256"]), "aes-gcm-256"),
    preset("adaptive-encryption", Type::Bool, "true"),
    preset("hmac-mode", Type::Enum(&["disabled", "regular"]), "regular"),
];

const SESSION_TYPE: &[Node] = &[
    needed("name", NAME),
    preset("timeout", Type::Uint(1, 604_800), "180"),
    preset("initial-timeout", Type::Uint(1, 604_800), "10"),
];

const SERVICE: &[Node] = &[
    needed("name", NAME),
    leaf("description", TEXT),
    preset("scope", Type::Enum(&["private", "public"]), "private"),
    leaves("address", Type::Prefix, 10_000),
    list("transport", &["protocol"], 256, TRANSPORT),
    list("access-policy", &["source"], 10_000, ACCESS_POLICY),
    leaf("security", SECURITY_REF),
    leaf("session-type", Type::Reference(Target::SessionType)),
    preset("transport-state-enforcement", Type::Enum(&["allow", "block", "reset"]), "allow"),
    preset("share-service-routes", Type::Bool, "true"),
];

const TRANSPORT: &[Node] = &[
    needed("protocol", Type::Protocol),
    list("port-range", &["start-port"], 1_000, &[needed("start-port", PORT), leaf("end-port", PORT)]),
];

const ACCESS_POLICY: &[Node] =
    &[needed("source", Type::Source), preset("permission", Type::Enum(&["allow", "deny"]), "allow")];

const ROUTER: &[Node] = &[
    needed("name", NAME),
    leaf("description", TEXT),
    list("node", &["name"], 1, NODE),
    list("host-interface", &["name"], 100, HOST_INTERFACE),
    list("peer", &["name"], 10_000, PEER),
    either("service-route", &["name"], 200_000, SERVICE_ROUTE, &["peer", "next-hop", "local"]),
    container("limits", LIMITS),
];

const NODE: &[Node] = &[needed("name", SHORT), list("device-interface", &["name"], 1_000, DEVICE_INTERFACE)];

const DEVICE_INTERFACE: &[Node] = &[
    needed("name", SHORT),
    leaf("device", Type::Device),
    list("network-interface", &["name"], 4_095, NETWORK_INTERFACE),
];

const NETWORK_INTERFACE: &[Node] = &[
    needed("name", SHORT),
    preset("vlan", Type::Uint(0, 4_094), "0"),
    preset("type", Type::Enum(&["external", "fabric", "shared"]), "external"),
    leaf("tenant", TENANT_REF),
    list("address", &["ip-address"], 256, INTERFACE_ADDRESS),
    list("neighborhood", &["name"], 256, NEIGHBORHOOD),
    list("adjacency", &["peer", "ip-address"], 10_000, ADJACENCY),
    preset("source-nat", Type::Bool, "false"),
    preset("denied-response", DENIED, "silent"),
    leaf("mtu", Type::Uint(1_280, 9_216)),
];

const INTERFACE_ADDRESS: &[Node] = &[
    needed("ip-address", Type::Address),
    needed("prefix-length", PREFIX_LENGTH),
    leaf("gateway", Type::Address),
];

const NEIGHBORHOOD: &[Node] = &[
    needed("name", SHORT),
    preset("topology", Type::Enum(&["mesh", "hub", "spoke"]), "mesh"),
    preset("cost", COST, "10"),
    optional("port-range", WAYPOINT_RANGE),
    preset("max-way-points", Type::Uint(1, 1_000_000), "50000"),
    leaf("security", SECURITY_REF),
    preset("udp-transform", UDP_TRANSFORM, "encrypted"),
    container("bfd", BFD),
];

const WAYPOINT_RANGE: &[Node] = &[needed("start-port", WAYPOINT_PORT), needed("end-port", WAYPOINT_PORT)];

const BFD: &[Node] = &[
    preset("desired-tx-interval", Type::Uint(50, 600_000), "1000"),
    preset("required-min-rx-interval", Type::Uint(50, 600_000), "500"),
    preset("multiplier", Type::Uint(3, 50), "3"),
    preset("hold-down-time", Type::Uint(1, 300), "5"),
];

const ADJACENCY: &[Node] = &[
    needed("peer", Type::Reference(Target::Router)),
    needed("ip-address", Type::Address),
    preset("generated", Type::Bool, "false"),
    preset("cost", COST, "10"),
    optional("port-range", WAYPOINT_RANGE),
    preset("max-way-points", Type::Uint(1, 1_000_000), "50000"),
    leaf("security", SECURITY_REF),
    preset("udp-transform", UDP_TRANSFORM, "encrypted"),
    container("bfd", BFD),
];

const HOST_INTERFACE: &[Node] = &[
    needed("name", SHORT),
    leaf("device", Type::Device),
    leaf("tenant", TENANT_REF),
    list(
        "address",
        &["ip-address"],
        256,
        &[needed("ip-address", Type::Address), needed("prefix-length", PREFIX_LENGTH)],
    ),
    preset("denied-response", DENIED, "silent"),
];

const PEER: &[Node] = &[
    needed("name", Type::Reference(Target::Router)),
    preset("generated", Type::Bool, "false"),
    leaf("key-file", Type::File),
    leaves("allowed-tenant", TENANT_REF, 10_000),
    container("limits", QUOTA),
];

const SERVICE_ROUTE: &[Node] = &[
    needed("name", Type::RouteName(127)),
    needed("service-name", Type::Reference(Target::Service)),
    preset("generated", Type::Bool, "false"),
    leaf("peer", Type::Reference(Target::Router)),
    optional(
        "next-hop",
        &[needed("interface", Type::Reference(Target::Interface)), leaf("gateway", Type::Address)],
    ),
    optional("local", &[]),
    preset("cost", COST, "0"),
];

const LIMITS: &[Node] = &[
    preset("sessions", Type::Uint(1, 4_000_000), "100000"),
    preset("half-open", Type::Uint(1, 4_000_000), "10000"),
    preset("session-rate", Type::Uint(1, 10_000_000), "50000"),
    preset("first-packet-rate", Type::Uint(1, 10_000_000), "50000"),
    preset("answer-rate", Type::Uint(1, 1_000_000), "1000"),
    container("per-tenant", QUOTA),
    container("per-source", QUOTA),
    container("per-peer", QUOTA),
];

const QUOTA: &[Node] = &[
    leaf("max-sessions", Type::Uint(1, 4_000_000)),
    leaf("half-open", Type::Uint(1, 4_000_000)),
    leaf("session-rate", Type::Uint(1, 10_000_000)),
];

#[cfg(test)]
mod tests;
