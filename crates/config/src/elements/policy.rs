//! What all routers share: who may reach what, and how it is protected.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A tenant; `child.parent` is a child of `parent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tenant {
    /// The dotted name.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Sources that belong to the tenant by their prefix.
    #[serde(rename = "member", default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<TenantMember>,
    /// How much of each router it may have.
    pub limits: Quota,
}

/// Source prefixes that belong to a tenant on the interfaces of one neighborhood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TenantMember {
    /// The neighborhood.
    pub neighborhood: String,
    /// The source prefixes.
    #[serde(rename = "address", default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
}

/// A security policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Security {
    /// The name.
    pub name: String,
    /// Whether metadata is encrypted; it is always signed.
    pub encrypt_metadata: bool,
    /// Whether payload is encrypted.
    pub encrypt: bool,
    /// How payload is encrypted.
    pub encryption_cipher: Cipher,
    /// Whether payload that is encrypted already is left as it is.
    pub adaptive_encryption: bool,
    /// What becomes of payload that is not to be encrypted.
    pub hmac_mode: HmacMode,
}

/// How payload is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-128-CBC with HMAC-SHA256-128.
    #[serde(rename = "aes-cbc-128")]
    Aes128Cbc,
    /// AES-256-CBC with HMAC-SHA256-128.
    #[serde(rename = "aes-cbc-256")]
    Aes256Cbc,
    /// AES-256-GCM.
    #[serde(rename = "aes-gcm-256")]
    Aes256Gcm,
}

/// What becomes of payload that is not to be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HmacMode {
    /// It travels as it is.
    Disabled,
    /// It is guarded against change and replay.
    Regular,
}

/// A session-type: idle timeouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SessionType {
    /// The name.
    pub name: String,
    /// Seconds a session may be idle.
    pub timeout: u32,
    /// Seconds a session may wait for its first answer, or a TCP session for its handshake.
    pub initial_timeout: u32,
}

/// A service; `child.parent` is a child of `parent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// The name.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether sources without a tenant reach it.
    pub scope: Scope,
    /// Destination prefixes; empty inherits those of the parent.
    #[serde(rename = "address", default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// Protocols and ports; empty inherits those of the parent.
    #[serde(rename = "transport", default, skip_serializing_if = "Vec::is_empty")]
    pub transports: Vec<Transport>,
    /// Who may reach it.
    #[serde(rename = "access-policy", default, skip_serializing_if = "Vec::is_empty")]
    pub access_policy: Vec<AccessPolicy>,
    /// The security policy; `None` inherits the parent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// The session-type; `None` inherits the parent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_type: Option<String>,
    /// What becomes of TCP packets in mid-flow that have no session.
    pub transport_state_enforcement: TransportStateEnforcement,
    /// Whether service-routes are generated for it.
    pub share_service_routes: bool,
}

/// Who reaches a service without a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Only sources that `access-policy` allows.
    Private,
    /// Sources without a tenant too.
    Public,
}

/// What a TCP packet without SYN and without session meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportStateEnforcement {
    /// It makes a session.
    Allow,
    /// It is dropped.
    Block,
    /// It is dropped and answered with a reset.
    Reset,
}

/// A protocol and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Transport {
    /// The protocol.
    pub protocol: Protocol,
    /// Destination ports; empty means all.
    #[serde(rename = "port-range", default, skip_serializing_if = "Vec::is_empty")]
    pub port_ranges: Vec<PortRange>,
}

/// A protocol, by name where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Protocol {
    /// By its IP protocol number.
    Number(u8),
    /// By name: tcp, udp, icmp, icmp6, gre, esp or sctp.
    Name(String),
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PortRange {
    /// The lowest port.
    pub start_port: u16,
    /// The highest port; `None` means the lowest only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
}

/// One line of an access-policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AccessPolicy {
    /// `tenant`, `prefix` or `tenant@prefix`.
    pub source: String,
    /// Whether it may.
    pub permission: Permission,
}

/// Whether a source may reach a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// How much of a router one tenant, source or peer may have; `None` leaves it to the next more
/// general place: the router's quotas, and then its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quota {
    /// Sessions held at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// TCP sessions that wait for their handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_open: Option<u32>,
    /// Sessions begun a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_rate: Option<u32>,
}

impl PortRange {
    /// The range as the engine knows it; `None` when it is empty.
    #[must_use]
    pub fn range(self) -> Option<fairway_types::PortRange> {
        fairway_types::PortRange::new(self.start_port, self.end_port.unwrap_or(self.start_port))
    }
}

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub fn protocol(&self) -> Option<fairway_types::Protocol> {
        match self {
            Self::Number(number) => Some(fairway_types::Protocol(*number)),
            Self::Name(name) => crate::names::protocol(name),
        }
    }
}
