//! The capture hook of a worker.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fairway_types::InterfaceId;

use crate::capture::{CaptureHook, CaptureRecord, Direction};

/// A hook, or none.
#[derive(Default)]
pub(super) struct Tap {
    hook: Option<CaptureHook>,
    now: Duration,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({})", if self.hook.is_some() { "on" } else { "off" })
    }
}

impl Tap {
    pub(super) fn set(&mut self, hook: Option<CaptureHook>) {
        self.hook = hook;
    }

    /// Reads the clock for the records that follow: once a batch, and only while somebody listens.
    #[expect(clippy::disallowed_methods, reason = "this is the shell: captures carry the wall clock")]
    pub(super) fn begin(&mut self) {
        if self.hook.is_some() {
            self.now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        }
    }

    /// Shows one packet to the hook.
    pub(super) fn record(
        &mut self,
        interface: InterfaceId,
        direction: Direction,
        link_header: &[u8],
        packet: &[u8],
    ) {
        if let Some(hook) = &mut self.hook {
            hook(&CaptureRecord { interface, direction, link_header, packet, timestamp: self.now });
        }
    }
}
