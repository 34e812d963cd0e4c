//! What all threads beside the workers share: the way to them, and the configuration in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairway_session::Applied;
use tracing::{error, info, warn};

use crate::api::{ConfigurationStatus, Fault, Refused, Reloaded};
use crate::clock::{self, Clock};
use crate::crew::Crew;
use crate::files::Files;
use crate::load::{self, Loaded};
use crate::notify::Notifier;
use crate::options::Options;
use crate::worker::RouterPorts;

/// What all threads beside the workers share.
pub(crate) struct Control {
    pub(crate) options: Options,
    files: Files,
    pub(crate) crew: Crew,
    pub(crate) clock: Clock,
    pub(crate) notifier: Notifier,
    in_force: Mutex<InForce>,
    /// Held while a configuration is loaded and applied, so that reloads follow one another.
    reloading: Mutex<()>,
    capturing: AtomicBool,
}

/// The configuration in force.
pub(crate) struct InForce {
    ports: RouterPorts,
    session_limit: u32,
    applied_unix_seconds: u64,
    reloads: u64,
    refused: Option<Refused>,
    warnings: Vec<Fault>,
}

impl InForce {
    /// The configuration that the router starts with.
    pub(crate) fn first(ports: RouterPorts, session_limit: u32, warnings: Vec<Fault>) -> Self {
        let applied_unix_seconds = clock::unix_time().as_secs();
        Self { ports, session_limit, applied_unix_seconds, reloads: 0, refused: None, warnings }
    }
}

impl Control {
    pub(crate) fn new(
        options: Options,
        files: Files,
        crew: Crew,
        clock: Clock,
        notifier: Notifier,
        in_force: InForce,
    ) -> Self {
        Self {
            options,
            files,
            crew,
            clock,
            notifier,
            in_force: Mutex::new(in_force),
            reloading: Mutex::new(()),
            capturing: AtomicBool::new(false),
        }
    }

    /// Loads the configuration again and applies the difference, or changes nothing and says why.
    pub(crate) fn reload(&self) -> Result<Reloaded, Refused> {
        let _one_at_a_time = lock(&self.reloading);
        self.notifier.reloading();
        let result = self.load_and_apply();
        match &result {
            Ok(reloaded) => {
                let (kept, removed) = (reloaded.sessions_kept, reloaded.sessions_removed);
                info!(sessions_kept = kept, sessions_removed = removed, "configuration applied");
                log_faults(&reloaded.warnings);
                self.notifier.ready("forwarding");
            }
            Err(refused) => {
                error!("configuration refused; the old one goes on working");
                log_faults(&refused.faults);
                lock(&self.in_force).refused = Some(refused.clone());
                self.notifier.ready("forwarding; the last reload was refused");
            }
        }
        result
    }

    fn load_and_apply(&self) -> Result<Reloaded, Refused> {
        let loaded = load::load(&self.files, &self.options.config, &self.options.name)?;
        let (before, session_limit) = {
            let in_force = lock(&self.in_force);
            (in_force.ports.clone(), in_force.session_limit)
        };
        let ports = RouterPorts::of(&loaded, &self.options.io);
        let mut warnings = loaded.warnings.clone();
        warnings.extend(limit_warning(&loaded, session_limit));
        let refuse = |problem: String| {
            let fix = "see the router's log; nothing was changed";
            let path = self.options.config.display().to_string();
            Refused { faults: vec![load::error_at(path, problem, fix)], more: 0 }
        };
        let applied = self.go_over(loaded, &ports, before).map_err(refuse)?;
        let mut in_force = lock(&self.in_force);
        in_force.ports = ports;
        in_force.applied_unix_seconds = clock::unix_time().as_secs();
        in_force.reloads += 1;
        in_force.refused = None;
        in_force.warnings.clone_from(&warnings);
        Ok(Reloaded {
            sessions_kept: applied.kept as u64,
            sessions_removed: applied.removed as u64,
            warnings,
        })
    }

    /// Lets all workers go over to a configuration, or none.
    fn go_over(&self, loaded: Loaded, ports: &RouterPorts, before: RouterPorts) -> Result<Applied, String> {
        let Loaded { snapshot, keys, .. } = loaded;
        let next = Arc::clone(&snapshot);
        let keyring = self.crew.leader().ask(move |core| {
            core.engine.next_keyring(&next, keys, core.clock.now()).map_err(|error| error.to_string())
        });
        let keyring = keyring.map_err(|error| error.to_string())??;
        let (after, kept) = (ports.clone(), before.clone());
        let applied = self.crew.change(
            move |core| core.prepare(&after, &kept),
            move |core| core.go_over(Arc::clone(&snapshot), keyring.clone()),
            move |core| core.go_back(&before),
        )?;
        // What the leader said while others still had the old paths may have meant nothing to them.
        let published = self.crew.leader().order(|core| {
            core.engine.publish_all_paths();
            core.flush();
        });
        published.map_err(|error| error.to_string())?;
        let add = |sum: Applied, one: Applied| Applied {
            kept: sum.kept + one.kept,
            removed: sum.removed + one.removed,
        };
        Ok(applied.into_iter().fold(Applied::default(), add))
    }

    /// What `show status` says of the configuration, and the warnings about it.
    pub(crate) fn configuration(&self) -> (ConfigurationStatus, Vec<String>) {
        let in_force = lock(&self.in_force);
        let status = ConfigurationStatus {
            file: self.options.config.display().to_string(),
            applied_unix_seconds: in_force.applied_unix_seconds,
            reloads: in_force.reloads,
            refused: in_force.refused.clone(),
        };
        let warnings = in_force.warnings.iter().map(|fault| format!("{}: {}", fault.path, fault.problem));
        (status, warnings.collect())
    }

    /// The right to capture, which one client has at a time.
    pub(crate) fn begin_capture(&self) -> Option<CaptureRight<'_>> {
        let was = self.capturing.swap(true, Ordering::AcqRel);
        (!was).then_some(CaptureRight(self))
    }
}

/// The right to capture; dropping it ends the capture.
pub(crate) struct CaptureRight<'a>(&'a Control);

impl Drop for CaptureRight<'_> {
    fn drop(&mut self) {
        // A worker that is gone captures nothing.
        let _ = self.0.crew.ask_each(|core| core.ports.set_capture(None));
        self.0.capturing.store(false, Ordering::Release);
    }
}

fn limit_warning(loaded: &Loaded, session_limit: u32) -> Option<Fault> {
    let wanted = loaded.snapshot.model().limits.sessions;
    (wanted != session_limit).then(|| Fault {
        severity: "warning".to_owned(),
        path: "/fairway:authority/router/limits/sessions".to_owned(),
        value: Some(wanted.to_string()),
        problem: format!("the session table keeps its size of {session_limit} while the router runs"),
        fix: "restart the router when that is acceptable".to_owned(),
    })
}

pub(crate) fn log_faults(faults: &[Fault]) {
    for fault in faults {
        let (path, value, fix) = (&fault.path, fault.value.as_deref(), &fault.fix);
        if fault.severity == "warning" {
            warn!(path, value, fix, "{}", fault.problem);
        } else {
            error!(path, value, fix, "{}", fault.problem);
        }
    }
}

/// The state behind a lock. A thread that panicked with it in hand left nothing half-done: every
/// change is one assignment after another of independent fields.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
