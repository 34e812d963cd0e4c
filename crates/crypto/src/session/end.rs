//! One end of a session: seals what leaves, opens what arrives.

use core::fmt;
use core::ops::Range;

use fairway_types::{Suite, Time};

use super::inbound::{Inbound, Unopened};
use super::keys::{Derivation, Opening, Sealing};
use super::outbound::{Exhausted, Outbound};
use super::together::{Checked, Unfinished};
use super::{Direction, SessionSecret};
use crate::hop::{CryptoError, SALT_LENGTH};

/// The keys and counters of a session at its ingress or egress.
///
/// Everything is bound to the session by its secret, and to the direction by the derivation: what was
/// sealed for another session, or for the other direction, does not open.
pub struct End {
    suite: Suite,
    secret: SessionSecret,
    sends: Direction,
    outbound: Outbound,
    inbound: Inbound,
}

impl End {
    /// The end of a session that sends in a direction.
    ///
    /// `salt` is a new [`super::sender_salt`]. `worker` tells apart counters of several senders that share
    /// keys.
    ///
    /// # Errors
    /// [`CryptoError`] when the library has no memory left.
    pub fn new(
        suite: Suite,
        secret: SessionSecret,
        sends: Direction,
        salt: [u8; SALT_LENGTH],
        worker: u8,
        now: Time,
    ) -> Result<Self, CryptoError> {
        let of = Derivation { suite, secret: &secret, direction: sends };
        let outbound = Outbound::new(&of, salt, worker, now)?;
        Ok(Self { suite, secret, sends, outbound, inbound: Inbound::default() })
    }

    /// Brings what the next packet needs into the cache: one to be sealed or one to be opened.
    #[inline]
    pub fn bring(&self, sends: bool) {
        if sends { self.outbound.bring() } else { self.inbound.bring() }
    }

    /// Whether [`Self::check`] brings anything with this suite.
    #[must_use]
    #[inline]
    pub fn checks(&self) -> bool {
        self.suite != Suite::Aes256Gcm
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The direction that this end seals.
    #[must_use]
    pub const fn sends(&self) -> Direction {
        self.sends
    }

    /// The secret, for TLV 46.
    #[must_use]
    pub const fn secret(&self) -> &SessionSecret {
        &self.secret
    }

    /// The sender salt of what this end seals, for TLV 0x8001.
    #[must_use]
    pub const fn salt(&self) -> &[u8; SALT_LENGTH] {
        self.outbound.salt()
    }

    /// Whether anything can be opened yet.
    #[must_use]
    pub const fn can_open(&self) -> bool {
        self.inbound.has_keys()
    }

    /// Starts the sending side anew, under a new [`super::sender_salt`] whose first key phase is set
    /// here: whoever lost its replay window on the way refuses everything sealed before.
    ///
    /// # Errors
    /// [`CryptoError`]; nothing has changed then.
    pub fn renew(&mut self, mut salt: [u8; SALT_LENGTH], worker: u8, now: Time) -> Result<(), CryptoError> {
        salt[SALT_LENGTH - 1] = self.outbound.phase().wrapping_add(1);
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends };
        self.outbound = Outbound::new(&of, salt, worker, now)?;
        Ok(())
    }

    /// Goes on to the next key phase, as happens by itself in time.
    ///
    /// # Errors
    /// [`CryptoError`] when the salt has had all its phases; nothing has changed then.
    pub fn turn(&mut self, now: Time) -> Result<(), CryptoError> {
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends };
        self.outbound.turn(&of, now)
    }

    /// Takes note of the sender salt of the other end, from its metadata. Says whether it is new.
    ///
    /// # Errors
    /// [`CryptoError`]; nothing has changed then.
    pub fn learn(&mut self, salt: &[u8; SALT_LENGTH], now: Time) -> Result<bool, CryptoError> {
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends.other() };
        self.inbound.learn(&of, salt, now)
    }

    /// Seals a payload in place.
    ///
    /// # Errors
    /// [`Exhausted`]; the block is not to be sent then.
    #[inline]
    pub fn seal(&mut self, mut piece: Sealing<'_>, now: Time) -> Result<(), Exhausted> {
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends };
        let (keys, counter) = self.outbound.take(&of, 1, now)?;
        keys.seal(counter, &mut piece).map_err(|_| Exhausted)
    }

    /// Begins to seal a payload in place. It is sealed then, or what is left is for
    /// [`Unfinished::finish_all`], with others, of other sessions too.
    ///
    /// # Errors
    /// [`Exhausted`]; the block is not to be sent then.
    #[inline]
    pub fn begin_seal(&mut self, mut piece: Sealing<'_>, now: Time) -> Result<Option<Unfinished>, Exhausted> {
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends };
        let (keys, counter) = self.outbound.take(&of, 1, now)?;
        let left = keys.begin(counter, &mut piece).map_err(|_| Exhausted)?;
        Ok(left.map(|keys| Unfinished { keys }))
    }

    /// Seals several payloads, as [`Self::seal`] would one after the other, but faster: they are
    /// encrypted and signed side by side where the processor can.
    ///
    /// # Errors
    /// [`Exhausted`]; none of the blocks is to be sent then.
    pub fn seal_all(&mut self, pieces: &mut [Sealing<'_>], now: Time) -> Result<(), Exhausted> {
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends };
        let (keys, first) = self.outbound.take(&of, pieces.len(), now)?;
        keys.seal_all(first, pieces).map_err(|_| Exhausted)
    }

    /// What the start of a block was before this end sealed it, as far as `block` goes and `shown` has
    /// room: for errors that quote no more of a packet. Nothing is verified. Answers how many bytes
    /// are known; none if the block is not of this end, or sealed with keys it no longer has.
    pub fn reveal(&self, block: &[u8], shown: &mut [u8]) -> usize {
        self.outbound.reveal(block, shown)
    }

    /// Verifies a block, decrypts it in place, and says where in it the payload is. What is refused
    /// is not to be used any more, and changed nothing here.
    ///
    /// # Errors
    /// [`Unopened`] says why.
    #[inline]
    pub fn open(&mut self, associated: &[u8], block: &mut [u8], now: Time) -> Result<Range<usize>, Unopened> {
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends.other() };
        self.inbound.open(&of, associated, block, now, None)
    }

    /// Looks at a block before its turn to be opened, for [`Checked::verify_all`]; `None` if that would
    /// bring nothing. Changes nothing.
    #[must_use]
    pub fn check(&self, block: &[u8]) -> Option<Checked> {
        self.inbound.check(block)
    }

    /// [`Self::open`] for a block that was looked at before and is the same since.
    ///
    /// # Errors
    /// [`Unopened`] says why.
    #[inline]
    pub fn open_checked(
        &mut self,
        checked: Option<&Checked>,
        associated: &[u8],
        block: &mut [u8],
        now: Time,
    ) -> Result<Range<usize>, Unopened> {
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends.other() };
        self.inbound.open(&of, associated, block, now, checked)
    }

    /// Opens several blocks, as [`Self::open`] would one after the other, but faster: they are verified side
    /// by side where the processor can.
    pub fn open_all(&mut self, blocks: &mut [Opening<'_>], now: Time) {
        let of = Derivation { suite: self.suite, secret: &self.secret, direction: self.sends.other() };
        self.inbound.open_all(&of, blocks, now);
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("suite", &self.suite).field("sends", &self.sends).finish_non_exhaustive()
    }
}
