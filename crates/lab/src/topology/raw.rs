//! The topology file as it is written: YAML with the line of everything, nothing checked yet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use serde_path_to_error::{Path, Segment};
use serde_saphyr::Spanned;

use super::{Fault, Io, Transport};
use crate::quantity::{QueueLimit, Rate, Share, Span};
use crate::wire::Change;

/// Values by name.
pub(super) type Named<T> = BTreeMap<String, Spanned<T>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub name: Spanned<String>,
    #[serde(default = "first_seed")]
    pub seed: u64,
    pub config: Option<Spanned<serde_json::Value>>,
    #[serde(default)]
    pub links: Named<RawLink>,
    #[serde(default)]
    pub hosts: Named<RawNode>,
    #[serde(default)]
    pub routers: Named<RawNode>,
    #[serde(default)]
    pub nat: Named<RawNat>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLink {
    pub mtu: Option<Spanned<u16>>,
    pub offload: Option<Spanned<Switch>>,
    #[serde(default)]
    pub directions: Named<Change>,
    pub delay: Option<Span>,
    pub jitter: Option<Span>,
    pub loss: Option<Share>,
    pub loss_burst: Option<u32>,
    pub duplicate: Option<Share>,
    pub reorder: Option<Share>,
    pub reorder_delay: Option<Span>,
    pub corrupt: Option<Share>,
    pub rate: Option<Rate>,
    pub queue: Option<QueueLimit>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Switch {
    On,
    Off,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub tenant: Option<Spanned<String>>,
    pub workers: Option<Spanned<u8>>,
    pub io: Option<Spanned<Io>>,
    #[serde(default)]
    pub interfaces: Named<RawInterface>,
    #[serde(default)]
    pub routes: Named<Text<IpAddr>>,
    #[serde(default)]
    pub sysctl: Named<Text<String>>,
    #[serde(default)]
    pub files: Named<String>,
    #[serde(default)]
    pub services: Named<RawService>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNat {
    pub inside: Vec<Spanned<String>>,
    pub outside: Spanned<String>,
    #[serde(default)]
    pub forward: Vec<Spanned<RawForward>>,
    #[serde(default)]
    pub interfaces: Named<RawInterface>,
    #[serde(default)]
    pub routes: Named<Text<IpAddr>>,
    #[serde(default)]
    pub sysctl: Named<Text<String>>,
    #[serde(default)]
    pub files: Named<String>,
    #[serde(default)]
    pub services: Named<RawService>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawForward {
    pub protocol: Transport,
    pub port: u16,
    pub to: Text<IpAddr>,
    pub to_port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInterface {
    pub device: Option<Spanned<String>>,
    #[serde(default)]
    pub address: Vec<Spanned<Text<IpNet>>>,
    #[serde(default)]
    pub gateway: Vec<Spanned<Text<IpAddr>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    pub command: String,
    pub ready: Option<Spanned<String>>,
    pub deadline: Option<Span>,
}

/// A value that is written as text and parses itself.
#[derive(Debug)]
pub(super) struct Text<T>(pub T);

impl<'de, T: std::str::FromStr> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let what = match std::any::type_name::<T>() {
            name if name.ends_with("IpNet") => "an address with its prefix length, such as 10.1.0.1/24",
            _ => "an IP address",
        };
        text.parse().map(Self).map_err(|_| serde::de::Error::custom(format!("`{text}` is not {what}")))
    }
}

impl RawLink {
    /// The impairments of all members.
    pub fn change(&self) -> Change {
        Change {
            delay: self.delay,
            jitter: self.jitter,
            loss: self.loss,
            loss_burst: self.loss_burst,
            duplicate: self.duplicate,
            reorder: self.reorder,
            reorder_delay: self.reorder_delay,
            corrupt: self.corrupt,
            rate: self.rate,
            queue: self.queue,
        }
    }
}

fn first_seed() -> u64 {
    1
}

/// Reads YAML; the error is the first fault.
pub(super) fn read(text: &str) -> Result<Raw, Vec<Fault>> {
    let mut field = String::new();
    let raw = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            field = field_name(error.path());
            error.into_inner()
        })
    });
    raw.map_err(|error: serde_saphyr::Error| {
        let line = error.location().map_or(0, |location| u64::from(location.line() as u32));
        vec![Fault { line, field: field.clone(), message: message(&error) }]
    })
}

/// The library's message without the place at its end, which is told apart.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    match text.rfind(" at line ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// The path as a user writes it: without the wrappers that remember lines.
fn field_name(path: &Path) -> String {
    let mut name = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => name.push_str(&format!("[{index}]")),
            Segment::Map { key } if key != "value" => {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(key);
            }
            Segment::Map { .. } | Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    name
}
