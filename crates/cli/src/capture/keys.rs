//! The hop keys of a fabric, found by the security id and key salt that packets name.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use fairway_crypto::{HopKeys, PeerKey, SALT_LENGTH, security_id};
use zeroize::Zeroizing;

use super::sessions::Sessions;
use crate::args::KeyArgs;
use crate::failure::Failure;
use crate::{config, key};

/// Derived keys that are kept: one for each direction and start of a router in the file.
const KEPT: usize = 4096;

/// One direction between two routers.
struct Direction {
    sender: String,
    receiver: String,
    key: PeerKey,
}

/// All keys of a fabric that were found.
#[derive(Default)]
pub struct Keys {
    directions: Vec<Direction>,
    by_security_id: HashMap<u32, Vec<usize>>,
    derived: HashMap<(usize, [u8; SALT_LENGTH]), HopKeys>,
    /// What metadata told of sessions.
    pub sessions: Sessions,
}

/// A key that may be that of a packet.
pub struct Candidate<'a> {
    /// The router that sent the packet, if the key is the right one.
    pub sender: &'a str,
    /// The router it is for.
    pub receiver: &'a str,
    /// The keys.
    pub keys: &'a HopKeys,
}

impl Keys {
    /// Reads the keys that the options name; none without the options.
    ///
    /// # Errors
    /// When the configuration or a key file cannot be used. Files that are missing are allowed, as
    /// long as one is there: a user need not have the keys of the whole fabric.
    pub fn load(args: &KeyArgs) -> Result<Self, Failure> {
        let (Some(directory), Some(configuration)) = (&args.keys, &args.config) else {
            return Ok(Self::default());
        };
        let mut keys = Self::default();
        let needed = key::needed(&config::load(configuration)?);
        for (file, pairs) in &needed {
            let Some(peer_key) = read(&key::place(directory, file))? else { continue };
            for (one, other) in pairs {
                keys.add(one, other, peer_key.clone());
                keys.add(other, one, peer_key.clone());
            }
        }
        if keys.directions.is_empty() {
            let place = directory.display();
            return Err(Failure::refused(format!(
                "{place} holds none of the key files that {} names",
                configuration.display()
            ))
            .fix("name the directory in which the files that end in .key are"));
        }
        Ok(keys)
    }

    /// Adds one direction.
    pub fn add(&mut self, sender: &str, receiver: &str, key: PeerKey) {
        let place = self.directions.len();
        self.by_security_id.entry(security_id(receiver, sender)).or_default().push(place);
        self.directions.push(Direction { sender: sender.to_owned(), receiver: receiver.to_owned(), key });
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.directions.is_empty()
    }

    /// The keys that a packet with this security id and key salt may be protected with.
    pub fn candidates(&mut self, security_id: u32, salt: &[u8; SALT_LENGTH]) -> Vec<Candidate<'_>> {
        let places = self.by_security_id.get(&security_id).cloned().unwrap_or_default();
        if self.derived.len() > KEPT {
            self.derived.clear();
        }
        for &place in &places {
            if self.derived.contains_key(&(place, *salt)) {
                continue;
            }
            let Some(direction) = self.directions.get(place) else { continue };
            if let Ok(keys) = HopKeys::derive(&direction.key, salt, &direction.sender, &direction.receiver) {
                self.derived.insert((place, *salt), keys);
            }
        }
        let candidates = places.iter().filter_map(|&place| {
            let direction = self.directions.get(place)?;
            let keys = self.derived.get(&(place, *salt))?;
            Some(Candidate { sender: &direction.sender, receiver: &direction.receiver, keys })
        });
        candidates.collect()
    }
}

fn read(file: &Path) -> Result<Option<PeerKey>, Failure> {
    let text = match fs::read(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::refused(format!("cannot read {}: {error}", file.display()))),
    };
    PeerKey::parse(&text).map(Some).map_err(|error| Failure::refused(format!("{}: {error}", file.display())))
}
