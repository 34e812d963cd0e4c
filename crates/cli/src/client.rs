//! Finds the running router and asks it.

use core::net::IpAddr;
use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use fairway_router::api::{Client, ClientError, Nothing, Page, Request, Response, Show};

use crate::args::SocketArgs;
use crate::failure::Failure;
use crate::units;

/// Where routers put their sockets.
const DIRECTORY: &str = "/run/fairway";
/// Names the socket when `--socket` does not.
const VARIABLE: &str = "FAIRWAY_SOCKET";

/// A connection to a running router.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    socket: PathBuf,
}

impl Connection {
    /// Finds the router and connects.
    ///
    /// # Errors
    /// When there is none, there are several, or this user may not.
    pub fn open(args: &SocketArgs) -> Result<Self, Failure> {
        let socket = match named(args) {
            Some(socket) => socket,
            None => discover(Path::new(DIRECTORY))?,
        };
        let client = Client::connect(&socket).map_err(|error| unreachable(&socket, &error))?;
        Ok(Self { client, socket })
    }

    /// The connection itself, for streams.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Asks for one answer.
    ///
    /// # Errors
    /// When the router refuses, or the connection breaks.
    pub fn ask(&mut self, request: &Request) -> Result<Response, Failure> {
        self.client.ask(request).map_err(|error| failed(&self.socket, &error))
    }

    /// Reads the next line of a stream.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn next(&mut self) -> Result<Response, Failure> {
        self.client.next().map_err(|error| failed(&self.socket, &error))
    }

    /// Reads pages until there are `limit` items or no more. `ask` makes the request for a cursor,
    /// `page` takes the page out of the answer. Says whether there is more.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn pages<T>(
        &mut self,
        limit: usize,
        ask: impl Fn(Option<u64>, usize) -> Show,
        page: impl Fn(Response) -> Result<Page<T>, Response>,
    ) -> Result<(Vec<T>, bool), Failure> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let wanted = (limit - items.len()).min(fairway_router::api::MAX_PAGE);
            let response = self.ask(&Request::Show(ask(cursor, wanted)))?;
            let page = page(response).map_err(|other| self.unexpected(&other))?;
            items.extend(page.items);
            cursor = page.next;
            if cursor.is_none() || items.len() >= limit {
                let more = cursor.is_some() || items.len() > limit;
                items.truncate(limit);
                return Ok((items, more));
            }
        }
    }

    /// The failure for an answer to another question.
    pub fn unexpected(&self, response: &Response) -> Failure {
        let name = serde_json::to_value(response)
            .ok()
            .and_then(|value| value.as_object().and_then(|members| members.keys().next().cloned()))
            .unwrap_or_default();
        Failure::refused(format!("the router at {} gave an answer of another kind: {name}", self.socket.display()))
            .fix("the router may be of another version than this program; compare `fairway version` and `fairway show status --json`")
    }
}

/// What a running router knows and a configuration does not say.
#[derive(Debug, PartialEq, Eq)]
pub struct Live {
    /// Its name.
    pub router: String,
    /// The configuration it runs on.
    pub configuration: Option<PathBuf>,
    /// Local and remote waypoint of the paths that sessions may not use.
    pub down: HashSet<(IpAddr, IpAddr)>,
}

/// Asks the router, if there is one, what it runs on and which paths are down. Only a socket that
/// was named has to answer.
///
/// # Errors
/// When a named socket does not answer.
pub fn live(args: &SocketArgs) -> Result<Option<Live>, Failure> {
    match Connection::open(args) {
        Ok(mut router) => ask_live(&mut router).map(Some),
        Err(failure) if args.socket.is_some() => Err(failure),
        Err(_) => Ok(None),
    }
}

fn ask_live(router: &mut Connection) -> Result<Live, Failure> {
    let status = match router.ask(&Request::Show(Show::Status(Nothing {})))? {
        Response::Status(status) => status,
        other => return Err(router.unexpected(&other)),
    };
    let peers = match router.ask(&Request::Show(Show::Peers(Nothing {})))? {
        Response::Peers(peers) => peers,
        other => return Err(router.unexpected(&other)),
    };
    let paths = peers.iter().flat_map(|peer| &peer.paths);
    let down = paths.filter(|path| !path.up).map(|path| (path.local, path.remote)).collect();
    let file = PathBuf::from(status.configuration.file);
    Ok(Live { router: status.router, configuration: file.is_file().then_some(file), down })
}

fn named(args: &SocketArgs) -> Option<PathBuf> {
    let variable = || std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    args.socket.clone().or_else(variable)
}

/// The only socket in a directory.
fn discover(directory: &Path) -> Result<PathBuf, Failure> {
    let place = directory.display();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(denied(directory)),
        Err(_) => {
            return Err(
                Failure::refused(format!("no router is running here: there is no {place}")).fix(START)
            );
        }
    };
    let is_socket = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_socket());
    let mut sockets: Vec<PathBuf> =
        entries.filter_map(Result::ok).filter(is_socket).map(|entry| entry.path()).collect();
    sockets.sort();
    match (sockets.pop(), sockets.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => {
            Err(Failure::refused(format!("no router is running here: no socket is in {place}")).fix(START))
        }
        (Some(last), others) => {
            let list: String =
                others.iter().chain([&last]).map(|socket| format!("\n    {}", socket.display())).collect();
            Err(Failure::refused(format!("several routers are running here{list}"))
                .fix(format!("say which with --socket PATH, or in the environment variable {VARIABLE}")))
        }
    }
}

const START: &str =
    "start one with `fairway router --config FILE --name NAME`, or name its socket with --socket PATH";

fn unreachable(socket: &Path, error: &ClientError) -> Failure {
    let place = socket.display();
    let ClientError::Connect { source, .. } = error else { return failed(socket, error) };
    match source.kind() {
        ErrorKind::NotFound => {
            Failure::refused(format!("no router is running here: there is no {place}")).fix(START)
        }
        ErrorKind::ConnectionRefused => {
            Failure::refused(format!("no router is running here: nobody listens at {place} any more"))
                .fix(START)
        }
        ErrorKind::PermissionDenied => denied(socket),
        _ => Failure::refused(format!("cannot reach the router at {place}: {source}")),
    }
}

/// This user may not ask the router; says who may.
fn denied(path: &Path) -> Failure {
    let problem = format!("this user may not ask the router at {}", path.display());
    // The socket itself, or the directory when even that cannot be looked into.
    let gid = [Some(path), path.parent()]
        .into_iter()
        .flatten()
        .find_map(|path| fs::metadata(path).ok())
        .map(|m| m.gid());
    match gid {
        Some(0) | None => Failure::refused(problem).fix("only root may; use sudo"),
        Some(gid) => {
            let name = group_name(gid).unwrap_or_else(|| gid.to_string());
            Failure::refused(problem).fix(format!("members of the group {name} may: `sudo usermod -aG {name} $USER`, then log in again; or use sudo"))
        }
    }
}

fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

fn failed(socket: &Path, error: &ClientError) -> Failure {
    match error {
        ClientError::Refused(body) => {
            let failure =
                Failure::refused(format!("the router refused: {}", units::printable(&body.message)));
            if body.fix.is_empty() { failure } else { failure.fix(units::printable(&body.fix)) }
        }
        other => Failure::refused(format!("{other} ({})", socket.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("fairway-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn the_only_socket_is_found_and_several_are_listed() {
        let directory = directory("discovery");
        fs::write(directory.join("other.txt"), "").unwrap();
        let nothing = discover(&directory).unwrap_err().to_string();
        assert!(
            nothing.contains("no router is running here") && nothing.contains("fairway router"),
            "{nothing}"
        );
        let one = directory.join("one.sock");
        let _one = UnixListener::bind(&one).unwrap();
        assert_eq!(discover(&directory).unwrap(), one);
        let _two = UnixListener::bind(directory.join("two.sock")).unwrap();
        let several = discover(&directory).unwrap_err().to_string();
        assert!(several.contains("one.sock") && several.contains("two.sock"), "{several}");
        assert!(several.contains("--socket") && several.contains(VARIABLE), "{several}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_socket_without_a_router_says_so() {
        let directory = directory("refused");
        let socket = directory.join("gone.sock");
        drop(UnixListener::bind(&socket).unwrap());
        let args = SocketArgs { socket: Some(socket.clone()) };
        let refused = Connection::open(&args).unwrap_err().to_string();
        assert!(refused.contains("nobody listens") && refused.contains("gone.sock"), "{refused}");
        fs::remove_file(&socket).unwrap();
        let missing = Connection::open(&args).unwrap_err().to_string();
        assert!(missing.contains("there is no"), "{missing}");
        fs::remove_dir_all(directory).unwrap();
    }
}
