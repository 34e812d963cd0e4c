//! Golden values were computed with Python's `hmac` and `hashlib`, and with `openssl enc`.

use super::*;
use proptest::prelude::*;

const SALT: [u8; SALT_LENGTH] = *b"@ABCDEFGHIJKLMNO";
const IV: [u8; IV_LENGTH] =
    [0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f];
const UNIX: u64 = 1_800_000_001;

fn peer_key() -> PeerKey {
    PeerKey::from_bytes(core::array::from_fn(|index| index as u8))
}

fn keys() -> HopKeys {
    HopKeys::derive(&peer_key(), &SALT, "branch", "dc").unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_security_id_matches_the_golden_value_and_has_a_direction() {
    assert_eq!(security_id("dc", "branch"), 0xa29b_1122);
    assert_ne!(security_id("dc", "branch"), security_id("branch", "dc"));
}

#[test]
fn a_tag_matches_the_golden_value() {
    let tag = keys().tag(b"the signed bytes of a packet", slot(UNIX));
    assert_eq!(hex(&tag), "6e9c6b9238741e04bce63fc299d6692d");
}

#[test]
fn encryption_matches_the_golden_values() {
    let counting: Vec<u8> = (0..32).collect();
    for (plain, cipher) in [
        (&b""[..], "96c80cac80674eea1797385c6ee3e4c2"),
        (&b"metadata in clear"[..], "0a5c45a844f2b0e4b9a0153528e66184f73047fa41b62941d2eb6febc6d89eed"),
        (
            &counting,
            "38e6e5af90fe7fd4318d5d5d42f16a3355705f3be583d1031239b42f650ec299bd50dd20d8fe9e0dc93340d518d090d0",
        ),
    ] {
        let mut buffer = [0; 64];
        buffer[..plain.len()].copy_from_slice(plain);
        let padded = keys().encrypt_metadata(&IV, &mut buffer, plain.len()).unwrap();
        assert_eq!(padded, padded_length(plain.len()));
        assert_eq!(hex(&buffer[..padded]), cipher);
        assert_eq!(keys().decrypt_metadata(&IV, &mut buffer[..padded]), Ok(plain.len()));
        assert_eq!(&buffer[..plain.len()], plain);
    }
}

#[test]
fn each_input_of_the_derivation_changes_the_tag() {
    let tag = |key: &PeerKey, salt, sender, receiver| {
        HopKeys::derive(key, &salt, sender, receiver).unwrap().tag(b"x", 1)
    };
    let reference = tag(&peer_key(), SALT, "branch", "dc");
    for other in [
        tag(&PeerKey::from_bytes([7; 32]), SALT, "branch", "dc"),
        tag(&peer_key(), [0; SALT_LENGTH], "branch", "dc"),
        tag(&peer_key(), SALT, "dc", "branch"),
        tag(&peer_key(), SALT, "branc", "hdc"),
    ] {
        assert_ne!(reference, other);
    }
}

#[test]
fn a_tag_lives_in_its_slot_and_the_two_beside_it() {
    let (keys, present) = (keys(), slot(UNIX));
    for distance in -3i64..=3 {
        let signed_in = present.wrapping_add_signed(distance);
        let tag = keys.tag(b"bytes", signed_in);
        let expected = if distance.abs() <= 1 { Ok(signed_in) } else { Err(TagError::Mismatch) };
        assert_eq!(keys.verify(b"bytes", &tag, UNIX, 0), expected, "{distance}");
    }
}

#[test]
fn a_tag_from_before_the_start_is_told_apart() {
    let (keys, present) = (keys(), slot(UNIX));
    let tag = keys.tag(b"bytes", present);
    assert_eq!(keys.verify(b"bytes", &tag, UNIX, present), Ok(present));
    assert_eq!(keys.verify(b"bytes", &tag, UNIX, present + 1), Err(TagError::BeforeStart));
    assert_eq!(keys.verify(b"other", &tag, UNIX, present + 1), Err(TagError::Mismatch));
}

#[test]
fn the_first_and_last_slots_of_time_do_not_overflow() {
    for unix in [0, u64::MAX] {
        let tag = keys().tag(b"bytes", slot(unix));
        assert_eq!(keys().verify(b"bytes", &tag, unix, 0), Ok(slot(unix)));
    }
}

#[test]
fn what_does_not_fit_or_is_no_padding_is_refused() {
    let mut short = [0; 16];
    assert_eq!(keys().encrypt_metadata(&IV, &mut short, 16), None);
    assert_eq!(keys().encrypt_metadata(&IV, &mut short, usize::MAX), None);
    assert_eq!(keys().decrypt_metadata(&IV, &mut []), Err(DecryptError::Length));
    assert_eq!(keys().decrypt_metadata(&IV, &mut short[..15]), Err(DecryptError::Length));
    assert_eq!(keys().decrypt_metadata(&IV, &mut short), Err(DecryptError::Padding));
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_makes_a_bad_tag(bytes in prop::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>()) {
        let keys = keys();
        let tag = keys.tag(&bytes, slot(UNIX));
        let mut changed = [bytes.as_slice(), &tag].concat();
        let bit = at.index(changed.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        let (changed, changed_tag) = changed.split_last_chunk().unwrap();
        prop_assert_eq!(keys.verify(changed, changed_tag, UNIX, 0), Err(TagError::Mismatch));
    }

    #[test]
    fn what_is_encrypted_is_decrypted(plain in prop::collection::vec(any::<u8>(), 0..300), iv in any::<[u8; 16]>()) {
        let mut buffer = plain.clone();
        buffer.resize(padded_length(plain.len()), 0);
        prop_assert_eq!(keys().encrypt_metadata(&iv, &mut buffer, plain.len()), Some(buffer.len()));
        prop_assert_eq!(keys().decrypt_metadata(&iv, &mut buffer), Ok(plain.len()));
        prop_assert_eq!(&buffer[..plain.len()], plain.as_slice());
    }

    #[test]
    fn any_bytes_decrypt_or_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), iv in any::<[u8; 16]>()) {
        let length = bytes.len();
        if let Ok(plain) = keys().decrypt_metadata(&iv, &mut bytes) {
            prop_assert!(plain < length);
        }
    }
}
