use super::*;
use crate::hop::{security_id, slot};
use crate::receiver::Refused;
use fairway_types::{Now, Time};

const STARTED: u64 = 1_800_000_000;

fn entry(peer: u16, name: &str, key: u8) -> KeyringEntry {
    KeyringEntry {
        peer: PeerId(peer),
        name: name.into(),
        key: PeerKey::from_bytes([key; 32]),
        sender_salt: [peer as u8; 16],
    }
}

fn keyring(entries: &[KeyringEntry]) -> Keyring {
    let mut keyring = Keyring::new();
    keyring.replace("dc", entries.iter().cloned(), STARTED).unwrap();
    keyring
}

/// What `from` sends to the router "dc" under this key, delivered.
fn deliver(keyring: &Keyring, from: &str, key: u8, sequence: u64) -> Result<PeerId, Option<Refused>> {
    let now = Now { mono: Time::from_secs(5), unix: STARTED + 5 };
    let sender = Sender::new(&PeerKey::from_bytes([key; 32]), from, "dc", [9; 16]).unwrap();
    let tag = sender.keys().tag(b"bytes", slot(now.unix));
    let (peer, mut receiver) = keyring.receiver_by_id(sender.security_id()).ok_or(None)?;
    receiver.accept(sender.salt(), sequence, b"bytes", &tag, now).map_err(Some)?;
    Ok(peer)
}

#[test]
fn receivers_are_found_by_security_id_and_senders_by_peer() {
    let keyring = keyring(&[entry(0, "branch", 1), entry(3, "hub", 2)]);
    assert_eq!(keyring.len(), 2);
    assert_eq!(deliver(&keyring, "branch", 1, 0), Ok(PeerId(0)));
    assert_eq!(deliver(&keyring, "hub", 2, 0), Ok(PeerId(3)));
    assert_eq!(deliver(&keyring, "hub", 1, 1), Err(Some(Refused::BadTag)));
    assert_eq!(deliver(&keyring, "stranger", 1, 0), Err(None));
    assert_eq!(keyring.sender(PeerId(3)).unwrap().security_id(), security_id("hub", "dc"));
    assert!(keyring.sender(PeerId(1)).is_none() && keyring.sender(PeerId(9)).is_none());
}

#[test]
fn what_did_not_change_keeps_its_numbers_and_windows() {
    let mut keyring = keyring(&[entry(0, "branch", 1), entry(1, "hub", 2), entry(2, "gone", 3)]);
    for peer in ["branch", "hub"].into_iter().zip(1..) {
        deliver(&keyring, peer.0, peer.1, 7).unwrap();
    }
    keyring.sender(PeerId(0)).unwrap().next_sequence();
    keyring.sender(PeerId(1)).unwrap().next_sequence();
    let mut moved = entry(1, "branch", 1);
    moved.sender_salt = [0xee; 16];
    keyring.replace("dc", [entry(0, "hub", 9), moved], STARTED + 2).unwrap();

    assert!(matches!(deliver(&keyring, "branch", 1, 7), Err(Some(Refused::Replayed(_)))));
    assert_eq!(deliver(&keyring, "branch", 1, 8), Ok(PeerId(1)));
    let branch = keyring.sender(PeerId(1)).unwrap();
    assert_eq!((branch.next_sequence(), branch.salt()), (1, &[0; 16]), "moved with its salt");

    assert_eq!(deliver(&keyring, "hub", 9, 7), Ok(PeerId(0)), "another key, another window");
    assert_eq!(keyring.sender(PeerId(0)).unwrap().next_sequence(), 0);
    assert_eq!(deliver(&keyring, "gone", 3, 0), Err(None));
    assert_eq!(keyring.len(), 2);
}

#[test]
fn a_renamed_router_derives_everything_anew() {
    let mut keyring = keyring(&[entry(0, "branch", 1)]);
    keyring.replace("dc-2", [entry(0, "branch", 1)], STARTED).unwrap();
    assert_eq!(deliver(&keyring, "branch", 1, 0), Err(None));
    assert_eq!(keyring.sender(PeerId(0)).unwrap().security_id(), security_id("branch", "dc-2"));
}

#[test]
fn peers_that_cannot_be_told_apart_are_refused_and_nothing_changes() {
    let mut keyring = keyring(&[entry(0, "branch", 1)]);
    deliver(&keyring, "branch", 1, 7).unwrap();
    let collision = KeyringError::Collision { first: "hub".into(), second: "hub".into() };
    assert_eq!(
        keyring.replace("dc", [entry(0, "branch", 1), entry(1, "hub", 2), entry(2, "hub", 3)], STARTED),
        Err(collision)
    );
    let same = KeyringError::SamePeer { first: "hub".into(), second: "spoke".into() };
    assert_eq!(keyring.replace("dc", [entry(1, "hub", 2), entry(1, "spoke", 3)], STARTED), Err(same));
    assert_eq!(keyring.len(), 1);
    assert!(matches!(deliver(&keyring, "branch", 1, 7), Err(Some(Refused::Replayed(_)))));
}

#[test]
fn peers_that_are_not_retained_are_gone() {
    let mut keyring = keyring(&[entry(0, "branch", 1), entry(1, "hub", 2)]);
    keyring.retain(|_, name| name == "hub");
    assert_eq!(deliver(&keyring, "branch", 1, 0), Err(None));
    assert_eq!(deliver(&keyring, "hub", 2, 0), Ok(PeerId(1)));
    assert!(keyring.sender(PeerId(0)).is_none());
    assert_eq!(keyring.len(), 1);
}
