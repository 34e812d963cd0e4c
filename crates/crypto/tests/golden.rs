//! The golden vectors of the wire, made by `tools/golden-vectors.py`, which shares no code with this
//! crate.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::HashMap;
use std::path::Path;

use fairway_crypto::{HopKeys, PeerKey, Receiver, Refused, padded_length, security_id, slot};
use fairway_types::{Now, Time};

struct Vector {
    name: String,
    values: HashMap<String, String>,
}

impl Vector {
    fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let text = self.text(name);
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    fn keys(&self) -> HopKeys {
        let key = PeerKey::parse(self.text("peer-key").as_bytes()).unwrap();
        HopKeys::derive(&key, &self.array("key-salt"), self.text("sender"), self.text("receiver")).unwrap()
    }

    fn unix(&self) -> u64 {
        self.text("unix").parse().unwrap()
    }
}

/// All vectors that have a tag.
fn signed_vectors() -> Vec<Vector> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/vectors");
    let vectors = std::fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values =
            lines.filter_map(|line| line.split_once(' ')).map(|(name, value)| (name.into(), value.into()));
        Vector { name: path.display().to_string(), values: values.collect() }
    });
    let signed: Vec<_> = vectors.filter(|vector| !vector.text("tag").is_empty()).collect();
    assert!(signed.len() >= 5, "the vectors are missing");
    signed
}

#[test]
fn tags_and_security_ids_are_those_of_the_vectors() {
    for vector in signed_vectors() {
        let (payload, keys) = (vector.bytes("l4-payload"), vector.keys());
        let (signed, tag) = payload.split_last_chunk().unwrap();
        assert_eq!(*tag, vector.array("tag"), "{}", vector.name);
        assert_eq!(keys.tag(signed, slot(vector.unix())), *tag, "{}", vector.name);
        assert_eq!(keys.verify(signed, tag, vector.unix(), 0), Ok(slot(vector.unix())), "{}", vector.name);
        let id = security_id(vector.text("receiver"), vector.text("sender"));
        assert_eq!(id.to_be_bytes(), vector.array("security-id"), "{}", vector.name);
    }
}

#[test]
fn encrypted_metadata_is_that_of_the_vectors() {
    let mut tried = 0;
    for vector in signed_vectors().iter().filter(|vector| !vector.text("iv").is_empty()) {
        let (iv, clear, section) =
            (vector.array("iv"), vector.bytes("payload-tlvs"), vector.bytes("payload-section"));
        let mut buffer = clear.clone();
        buffer.resize(padded_length(clear.len()), 0);
        assert_eq!(vector.keys().encrypt_metadata(&iv, &mut buffer, clear.len()), Some(buffer.len()));
        assert_eq!([iv.as_slice(), &buffer].concat(), section, "{}", vector.name);
        assert_eq!(vector.keys().decrypt_metadata(&iv, &mut buffer), Ok(clear.len()));
        assert_eq!(buffer[..clear.len()], clear);
        tried += 1;
    }
    assert!(tried > 0, "no vector has encrypted metadata");
}

#[test]
fn a_receiver_accepts_each_vector_once() {
    for vector in signed_vectors() {
        let payload = vector.bytes("l4-payload");
        let (signed, tag) = payload.split_last_chunk().unwrap();
        let key = PeerKey::parse(vector.text("peer-key").as_bytes()).unwrap();
        let (own, peer) = (vector.text("receiver"), vector.text("sender"));
        let mut receiver = Receiver::new(key, own, peer, vector.unix() - 10);
        let now = Now { mono: Time::from_secs(10), unix: vector.unix() };
        let salt = vector.array("key-salt");
        assert!(receiver.accept(&salt, 1, signed, tag, now).is_ok(), "{}", vector.name);
        assert!(matches!(receiver.accept(&salt, 1, signed, tag, now), Err(Refused::Replayed(_))));
    }
}
