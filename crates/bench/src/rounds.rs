//! Measuring a cell: every contender once in each round, in an order that turns, so that what
//! changes on the machine meanwhile changes for all.

use std::collections::BTreeMap;

use crate::cells::{Against, Cell, Goal};
use crate::child::go_on;
use crate::contender::{Contender, TUNNELS, Tools};
use crate::line::{Line, Scratch};
use crate::measure::{Sample, Traffic, engine};
use crate::stats::{median, quantile};

/// How a run measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds of each cell.
    pub(crate) pairs: usize,
    /// How long each measurement takes.
    pub(crate) seconds: f64,
    /// Whether benchmarks of parts are short, too, and who decides nothing is left out.
    pub(crate) quick: bool,
}

/// What was measured in a cell.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The cell.
    pub(crate) cell: Cell,
    /// A sample of each round, of those that took part to the end.
    pub(crate) samples: BTreeMap<Contender, Vec<Sample>>,
    /// Why others have none.
    pub(crate) faults: BTreeMap<Contender, String>,
    /// What contenders changed of the devices' settings.
    pub(crate) changed: BTreeMap<Contender, Vec<String>>,
}

/// A goal, and how near it is.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    /// The goal.
    pub(crate) goal: Goal,
    /// Against whom in the end.
    pub(crate) against: Contender,
    /// The ratio of each round: more is better, whatever the unit.
    pub(crate) ratios: Vec<f64>,
}

/// Lines that are up, kept from one cell to the next that needs them.
pub(crate) struct Lines<'a> {
    up: BTreeMap<(Contender, bool), Result<Line, String>>,
    tools: &'a Tools,
    scratch: &'a Scratch,
}

impl<'a> Lines<'a> {
    /// None yet.
    pub(crate) fn new(tools: &'a Tools, scratch: &'a Scratch) -> Self {
        Self { up: BTreeMap::new(), tools, scratch }
    }

    /// Raises what a cell needs and removes what neither it needs nor a `later` one. What does not rise is left
    /// out, and said once.
    fn need(&mut self, cell: &Cell, later: &[Cell], quick: bool) -> anyhow::Result<()> {
        let wanted = cell.contenders(quick);
        let needs = |cell: &Cell, contender, offload| {
            cell.offload == offload && cell.contenders(quick).contains(&contender)
        };
        self.up.retain(|&(contender, offload), line| {
            let mut cells = std::iter::once(cell).chain(later);
            line.is_err() || cells.any(|cell| needs(cell, contender, offload))
        });
        for contender in wanted {
            go_on()?;
            let key = (contender, cell.offload);
            if self.up.contains_key(&key) {
                continue;
            }
            let line = match contender.missing(self.tools) {
                Some(reason) => Err(reason),
                None => {
                    let raised = Line::raise(contender, cell.offload, self.tools, &self.scratch.0);
                    go_on()?;
                    raised.map_err(|error| format!("{error:#}"))
                }
            };
            if let Err(reason) = &line {
                eprintln!("{} is left out: {reason}", contender.name());
            }
            self.up.insert(key, line);
        }
        Ok(())
    }
}

/// Measures a cell, on lines that are kept for `later` ones.
pub(crate) fn measure(
    cell: &Cell,
    later: &[Cell],
    plan: Plan,
    lines: &mut Lines<'_>,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        cell: cell.clone(),
        samples: BTreeMap::new(),
        faults: BTreeMap::new(),
        changed: BTreeMap::new(),
    };
    if cell.traffic == Traffic::Engine {
        let sides = cell.contenders(plan.quick).into_iter();
        match engine::measure(plan.quick, lines.scratch) {
            Ok(samples) => outcome.samples.extend(sides.zip(samples)),
            Err(error) => outcome.faults.extend(sides.map(|side| (side, format!("{error:#}")))),
        }
        go_on()?;
        return Ok(outcome);
    }
    lines.need(cell, later, plan.quick)?;
    let mut taking_part = Vec::new();
    for contender in cell.contenders(plan.quick) {
        match lines.up.get(&(contender, cell.offload)) {
            Some(Ok(line)) => {
                outcome.changed.insert(contender, line.changed.clone());
                if cell.by_xdp {
                    line.poll()?;
                }
                taking_part.push(line);
            }
            Some(Err(reason)) => drop(outcome.faults.insert(contender, reason.clone())),
            None => {}
        }
    }
    for round in 0..plan.pairs {
        for place in 0..taking_part.len() {
            let Some(line) = taking_part.get((place + round) % taking_part.len()) else { continue };
            if outcome.faults.contains_key(&line.contender) {
                continue;
            }
            let measured = cell.traffic.measure(line, plan.seconds);
            go_on()?;
            match measured {
                Ok(sample) => outcome.samples.entry(line.contender).or_default().push(sample),
                Err(error) => {
                    eprintln!("{}: {} is left out: {error:#}", cell.name, line.contender.name());
                    outcome.faults.insert(line.contender, format!("{error:#}"));
                }
            }
        }
    }
    // A cell has whole rows only: of what failed once, nothing is reported.
    outcome.samples.retain(|contender, _| !outcome.faults.contains_key(contender));
    Ok(outcome)
}

impl Outcome {
    /// The figures of a contender, by round.
    pub(crate) fn values(&self, contender: Contender) -> Vec<f64> {
        self.samples.get(&contender).into_iter().flatten().map(|sample| sample.value).collect()
    }

    /// What of the processors programs used at most that have nothing to do with it.
    pub(crate) fn foreign(&self) -> f64 {
        self.samples.values().flatten().map(|sample| sample.foreign).fold(0.0, f64::max)
    }

    /// How near each goal is; those against somebody who did not run are missing.
    pub(crate) fn reached(&self) -> Vec<Reached> {
        self.cell.goals.iter().filter_map(|goal| self.reach(*goal)).collect()
    }

    fn reach(&self, goal: Goal) -> Option<Reached> {
        let own = self.values(self.cell.fairway);
        let against = match goal.against {
            Against::One(contender) => contender,
            Against::BestTunnel => self.best_tunnel()?,
        };
        let theirs = self.values(against);
        if own.is_empty() || own.len() != theirs.len() {
            return None;
        }
        let ratio = |(own, theirs): (&f64, &f64)| match self.cell.less_is_better() {
            true => (theirs + goal.allowance) / own,
            false => own / theirs,
        };
        Some(Reached { goal, against, ratios: own.iter().zip(&theirs).map(ratio).collect() })
    }

    /// The tunnel with the best median.
    fn best_tunnel(&self) -> Option<Contender> {
        let figure = |contender: &Contender| {
            let median = median(&self.values(*contender));
            if self.cell.less_is_better() { -median } else { median }
        };
        let ran = TUNNELS.into_iter().filter(|tunnel| self.samples.contains_key(tunnel));
        ran.max_by(|one, other| figure(one).total_cmp(&figure(other)))
    }
}

impl Reached {
    /// The median of the rounds.
    pub(crate) fn ratio(&self) -> f64 {
        median(&self.ratios)
    }

    /// The lower quartile of the rounds.
    pub(crate) fn quartile(&self) -> f64 {
        quantile(&self.ratios, 0.25)
    }

    /// Whether the goal is met: by the median, with the lower quartile within 5 % of it.
    pub(crate) fn met(&self) -> bool {
        self.ratio() >= self.goal.ratio && self.quartile() >= 0.95 * self.ratio()
    }

    /// `met`, `short`, or what else there is to say.
    pub(crate) fn verdict(&self) -> &'static str {
        match (self.met(), self.ratio() >= self.goal.ratio) {
            (true, _) => "met",
            (false, true) => "unsteady",
            (false, false) => "short",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;

    fn outcome(name: &str, values: &[(Contender, &[f64])]) -> Outcome {
        let cell = cells::EVERY.iter().find(|cell| cell.name == name).unwrap().clone();
        let sample = |value: &f64| Sample { value: *value, ..Sample::default() };
        let samples = values.iter().map(|(who, values)| (*who, values.iter().map(sample).collect()));
        Outcome { cell, samples: samples.collect(), faults: BTreeMap::new(), changed: BTreeMap::new() }
    }

    #[test]
    fn a_ratio_is_the_median_of_rounds_against_the_best_tunnel() {
        let outcome = outcome(
            "gcm-tcp-on",
            &[
                (Contender::FairwayGcm, &[8.0, 9.0, 30.0]),
                (Contender::Nebula, &[1.0, 1.0, 2.0]),
                (Contender::Tinc, &[0.5, 0.5, 0.5]),
            ],
        );
        let reached = outcome.reached();
        assert_eq!((reached[0].against, reached[0].ratio()), (Contender::Nebula, 9.0));
        assert_eq!(reached[0].verdict(), "unsteady", "the quartile is 8.5, less than 95 % of 9");
    }

    #[test]
    fn a_shorter_time_is_better_and_has_its_allowance() {
        let outcome = outcome(
            "rtt-plain",
            &[(Contender::FairwayPlain, &[20.0, 20.0]), (Contender::Nftables, &[15.0, 15.0])],
        );
        let reached = outcome.reached();
        assert_eq!(reached[0].ratio(), 1.25);
        assert!(reached[0].met());
    }

    #[test]
    fn who_failed_once_has_no_ratio() {
        let outcome = outcome("plain-tcp-on", &[(Contender::FairwayPlain, &[1.0, 1.0])]);
        assert!(outcome.reached().is_empty());
    }
}
