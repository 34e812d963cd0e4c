//! What is kept of protected sessions, apart from the session table: keys are large, and sessions
//! without them must not pay for them.

use core::num::NonZeroU32;
use core::time::Duration;

use fairway_crypto::CryptoError;
use fairway_crypto::session::{
    Direction, End, SECRET_LENGTH, SessionSecret, Suite, salt_made_at, sender_salt,
};
use fairway_types::{Now, Time};
use fairway_wire::svr::SESSION_KEY_LEN;
use zeroize::Zeroizing;

use crate::session::Side;

/// The place of a session's protection.
pub(crate) type VaultIndex = NonZeroU32;

/// A sender salt (TLV 0x8001).
pub(crate) type Salt = [u8; 16];

/// What becomes of the payload of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cover {
    /// No payload was seen yet.
    Undecided,
    /// It is encrypted already, and stays as it is.
    Clear,
    /// It is sealed.
    Sealed,
}

impl Cover {
    const fn at_first(adaptive: bool) -> Self {
        if adaptive { Self::Undecided } else { Self::Sealed }
    }

    /// The name on screens and in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Clear => "clear",
            Self::Sealed => "sealed",
        }
    }
}

/// What this router can do with the payload.
pub(crate) enum Place {
    /// Seal one direction and open the other: the session enters or leaves the fabric here.
    End(End),
    /// Pass on what the ends say of themselves: the sender salts of both directions.
    Transit([Option<Salt>; 2]),
}

/// The value of TLV 46, in one place: moving it leaves no copy behind.
type KeyValue = Box<Zeroizing<[u8; SESSION_KEY_LEN]>>;

/// The protection of one session.
pub(crate) struct Protection {
    pub(crate) suite: Suite,
    /// The value of TLV 46: the suite's number and the secret.
    value: KeyValue,
    /// Whether each direction decides by its first payload.
    pub(crate) adaptive: bool,
    /// By the side that packets come from.
    pub(crate) cover: [Cover; 2],
    /// When that was decided.
    pub(crate) decided: [Time; 2],
    /// When a payload was last opened.
    pub(crate) opened: Time,
    /// When the other end was last asked to tell the session again.
    pub(crate) asked: Time,
    /// When the session was last told again because somebody asked.
    retold: Time,
    /// Salts of the other end that were made before this are worth nothing, in seconds of the wall clock:
    /// what was sealed under them may have been received before the session was lost.
    not_before: u64,
    pub(crate) place: Place,
}

/// What the metadata of a session says of its protection.
pub(crate) struct Offer {
    suite: Suite,
    secret: SessionSecret,
    salt: Salt,
    /// Whether each direction decides by its first payload.
    adaptive: bool,
}

impl Offer {
    /// Reads TLV 46; `None` where it is not one of ours.
    pub(crate) fn parse(value: &[u8], salt: Salt, adaptive: bool) -> Option<Self> {
        let value: &[u8; SESSION_KEY_LEN] = value.try_into().ok()?;
        let (&number, secret) = value.split_first()?;
        let secret: &[u8; SECRET_LENGTH] = secret.try_into().ok()?;
        let secret = SessionSecret::from_bytes(*secret);
        Some(Self { suite: Suite::of_number(number)?, secret, salt, adaptive })
    }

    pub(crate) const fn salt(&self) -> &Salt {
        &self.salt
    }

    pub(crate) const fn suite(&self) -> Suite {
        self.suite
    }
}

impl Protection {
    /// That of a session that enters the fabric here. `random` makes its secret and its salt.
    pub(crate) fn ingress(
        suite: Suite,
        adaptive: bool,
        random: &[u8; SECRET_LENGTH + 16],
        worker: u8,
        now: Now,
    ) -> Result<Self, CryptoError> {
        let (secret, salt) = random.split_first_chunk::<SECRET_LENGTH>().ok_or(CryptoError)?;
        let salt = salt.first_chunk::<16>().ok_or(CryptoError)?;
        let secret = SessionSecret::from_bytes(*secret);
        let value = value(suite, &secret);
        let salt = sender_salt(*salt, now.unix);
        let end = End::new(suite, secret, Direction::Forward, salt, worker, now.mono)?;
        Ok(Self::new(suite, value, adaptive, Place::End(end)))
    }

    /// That of a session that a peer brought and that leaves the fabric here.
    pub(crate) fn egress(offer: Offer, random: Salt, worker: u8, now: Now) -> Result<Self, CryptoError> {
        let Offer { suite, secret, salt, adaptive } = offer;
        let value = value(suite, &secret);
        let own = sender_salt(random, now.unix);
        let mut end = End::new(suite, secret, Direction::Reverse, own, worker, now.mono)?;
        end.learn(&salt, now.mono)?;
        Ok(Self::new(suite, value, adaptive, Place::End(end)))
    }

    /// That of a session that enters the fabric here, as this router was told after it had lost it.
    /// `random` makes a new salt; those of the other end count if they are no older than `since`.
    pub(crate) fn resumed(
        offer: Offer,
        random: Salt,
        worker: u8,
        since: u64,
        now: Now,
    ) -> Result<Self, CryptoError> {
        let Offer { suite, secret, adaptive, .. } = offer;
        let value = value(suite, &secret);
        let salt = sender_salt(random, now.unix);
        let end = End::new(suite, secret, Direction::Forward, salt, worker, now.mono)?;
        Ok(Self { not_before: since, ..Self::new(suite, value, adaptive, Place::End(end)) })
    }

    /// That of a session that a peer brought and that goes on to another.
    pub(crate) fn transit(offer: Offer) -> Self {
        let Offer { suite, secret, salt, adaptive } = offer;
        let value = value(suite, &secret);
        let place = Place::Transit([Some(salt), None]);
        Self::new(suite, value, adaptive, place)
    }

    fn new(suite: Suite, value: KeyValue, adaptive: bool, place: Place) -> Self {
        Self {
            suite,
            value,
            adaptive,
            cover: [Cover::at_first(adaptive); 2],
            decided: [Time::ZERO; 2],
            opened: Time::ZERO,
            asked: Time::ZERO,
            retold: Time::ZERO,
            not_before: 0,
            place,
        }
    }

    /// Whether it is time to do as somebody asks who wants metadata: at most twice a second.
    pub(crate) fn may_retell(&mut self, now: Time) -> bool {
        const INTERVAL: Duration = Duration::from_millis(500);
        let due = now.since(self.retold) >= INTERVAL;
        if due {
            self.retold = now;
        }
        due
    }

    /// The value of TLV 46.
    pub(crate) fn key_value(&self) -> &[u8] {
        self.value.as_slice()
    }

    /// The sender salt of what comes from a side: TLV 0x8001.
    pub(crate) fn salt(&self, from: Side) -> Option<Salt> {
        match &self.place {
            // An end tells its own.
            Place::End(end) => Some(*end.salt()),
            Place::Transit(salts) => salts[from.index()],
        }
    }

    /// Takes note of what metadata from a side says: the sender's salt, and whether its payload is
    /// sealed. A decision is never taken back, but a new salt may come from a sender that lost its
    /// state and decides anew. Says whether something was new.
    pub(crate) fn learn(
        &mut self,
        from: Side,
        salt: Option<Salt>,
        cover: Cover,
        now: Now,
    ) -> Result<bool, CryptoError> {
        let mut new = match (&mut self.place, salt) {
            (_, None) => false,
            (Place::End(_), Some(salt)) if salt_made_at(&salt) < self.not_before => false,
            (Place::End(end), Some(salt)) => end.learn(&salt, now.mono)?,
            (Place::Transit(salts), Some(salt)) => salts[from.index()].replace(salt) != Some(salt),
        };
        if new {
            self.cover[from.index()] = Cover::Undecided;
        }
        if cover != Cover::Undecided {
            new |= self.settle(from, cover, now.mono);
        }
        Ok(new)
    }

    /// Decides about a direction, if that was not done. Says whether it was not.
    pub(crate) fn settle(&mut self, from: Side, cover: Cover, now: Time) -> bool {
        let place = &mut self.cover[from.index()];
        if *place != Cover::Undecided {
            return false;
        }
        *place = cover;
        self.decided[from.index()] = now;
        true
    }

    /// What the start of a payload was that was sealed here, of what comes from a side; how many bytes
    /// of it are known.
    pub(crate) fn reveal(&self, from: Side, sealed: &[u8], shown: &mut [u8]) -> usize {
        match &self.place {
            Place::End(end) if self.cover[from.index()] == Cover::Sealed => end.reveal(sealed, shown),
            Place::End(_) | Place::Transit(_) => 0,
        }
    }

    /// Whether payload from a side is sealed on the legs of this router that lead to peers. At the end
    /// that opens it, it was opened before anything else.
    pub(crate) fn is_sealed_here(&self, from: Side) -> bool {
        let seals_or_passes = match &self.place {
            Place::End(end) => (end.sends() == Direction::Forward) == (from == Side::Initiator),
            Place::Transit(_) => true,
        };
        seals_or_passes && self.cover[from.index()] == Cover::Sealed
    }

    /// Whether its payload is verified faster before its turn.
    fn checks(&self) -> bool {
        matches!(&self.place, Place::End(end) if end.checks())
    }

    pub(crate) fn is_end(&self) -> bool {
        matches!(self.place, Place::End(_))
    }
}

fn value(suite: Suite, secret: &SessionSecret) -> KeyValue {
    let mut value = Box::new(Zeroizing::new([0; SESSION_KEY_LEN]));
    value[0] = suite.number();
    value[1..].copy_from_slice(secret.bytes());
    value
}

/// The protection of all sessions that have one.
#[derive(Default)]
pub(crate) struct Vault {
    entries: Vec<Option<Box<Protection>>>,
    free: Vec<VaultIndex>,
    /// How many have payload verified before its turn.
    checking: usize,
}

impl Vault {
    pub(crate) fn insert(&mut self, protection: Protection) -> Option<VaultIndex> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.entries.push(None);
                NonZeroU32::new(u32::try_from(self.entries.len()).ok()?)?
            }
        };
        let entry = self.entries.get_mut(place(index))?;
        self.checking += usize::from(protection.checks());
        *entry = Some(Box::new(protection));
        Some(index)
    }

    pub(crate) fn remove(&mut self, index: Option<VaultIndex>) {
        let Some(index) = index else { return };
        if let Some(removed) = self.entries.get_mut(place(index)).and_then(Option::take) {
            self.checking -= usize::from(removed.checks());
            self.free.push(index);
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: Option<VaultIndex>) -> Option<&Protection> {
        self.entries.get(place(index?))?.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: Option<VaultIndex>) -> Option<&mut Protection> {
        self.entries.get_mut(place(index?))?.as_deref_mut()
    }

    /// Brings what a packet from a side needs of a session's keys into the cache.
    #[inline]
    pub(crate) fn bring(&self, index: Option<VaultIndex>, from: Side) {
        if let Some(Place::End(end)) = self.get(index).map(|entry| &entry.place) {
            end.bring((end.sends() == Direction::Forward) == (from == Side::Initiator));
        }
    }

    /// Whether payload of any session is verified faster before its turn.
    #[inline]
    pub(crate) const fn checks(&self) -> bool {
        self.checking > 0
    }

    /// How many sessions are protected.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

const fn place(index: VaultIndex) -> usize {
    index.get() as usize - 1
}
