//! What may be asked of a router.

use core::fmt;
use core::net::IpAddr;

use fairway_types::{IpNet, Protocol};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::types::ErrorBody;

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Lists something.
    Show(Show),
    /// Removes something.
    Delete(Delete),
    /// Reads the configuration and the key files again and applies the difference.
    Reload(Nothing),
    /// Says whether established plain sessions stay in the kernel from now on.
    Offload(OffloadRequest),
    /// Streams packets.
    Capture(CaptureRequest),
}

/// What to list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Show {
    /// The router at a glance.
    Status(Nothing),
    /// Sessions.
    Sessions(SessionQuery),
    /// The two flows of each session.
    Flows(SessionQuery),
    /// What sessions are decided by.
    Fib(FibQuery),
    /// Peers and the paths to them.
    Peers(Nothing),
    /// Network-interfaces.
    Interfaces(Nothing),
    /// Waypoint ports.
    Waypoints(Nothing),
    /// What each worker does.
    Workers(Nothing),
    /// Ports of source NAT.
    Nat(Nothing),
    /// Limits.
    Limits(Nothing),
    /// Counters.
    Counters(Nothing),
    /// Drops by reason.
    Drops(Nothing),
    /// What would become of a new session.
    Lookup(LookupQuery),
}

/// A request that takes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Which sessions, and which page of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionQuery {
    /// Which sessions.
    pub filter: SessionFilter,
    /// `next` of the page before; absent for the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
    /// How many items at most; a page may hold fewer, even none, and still have a `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Which sessions: those that everything given holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionFilter {
    /// The session's UUID, in hexadecimal with or without hyphens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The tenant, children included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The peer that one of the session's legs leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The interface that one of the session's legs uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The protocol, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ProtocolName>,
    /// The prefix that the original source is in.
    #[serde(skip_serializing_if = "Option::is_none", with = "prefix")]
    pub source: Option<IpNet>,
    /// The prefix that the original destination is in.
    #[serde(skip_serializing_if = "Option::is_none", with = "prefix")]
    pub destination: Option<IpNet>,
    /// The original destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl SessionFilter {
    /// Whether it holds for every session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which rows of the FIB, and which page of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FibQuery {
    /// Which rows.
    pub filter: FibFilter,
    /// `next` of the page before; absent for the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
    /// How many rows at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Which rows of the FIB: those that everything given holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FibFilter {
    /// The tenant that a row names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// An address, or a prefix, that a row's prefix holds.
    #[serde(skip_serializing_if = "Option::is_none", with = "prefix")]
    pub destination: Option<IpNet>,
}

/// A session that might be: what would become of it here and now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupQuery {
    /// The tenant it would have. At most one of `tenant` and `interface` is given; with neither it
    /// has no tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The interface it would arrive on, which gives it its tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The source.
    pub from: IpAddr,
    /// The destination.
    pub to: IpAddr,
    /// The protocol.
    pub protocol: ProtocolName,
    /// The destination port; 0 for protocols without ports.
    #[serde(default)]
    pub port: u16,
}

/// What to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Which sessions.
    pub sessions: SessionFilter,
    /// Must be true when the filter is empty: every session is removed then.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub all: bool,
}

/// Whether established plain sessions stay in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffloadRequest {
    /// True for where the kernel can; false for none: those that did come back to the workers.
    pub enabled: bool,
}

/// Which packets to stream, and when to stop. The stream also ends when the client hangs up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureRequest {
    /// Network-interfaces by name; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Stop after so many packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Stop after so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Bytes of each packet that are kept, its link header included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snap_bytes: Option<u32>,
}

/// An IP protocol, written as its name or its number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProtocolName(pub Protocol);

impl ProtocolName {
    const NAMED: [Protocol; 7] = [
        Protocol::ICMP,
        Protocol::TCP,
        Protocol::UDP,
        Protocol::GRE,
        Protocol::ESP,
        Protocol::ICMPV6,
        Protocol::SCTP,
    ];

    /// The protocol with that name or decimal number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let named = Self::NAMED.into_iter().find(|protocol| protocol.name() == Some(text));
        named.or_else(|| text.parse().ok().map(Protocol)).map(Self)
    }
}

impl fmt::Debug for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for ProtocolName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ProtocolName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a protocol's name or its number from 0 to 255")]
        enum Spelling {
            Number(u8),
            Text(String),
        }
        match Spelling::deserialize(deserializer)? {
            Spelling::Number(number) => Ok(Self(Protocol(number))),
            Spelling::Text(text) => Self::parse(&text).ok_or_else(|| {
                D::Error::custom(format_args!(
                    "`{}` is no protocol: expected icmp, tcp, udp, gre, esp, icmp6, sctp or a number",
                    printable(&text)
                ))
            }),
        }
    }
}

mod prefix {
    //! A prefix; a bare address means the whole of it.

    use core::net::IpAddr;

    use fairway_types::IpNet;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<IpNet>, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNet>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let prefix = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        prefix.map(Some).map_err(|_| {
            D::Error::custom(format_args!("`{}` is neither an address nor a prefix", super::printable(&text)))
        })
    }
}

/// At most 60 characters of `text`, without control characters.
fn printable(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

const REQUESTS: &str = "ask for one of show, delete, reload, offload and capture";
const LISTINGS: &str = "`what` is one of status, sessions, flows, fib, peers, interfaces, waypoints, nat, limits, counters, drops and \
     lookup";

impl Request {
    /// Reads one request.
    ///
    /// # Errors
    /// Names the field that is wrong and what to do about it.
    pub fn parse(line: &[u8]) -> Result<Self, ErrorBody> {
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| ErrorBody::new(format!("the request is no JSON: {error}"), REQUESTS))?;
        let Value::Object(members) = value else {
            return Err(ErrorBody::new("the request is no JSON object", REQUESTS));
        };
        let mut members = members.into_iter();
        let (Some((name, body)), None) = (members.next(), members.next()) else {
            return Err(ErrorBody::new("a request has exactly one member", REQUESTS));
        };
        match name.as_str() {
            "show" => Ok(Self::Show(Show::parse(body)?)),
            "delete" => Ok(Self::Delete(body_of("delete", body)?)),
            "reload" => Ok(Self::Reload(body_of("reload", body)?)),
            "offload" => Ok(Self::Offload(body_of("offload", body)?)),
            "capture" => Ok(Self::Capture(body_of("capture", body)?)),
            other => Err(ErrorBody::new(format!("unknown request `{}`", printable(other)), REQUESTS)),
        }
    }
}

impl Show {
    fn parse(body: Value) -> Result<Self, ErrorBody> {
        let mut members: Map<String, Value> = body_of("show", body)?;
        let what = match members.remove("what") {
            Some(Value::String(what)) => what,
            Some(_) => return Err(ErrorBody::new("`show.what` is no string", LISTINGS)),
            None => return Err(ErrorBody::new("`show.what` is missing", LISTINGS)),
        };
        let rest = Value::Object(members);
        Ok(match what.as_str() {
            "status" => Self::Status(body_of("show", rest)?),
            "sessions" => Self::Sessions(body_of("show", rest)?),
            "flows" => Self::Flows(body_of("show", rest)?),
            "fib" => Self::Fib(body_of("show", rest)?),
            "peers" => Self::Peers(body_of("show", rest)?),
            "interfaces" => Self::Interfaces(body_of("show", rest)?),
            "waypoints" => Self::Waypoints(body_of("show", rest)?),
            "workers" => Self::Workers(body_of("show", rest)?),
            "nat" => Self::Nat(body_of("show", rest)?),
            "limits" => Self::Limits(body_of("show", rest)?),
            "counters" => Self::Counters(body_of("show", rest)?),
            "drops" => Self::Drops(body_of("show", rest)?),
            "lookup" => Self::Lookup(body_of("show", rest)?),
            other => {
                return Err(ErrorBody::new(format!("`show.what` is `{}`", printable(other)), LISTINGS));
            }
        })
    }
}

fn body_of<T: DeserializeOwned>(request: &str, body: Value) -> Result<T, ErrorBody> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { request.to_owned() } else { format!("{request}.{path}") };
        let message = format!("`{}`: {}", printable(&field), error.inner());
        ErrorBody::new(message, "correct that field; `fairway show --help` lists what can be asked")
    })
}
