//! The RFC 5880 BFD state machine in asynchronous mode, free of I/O.
//!
//! ```text
//!                              +--+
//!                              |  | UP, ADMIN DOWN, TIMER
//!                              |  V
//!                      DOWN  +------+  INIT
//!               +------------|      |------------+
//!               |            | DOWN |            |
//!               |  +-------->|      |<--------+  |
//!               |  |         +------+         |  |
//!               |  | ADMIN DOWN,              |  |
//!               |  | TIMER        ADMIN DOWN, |  |
//!               V  |              DOWN, TIMER |  V
//!             +------+                      +------+
//!        +----|      |                      |      |----+
//!    DOWN|    | INIT |--------------------->|  UP  |    |INIT, UP
//!        +--->|      | INIT, UP             |      |<---+
//!             +------+                      +------+
//! ```
//! (RFC 5880, section 6.2; the words beside the arrows are the states a packet says the peer is in.)
//!
//! A [`Session`] is driven with packets, time and an optional change of [`Config`], and asked for
//! packets, events and the time it next wants to be woken. A caller calls
//! [`Session::poll_transmit`] and [`Session::poll_event`] until they give nothing after every call
//! that takes `&mut self`.
//!
//! The session always takes the active role. Demand mode is not supported: a peer's demand bit is
//! ignored, which means that it keeps getting periodic packets. Echo packets are not sent, and the
//! session says so. Authentication is that of the message around the packet; a caller discards
//! packets with the authentication bit, and all others that `fairway_wire::bfd` refuses.

mod machine;
mod session;
mod timing;

pub use machine::Diagnostic;
pub use session::{Config, Discarded, Event, Session};
