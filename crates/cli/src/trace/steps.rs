//! What a trace found, in the shape of its JSON.

use core::net::IpAddr;

use serde::Serialize;

/// A whole trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trace {
    /// The protocol.
    pub protocol: String,
    /// The sender.
    pub source: IpAddr,
    /// The destination.
    pub destination: IpAddr,
    /// The destination port, for protocols with ports.
    pub port: Option<u16>,
    /// The routers the packet meets, in order.
    pub routers: Vec<Hop>,
    /// How it ends.
    pub outcome: End,
}

/// What happens at one router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hop {
    /// The router.
    pub router: String,
    /// Where the packet enters.
    pub ingress: Said,
    /// To which tenant the packet belongs, and why.
    pub tenant: Option<Said>,
    /// The service that decides.
    pub service: Option<Said>,
    /// Services that hold the destination but do not decide, and why.
    pub passed_over: Vec<Passed>,
    /// How many more there are.
    pub passed_over_more: usize,
    /// The access line that decides.
    pub access: Option<Said>,
    /// The ways of the service, best first.
    pub ways: Vec<Way>,
}

/// A sentence, and the configuration line behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Said {
    /// The name of the element, where there is one.
    pub name: Option<String>,
    /// What it says.
    pub text: String,
    /// The instance path of the line.
    pub origin: Option<String>,
}

impl Said {
    /// A sentence without an element.
    pub fn text(text: impl Into<String>) -> Self {
        Self { name: None, text: text.into(), origin: None }
    }

    /// A sentence about an element.
    pub fn named(name: &str, text: impl Into<String>, origin: &str) -> Self {
        Self { name: Some(name.to_owned()), text: text.into(), origin: Some(origin.to_owned()) }
    }
}

/// A service that holds the destination but does not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Passed {
    /// The service, and why it does not decide.
    #[serde(flatten)]
    pub said: Said,
    /// Whether the reason is that it does not speak the protocol and port.
    pub other_transport: bool,
}

/// One way of a service from a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Way {
    /// The service-route.
    pub route: String,
    /// Its cost, with that of the path.
    pub cost: u32,
    /// Where it leads.
    pub leads: String,
    /// The service-route's line.
    pub origin: String,
    /// The peer path's line, when it leads over one.
    pub path_origin: Option<String>,
    /// Whether the packet takes it.
    pub taken: bool,
    /// Why it is not taken, where it comes before the one that is.
    pub passed: Option<String>,
}

/// How a trace ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum End {
    /// The packet leaves the fabric towards its destination.
    Delivered {
        /// The last router.
        router: String,
        /// The interface it leaves by.
        interface: String,
        /// The Linux device.
        device: String,
        /// The next hop; the destination itself when it is on the link.
        next_hop: IpAddr,
    },
    /// The destination is the router itself; its own network stack answers.
    Router {
        /// The router.
        router: String,
    },
    /// The packet is dropped.
    Denied {
        /// Where.
        router: String,
        /// The drop reason that counts it.
        reason: &'static str,
        /// Why, as a sentence.
        why: String,
        /// What to do if that is not meant.
        fix: String,
        /// The line that decides, if there is one.
        origin: Option<String>,
    },
}

impl End {
    /// Whether the packet arrives.
    pub fn arrives(&self) -> bool {
        match self {
            Self::Delivered { .. } | Self::Router { .. } => true,
            Self::Denied { .. } => false,
        }
    }
}
