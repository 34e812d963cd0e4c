//! `report.html`: the report for people. One page with everything in it, made of `report.json` alone.

mod plot;

use std::fmt::Write;

use serde_json::Value;

use crate::report::short;
use plot::{Bar, bars, escape};

const STYLE: &str = include_str!("style.css");

/// The page of a report.
pub(crate) fn page(report: &Value) -> String {
    let cells: Vec<&Value> = report["cells"].as_array().into_iter().flatten().collect();
    let mut html = String::new();
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Fairway, measured</title>\n<style>\n{STYLE}</style>\n<main>\n"
    );
    header(&mut html, report, &cells);
    summary(&mut html, &cells);
    html.push_str("<section class=\"cells\">\n");
    cells.iter().for_each(|cell| card(&mut html, cell));
    html.push_str("</section>\n");
    method(&mut html, report);
    html.push_str("</main>\n</html>\n");
    html
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn header(html: &mut String, report: &Value, cells: &[&Value]) {
    let machine = &report["machine"];
    let with_goal = || cells.iter().filter(|cell| cell["goal"].is_object());
    let met = with_goal().filter(|cell| cell["goal"]["verdict"] == "met").count();
    let _ = write!(
        html,
        "<header>\n<h1>Fairway, measured</h1>\n\
         <p class=\"lead\">One line of four hosts, <i>client – a – b – server</i>, over veth with an MTU of \
         1500 bytes. What runs on <i>a</i> and <i>b</i> differs; everything else is the same, and all of it \
         was measured in turn in one run.</p>\n\
         <dl><div><dt>Goals met</dt><dd>{met} of {}</dd></div><div><dt>Machine</dt><dd>{} × {}</dd></div>\
         <div><dt>Linux</dt><dd>{}</dd></div><div><dt>Rounds</dt><dd>{} of {} s</dd></div></dl>\n</header>\n",
        with_goal().count(),
        machine["processors"],
        text(&machine["processor"]),
        text(&machine["kernel"]),
        machine["pairs"],
        machine["seconds"],
    );
}

fn summary(html: &mut String, cells: &[&Value]) {
    html.push_str(
        "<section>\n<h2>At a glance</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>Cell</th>\
         <th class=\"n\">Fairway</th><th class=\"n\">Against</th><th></th><th class=\"n\">Ratio</th>\
         <th class=\"n\">Goal</th><th>Share of the goal</th><th></th></tr></thead>\n<tbody>\n",
    );
    for cell in cells {
        let goals: Vec<&Value> = cell["goals"].as_array().into_iter().flatten().collect();
        let name = text(&cell["name"]);
        if goals.is_empty() {
            let _ = writeln!(
                html,
                "<tr><td><a href=\"#{name}\">{name}</a></td><td class=\"n\">{}</td><td colspan=\"6\" \
                 class=\"quiet\">nothing to compare it with ran</td></tr>",
                amount(&cell["fairway"]["median"], &cell["unit"]),
            );
        }
        for (number, goal) in goals.iter().enumerate() {
            let first = number == 0;
            let own = if first { amount(&cell["fairway"]["median"], &cell["unit"]) } else { String::new() };
            let link = if first { format!("<a href=\"#{name}\">{name}</a>") } else { String::new() };
            let against = goal["against"].as_str().unwrap_or_default();
            let theirs = amount(&cell["peers"][against]["median"], &cell["unit"]);
            let _ = writeln!(
                html,
                "<tr><td>{link}</td><td class=\"n\">{own}</td><td class=\"n\">{theirs}</td><td>{}</td>\
                 <td class=\"n\"><b>{}</b></td><td class=\"n\">{}{}</td><td>{}</td><td>{}</td></tr>",
                escape(against),
                ratio(&goal["reached"]),
                ratio(&goal["ratio"]),
                allowance(goal, &cell["unit"]),
                plot::share(number_of(&goal["reached"]) / number_of(&goal["ratio"]).max(1e-9)),
                chip(goal),
            );
        }
    }
    html.push_str("</tbody></table></div>\n</section>\n");
}

fn card(html: &mut String, cell: &Value) {
    let (name, unit) = (text(&cell["name"]), text(&cell["unit"]));
    let less = cell["better"] == "less";
    let chips: String = cell["goals"].as_array().into_iter().flatten().map(chip).collect();
    let _ = write!(
        html,
        "<article id=\"{name}\">\n<h3>{name} {chips}</h3>\n<p class=\"quiet\">{}; {unit}, {} is better</p>\n",
        text(&cell["what"]),
        if less { "less" } else { "more" }
    );
    let mut who: Vec<(&str, &Value)> = vec![("fairway", &cell["fairway"])];
    who.extend(
        cell["peers"].as_object().into_iter().flatten().map(|(name, figures)| (name.as_str(), figures)),
    );
    who.retain(|(_, figures)| figures.is_object());
    let figures: Vec<Bar> = who.iter().map(|(name, figures)| bar(name, figures, cell, "median")).collect();
    html.push_str(&bars(&figures, &unit));
    let mut costs: Vec<Bar> =
        who.iter().map(|(name, figures)| bar(name, figures, cell, "cpu_ns_per_packet")).collect();
    let most = costs.iter().map(|cost| cost.value).fold(0.0, f64::max);
    if most > 0.0 {
        let (unit, divisor) = if most > 10_000.0 { ("µs", 1000.0) } else { ("ns", 1.0) };
        costs.iter_mut().for_each(|cost| cost.value /= divisor);
        let _ = writeln!(
            html,
            "<p class=\"quiet cost\">time of all processors of the machine for each {}, {unit}</p>",
            counted(cell)
        );
        html.push_str(&bars(&costs, unit));
    }
    notes(html, cell, &who);
    html.push_str("</article>\n");
}

/// What processor time is divided by.
fn counted(cell: &Value) -> &'static str {
    match cell["unit"].as_str() {
        Some("Gbit/s") => "1448 bytes that arrived",
        Some("k/s") => "connection",
        Some("µs") => "request with its answer",
        _ => "packet that arrived",
    }
}

/// A bar of a figure; that of the cell itself has its rounds and the goal, too.
fn bar(name: &str, figures: &Value, cell: &Value, figure: &str) -> Bar {
    let own = name == "fairway";
    let whole = figure == "median";
    let rounds = figures["rounds"].as_array().filter(|_| whole);
    let goal = cell["goals"].as_array().into_iter().flatten().find(|goal| goal["against"] == name);
    let goal = goal.filter(|_| whole).map(|goal| {
        let (theirs, ratio) = (number_of(&figures["median"]), number_of(&goal["ratio"]));
        match cell["better"] == "less" {
            true => (theirs + number_of(&goal["allowance"])) / ratio,
            false => theirs * ratio,
        }
    });
    Bar {
        name: name.to_owned(),
        value: number_of(&figures[figure]),
        rounds: rounds.into_iter().flatten().map(number_of).collect(),
        own,
        goal,
    }
}

fn notes(html: &mut String, cell: &Value, who: &[(&str, &Value)]) {
    let mut lines = Vec::new();
    for (name, figures) in who {
        let programs = figures["programs_ns_per_packet"].as_object().into_iter().flatten();
        let programs: Vec<String> =
            programs.map(|(program, ns)| format!("{} {:.0} ns", escape(program), number_of(ns))).collect();
        let beside = figures["beside"].as_object().into_iter().flatten();
        let beside: Vec<String> =
            beside.map(|(what, value)| format!("{} {}", escape(what), short(number_of(value)))).collect();
        let all = [programs, beside].concat();
        if !all.is_empty() {
            lines.push(format!("<tr><td>{}</td><td>{}</td></tr>", escape(name), all.join(" · ")));
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(
            html,
            "<details><summary>programs on the boxes, and what else was seen</summary><table>{}</table></details>",
            lines.concat()
        );
    }
    for (name, why) in cell["left_out"].as_object().into_iter().flatten() {
        let _ = writeln!(html, "<p class=\"quiet\">{} is left out: {}</p>", escape(name), text(why));
    }
    for (name, changed) in cell["changed_settings"].as_object().into_iter().flatten() {
        let changed: Vec<String> = changed.as_array().into_iter().flatten().map(text).collect();
        let _ = writeln!(html, "<p class=\"quiet\">{} changed: {}</p>", escape(name), changed.join(", "));
    }
    let foreign = number_of(&cell["foreign_cpu_share"]);
    if foreign > 0.05 {
        let _ = writeln!(
            html,
            "<p class=\"warn\">Other programs used up to {:.0} % of the processors meanwhile.</p>",
            foreign * 100.0
        );
    }
}

fn method(html: &mut String, report: &Value) {
    html.push_str(
        "<section>\n<h2>How to read this</h2>\n\
         <p>A bar is the median of the rounds, a dot one round. A ratio is that of Fairway to another in the \
         same round, and the median of those: figures of a virtual machine move from hour to hour, ratios \
         within one run hold. For times, the ratio is turned around, so more is always better. A goal is \
         <i>met</i> if the median is at least the goal and the lower quartile within 5 % of the median, \
         <i>unsteady</i> if only the latter is not so. The mark on a plot is what a goal asks of Fairway.</p>\n\
         <p>Bytes were sent both ways over every line and compared before anything was measured, and nothing \
         is shown that did not cross the WAN by the counters of its devices, or did not come out of the \
         tunnel.</p>\n<table>\n",
    );
    for (name, version) in report["versions"].as_object().into_iter().flatten() {
        let _ = writeln!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(name), text(version));
    }
    html.push_str("</table>\n</section>\n");
}

fn number_of(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn amount(value: &Value, unit: &Value) -> String {
    value.as_f64().map_or("–".to_owned(), |value| format!("{} {}", short(value), text(unit)))
}

fn ratio(value: &Value) -> String {
    value.as_f64().map_or("–".to_owned(), |value| format!("{value:.2}"))
}

fn allowance(goal: &Value, unit: &Value) -> String {
    match number_of(&goal["allowance"]) {
        allowance if allowance > 0.0 => {
            format!(" <span class=\"quiet\">(+{allowance} {})</span>", text(unit))
        }
        _ => String::new(),
    }
}

fn chip(goal: &Value) -> String {
    let verdict = text(&goal["verdict"]);
    format!("<span class=\"chip {verdict}\">{verdict}</span>")
}

#[cfg(test)]
mod tests {
    use super::page;
    use serde_json::json;

    #[test]
    fn what_was_measured_is_on_the_page_and_nothing_is_fetched() {
        let figures = json!({ "median": 3.5, "min": 3.0, "max": 4.0, "cpu_ns_per_packet": 900.0, "rounds": [3.0, 3.5, 4.0] });
        let goal = json!({ "against": "kernel", "ratio": 1.0, "reached": 1.2, "verdict": "met" });
        let cell = json!({
            "name": "plain-tcp-on", "what": "a <stream>", "unit": "Gbit/s", "better": "more",
            "fairway": figures, "peers": { "kernel": figures }, "goal": goal, "goals": [goal],
            "left_out": { "tinc": "it is not installed" }, "foreign_cpu_share": 0.5,
        });
        let html = page(&json!({ "cells": [cell], "machine": { "pairs": 5 }, "versions": {} }));
        for expected in
            ["3.50", "a &lt;stream&gt;", "tinc is left out", "50 % of the processors", "1.20", "<svg"]
        {
            assert!(html.contains(expected), "{expected} is missing");
        }
        assert!(!html.contains("http"), "a page that fetches something does not work everywhere");
    }
}
