use proptest::prelude::*;

use super::*;

/// State Up, diagnostic 0, multiplier 3, discriminators 0x11 and 0x22, 1 s and 0.5 s.
const UP: [u8; 24] =
    [0x20, 0xc0, 3, 24, 0, 0, 0, 0x11, 0, 0, 0, 0x22, 0, 0x0f, 0x42, 0x40, 0, 0x07, 0xa1, 0x20, 0, 0, 0, 0];

#[test]
fn golden_bytes() {
    let repr = Repr {
        state: State::Up,
        detect_multiplier: 3,
        my_discriminator: 0x11,
        your_discriminator: 0x22,
        desired_min_tx: 1_000_000,
        required_min_rx: 500_000,
        ..Repr::default()
    };
    assert_eq!(Repr::parse(&Packet::new_checked(UP).unwrap()), repr);
    let mut buffer = [0xee; 24];
    assert_eq!(repr.emit(&mut buffer), Some(24));
    assert_eq!(buffer, UP);
    assert_eq!(repr.emit(&mut [0; 23]), None);
}

#[test]
fn the_checks_of_section_6_8_6() {
    let broken = |changes: &[(usize, u8)]| {
        let mut packet = UP;
        for &(at, value) in changes {
            packet[at] = value;
        }
        Packet::new_checked(packet).map(|_| ())
    };
    assert_eq!(Packet::new_checked(&UP[..23]).map(|_| ()), Err(BfdError::TooShort));
    assert_eq!(broken(&[(0, 0x40)]), Err(BfdError::Version));
    assert_eq!(broken(&[(3, 23)]), Err(BfdError::Length));
    assert_eq!(broken(&[(1, 0xc4)]), Err(BfdError::Length));
    assert_eq!(broken(&[(3, 25)]), Err(BfdError::TooShort));
    assert_eq!(broken(&[(2, 0)]), Err(BfdError::DetectMultiplier));
    assert_eq!(broken(&[(1, 0xc1)]), Err(BfdError::Multipoint));
    assert_eq!(broken(&[(7, 0)]), Err(BfdError::MyDiscriminator));
    assert_eq!(broken(&[(11, 0)]), Err(BfdError::YourDiscriminator));
    assert_eq!(broken(&[(11, 0), (1, 0x40)]), Ok(()));
    assert_eq!(broken(&[(11, 0), (1, 0x00)]), Ok(()));
}

proptest! {
    #[test]
    fn a_packet_survives_a_round_trip(
        diagnostic in 0u8..32, state in 0u8..4, flags in any::<[bool; 4]>(), detect_multiplier in 1u8..,
        my_discriminator in 1u32.., your_discriminator in 1u32.., times in any::<[u32; 3]>(),
    ) {
        let repr = Repr {
            diagnostic, state: State::from_bits(state), poll: flags[0], is_final: flags[1],
            control_plane_independent: flags[2], demand: flags[3], detect_multiplier, my_discriminator,
            your_discriminator, desired_min_tx: times[0], required_min_rx: times[1],
            required_min_echo_rx: times[2],
        };
        let mut buffer = [0xee; 24];
        prop_assert_eq!(repr.emit(&mut buffer), Some(24));
        prop_assert_eq!(Repr::parse(&Packet::new_checked(&buffer[..]).unwrap()), repr);
    }
}
