//! `fairway trace`: what would happen to a packet, router by router, and which line decides.
//!
//! Every router of the configuration is compiled as the daemon compiles it, and the packet is
//! followed through their tables. Nothing is sent.

mod endpoint;
mod fabric;
mod follow;
mod report;
mod steps;
#[cfg(test)]
mod tests;

use core::net::IpAddr;

use fairway_types::Protocol;

use self::endpoint::{From, To};
use self::fabric::Fabric;
use self::steps::Trace;
use crate::args::TraceArgs;
use crate::failure::{self, Failure, Outcome};
use crate::{client, config, output};

/// Runs the command.
pub fn run(args: &TraceArgs) -> Outcome {
    let live = client::live(&args.socket)?;
    let file = args.config.clone().or_else(|| live.as_ref().and_then(|live| live.configuration.clone()));
    let Some(file) = file else {
        return Err(Failure::usage(
            "no configuration is named, and no router runs here that could say its own",
        )
        .fix("add --config FILE"));
    };
    let fabric = Fabric::compile(&config::load(&file)?)?;
    let down = |router: &str, local: IpAddr, remote: IpAddr| {
        live.as_ref().is_some_and(|live| live.router == router && live.down.contains(&(local, remote)))
    };
    let trace = trace(&fabric, args, &down)?;
    if args.json {
        output::json(&trace)?;
    } else {
        output::text(&report::text(&trace))?;
    }
    Ok(if trace.outcome.arrives() { failure::OK } else { failure::REFUSED })
}

fn trace(fabric: &Fabric, args: &TraceArgs, down: follow::IsDown<'_>) -> Result<Trace, Failure> {
    let from = From::parse(&args.from)?;
    let to = To::parse(&args.to, args.protocol.map(Protocol), args.port, &from, fabric)?;
    let entry =
        from.entry(fabric, to.address.is_ipv6(), args.router.as_deref(), args.interface.as_deref())?;
    if entry.source.is_ipv6() != to.address.is_ipv6() {
        return Err(Failure::usage(format!("{} and {} are of different families", entry.source, to.address)));
    }
    Ok(follow::follow(fabric, &entry, to, down))
}
