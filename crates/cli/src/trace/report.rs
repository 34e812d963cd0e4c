//! A trace as text.

use super::steps::{End, Hop, Passed, Said, Trace, Way};
use crate::table::paragraph;
use crate::units;

const LABEL: usize = 8;
const INDENT: usize = 3;

/// The text of a whole trace.
pub fn text(trace: &Trace) -> String {
    let port = trace.port.map_or(String::new(), |port| format!(" port {port}"));
    let mut text = format!("{} from {} to {}{port}\n", trace.protocol, trace.source, trace.destination);
    for (number, hop) in trace.routers.iter().enumerate() {
        text.push_str(&format!("\n{}. {}\n", number + 1, hop.router));
        router(&mut text, hop);
    }
    text.push('\n');
    end(&mut text, &trace.outcome);
    text
}

fn router(text: &mut String, hop: &Hop) {
    said(text, "enters", &hop.ingress);
    if let Some(tenant) = &hop.tenant {
        line(text, "tenant", &tenant.text);
        // A leaf of the interface that was just named needs no second path.
        let of_ingress = hop.ingress.origin.as_deref().zip(tenant.origin.as_deref());
        if let Some(path) = tenant.origin.as_deref()
            && !of_ingress.is_some_and(|(ingress, tenant)| tenant.starts_with(ingress))
        {
            origin(text, path);
        }
    }
    if let Some(service) = &hop.service {
        said(text, "service", service);
    }
    // Beside a service that matches, those of other transports explain nothing.
    let told = |passed: &&Passed| hop.service.is_none() || !passed.other_transport;
    for passed in hop.passed_over.iter().filter(told) {
        line(text, "not", &passed.said.text);
    }
    if hop.passed_over_more > 0 {
        line(text, "", &format!("and {} more", units::counted(hop.passed_over_more, "service", "services")));
    }
    if let Some(access) = &hop.access {
        said(text, "access", access);
    }
    for way in &hop.ways {
        route(text, way);
    }
}

fn route(text: &mut String, way: &Way) {
    match (way.taken, &way.passed) {
        (true, _) => {
            line(text, "route", &format!("{}, {}, cost {}", way.route, way.leads, way.cost));
            origin(text, &way.origin);
            if let Some(path) = &way.path_origin {
                origin(text, path);
            }
        }
        (false, Some(why)) => {
            line(text, "not", &format!("{}, {}, cost {}: {why}", way.route, way.leads, way.cost))
        }
        (false, None) => line(text, "else", &format!("{}, {}, cost {}", way.route, way.leads, way.cost)),
    }
}

fn end(text: &mut String, outcome: &End) {
    match outcome {
        End::Delivered { router, interface, device, next_hop } => {
            text.push_str(&paragraph(
                0,
                "",
                0,
                &format!("Delivered: {router} sends it out of {interface} ({device}) to {next_hop}."),
            ));
        }
        End::Router { router } => {
            text.push_str(&paragraph(
                0,
                "",
                0,
                &format!("Arrives: the address is {router}'s own, and its network stack answers."),
            ));
        }
        End::Denied { router, reason, why, fix, origin: line } => {
            text.push_str(&paragraph(0, "", 0, &format!("Denied at {router} ({reason}): {why}.")));
            if let Some(path) = line {
                origin(text, path);
            }
            text.push_str(&paragraph(INDENT, "fix", LABEL, fix));
        }
    }
}

fn said(text: &mut String, label: &str, said: &Said) {
    line(text, label, &said.text);
    if let Some(path) = &said.origin {
        origin(text, path);
    }
}

fn line(text: &mut String, label: &str, words: &str) {
    text.push_str(&paragraph(INDENT, label, LABEL, &units::printable(words)));
}

fn origin(text: &mut String, path: &str) {
    // The prefix is the same for every line of every configuration.
    let short = path.strip_prefix("/fairway:authority").unwrap_or(path);
    text.push_str(&paragraph(INDENT, "", LABEL, short));
}
