//! `fairway show workers`.

use std::time::Duration;

use fairway_router::api::{Nothing, Request, Response, Show, Workers};

use super::{connect, present};
use crate::args::ShowPlain;
use crate::failure::Failure;
use crate::table::{Column, Table, paragraph};
use crate::units;

/// Shows what each worker does.
pub fn run(args: &ShowPlain) -> Result<(), Failure> {
    let mut router = connect(args)?;
    match router.ask(&Request::Show(Show::Workers(Nothing {})))? {
        Response::Workers(workers) => present(args, &workers, text),
        other => Err(router.unexpected(&other)),
    }
}

/// The table of `show workers`, and what is to be said beside it.
pub fn text(workers: &Workers) -> String {
    let mut table = Table::new(&[
        Column::number("WORKER"),
        Column::number("SESSIONS"),
        Column::number("CAPACITY"),
        Column::number("RECEIVED"),
        Column::number("FORWARDED"),
        Column::number("HANDED OVER"),
        Column::number("TAKEN OVER"),
        Column::number("HELD"),
        Column::number("OVERRUNS"),
    ]);
    for row in &workers.workers {
        table.row([
            row.worker.to_string(),
            row.sessions.to_string(),
            row.session_capacity.to_string(),
            row.received.to_string(),
            row.forwarded.to_string(),
            row.handed_over.to_string(),
            row.taken_over.to_string(),
            row.held_for_order.to_string(),
            row.receive_overruns.to_string(),
        ]);
    }
    let mut text = table.render();
    for row in workers.workers.iter().filter(|row| row.without_door) {
        let line = format!(
            "worker {0} receives nothing: the device fairway-{0} is gone and cannot be made again; the log of the \
             router says why, and it is tried each second",
            row.worker
        );
        text.push_str(&paragraph(0, "", 0, &line));
    }
    let flows = |count: u64| units::counted(usize::try_from(count).unwrap_or(usize::MAX), "flow", "flows");
    for row in workers.workers.iter().filter(|row| row.busy_polled_milliseconds >= 1000) {
        let time = units::duration(Duration::from_millis(row.busy_polled_milliseconds));
        let line =
            format!("worker {} looked for packets for {time} instead of sleeping (--busy-poll)", row.worker);
        text.push_str(&paragraph(0, "", 0, &line));
    }
    if workers.steered_flows > 0 {
        let line = format!("{} steered to another worker than the tuple says", flows(workers.steered_flows));
        text.push_str(&paragraph(0, "", 0, &line));
    }
    if workers.steering_refused > 0 {
        let line = format!(
            "{} could not be steered: packets are handed over one by one, which costs more",
            flows(workers.steering_refused)
        );
        text.push_str(&paragraph(0, "", 0, &line));
    }
    text
}
