//! Measures what the operations of the hop layer cost, in nanoseconds each.
//!
//! `cargo run --release -p fairway-crypto --example cost`

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![allow(clippy::print_stdout, reason = "its result is what it prints")]

use std::hint::black_box;
use std::time::Instant;

use fairway_crypto::{HopKeys, PeerKey, Receiver, ReplayWindow, Sender, slot};
use fairway_types::{Now, Time};

/// Prints the best of five runs, which is the one least disturbed.
fn measure(name: &str, mut operation: impl FnMut()) {
    const ROUNDS: u32 = 20_000;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            operation();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    println!("{name:48} {best:8.1} ns");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = Now { mono: Time::from_secs(100), unix: 1_800_000_100 };
    let key = PeerKey::from_bytes([7; 32]);
    let sender = Sender::new(&key, "branch", "dc", [1; 16])?;
    let mut receiver = Receiver::new(key.clone(), "dc", "branch", 1_800_000_000);
    let keys = HopKeys::derive(&key, &[1; 16], "branch", "dc")?;
    let message = [0x5a; 300];
    let tag = keys.tag(&message, slot(now.unix));
    let earlier = keys.tag(&message, slot(now.unix) - 1);
    let mut buffer = [0x5a; 256];

    measure("derive the keys of a hop", || {
        let _ = black_box(HopKeys::derive(&key, black_box(&[1; 16]), "branch", "dc"));
    });
    measure("tag 300 bytes", || {
        black_box(keys.tag(black_box(&message), 900_000_050));
    });
    measure("verify 300 bytes, this slot", || {
        let _ = black_box(keys.verify(&message, black_box(&tag), now.unix, 0));
    });
    measure("verify 300 bytes, the slot before", || {
        let _ = black_box(keys.verify(&message, black_box(&earlier), now.unix, 0));
    });
    measure("refuse 300 bytes", || {
        let _ = black_box(keys.verify(&message, black_box(&[0; 16]), now.unix, 0));
    });
    measure("encrypt 200 bytes", || {
        black_box(keys.encrypt_metadata(&[3; 16], black_box(&mut buffer), 200));
    });
    measure("decrypt 208 bytes", || {
        let _ = black_box(keys.decrypt_metadata(&[3; 16], black_box(&mut buffer[..208])));
    });
    let (mut window, mut sequence) = (ReplayWindow::<64>::new(), 0);
    measure("replay window", || {
        sequence += 1;
        let _ = black_box(window.check_and_set(black_box(sequence)));
    });
    measure("accept a packet of 300 bytes", || {
        let _ = black_box(receiver.accept(&[1; 16], sender.next_sequence(), &message, &tag, now));
    });
    Ok(())
}
