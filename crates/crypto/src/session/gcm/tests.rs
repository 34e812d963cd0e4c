//! Vectors are those of the cipher's authors (McGrew and Viega, "The Galois/Counter Mode of Operation",
//! appendix B), of keys of 256 bits and nonces of 96.

#![allow(clippy::print_stdout, reason = "a test says what it could not test")]

use std::sync::Once;

use proptest::prelude::*;

use super::*;

/// The ways there are on this processor. The library comes first.
fn ways() -> Vec<Processor> {
    static TOLD: Once = Once::new();
    let mut ways = vec![Processor::PLAIN];
    match Processor::with_wide_gcm() {
        Some(processor) => ways.push(processor),
        None => TOLD.call_once(|| println!("NOT TESTED: AES-GCM on 256 bits, which this processor cannot")),
    }
    ways
}

fn keys(key: &[u8; KEY_LENGTH]) -> Vec<Gcm> {
    ways().into_iter().map(|processor| Gcm::new(key, processor).unwrap()).collect()
}

/// What is sealed, with the tag behind it.
fn seal(gcm: &Gcm, nonce: [u8; NONCE_LENGTH], associated: &[u8], payload: &[u8]) -> Vec<u8> {
    let (mut sealed, mut tag) = (payload.to_vec(), [0; TAG_LENGTH]);
    gcm.seal(nonce, associated, &mut sealed, &mut tag).unwrap();
    sealed.extend_from_slice(&tag);
    sealed
}

fn open(gcm: &Gcm, nonce: [u8; NONCE_LENGTH], associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Forged> {
    let mut opened = sealed.to_vec();
    gcm.open(nonce, associated, &mut opened)?;
    opened.truncate(sealed.len() - TAG_LENGTH);
    Ok(opened)
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

struct Vector {
    key: &'static str,
    nonce: &'static str,
    associated: &'static str,
    payload: &'static str,
    sealed: &'static str,
    tag: &'static str,
}

const ZERO_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const ZERO_NONCE: &str = "000000000000000000000000";
const KEY: &str = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
const NONCE: &str = "cafebabefacedbaddecaf888";

/// Test cases 13 to 16.
const VECTORS: [Vector; 4] = [
    Vector {
        key: ZERO_KEY,
        nonce: ZERO_NONCE,
        associated: "",
        payload: "",
        sealed: "",
        tag: "530f8afbc74536b9a963b4f1c4cb738b",
    },
    Vector {
        key: ZERO_KEY,
        nonce: ZERO_NONCE,
        associated: "",
        payload: "00000000000000000000000000000000",
        sealed: "cea7403d4d606b6e074ec5d3baf39d18",
        tag: "d0d1c8a799996bf0265b98b5d48ab919",
    },
    Vector {
        key: KEY,
        nonce: NONCE,
        associated: "",
        payload: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                  b16aedf5aa0de657ba637b391aafd255",
        sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                 c5f61e6393ba7a0abcc9f662898015ad",
        tag: "b094dac5d93471bdec1a502270e3cc6c",
    },
    Vector {
        key: KEY,
        nonce: NONCE,
        associated: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        payload: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                  b16aedf5aa0de657ba637b39",
        sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                 c5f61e6393ba7a0abcc9f662",
        tag: "76fc6ece0f4e1768cddf8853bb2d551b",
    },
];

#[test]
fn the_authors_vectors_are_met() {
    for vector in &VECTORS {
        let nonce = bytes(vector.nonce).try_into().unwrap();
        let (associated, payload) = (bytes(vector.associated), bytes(vector.payload));
        let expected = [bytes(vector.sealed), bytes(vector.tag)].concat();
        for gcm in keys(&bytes(vector.key).try_into().unwrap()) {
            assert_eq!(seal(&gcm, nonce, &associated, &payload), expected);
            assert_eq!(open(&gcm, nonce, &associated, &expected).as_ref(), Ok(&payload));
        }
    }
}

/// Every way seals alike, and opens it.
fn hold_together(gcms: &[Gcm], nonce: [u8; NONCE_LENGTH], associated: &[u8], payload: &[u8]) -> Vec<u8> {
    let sealed = seal(&gcms[0], nonce, associated, payload);
    for gcm in gcms {
        assert_eq!(seal(gcm, nonce, associated, payload), sealed, "{} bytes", payload.len());
        assert_eq!(open(gcm, nonce, associated, &sealed).as_deref(), Ok(payload), "{} bytes", payload.len());
    }
    sealed
}

/// A router that seals in one way may have a peer that opens in another.
#[test]
fn every_way_seals_every_length_alike() {
    let gcms = keys(&core::array::from_fn(|at| at as u8));
    let payload: Vec<u8> = (0..2100).map(|at: usize| (at * 7 % 251) as u8).collect();
    for length in 0..=payload.len() {
        hold_together(&gcms, [5; NONCE_LENGTH], &payload[..length % 49], &payload[..length]);
    }
    // Around what is hashed at once, too.
    for length in [0, 1, 15, 16, 17, 31, 32, 33, 48, 240, 241, 255, 256, 257, 496, 497, 512, 600] {
        hold_together(&gcms, [6; NONCE_LENGTH], &payload[..length], &payload[..length / 2]);
        hold_together(&gcms, [7; NONCE_LENGTH], &payload[..length], &payload[..length]);
    }
    let long = payload.repeat(32);
    hold_together(&gcms, [8; NONCE_LENGTH], &[1; 28], &long[..65_000]);
}

#[test]
fn what_is_refused_is_not_shown() {
    for gcm in keys(&[3; KEY_LENGTH]) {
        for length in [1, 16, 240, 250, 300, 1400] {
            let mut sealed = seal(&gcm, [1; NONCE_LENGTH], b"header", &vec![0x77; length]);
            sealed[length] ^= 1;
            assert_eq!(gcm.open([1; NONCE_LENGTH], b"header", &mut sealed), Err(Forged));
            assert_eq!(sealed[..length], vec![0; length]);
        }
        for length in 0..TAG_LENGTH {
            assert_eq!(gcm.open([1; NONCE_LENGTH], b"", &mut vec![0; length]), Err(Forged));
        }
    }
}

proptest! {
    #[test]
    fn every_way_seals_alike_and_refuses_what_was_changed(
        key: [u8; KEY_LENGTH],
        nonce: [u8; NONCE_LENGTH],
        associated in prop::collection::vec(any::<u8>(), 0..48),
        payload in prop::collection::vec(any::<u8>(), 0..2100),
        flip in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let gcms = keys(&key);
        let sealed = hold_together(&gcms, nonce, &associated, &payload);
        let at = flip.index(associated.len() + sealed.len() + NONCE_LENGTH);
        let (mut associated, mut forged, mut nonce) = (associated, sealed, nonce);
        let changed = associated.iter_mut().chain(&mut forged).chain(&mut nonce).nth(at).unwrap();
        *changed ^= 1 << bit;
        for gcm in &gcms {
            prop_assert_eq!(open(gcm, nonce, &associated, &forged), Err(Forged));
        }
    }
}
