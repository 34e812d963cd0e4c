//! `fairway delete session`.

use fairway_router::api::{Delete, Deleted, Request, Response, Session};

use crate::args::{DeleteCommand, DeleteSession, SessionFilter};
use crate::client::Connection;
use crate::failure::{self, Failure, Outcome};
use crate::{output, show, units};

/// So many sessions are counted before asking; more are "at least" so many.
const COUNTED: usize = 50_000;

/// Runs one of the commands.
pub fn run(command: DeleteCommand) -> Outcome {
    match command {
        DeleteCommand::Session(args) => sessions(&args),
    }
}

fn sessions(args: &DeleteSession) -> Outcome {
    check(args)?;
    let mut router = Connection::open(&args.socket)?;
    let deleted = if args.all {
        delete(&mut router, fairway_router::api::SessionFilter::default(), true)?
    } else {
        let (found, more) = show::find_sessions(&mut router, &args.filter, COUNTED)?;
        if found.is_empty() {
            return Err(Failure::refused("no session is like that; nothing was deleted"));
        }
        if args.filter.uuid.is_some() {
            delete(&mut router, only(&found)?, false)?
        } else {
            if !args.yes {
                ask(found.len(), more)?;
            }
            let filters = show::api_filters(&args.filter);
            filters.into_iter().try_fold(0, |sum, filter| Ok(sum + delete(&mut router, filter, false)?))?
        }
    };
    if args.json {
        output::json(&Deleted { sessions: deleted })?;
    } else {
        let count = usize::try_from(deleted).unwrap_or(usize::MAX);
        output::text(&format!("{} deleted\n", units::counted(count, "session", "sessions")))?;
    }
    Ok(failure::OK)
}

/// Refuses what is too dangerous or makes no sense.
fn check(args: &DeleteSession) -> Result<(), Failure> {
    let SessionFilter {
        service,
        tenant,
        protocol,
        source,
        destination,
        address,
        port,
        peer,
        interface,
        uuid,
    } = &args.filter;
    let names = [service, tenant, peer, interface, uuid].iter().any(|name| name.is_some());
    let prefixes = [source, destination, address].iter().any(|prefix| prefix.is_some());
    let filtered = names || prefixes || protocol.is_some() || port.is_some();
    match (filtered, args.all, args.yes) {
        (true, false, _) | (false, true, true) => Ok(()),
        (true, true, _) => Err(Failure::usage("--all and a filter contradict each other")),
        (false, true, false) => {
            Err(Failure::usage("--all deletes every session of the router").fix("add --yes if that is meant"))
        }
        (false, false, _) => Err(Failure::usage("no session is named")
            .fix("name sessions with --uuid, --service, --tenant or another filter (see --help)")),
    }
}

/// The filter of the one session that a UUID names.
fn only(found: &[Session]) -> Result<fairway_router::api::SessionFilter, Failure> {
    match found {
        [session] => {
            Ok(fairway_router::api::SessionFilter { uuid: Some(session.uuid.clone()), ..Default::default() })
        }
        several => {
            let list: String =
                several.iter().take(10).map(|session| format!("\n    {}", session.uuid)).collect();
            Err(Failure::refused(format!("{} sessions have a UUID that begins so{list}", several.len()))
                .fix("give more of it"))
        }
    }
}

fn ask(count: usize, more: bool) -> Result<(), Failure> {
    let least = if more { "at least " } else { "" };
    let what = units::counted(count, "session", "sessions");
    match output::confirmed(&format!("Delete {least}{what}?")) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::refused("nothing was deleted")),
        None => Err(Failure::refused(format!(
            "{least}{what} would be deleted, and nobody is at a terminal to agree"
        ))
        .fix("add --yes")),
    }
}

fn delete(
    router: &mut Connection,
    sessions: fairway_router::api::SessionFilter,
    all: bool,
) -> Result<u64, Failure> {
    match router.ask(&Request::Delete(Delete { sessions, all }))? {
        Response::Deleted(deleted) => Ok(deleted.sessions),
        other => Err(router.unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(filter: SessionFilter, all: bool, yes: bool) -> DeleteSession {
        DeleteSession { socket: Default::default(), filter, all, yes, json: false }
    }

    #[test]
    fn everything_is_deleted_only_when_said_twice() {
        let web = || SessionFilter { service: Some("web".into()), ..SessionFilter::default() };
        assert!(check(&arguments(web(), false, false)).is_ok());
        assert!(check(&arguments(SessionFilter::default(), true, true)).is_ok());
        assert!(check(&arguments(SessionFilter::default(), true, false)).is_err());
        assert!(check(&arguments(SessionFilter::default(), false, true)).is_err());
        assert!(check(&arguments(web(), true, true)).is_err());
    }
}
