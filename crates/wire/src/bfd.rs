//! The control packet of Bidirectional Forwarding Detection (RFC 5880, section 4).

use crate::bytes::{be32, byte, put};

/// Bytes of a control packet without authentication.
pub const LEN: usize = 24;
/// The version of the protocol.
pub const VERSION: u8 = 1;

mod field {
    pub(super) const VERSION_DIAGNOSTIC: usize = 0;
    pub(super) const STATE_FLAGS: usize = 1;
    pub(super) const DETECT_MULTIPLIER: usize = 2;
    pub(super) const LENGTH: usize = 3;
    pub(super) const MY_DISCRIMINATOR: usize = 4;
    pub(super) const YOUR_DISCRIMINATOR: usize = 8;
    pub(super) const DESIRED_MIN_TX: usize = 12;
    pub(super) const REQUIRED_MIN_RX: usize = 16;
    pub(super) const REQUIRED_MIN_ECHO_RX: usize = 20;
}

/// Bits of the second byte.
mod flag {
    pub(super) const POLL: u8 = 0x20;
    pub(super) const FINAL: u8 = 0x10;
    pub(super) const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
    pub(super) const AUTHENTICATION: u8 = 0x04;
    pub(super) const DEMAND: u8 = 0x02;
    pub(super) const MULTIPOINT: u8 = 0x01;
}

/// The state of a session (section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Held down by the operator.
    AdminDown,
    /// No packets arrive, or the session starts.
    #[default]
    Down,
    /// Packets arrive; the peer does not know yet.
    Init,
    /// Both directions work.
    Up,
}

impl State {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }
}

/// Why a control packet was refused (the checks of section 6.8.6 that need no session).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BfdError {
    /// Shorter than 24 bytes, or than the length it claims.
    TooShort,
    /// A version other than 1.
    Version,
    /// The length field is below the least for its flags.
    Length,
    /// A detection multiplier of zero.
    DetectMultiplier,
    /// The multipoint bit is set.
    Multipoint,
    /// The sender's discriminator is zero.
    MyDiscriminator,
    /// The receiver's discriminator is zero though the state is neither Down nor AdminDown.
    YourDiscriminator,
}

impl core::fmt::Display for BfdError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooShort => "cut short",
            Self::Version => "unknown version",
            Self::Length => "bad length",
            Self::DetectMultiplier => "detection multiplier is zero",
            Self::Multipoint => "multipoint bit is set",
            Self::MyDiscriminator => "sender's discriminator is zero",
            Self::YourDiscriminator => "receiver's discriminator is zero",
        })
    }
}

impl core::error::Error for BfdError {}

/// A view of a control packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view without checks; fields beyond the slice read as zero.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view that passed the checks of section 6.8.6 that need no session, in their order.
    ///
    /// # Errors
    /// [`BfdError`].
    pub fn new_checked(buffer: T) -> Result<Self, BfdError> {
        let packet = Self::new_unchecked(buffer);
        if packet.bytes().len() < LEN {
            return Err(BfdError::TooShort);
        }
        if packet.version() != VERSION {
            return Err(BfdError::Version);
        }
        let least = if packet.authentication_present() { LEN + 2 } else { LEN };
        if packet.length() < least {
            return Err(BfdError::Length);
        }
        if packet.length() > packet.bytes().len() {
            return Err(BfdError::TooShort);
        }
        if packet.detect_multiplier() == 0 {
            return Err(BfdError::DetectMultiplier);
        }
        if packet.flags() & flag::MULTIPOINT != 0 {
            return Err(BfdError::Multipoint);
        }
        if packet.my_discriminator() == 0 {
            return Err(BfdError::MyDiscriminator);
        }
        if packet.your_discriminator() == 0 && matches!(packet.state(), State::Init | State::Up) {
            return Err(BfdError::YourDiscriminator);
        }
        Ok(packet)
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.as_ref()
    }

    fn flags(&self) -> u8 {
        byte(self.bytes(), field::STATE_FLAGS) & 0x3f
    }

    /// The version.
    pub fn version(&self) -> u8 {
        byte(self.bytes(), field::VERSION_DIAGNOSTIC) >> 5
    }

    /// Why the sender's session last changed; 5 bits.
    pub fn diagnostic(&self) -> u8 {
        byte(self.bytes(), field::VERSION_DIAGNOSTIC) & 0x1f
    }

    /// The sender's state.
    pub fn state(&self) -> State {
        State::from_bits(byte(self.bytes(), field::STATE_FLAGS) >> 6)
    }

    /// The sender asks for confirmation.
    pub fn poll(&self) -> bool {
        self.flags() & flag::POLL != 0
    }

    /// The sender confirms.
    pub fn is_final(&self) -> bool {
        self.flags() & flag::FINAL != 0
    }

    /// The sender's BFD survives its control plane.
    pub fn control_plane_independent(&self) -> bool {
        self.flags() & flag::CONTROL_PLANE_INDEPENDENT != 0
    }

    /// An authentication section follows.
    pub fn authentication_present(&self) -> bool {
        self.flags() & flag::AUTHENTICATION != 0
    }

    /// The sender wishes demand mode.
    pub fn demand(&self) -> bool {
        self.flags() & flag::DEMAND != 0
    }

    /// Intervals without a packet that mean failure.
    pub fn detect_multiplier(&self) -> u8 {
        byte(self.bytes(), field::DETECT_MULTIPLIER)
    }

    /// Bytes of the packet, authentication included.
    pub fn length(&self) -> usize {
        usize::from(byte(self.bytes(), field::LENGTH))
    }

    /// The sender's discriminator.
    pub fn my_discriminator(&self) -> u32 {
        be32(self.bytes(), field::MY_DISCRIMINATOR)
    }

    /// The receiver's discriminator; zero if unknown.
    pub fn your_discriminator(&self) -> u32 {
        be32(self.bytes(), field::YOUR_DISCRIMINATOR)
    }

    /// The least interval at which the sender wants to send, in microseconds.
    pub fn desired_min_tx(&self) -> u32 {
        be32(self.bytes(), field::DESIRED_MIN_TX)
    }

    /// The least interval at which the sender can receive, in microseconds.
    pub fn required_min_rx(&self) -> u32 {
        be32(self.bytes(), field::REQUIRED_MIN_RX)
    }

    /// The least interval at which the sender can receive echoes, in microseconds; zero for none.
    pub fn required_min_echo_rx(&self) -> u32 {
        be32(self.bytes(), field::REQUIRED_MIN_ECHO_RX)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the receiver's discriminator.
    pub fn set_your_discriminator(&mut self, value: u32) {
        put(self.buffer.as_mut(), field::YOUR_DISCRIMINATOR, &value.to_be_bytes());
    }
}

/// A control packet without authentication: between waypoints, metadata signs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repr {
    /// Why the sender's session last changed; 5 bits.
    pub diagnostic: u8,
    /// The sender's state.
    pub state: State,
    /// The sender asks for confirmation.
    pub poll: bool,
    /// The sender confirms.
    pub is_final: bool,
    /// The sender's BFD survives its control plane.
    pub control_plane_independent: bool,
    /// The sender wishes demand mode.
    pub demand: bool,
    /// Intervals without a packet that mean failure.
    pub detect_multiplier: u8,
    /// The sender's discriminator.
    pub my_discriminator: u32,
    /// The receiver's discriminator; zero if unknown.
    pub your_discriminator: u32,
    /// The least interval at which the sender wants to send, in microseconds.
    pub desired_min_tx: u32,
    /// The least interval at which the sender can receive, in microseconds.
    pub required_min_rx: u32,
    /// The least interval at which the sender can receive echoes, in microseconds; zero for none.
    pub required_min_echo_rx: u32,
}

impl Repr {
    /// Reads a checked view. An authentication section is ignored.
    #[must_use]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Self {
        Self {
            diagnostic: packet.diagnostic(),
            state: packet.state(),
            poll: packet.poll(),
            is_final: packet.is_final(),
            control_plane_independent: packet.control_plane_independent(),
            demand: packet.demand(),
            detect_multiplier: packet.detect_multiplier(),
            my_discriminator: packet.my_discriminator(),
            your_discriminator: packet.your_discriminator(),
            desired_min_tx: packet.desired_min_tx(),
            required_min_rx: packet.required_min_rx(),
            required_min_echo_rx: packet.required_min_echo_rx(),
        }
    }

    /// Writes the packet. Gives its length, or `None` when `buffer` is too small.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let packet = buffer.first_chunk_mut::<LEN>()?;
        let mut flags = self.state.number() << 6;
        for (present, bit) in [
            (self.poll, flag::POLL),
            (self.is_final, flag::FINAL),
            (self.control_plane_independent, flag::CONTROL_PLANE_INDEPENDENT),
            (self.demand, flag::DEMAND),
        ] {
            if present {
                flags |= bit;
            }
        }
        packet[field::VERSION_DIAGNOSTIC] = VERSION << 5 | self.diagnostic & 0x1f;
        packet[field::STATE_FLAGS] = flags;
        packet[field::DETECT_MULTIPLIER] = self.detect_multiplier;
        packet[field::LENGTH] = LEN as u8;
        for (at, value) in [
            (field::MY_DISCRIMINATOR, self.my_discriminator),
            (field::YOUR_DISCRIMINATOR, self.your_discriminator),
            (field::DESIRED_MIN_TX, self.desired_min_tx),
            (field::REQUIRED_MIN_RX, self.required_min_rx),
            (field::REQUIRED_MIN_ECHO_RX, self.required_min_echo_rx),
        ] {
            put(packet, at, &value.to_be_bytes());
        }
        Some(LEN)
    }
}

#[cfg(test)]
mod tests;
