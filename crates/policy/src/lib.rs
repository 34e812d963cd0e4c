//! The service and tenant FIB: immutable snapshots that decide every session.
//!
//! [`Snapshot::compile`] turns the model of one router into tables; [`Snapshot::decide`] answers, for
//! the first packet of a session, whether it may be made and which service it belongs to.
//!
//! # Which service decides
//!
//! 1. **The longest destination prefix decides.** Among the prefixes that hold the destination, the
//!    longest one at which some service speaks the packet's protocol and port is taken. With `web` on
//!    `10.0.0.0/8` TCP 80 and `db` on `10.1.0.0/16` TCP 5432, a packet to `10.1.2.3` TCP 80 belongs to
//!    `web`: nothing at `/16` speaks TCP 80, which is not a denial. TCP 5432 belongs to `db`.
//! 2. **At one prefix the most specific transport decides.** An exact protocol before every protocol,
//!    then a narrower range of ports before a wider one. With `https` on TCP 443, `high` on TCP 1–65535
//!    and `all` without transports, TCP 443 is `https`, TCP 80 is `high`, UDP 443 is `all`.
//! 3. **At one prefix and equal transport, the service that speaks about the source decides**, so that
//!    two tenants may have services of the same prefix: with `printers.red` (access: `red`) and
//!    `printers.blue` (access: `blue`) on `10.9.0.0/24`, each tenant meets its own. When several speak
//!    about the source, the one with the more specific line (below) decides, then a denial before a
//!    permission, then the first name in alphabetical order. When none does, a public service comes
//!    before others, then the first name.
//! 4. **What decided, decides.** A denial never falls through to a wider prefix, a wider transport or
//!    another service. With `web` on `10.1.0.0/16` TCP 80 that denies `guests` and `any` on `0.0.0.0/0`
//!    that permits them, guests get nothing at `10.1.2.3` TCP 80.
//!
//! # Which line of its access-policy decides
//!
//! 5. **A line holds for a tenant and all its children**, never for its parent: a line for `corp` holds
//!    for `eng.corp`; a line for `eng.corp` says nothing about `corp`. A line without tenant holds for
//!    every tenant, and for sources without one. A line with a prefix holds for sources within it only.
//! 6. **The deepest tenant wins**: with permit `corp` and deny `eng.corp`, `lab.eng.corp` is denied and
//!    `sales.corp` is permitted, in whatever order the lines are written. Lines without tenant come last.
//! 7. **Then the longest source prefix wins**: with deny `corp` and permit `corp` from `10.1.0.0/16`, a
//!    host `10.1.2.3` of `corp` is permitted, and all others of `corp` are denied. A line without prefix
//!    comes last, even after one for `0.0.0.0/0`. The tenant comes first: deny `eng.corp` beats permit
//!    `corp` from `10.1.0.0/16`.
//! 8. **Then a denial wins** over a permission of the same tenant and prefix.
//! 9. **A child service inherits the lines of its parent**, and its parent's parent. Its own lines come
//!    first: only where none of them holds for the source is the parent asked. With `web` permitting
//!    `corp` and `admin.web` denying every source, nobody reaches `admin.web`, however deep the tenant
//!    that `web` names.
//! 10. **No line: no access**, except to a service of public scope, which everybody reaches whom no line
//!     denies, tenant or not. The scope is the service's own; it is not inherited here.
//!
//! # Which tenant a source has
//!
//! That of its interface; else the membership of that interface with the longest prefix that holds the
//! source; else none. Between routers the tenant comes with the metadata, and
//! [`Snapshot::peer_may_claim`] says whether the peer may claim it.
//!
//! # Invariants
//!
//! A snapshot never changes. After [`Snapshot::compile`] nothing allocates but explanations, and
//! nothing panics, whatever ids and addresses are asked for. Ids belong to the model of the snapshot.

mod access;
mod check;
mod decision;
mod error;
mod explain;
mod fib;
mod locate;
mod snapshot;
#[cfg(test)]
mod tests;
mod ways;

pub use decision::{AccessLine, Candidate, CandidateHop, Decision};
pub use error::CompileError;
pub use explain::{Explanation, LineChoice, Match, PassedOver, PassedReason, RouteChoice};
pub use fib::{FibRow, FibTenant};
pub use snapshot::Snapshot;
