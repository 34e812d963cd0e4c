//! What a router gives up before it forwards: being root, capabilities, system calls, being looked into.

use std::io;

use anyhow::{Context, bail};
use fairway_io::{Capability, Program, User};
use nix::unistd;
use tracing::{debug, info, warn};

use crate::files::{Files, Places};
use crate::options::Options;

/// Whom a router goes on as, unless it is told.
const USER: &str = "fairway";
/// Whom, where there is no such user.
const ANYBODY: &str = "nobody";

/// The way to the files; as long as they are root's, by another process.
pub(crate) fn files(options: &Options) -> io::Result<Files> {
    let (config, socket) = (options.config.clone(), options.socket.clone());
    let places = Places { config, socket, session_log: options.session_log.clone() };
    if options.confinement.is_some() {
        Files::elsewhere(&places, &options.name)
    } else {
        Ok(Files::here(places))
    }
}

/// Whom the router goes on as; `None` for who it is.
///
/// # Errors
/// When the user that was asked for does not exist.
pub(crate) fn successor(options: &Options) -> anyhow::Result<Option<User>> {
    let Some(confinement) = &options.confinement else { return Ok(None) };
    let wanted = confinement.user.as_deref();
    if !fairway_io::is_root() {
        if let Some(name) = wanted {
            bail!("only root can go on as {name}: start the router as root, or leave out --user");
        }
        return Ok(None);
    }
    let found =
        |name: &str| unistd::User::from_name(name).with_context(|| format!("look for the user {name}"));
    let user = match wanted {
        Some(name) => found(name)?.with_context(|| format!("there is no user {name}"))?,
        None => match found(USER)? {
            Some(user) => user,
            None => {
                warn!(
                    user = ANYBODY,
                    "there is no user {USER}: the router goes on as {ANYBODY}, as other programs may \
                     (useradd --system --shell /usr/sbin/nologin {USER})"
                );
                found(ANYBODY)?.with_context(|| {
                    format!("there is neither a user {USER} nor {ANYBODY}: name one with --user")
                })?
            }
        },
    };
    if user.uid.is_root() {
        warn!("the router stays root, as it was told: what takes it over has root's files");
        return Ok(None);
    }
    Ok(Some(User { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}

/// Gives it up, for good and for all threads that start from here.
pub(crate) fn give_up(options: &Options, successor: Option<User>) -> anyhow::Result<()> {
    // Devices may come later. Where it can't be lifted, AF_XDP may have to be done without there.
    if options.io.allow_xdp()
        && let Err(error) = fairway_io::lift_lock_limit()
    {
        debug!(%error, "the limit of locked memory stays as it is");
    }
    let Some(confinement) = &options.confinement else {
        return fairway_io::drop_capabilities(Capability::FOR_PORTS).context("give up capabilities");
    };
    match successor {
        Some(user) => {
            fairway_io::become_user(Capability::FOR_PORTS, user).context("go on as another user")?;
            info!(uid = user.uid, gid = user.gid, "the router is not root any more");
        }
        None => fairway_io::drop_capabilities(Capability::FOR_PORTS).context("give up capabilities")?,
    }
    // Whoever changes its user can be looked into by nobody; whoever does not should not be, either.
    fairway_io::close_to_others().context("close the process to others")?;
    if !confinement.system_calls {
        warn!("the router may make any system call, as it was told");
        return Ok(());
    }
    match fairway_io::confine(Program::Router) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            warn!("this kernel has no filters of system calls: the router may make any");
            Ok(())
        }
        result => result.context("limit system calls"),
    }
}
