//! `fairway support-bundle`: what somebody needs who is to help, in one file.
//!
//! Everything in it is what `fairway show` prints, the configuration, which names key files but holds no
//! key, and facts about the machine that any user may read. Each part is bounded, and a part that cannot
//! be had says why.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fairway_router::api::{Nothing, Request, Response, SessionQuery, Show};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use tar::{Builder, Header};

use crate::args::SupportBundle;
use crate::client::Connection;
use crate::failure::{self, Failure, Outcome};
use crate::{output, units};

/// The most bytes of one part.
const PART: u64 = 8 * 1024 * 1024;
/// Sessions in the bundle.
const SESSIONS: usize = 1000;
/// Files about the machine.
const FACTS: [&str; 9] = [
    "/proc/version",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/net/dev",
    "/proc/net/packet",
    "/proc/net/softnet_stat",
    "/proc/net/route",
    "/proc/net/ipv6_route",
    "/etc/os-release",
];

/// Writes a bundle.
pub fn run(args: &SupportBundle) -> Outcome {
    let unwritable =
        |error: io::Error| Failure::refused(format!("cannot write {}: {error}", args.output.display()));
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&args.output);
    let mut bundle = Bundle::new(file.map_err(unwritable)?);
    let configuration = match Connection::open(&args.socket) {
        Ok(mut router) => tables(&mut bundle, &mut router, args).map_err(unwritable)?,
        Err(failure) => {
            output::note("the router does not answer: its part is left out");
            bundle.text("router-does-not-answer.txt", &format!("{failure:?}\n")).map_err(unwritable)?;
            None
        }
    };
    if let Some(file) = args.config.clone().or(configuration) {
        bundle.copy("configuration.json", &file).map_err(unwritable)?;
    }
    machine(&mut bundle).map_err(unwritable)?;
    let size = bundle.finish().map_err(unwritable)?;
    output::note(&format!(
        "{} written, {}; it has names, addresses and counters, but no keys and no packets",
        args.output.display(),
        units::bytes(size)
    ));
    Ok(failure::OK)
}

/// What the router says; answers where its configuration is.
fn tables(bundle: &mut Bundle, router: &mut Connection, args: &SupportBundle) -> io::Result<Option<PathBuf>> {
    let sessions = || SessionQuery { filter: Default::default(), cursor: None, limit: Some(SESSIONS) };
    let mut asked = vec![
        ("status", Show::Status(Nothing {})),
        ("peers", Show::Peers(Nothing {})),
        ("interfaces", Show::Interfaces(Nothing {})),
        ("waypoints", Show::Waypoints(Nothing {})),
        ("nat", Show::Nat(Nothing {})),
        ("workers", Show::Workers(Nothing {})),
        ("limits", Show::Limits(Nothing {})),
        ("counters", Show::Counters(Nothing {})),
        ("drops", Show::Drops(Nothing {})),
    ];
    if !args.no_sessions {
        asked.push(("sessions", Show::Sessions(sessions())));
        asked.push(("flows", Show::Flows(sessions())));
    }
    let mut configuration = None;
    for (name, show) in asked {
        match router.ask(&Request::Show(show)) {
            Ok(response) => {
                if let Response::Status(status) = &response {
                    configuration = Some(PathBuf::from(&status.configuration.file));
                }
                bundle.json(&format!("show/{name}.json"), &response)?;
            }
            Err(failure) => bundle.text(&format!("show/{name}.txt"), &format!("{failure:?}\n"))?,
        }
    }
    Ok(configuration)
}

/// What the machine is.
fn machine(bundle: &mut Bundle) -> io::Result<()> {
    let version = concat!("fairway ", env!("CARGO_PKG_VERSION"), " for ");
    bundle.text("version.txt", &format!("{version}{}\n", std::env::consts::ARCH))?;
    for fact in FACTS {
        bundle
            .copy(&format!("machine/{}", fact.trim_start_matches('/').replace('/', "-")), Path::new(fact))?;
    }
    let mut devices = String::new();
    let mut names: Vec<_> = fs::read_dir("/sys/class/net")?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for device in names {
        let read = |name: &str| fs::read_to_string(device.join(name)).unwrap_or_default().trim().to_owned();
        let name = device.file_name().unwrap_or_default().to_string_lossy();
        let (mtu, state, speed) = (read("mtu"), read("operstate"), read("speed"));
        devices.push_str(&format!("{name}: mtu {mtu}, {state}, speed {speed}\n"));
    }
    bundle.text("machine/devices.txt", &devices)
}

/// A bundle that is being written.
struct Bundle {
    archive: Builder<GzEncoder<File>>,
    /// When, in seconds since the Unix epoch: the time of its parts.
    written: u64,
}

impl Bundle {
    fn new(file: File) -> Self {
        let now = unix_seconds();
        Self { archive: Builder::new(GzEncoder::new(file, Compression::default())), written: now }
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        self.put(name, &text)
    }

    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.put(name, text.as_bytes())
    }

    /// Copies a file, or says why not.
    fn copy(&mut self, name: &str, file: &Path) -> io::Result<()> {
        let mut content = Vec::new();
        match File::open(file).and_then(|file| file.take(PART).read_to_end(&mut content)) {
            Ok(_) => self.put(name, &content),
            Err(error) => self.text(&format!("{name}.txt"), &format!("{}: {error}\n", file.display())),
        }
    }

    fn put(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let content = content.get(..PART as usize).unwrap_or(content);
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.written);
        self.archive.append_data(&mut header, format!("fairway-support/{name}"), content)
    }

    /// Completes the file; answers its length in bytes.
    fn finish(self) -> io::Result<u64> {
        let mut file = self.archive.into_inner()?.finish()?;
        file.flush()?;
        Ok(file.metadata()?.len())
    }
}

#[allow(clippy::disallowed_methods, reason = "the command line is a shell: files have a time")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
