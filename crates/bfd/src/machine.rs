//! The transition table of RFC 5880, sections 6.2 and 6.8.6, and nothing else.

use fairway_wire::bfd::State;

/// Why a session changed its state last (RFC 5880, section 4.1); the codes that this machine gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Diagnostic {
    /// The session is up, or never was.
    #[default]
    None,
    /// No packet came for the detection time.
    ControlDetectionTimeExpired,
    /// The peer said that its side is down.
    NeighborSignaledSessionDown,
    /// The operator of this side took it down.
    AdministrativelyDown,
}

impl Diagnostic {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::ControlDetectionTimeExpired => 1,
            Self::NeighborSignaledSessionDown => 3,
            Self::AdministrativelyDown => 7,
        }
    }

    /// The name on screens and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ControlDetectionTimeExpired => "detection-time-expired",
            Self::NeighborSignaledSessionDown => "neighbor-signaled-down",
            Self::AdministrativelyDown => "administratively-down",
        }
    }
}

/// What can change the state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A valid packet that says which state the peer is in.
    Received(State),
    /// No valid packet came for the detection time.
    DetectionTimeExpired,
    /// The operator took the session down.
    Disabled,
    /// The operator wants the session up again.
    Enabled,
}

/// The state after an input, and the diagnostic of the change if there was one.
pub(crate) fn next(state: State, input: Input) -> (State, Option<Diagnostic>) {
    use Input::{DetectionTimeExpired, Disabled, Enabled, Received};
    use State::{AdminDown, Down, Init, Up};

    match (state, input) {
        // Section 6.8.16: administrative control.
        (AdminDown, Disabled) => (AdminDown, None),
        (Down | Init | Up, Disabled) => (AdminDown, Some(Diagnostic::AdministrativelyDown)),
        (AdminDown, Enabled) => (Down, Some(Diagnostic::None)),
        (Down | Init | Up, Enabled) => (state, None),

        // Section 6.8.4: detection; only Init and Up are left by it.
        (AdminDown | Down, DetectionTimeExpired) => (state, None),
        (Init | Up, DetectionTimeExpired) => (Down, Some(Diagnostic::ControlDetectionTimeExpired)),

        // Section 6.8.6: reception.
        (AdminDown, Received(AdminDown | Down | Init | Up)) => (AdminDown, None),
        (Down, Received(AdminDown | Up)) => (Down, None),
        (Init | Up, Received(AdminDown)) => (Down, Some(Diagnostic::NeighborSignaledSessionDown)),
        (Down, Received(Down)) => (Init, None),
        (Down, Received(Init)) => (Up, Some(Diagnostic::None)),
        (Init, Received(Down)) => (Init, None),
        (Init, Received(Init | Up)) => (Up, Some(Diagnostic::None)),
        (Up, Received(Down)) => (Down, Some(Diagnostic::NeighborSignaledSessionDown)),
        (Up, Received(Init | Up)) => (Up, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Diagnostic::{
        AdministrativelyDown, ControlDetectionTimeExpired, NeighborSignaledSessionDown, None as NoDiagnostic,
    };
    use State::{AdminDown, Down, Init, Up};

    const STATES: [State; 4] = [AdminDown, Down, Init, Up];
    const INPUTS: [Input; 7] = [
        Input::Received(AdminDown),
        Input::Received(Down),
        Input::Received(Init),
        Input::Received(Up),
        Input::DetectionTimeExpired,
        Input::Disabled,
        Input::Enabled,
    ];

    /// One row for each state, one column for each input, as the RFC has it.
    const TABLE: [[(State, Option<Diagnostic>); 7]; 4] = [
        [
            (AdminDown, None),
            (AdminDown, None),
            (AdminDown, None),
            (AdminDown, None),
            (AdminDown, None),
            (AdminDown, None),
            (Down, Some(NoDiagnostic)),
        ],
        [
            (Down, None),
            (Init, None),
            (Up, Some(NoDiagnostic)),
            (Down, None),
            (Down, None),
            (AdminDown, Some(AdministrativelyDown)),
            (Down, None),
        ],
        [
            (Down, Some(NeighborSignaledSessionDown)),
            (Init, None),
            (Up, Some(NoDiagnostic)),
            (Up, Some(NoDiagnostic)),
            (Down, Some(ControlDetectionTimeExpired)),
            (AdminDown, Some(AdministrativelyDown)),
            (Init, None),
        ],
        [
            (Down, Some(NeighborSignaledSessionDown)),
            (Down, Some(NeighborSignaledSessionDown)),
            (Up, None),
            (Up, None),
            (Down, Some(ControlDetectionTimeExpired)),
            (AdminDown, Some(AdministrativelyDown)),
            (Up, None),
        ],
    ];

    #[test]
    fn every_state_and_input_goes_where_the_rfc_says() {
        for (state, row) in STATES.into_iter().zip(TABLE) {
            for (input, expected) in INPUTS.into_iter().zip(row) {
                assert_eq!(next(state, input), expected, "{state:?} {input:?}");
            }
        }
    }

    #[test]
    fn up_is_only_reached_when_the_peer_has_heard_this_side() {
        for state in STATES.into_iter().filter(|&state| state != Up) {
            for input in INPUTS {
                if next(state, input).0 == Up {
                    assert!(matches!(input, Input::Received(Init | Up)), "{state:?} {input:?}");
                }
            }
        }
    }
}
