//! Holds a document against the schema: every fault at once, and what remains without them.
//!
//! What remains has all defaults filled in. A leaf with a fault is left out; a list entry without
//! its mandatory leaves is left out as a whole.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::document::Json;
use crate::fault::Fault;
use crate::names;
use crate::path;
use crate::schema::{AUTHORITY, Kind, Node, Target, Type};

/// How many faults are listed; what is more only repeats them.
const MAX_FAULTS: usize = 1_000;
/// How many times a similar name is searched for.
const MAX_SUGGESTIONS: usize = 50;

/// What a walk found.
pub(crate) struct Walked {
    /// The document without its faults, defaults filled in; `None` when nothing is left.
    pub(crate) value: Option<Value>,
    /// The faults, in the order of the document.
    pub(crate) faults: Vec<Fault>,
}

/// Holds a whole document against the schema.
pub(crate) fn walk(document: &Json) -> Walked {
    let mut walker = Walker::new(document);
    let value = walker.document(document);
    Walked { value, faults: walker.faults }
}

#[derive(Default)]
struct Walker<'a> {
    faults: Vec<Fault>,
    targets: HashMap<Target, HashSet<&'a str>>,
    interfaces: HashSet<&'a str>,
    suggestions: usize,
}

/// The names of all entries of a list, whatever else is wrong with them.
fn entry_names<'a>(parent: Option<&'a Json>, list: &str) -> impl Iterator<Item = &'a str> {
    let entries = parent.and_then(|parent| parent.member(list)).map_or(&[][..], Json::elements);
    entries.iter().filter_map(|entry| entry.member("name")?.text())
}

impl<'a> Walker<'a> {
    fn new(document: &'a Json) -> Self {
        let authority = document.member("fairway:authority");
        let named = |list| entry_names(authority, list).collect();
        let targets = HashMap::from([
            (Target::Tenant, named("tenant")),
            (Target::Security, named("security")),
            (Target::SessionType, named("session-type")),
            (Target::Service, named("service")),
            (Target::Router, named("router")),
        ]);
        Self { targets, ..Self::default() }
    }

    fn report(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        } else if self.faults.len() == MAX_FAULTS {
            let problem = format!("more than {MAX_FAULTS} faults; the rest is not listed");
            self.faults.push(Fault::error("/", problem, "mend these first"));
        }
    }

    fn suggest<'n>(&mut self, written: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
        self.suggestions += 1;
        if self.suggestions > MAX_SUGGESTIONS { None } else { names::nearest(written, candidates) }
    }

    fn document(&mut self, document: &'a Json) -> Option<Value> {
        const FIX: &str = "write one object {\"fairway:authority\": {…}}";
        let Json::Object(members) = document else {
            self.report(Fault::error("/", format!("the document is {}", document.kind()), FIX));
            return None;
        };
        let mut authority = None;
        for (name, value) in members {
            if name != "fairway:authority" {
                let fault = Fault::error(
                    format!("/{}", crate::fault::shortened(name)),
                    "unknown top-level element",
                    FIX,
                );
                self.report(fault);
            } else if authority.is_some() {
                self.report(Fault::error(path::ROOT, "written twice", "join the two objects into one"));
            } else {
                authority = Some(value);
            }
        }
        let Some(authority) = authority else {
            self.report(Fault::error("/", "the document holds no authority", FIX));
            return None;
        };
        let (mut members, _) = self.members(authority, AUTHORITY, path::ROOT)?;
        members.entry("name").or_insert_with(|| Value::from("authority"));
        Some(Value::Object(members))
    }

    /// The members of an object, and whether all mandatory ones are among them. `None` when it is
    /// no object.
    fn members(
        &mut self,
        json: &'a Json,
        nodes: &'static [Node],
        path: &str,
    ) -> Option<(Map<String, Value>, bool)> {
        let Json::Object(members) = json else {
            self.wrong_kind(json, path, "an object {…}");
            return None;
        };
        let present = self.known_members(members, nodes, path);
        let mut result = Map::new();
        let mut whole = true;
        for node in nodes {
            let value = match present.get(node.name) {
                Some(json) => self.node(json, node, path),
                None => self.absent(node, path),
            };
            if let Some(value) = value {
                result.insert(node.name.to_owned(), value);
            } else if matches!(node.kind, Kind::Leaf { mandatory: true, .. }) {
                whole = false;
            }
        }
        Some((result, whole))
    }

    fn known_members(
        &mut self,
        members: &'a [(String, Json)],
        nodes: &'static [Node],
        path: &str,
    ) -> HashMap<&'a str, &'a Json> {
        let mut present = HashMap::new();
        for (name, value) in members {
            if nodes.iter().all(|node| node.name != name) {
                self.unknown(name, nodes, path);
            } else if present.insert(name.as_str(), value).is_some() {
                let fix = "keep one of them; for a list, put all entries into one array";
                self.report(Fault::error(path::child(path, name), "written twice in one object", fix));
            }
        }
        present
    }

    fn unknown(&mut self, name: &str, nodes: &'static [Node], path: &str) {
        let plain = name.strip_prefix("fairway:").unwrap_or(name);
        let known = || nodes.iter().map(|node| node.name);
        let fix = match self.suggest(plain, known()) {
            Some(near) => format!("did you mean '{near}'?"),
            None if nodes.is_empty() => "leave it out: this element holds nothing, write {}".to_owned(),
            None => format!("leave it out, or use one of: {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.report(Fault::error(path::child(path, &crate::fault::shortened(name)), "unknown element", fix));
    }

    fn absent(&mut self, node: &'static Node, path: &str) -> Option<Value> {
        match node.kind {
            Kind::Leaf { mandatory: true, ty, .. } => {
                let fix = format!("add \"{}\": {}", node.name, self.expected(ty));
                self.report(Fault::error(path::child(path, node.name), "missing", fix));
                None
            }
            Kind::Leaf { default: Some(default), ty, .. } => Some(default_value(ty, default)),
            Kind::Container { presence: false, children } => {
                let members = children
                    .iter()
                    .filter_map(|child| Some((child.name.to_owned(), self.absent(child, path)?)));
                Some(Value::Object(members.collect()))
            }
            Kind::Leaf { .. } | Kind::LeafList { .. } | Kind::Container { .. } | Kind::List { .. } => None,
        }
    }

    fn node(&mut self, json: &'a Json, node: &'static Node, parent: &str) -> Option<Value> {
        let path = path::child(parent, node.name);
        match node.kind {
            Kind::Leaf { ty, default, .. } => match self.checked(json, ty, &path) {
                Some(value) => Some(value),
                None => default.map(|default| default_value(ty, default)),
            },
            Kind::LeafList { ty, max } => self.leaf_list(json, ty, max, &path),
            Kind::Container { presence, children } => match self.members(json, children, &path) {
                Some((members, true)) => Some(Value::Object(members)),
                _ if presence => None,
                _ => Some(Value::Object(defaults(children))),
            },
            Kind::List { keys, max, children, choice } => {
                self.list(json, List { name: node.name, keys, max, children, choice }, parent)
            }
        }
    }

    fn array(&mut self, json: &'a Json, max: usize, path: &str) -> Option<&'a [Json]> {
        let Json::Array(elements) = json else {
            self.wrong_kind(json, path, "an array […]");
            return None;
        };
        if elements.len() > max {
            let problem = format!("{} entries, more than the {max} that may be here", elements.len());
            self.report(Fault::error(path, problem, "take entries out"));
            return None;
        }
        Some(elements)
    }

    fn leaf_list(&mut self, json: &'a Json, ty: Type, max: usize, path: &str) -> Option<Value> {
        let elements = self.array(json, max, path)?;
        let mut seen = HashSet::new();
        let mut values = Vec::with_capacity(elements.len());
        for (position, element) in elements.iter().enumerate() {
            let Some(value) = self.checked(element, ty, &format!("{path}[{position}]")) else { continue };
            if seen.insert(canonical(ty, &value)) {
                values.push(value);
            } else {
                let fault = Fault::error(format!("{path}[{position}]"), "written twice", "keep one of them");
                self.report(fault.with_value(element));
            }
        }
        Some(Value::Array(values))
    }

    fn list(&mut self, json: &'a Json, list: List, parent: &str) -> Option<Value> {
        let elements = self.array(json, list.max, &path::child(parent, list.name))?;
        let mut seen = HashSet::new();
        let mut values = Vec::with_capacity(elements.len());
        for (position, element) in elements.iter().enumerate() {
            let keys = list.key_values(element);
            let mut path = path::child(parent, list.name);
            match &keys {
                Some(keys) => {
                    list.keys.iter().zip(keys).for_each(|(key, value)| path::predicate(&mut path, key, value))
                }
                None => path = format!("{path}[{position}]"),
            }
            if list.name == "router" {
                self.interfaces = interface_names(element);
            }
            let entry = self.entry(element, &list, &path);
            self.check_parent(&list, element, &path);
            if keys.is_some_and(|keys| !seen.insert(keys)) {
                let problem = format!("a second {} with the same {}", list.name, list.keys.join(" and "));
                self.report(Fault::error(path, problem, "rename one of them, or join the two"));
            } else if let Some(entry) = entry {
                values.push(entry);
            }
        }
        Some(Value::Array(values))
    }

    /// The parent of a tenant or a service exists.
    fn check_parent(&mut self, list: &List, element: &Json, path: &str) {
        let target = match list.name {
            "tenant" => Target::Tenant,
            "service" => Target::Service,
            _ => return,
        };
        let Some(name) = element.member("name").and_then(Json::text) else { return };
        let known = self.targets.get(&target);
        if let Some(parent) =
            names::parent(name).filter(|parent| !known.is_some_and(|known| known.contains(parent)))
        {
            let problem = format!("is a child of '{parent}', and there is no {} of that name", list.name);
            let fix = format!("add the {} '{parent}', or write the name without dots", list.name);
            let fault = Fault::error(path::child(path, "name"), problem, fix);
            self.report(fault.with_value(format_args!("'{name}'")));
        }
    }

    fn entry(&mut self, element: &'a Json, list: &List, path: &str) -> Option<Value> {
        let (members, whole) = self.members(element, list.children, path)?;
        if list.choice.is_empty() {
            return whole.then_some(Value::Object(members));
        }
        let chosen: Vec<_> =
            list.choice.iter().filter(|name| element.member(name).is_some()).copied().collect();
        let [one] = chosen[..] else {
            let all = list.choice.join(", ");
            let fault = if chosen.is_empty() {
                Fault::error(
                    path,
                    format!("leads nowhere: none of {all} is set"),
                    format!("add one of {all}"),
                )
            } else {
                let problem = format!("{} exclude each other", chosen.join(" and "));
                Fault::error(path, problem, format!("keep exactly one of {all}"))
            };
            self.report(fault);
            return None;
        };
        (whole && members.contains_key(one)).then_some(Value::Object(members))
    }

    fn wrong_kind(&mut self, json: &Json, path: &str, wanted: &str) {
        let fault = Fault::error(path, format!("is {}", json.kind()), format!("write {wanted}"));
        self.report(fault.with_value(json));
    }

    /// The value of a leaf, when it is one of the type.
    fn checked(&mut self, json: &'a Json, ty: Type, path: &str) -> Option<Value> {
        if let Some(value) = conforming(json, ty) {
            return match ty {
                Type::Reference(target) => self.referenced(json, target, path).then_some(value),
                Type::Source => self.known_source(json, path).then_some(value),
                _ => Some(value),
            };
        }
        let mut fix = format!("write {}", self.expected(ty));
        if let (Type::Enum(words), Some(text)) = (ty, json.text())
            && let Some(near) = self.suggest(text, words.iter().copied())
        {
            fix = format!("did you mean '{near}'? {fix}");
        }
        self.report(Fault::error(path, format!("is not {}", meaning(ty)), fix).with_value(json));
        None
    }

    fn referenced(&mut self, json: &Json, target: Target, path: &str) -> bool {
        let Some(name) = json.text() else { return false };
        let names =
            if target == Target::Interface { Some(&self.interfaces) } else { self.targets.get(&target) };
        if names.is_some_and(|names| names.contains(name)) {
            return true;
        }
        let names = names.filter(|_| self.suggestions < MAX_SUGGESTIONS);
        let mut candidates: Vec<&str> = names.into_iter().flatten().copied().collect();
        candidates.sort_unstable();
        let fix = match self.suggest(name, candidates.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => {
                format!("define it under {}{}", home(target), listed(&candidates))
            }
        };
        self.report(
            Fault::error(path, format!("there is no {} of this name", meaning(Type::Reference(target))), fix)
                .with_value(json),
        );
        false
    }

    fn known_source(&mut self, json: &Json, path: &str) -> bool {
        let tenant = json.text().and_then(names::source).and_then(|source| source.tenant);
        let known = self.targets.get(&Target::Tenant);
        let Some(tenant) = tenant.filter(|tenant| !known.is_some_and(|names| names.contains(tenant))) else {
            return true;
        };
        self.referenced(&Json::String(tenant.to_owned()), Target::Tenant, path)
    }

    fn expected(&self, ty: Type) -> String {
        match ty {
            Type::Uint(0, max) => format!("a whole number up to {max}"),
            Type::Uint(min, max) => format!("a whole number from {min} to {max}"),
            Type::Bool => "true or false, without quotes".to_owned(),
            Type::Enum(words) => format!("one of {}", words.join(", ")),
            Type::Address => "an address such as \"192.0.2.1\" or \"2001:db8::1\"".to_owned(),
            Type::Prefix => "a prefix such as \"192.0.2.0/24\" or \"2001:db8::/32\"".to_owned(),
            Type::Protocol => {
                format!("one of {}, or the number of another protocol without quotes", protocol_names())
            }
            Type::Source => "\"tenant\", \"192.0.2.0/24\" or \"tenant@192.0.2.0/24\"".to_owned(),
            Type::Name(max) => format!("up to {max} letters, digits and _, joined by single - or ."),
            Type::RouteName(max) => format!("up to {max} letters, digits and _, joined by single -, . or @"),
            Type::Device => "the name of a Linux device: up to 15 letters, digits and _-.@".to_owned(),
            Type::File => "a file name of up to 255 letters, digits and -_./~@+".to_owned(),
            Type::Text(max) => format!("up to {max} characters of text"),
            Type::Reference(_) => format!("the name of a {}", meaning(ty)),
        }
    }
}

/// A list of the schema.
struct List {
    name: &'static str,
    keys: &'static [&'static str],
    max: usize,
    children: &'static [Node],
    choice: &'static [&'static str],
}

impl List {
    /// The key values in canonical form; `None` when one is missing or of the wrong type.
    fn key_values(&self, entry: &Json) -> Option<Vec<String>> {
        self.keys
            .iter()
            .map(|key| {
                let node = self.children.iter().find(|node| node.name == *key)?;
                let Kind::Leaf { ty, .. } = node.kind else { return None };
                let value = conforming(entry.member(key)?, ty)?;
                Some(canonical(ty, &value))
            })
            .collect()
    }
}

/// All names of network-interfaces of a router.
fn interface_names(router: &Json) -> HashSet<&str> {
    router
        .member("node")
        .map_or(&[][..], Json::elements)
        .iter()
        .flat_map(|node| node.member("device-interface").map_or(&[][..], Json::elements))
        .flat_map(|device| entry_names(Some(device), "network-interface"))
        .collect()
}

/// The value, when it is one of the type; whether a reference points anywhere is not asked.
fn conforming(json: &Json, ty: Type) -> Option<Value> {
    match (ty, json) {
        (Type::Uint(min, max), Json::Number(number)) => {
            let number = u32::try_from(number.as_u64()?).ok()?;
            (min <= number && number <= max).then(|| Value::from(number))
        }
        (Type::Bool, Json::Bool(value)) => Some(Value::from(*value)),
        (Type::Protocol, Json::Number(number)) => {
            let number = u8::try_from(number.as_u64()?).ok()?;
            fairway_types::Protocol(number).name().is_none().then(|| Value::from(number))
        }
        (_, Json::String(text)) => is_valid(text, ty).then(|| Value::from(text.as_str())),
        _ => None,
    }
}

fn is_valid(text: &str, ty: Type) -> bool {
    match ty {
        Type::Name(max) => text.len() <= max && names::is_joined_words(text, b".-"),
        Type::RouteName(max) => text.len() <= max && names::is_joined_words(text, b".-@"),
        Type::Device => text.len() <= 15 && names::is_device(text),
        Type::File => text.len() <= 255 && names::is_file(text),
        Type::Text(max) => text.chars().count() <= max && names::is_text(text),
        Type::Enum(words) => words.contains(&text),
        Type::Address => names::address(text).is_some(),
        Type::Prefix => names::prefix(text).is_some(),
        Type::Protocol => names::protocol(text).is_some(),
        Type::Source => names::source(text).is_some(),
        Type::Reference(_) => true,
        Type::Uint(..) | Type::Bool => false,
    }
}

/// One text for all ways to write a value.
fn canonical(ty: Type, value: &Value) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    let rewritten = match ty {
        Type::Address => names::address(text).map(|address| address.to_string()),
        Type::Prefix => names::prefix(text).map(|prefix| prefix.trunc().to_string()),
        _ => None,
    };
    rewritten.unwrap_or_else(|| text.to_owned())
}

/// The default of a leaf as a JSON value of its type.
pub(crate) fn default_value(ty: Type, default: &str) -> Value {
    match ty {
        Type::Uint(..) => default.parse::<u32>().map_or(Value::Null, Value::from),
        Type::Bool => Value::from(default == "true"),
        _ => Value::from(default),
    }
}

fn defaults(nodes: &[Node]) -> Map<String, Value> {
    let value = |node: &Node| match node.kind {
        Kind::Leaf { ty, default: Some(default), .. } => {
            Some((node.name.to_owned(), default_value(ty, default)))
        }
        _ => None,
    };
    nodes.iter().filter_map(value).collect()
}

fn protocol_names() -> String {
    names::PROTOCOLS.iter().filter_map(|protocol| protocol.name()).collect::<Vec<_>>().join(", ")
}

fn listed(candidates: &[&str]) -> String {
    match candidates {
        [] => String::new(),
        all if all.len() <= 8 => format!(", or name one that exists: {}", all.join(", ")),
        [first @ .., _] => {
            format!(", or name one that exists: {}, …", first.get(..8).unwrap_or(first).join(", "))
        }
    }
}

const fn meaning(ty: Type) -> &'static str {
    match ty {
        Type::Name(_) | Type::RouteName(_) => "a name that may be used here",
        Type::Device => "the name of a Linux device",
        Type::File => "a file name that may be used here",
        Type::Text(_) => "a text that may be used here",
        Type::Uint(..) => "a number in the range",
        Type::Bool => "true or false",
        Type::Enum(_) => "one of the words that may be used here",
        Type::Address => "an IP address",
        Type::Prefix => "an IP prefix",
        Type::Protocol => "a protocol",
        Type::Source => "a source",
        Type::Reference(Target::Tenant) => "tenant",
        Type::Reference(Target::Security) => "security policy",
        Type::Reference(Target::SessionType) => "session-type",
        Type::Reference(Target::Service) => "service",
        Type::Reference(Target::Router) => "router",
        Type::Reference(Target::Interface) => "network-interface on this router",
    }
}

const fn home(target: Target) -> &'static str {
    match target {
        Target::Tenant => "/fairway:authority/tenant",
        Target::Security => "/fairway:authority/security",
        Target::SessionType => "/fairway:authority/session-type",
        Target::Service => "/fairway:authority/service",
        Target::Router => "/fairway:authority/router",
        Target::Interface => "a device-interface of this router",
    }
}
