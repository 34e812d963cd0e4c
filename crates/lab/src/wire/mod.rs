//! The wire: a link with a will of its own.
//!
//! The kernel here may have no netem, so an impaired link is a process that moves frames between
//! the far ends of veth pairs, in a namespace of its own. [`Impairment`] decides what becomes of
//! each frame: it is pure, seeded and driven by an injected clock, so that the same code can impair
//! a simulated network. [`run`] is the shell around one [`Impairment`] for each sender.

mod control;
mod impairment;
mod realtime;
mod settings;
mod shell;
mod socket;

pub use control::{ControlError, Report, SenderReport, change, report};
pub use impairment::{Impairment, Stats};
pub use settings::{Change, Settings, SettingsError};
pub use shell::{PortPlan, WireError, WirePlan, run};
