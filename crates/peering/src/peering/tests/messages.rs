//! Messages as bytes: what is written, and what is refused.

use fairway_crypto::{PeerKey, Sender};
use proptest::prelude::*;

use super::super::*;
use super::net::{Net, Router, address, at};
use crate::MAX_MESSAGE_LEN;

#[test]
fn a_message_is_that_of_the_golden_vector() {
    let text = include_str!("../../../../wire/vectors/bfd.hex");
    let hex = text.lines().find_map(|line| line.strip_prefix("l4-payload ")).unwrap();
    let golden: Vec<_> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let key = PeerKey::from_bytes(core::array::from_fn(|index| index as u8));
    let sender =
        Sender::new(&key, "branch", "hub", core::array::from_fn(|index| index as u8 + 0x40)).unwrap();
    for _ in 0..5 {
        sender.next_sequence();
    }
    let bfd = fairway_wire::bfd::Repr {
        state: State::Up,
        detect_multiplier: 3,
        my_discriminator: 0x11,
        your_discriminator: 0x22,
        desired_min_tx: 1_000_000,
        required_min_rx: 500_000,
        ..Default::default()
    };
    let boot_id = 0x8877_6655_4433_2211;
    let outgoing = Outgoing { source_router: "branch", pathway: "wan0", boot_id, bfd, iv: None };
    let now = Now { mono: Time::from_secs(9), unix: 1_795_000_001 };
    let mut bytes = [0; MAX_MESSAGE_LEN];
    let len = message::write(now, &sender, &outgoing, &mut bytes).unwrap();
    assert_eq!(bytes[..len], golden);

    let mut keyring = Keyring::new();
    keyring.insert(PeerId(4), "hub", "branch", key, [0; 16], now.unix - 10).unwrap();
    let incoming = message::read(now, &keyring, &mut bytes[..len]).unwrap();
    assert_eq!(
        (incoming.peer, incoming.present, incoming.boot_id, incoming.bfd),
        (PeerId(4), true, boot_id, bfd)
    );
}

#[test]
fn the_longest_names_fit_a_message() {
    let name = "n".repeat(255);
    let sender = Sender::new(&PeerKey::from_bytes([7; 32]), &name, "dc", [1; 16]).unwrap();
    let outgoing = Outgoing {
        source_router: &name,
        pathway: &name,
        boot_id: 1,
        bfd: Default::default(),
        iv: Some([0; 16]),
    };
    assert!(message::write(at(0), &sender, &outgoing, &mut [0; MAX_MESSAGE_LEN]).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_flipped_bit_is_never_accepted_and_changes_nothing(at_bit in any::<prop::sample::Index>(), number in 0u8..2) {
        let mut net = Net::up();
        net.cut = [[true; 2]; 2];
        net.run(100);
        let mut flying = net.captured.iter().rev().find(|flying| flying.2 == number).unwrap().clone();
        let bit = at_bit.index(flying.3.len() * 8);
        flying.3[bit / 8] ^= 1 << (bit % 8);
        let before = format!("{:?}", net.routers[flying.1].peering);
        net.deliver(&flying);
        prop_assert_eq!(net.routers[flying.1].drops.len(), 1);
        prop_assert_eq!(format!("{:?}", net.routers[flying.1].peering), before);
    }

    #[test]
    fn any_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), cookie in any::<bool>()) {
        let mut router = Router::start(0, 1, 7, 0);
        if cookie {
            bytes.splice(0..0, [0x4c, 0x48, 0xdb, 0xc6, 0xdd, 0xf6, 0x67, 0x0c, 0x10]);
        }
        let outcome = router.peering.handle_message(at(9), &router.keyring, address(0, 0), address(1, 0), &mut bytes);
        prop_assert!(outcome.is_err());
    }

    #[test]
    fn paths_come_up_whatever_was_lost_before(seed in any::<u64>(), percent in 0u64..50) {
        let mut net = Net::new();
        let mut random = seed | 1;
        net.loss = Box::new(move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % 100 < percent
        });
        net.run(8000);
        net.loss = Box::new(|| false);
        net.run(6000);
        prop_assert_eq!(net.routers.each_ref().map(Router::ups), [[true; 2]; 2]);
        prop_assert!(net.routers.iter().all(|router| router.drops.iter().all(|&drop| drop == DropReason::MetadataBeforeStart)));
    }
}
