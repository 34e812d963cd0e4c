use super::*;
use crate::sender::Sender;
use proptest::prelude::*;

const STARTED: u64 = 1_800_000_000;
const MESSAGE: &[u8] = b"everything from the cookie on";

fn key() -> PeerKey {
    PeerKey::from_bytes([7; 32])
}

fn sender(salt: u8) -> Sender {
    Sender::new(&key(), "branch", "dc", [salt; SALT_LENGTH]).unwrap()
}

fn receiver() -> Receiver {
    Receiver::new(key(), "dc", "branch", STARTED)
}

/// `millis` after the receiver started.
fn at(millis: u64) -> Now {
    Now { mono: Time::from_millis(millis), unix: STARTED + millis / 1000 }
}

/// A message as it is on the wire: salt, sequence, signed bytes, tag.
#[derive(Clone)]
struct Message([u8; SALT_LENGTH], u64, Vec<u8>, [u8; TAG_LENGTH]);

fn sign(sender: &mut Sender, now: Now) -> Message {
    let (salt, sequence) = (*sender.salt(), sender.next_sequence());
    let signed = [MESSAGE, &salt, &sequence.to_be_bytes()].concat();
    let tag = sender.keys().tag(&signed, slot(now.unix));
    Message(salt, sequence, signed, tag)
}

/// Whether the salt was new, or why the message was refused.
fn deliver(receiver: &mut Receiver, message: &Message, now: Now) -> Result<bool, Refused> {
    receiver.accept(&message.0, message.1, &message.2, &message.3, now).map(|accepted| accepted.new_salt)
}

#[test]
fn a_message_is_accepted_once() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    assert_eq!(sender.security_id(), receiver.security_id());
    let (first, second) = (sign(&mut sender, at(5000)), sign(&mut sender, at(5000)));
    assert_eq!(deliver(&mut receiver, &second, at(5000)), Ok(true));
    assert_eq!(deliver(&mut receiver, &first, at(5100)), Ok(false));
    assert_eq!(deliver(&mut receiver, &first, at(5200)), Err(Refused::Replayed(Replay::Seen)));
    assert_eq!(deliver(&mut receiver, &second, at(5200)), Err(Refused::Replayed(Replay::Seen)));
    assert_eq!(receiver.salt(), Some(&[1; SALT_LENGTH]));
}

#[test]
fn a_message_from_before_the_start_is_refused() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    let early = sign(&mut sender, at(1999));
    assert_eq!(deliver(&mut receiver, &early, at(2500)), Err(Refused::BeforeStart));
    assert_eq!(receiver.salt(), None);
    let later = sign(&mut sender, at(2000));
    assert_eq!(deliver(&mut receiver, &later, at(2500)), Ok(true));
}

#[test]
fn another_key_or_another_direction_is_a_bad_tag() {
    let other = PeerKey::from_bytes([8; 32]);
    for mut stranger in [
        Sender::new(&other, "branch", "dc", [1; SALT_LENGTH]).unwrap(),
        Sender::new(&key(), "dc", "branch", [1; SALT_LENGTH]).unwrap(),
        Sender::new(&key(), "mallory", "dc", [1; SALT_LENGTH]).unwrap(),
    ] {
        let message = sign(&mut stranger, at(5000));
        assert_eq!(deliver(&mut receiver(), &message, at(5000)), Err(Refused::BadTag));
    }
}

#[test]
fn the_previous_salt_is_accepted_for_ten_seconds_with_its_own_window() {
    let (mut old, mut new, mut receiver) = (sender(1), sender(2), receiver());
    let first = sign(&mut old, at(5000));
    let late = sign(&mut old, at(5900));
    assert_eq!(deliver(&mut receiver, &first, at(5000)), Ok(true));
    assert_eq!(deliver(&mut receiver, &sign(&mut new, at(5950)), at(6000)), Ok(true));
    assert_eq!(deliver(&mut receiver, &late, at(6100)), Ok(false));
    assert_eq!(deliver(&mut receiver, &late, at(6200)), Err(Refused::Replayed(Replay::Seen)));
    assert_eq!(receiver.salt(), Some(&[2; SALT_LENGTH]), "a packet of the old salt is no restart");
    let just_before = sign(&mut old, at(15_999));
    assert_eq!(deliver(&mut receiver, &just_before, at(15_999)), Ok(false));
    assert_eq!(deliver(&mut receiver, &sign(&mut new, at(16_000)), at(16_000)), Ok(false));
    assert_eq!(deliver(&mut receiver, &late, at(16_000)), Err(Refused::BadTag), "its slot has passed");
}

#[test]
fn a_peer_that_restarts_in_a_loop_waits_but_nothing_can_be_replayed() {
    let mut receiver = receiver();
    let mut kept = Vec::new();
    for salt in 1..=4 {
        let message = sign(&mut sender(salt), at(5000));
        assert_eq!(deliver(&mut receiver, &message, at(5000)), Ok(true));
        kept.push(message);
    }
    assert_eq!(deliver(&mut receiver, &sign(&mut sender(5), at(5000)), at(5000)), Err(Refused::BadTag));
    for message in &kept {
        assert_eq!(deliver(&mut receiver, message, at(5100)), Err(Refused::Replayed(Replay::Seen)));
    }
    assert_eq!(deliver(&mut receiver, &sign(&mut sender(5), at(15_000)), at(15_000)), Ok(true));
}

#[test]
fn random_salts_neither_cost_without_bound_nor_displace_anything() {
    let (mut genuine, mut receiver) = (sender(1), receiver());
    assert_eq!(deliver(&mut receiver, &sign(&mut genuine, at(5000)), at(5000)), Ok(true));
    for forged in 0..2 * DERIVATIONS_PER_SECOND {
        let mut message = sign(&mut genuine, at(5000));
        message.0[..4].copy_from_slice(&forged.to_be_bytes());
        assert_eq!(deliver(&mut receiver, &message, at(5000)), Err(Refused::BadTag));
    }
    assert_eq!(receiver.budget.taken, DERIVATIONS_PER_SECOND);
    assert_eq!(deliver(&mut receiver, &sign(&mut genuine, at(5100)), at(5100)), Ok(false));
    let mut restarted = sender(2);
    let refused = sign(&mut restarted, at(5100));
    assert_eq!(deliver(&mut receiver, &refused, at(5100)), Err(Refused::BadTag), "beyond the budget");
    assert_eq!(deliver(&mut receiver, &refused, at(6000)), Ok(true), "in the next second");
}

#[test]
fn genuine_packets_from_before_the_start_cost_one_derivation() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    for _ in 0..2 * DERIVATIONS_PER_SECOND {
        let early = sign(&mut sender, at(1500));
        assert_eq!(deliver(&mut receiver, &early, at(1900)), Err(Refused::BeforeStart));
    }
    let mut forged = sign(&mut sender, at(1500));
    forged.3[0] ^= 1;
    assert_eq!(deliver(&mut receiver, &forged, at(1900)), Err(Refused::BadTag));
    assert_eq!(receiver.budget.taken, 1);
    assert_eq!(deliver(&mut receiver, &sign(&mut sender, at(2000)), at(2000)), Ok(true));
    assert_eq!(receiver.budget.taken, 1);
}

#[test]
fn late_packets_of_a_salt_never_seen_do_not_replace_the_present_one() {
    // Both sides started at about the same time; the peer's old packets arrive after its new ones.
    let (mut old, mut new, mut receiver) = (sender(1), sender(2), receiver());
    let (earlier, same_slot) = (sign(&mut old, at(3900)), sign(&mut old, at(4100)));
    let first = sign(&mut new, at(4200));
    assert_eq!(deliver(&mut receiver, &first, at(4300)), Ok(true));
    assert_eq!(deliver(&mut receiver, &earlier, at(4300)), Err(Refused::Replayed(Replay::TooOld)));
    assert_eq!(deliver(&mut receiver, &same_slot, at(4300)), Ok(true), "cannot be told apart yet");
    assert_eq!(deliver(&mut receiver, &sign(&mut new, at(6000)), at(6000)), Ok(false));
    assert_eq!(receiver.salt(), Some(&[2; SALT_LENGTH]), "who goes on is the present one");
    assert_eq!(deliver(&mut receiver, &first, at(6000)), Err(Refused::Replayed(Replay::Seen)));
}

#[test]
fn the_last_sequence_number_is_no_restart() {
    let mut receiver = receiver();
    let sender = sender(1);
    let tag = sender.keys().tag(MESSAGE, slot(STARTED + 5));
    let message = Message(*sender.salt(), u64::MAX, MESSAGE.to_vec(), tag);
    assert_eq!(deliver(&mut receiver, &message, at(5000)), Err(Refused::Replayed(Replay::TooOld)));
    assert_eq!(receiver.salt(), None);
}

#[test]
fn accepted_keys_decrypt_what_the_sender_encrypted() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    let mut buffer = *b"payload TLVs____________________";
    let length = sender.keys().encrypt_metadata(&[9; 16], &mut buffer, 12).unwrap();
    let message = sign(&mut sender, at(5000));
    let accepted = receiver.accept(&message.0, message.1, &message.2, &message.3, at(5000)).unwrap();
    assert_eq!(accepted.keys.decrypt_metadata(&[9; 16], &mut buffer[..length]), Ok(12));
    assert_eq!(&buffer[..12], b"payload TLVs");
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_is_a_bad_tag_and_changes_nothing(at_bit in any::<prop::sample::Index>()) {
        let (mut sender, mut receiver) = (sender(1), receiver());
        let first = sign(&mut sender, at(5000));
        prop_assert_eq!(deliver(&mut receiver, &first, at(5000)), Ok(true));
        let message = sign(&mut sender, at(5000));
        let mut changed = [message.2.as_slice(), &message.3].concat();
        let bit = at_bit.index(changed.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        let (signed, tag) = changed.split_last_chunk::<TAG_LENGTH>().unwrap();
        // Salt and sequence are read from the signed bytes, as the wire has it.
        let (rest, sequence) = signed.split_last_chunk::<8>().unwrap();
        let salt = rest.last_chunk::<SALT_LENGTH>().unwrap();
        let outcome = receiver.accept(salt, u64::from_be_bytes(*sequence), signed, tag, at(5000));
        prop_assert_eq!(outcome.map(|accepted| accepted.new_salt), Err(Refused::BadTag));
        prop_assert_eq!(deliver(&mut receiver, &message, at(5000)), Ok(false));
    }

    #[test]
    fn under_loss_reordering_and_duplication_each_message_is_accepted_at_most_once(
        order in prop::collection::vec(0usize..200, 1..600)
    ) {
        let (mut sender, mut receiver) = (sender(1), receiver());
        let messages: Vec<_> = (0..200).map(|_| sign(&mut sender, at(5000))).collect();
        let mut seen = [false; 200];
        for index in order {
            let accepted = deliver(&mut receiver, &messages[index], at(5000)).is_ok();
            prop_assert_eq!(accepted, !seen[index]);
            seen[index] = true;
        }
    }
}
