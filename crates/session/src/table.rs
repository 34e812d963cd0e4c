//! The session table: sessions in a slab, found by either flow or by UUID.
//!
//! The indices hold numbers only; keys stay in the sessions. Everything is allocated once, for the
//! configured number of sessions.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use core::hash::BuildHasher;

use crate::key::FlowKey;
use crate::session::{Session, Side, Uuid};
use crate::vault::VaultIndex;

/// The place of a session in the slab. It is reused after the session is gone.
pub(crate) type Index = u32;

/// Sessions and the ways to find them.
pub(crate) struct Table {
    slots: Vec<Option<Session>>,
    free: Vec<Index>,
    /// Index of the session, shifted left by one, plus the side.
    flows: HashTable<u32>,
    uuids: HashTable<Index>,
    hasher: FixedState,
}

/// Where a flow is likely to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    hash: u64,
    number: u32,
}

impl Hint {
    pub(crate) const NONE: Self = Self { hash: 0, number: u32::MAX };
}

const fn flow_number(index: Index, side: Side) -> u32 {
    index << 1 | side.index() as u32
}

const fn flow_parts(number: u32) -> (Index, Side) {
    (number >> 1, if number & 1 == 0 { Side::Initiator } else { Side::Responder })
}

/// Why a session could not be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsertError {
    Full,
    /// Another session has one of its keys, or its UUID.
    Occupied,
}

impl Table {
    /// A table for `capacity` sessions. `secret` keeps senders from choosing colliding keys.
    pub(crate) fn new(capacity: u32, secret: u64) -> Self {
        let capacity = capacity.min(u32::MAX >> 1);
        Self {
            slots: (0..capacity).map(|_| None).collect(),
            free: (0..capacity).rev().collect(),
            flows: HashTable::with_capacity(capacity as usize * 2),
            uuids: HashTable::with_capacity(capacity as usize),
            hasher: FixedState::with_seed(secret),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Session> {
        self.slots.get(index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut Session> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// All sessions, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Index, &Session)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }

    #[inline]
    pub(crate) fn hash(&self, key: &FlowKey) -> u64 {
        self.hasher.hash_one(key)
    }

    #[inline]
    pub(crate) fn find(&self, key: &FlowKey) -> Option<(Index, Side)> {
        self.find_hashed(self.hash(key), key)
    }

    #[inline]
    fn find_hashed(&self, hash: u64, key: &FlowKey) -> Option<(Index, Side)> {
        let number = *self.flows.find(hash, |&number| flow_key(&self.slots, number) == Some(key))?;
        Some(flow_parts(number))
    }

    /// Where to look for a flow.
    #[inline]
    pub(crate) fn hint(&self, key: &FlowKey) -> Hint {
        Hint { hash: self.hash(key), ..Hint::NONE }
    }

    /// Guesses where flows are, without comparing what is there with what is sought.
    ///
    /// So the guesses do not depend on each other, nor on the memory of sessions, and the processor
    /// waits for the memory of many at once.
    #[inline]
    pub(crate) fn guess<'a>(&self, hints: impl Iterator<Item = &'a mut Hint>) {
        for hint in hints {
            if let Some(&number) = self.flows.find(hint.hash, |_| true) {
                hint.number = number;
            }
        }
    }

    /// Brings sessions that were guessed into the cache, in the same manner.
    #[inline]
    pub(crate) fn touch<'a>(&self, hints: impl Iterator<Item = &'a Hint>) {
        let touch = |hint: &Hint| self.get(flow_parts(hint.number).0).map_or(0, Session::touch);
        core::hint::black_box(hints.fold(0, |touched, hint| touched ^ touch(hint)));
    }

    /// Where the keys of a session are that was guessed, if it has any, and from which side a packet is.
    #[inline]
    pub(crate) fn guessed_protection(&self, hint: &Hint) -> Option<(VaultIndex, Side)> {
        let (index, side) = flow_parts(hint.number);
        Some((self.get(index)?.protection?, side))
    }

    /// The session of a flow, if it was guessed right.
    #[inline]
    pub(crate) fn guessed(&self, hint: &Hint, key: &FlowKey) -> Option<&Session> {
        let (index, side) = flow_parts(hint.number);
        self.get(index).filter(|session| session.leg(side).key == *key)
    }

    /// Finds a flow, first where it was guessed to be. The table may have changed since.
    #[inline]
    pub(crate) fn find_near(&self, hint: Hint, key: &FlowKey) -> Option<(Index, Side)> {
        if flow_key(&self.slots, hint.number) == Some(key) {
            return Some(flow_parts(hint.number));
        }
        self.find_hashed(hint.hash, key)
    }

    pub(crate) fn find_uuid(&self, uuid: &Uuid) -> Option<Index> {
        let hash = self.hasher.hash_one(uuid);
        self.uuids.find(hash, |&index| uuid_of(&self.slots, index) == Some(uuid)).copied()
    }

    /// Inserts a session under both its keys and its UUID, or changes nothing.
    pub(crate) fn insert(&mut self, session: Session) -> Result<Index, InsertError> {
        let [first, second] = [session.legs[0].key, session.legs[1].key];
        if first == second
            || self.find(&first).is_some()
            || self.find(&second).is_some()
            || self.find_uuid(&session.uuid).is_some()
        {
            return Err(InsertError::Occupied);
        }
        let index = self.free.pop().ok_or(InsertError::Full)?;
        let uuid = session.uuid;
        self.slots[index as usize] = Some(session);
        self.link(index, Side::Initiator, &first);
        self.link(index, Side::Responder, &second);
        let hash = self.hasher.hash_one(uuid);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.uuids.insert_unique(hash, index, |&other| {
            uuid_of(slots, other).map_or(0, |uuid| hasher.hash_one(uuid))
        });
        Ok(index)
    }

    /// Takes a session out.
    pub(crate) fn remove(&mut self, index: Index) -> Option<Session> {
        let session = *self.get(index)?;
        for side in Side::BOTH {
            self.unlink(index, side, &session.leg(side).key);
        }
        let hash = self.hasher.hash_one(session.uuid);
        if let Ok(entry) = self.uuids.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        self.slots[index as usize] = None;
        self.free.push(index);
        Some(session)
    }

    /// Gives one leg of a session another key. Fails, and changes nothing, when it is taken.
    pub(crate) fn rekey(&mut self, index: Index, side: Side, key: FlowKey) -> Result<(), InsertError> {
        match self.find(&key) {
            Some(found) if found == (index, side) => return Ok(()),
            Some(_) => return Err(InsertError::Occupied),
            None => {}
        }
        let Some(old) = self.get(index).map(|session| session.leg(side).key) else { return Ok(()) };
        self.unlink(index, side, &old);
        if let Some(session) = self.get_mut(index) {
            session.leg_mut(side).key = key;
        }
        self.link(index, side, &key);
        Ok(())
    }

    /// Changes every key at once, as when interfaces are numbered anew.
    pub(crate) fn rekey_all(&mut self, change: impl Fn(&mut FlowKey)) {
        self.flows.clear();
        for index in 0..self.slots.len() as Index {
            let Some(session) = self.get_mut(index) else { continue };
            session.legs.iter_mut().for_each(|leg| change(&mut leg.key));
            let keys = session.legs.map(|leg| leg.key);
            self.link(index, Side::Initiator, &keys[0]);
            self.link(index, Side::Responder, &keys[1]);
        }
    }

    fn link(&mut self, index: Index, side: Side, key: &FlowKey) {
        let hash = self.hasher.hash_one(key);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let entry = self.flows.entry(
            hash,
            |&number| flow_key(slots, number) == Some(key),
            |&number| flow_key(slots, number).map_or(0, |key| hasher.hash_one(key)),
        );
        match entry {
            Entry::Occupied(mut entry) => *entry.get_mut() = flow_number(index, side),
            Entry::Vacant(entry) => {
                entry.insert(flow_number(index, side));
            }
        }
    }

    fn unlink(&mut self, index: Index, side: Side, key: &FlowKey) {
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.flows.find_entry(hash, |&number| number == flow_number(index, side)) {
            entry.remove();
        }
    }
}

#[inline]
fn flow_key(slots: &[Option<Session>], number: u32) -> Option<&FlowKey> {
    let (index, side) = flow_parts(number);
    Some(&slots.get(index as usize)?.as_ref()?.leg(side).key)
}

fn uuid_of(slots: &[Option<Session>], index: Index) -> Option<&Uuid> {
    Some(&slots.get(index as usize)?.as_ref()?.uuid)
}
