//! The statistics of impairments, in virtual time.

use std::time::Duration;

use fairway_types::Time;

use super::{Impairment, Stats};
use crate::wire::settings::{Change, Settings};

const FRAMES: u64 = 100_000;

fn impairment(change: &str, seed: u64) -> Impairment {
    let change: Change = serde_json::from_str(change).unwrap();
    Impairment::new(Settings::default().with(&change).unwrap(), seed)
}

/// A frame that carries its number.
fn frame(number: u64, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length.max(22)];
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    frame
}

fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().unwrap())
}

/// Sends frames `every` so often; what arrives, as times and numbers.
fn send(wire: &mut Impairment, count: u64, every: Duration, length: usize) -> Vec<(Time, u64)> {
    let mut arrived = Vec::new();
    let mut take = |wire: &mut Impairment, until: Time| {
        while let Some(due) = wire.poll_timeout().filter(|due| *due <= until) {
            let frame = wire.poll_transmit(due).unwrap();
            arrived.push((due, number(&frame)));
        }
    };
    for index in 0..count {
        let now = Time(every.as_nanos() as u64 * index);
        take(wire, now);
        wire.handle_input(now, frame(index, length));
    }
    take(wire, Time(u64::MAX));
    arrived
}

/// Whether `count` of [`FRAMES`] is what a share gives, within four standard deviations.
fn is_share(count: u64, share: f64) -> bool {
    let (count, all) = (count as f64, FRAMES as f64);
    (count - all * share).abs() < 4.0 * (all * share * (1.0 - share)).sqrt()
}

#[test]
fn without_settings_frames_pass_at_once_in_order_and_unchanged() {
    let mut wire = impairment("{}", 1);
    let arrived = send(&mut wire, 1000, Duration::from_micros(1), 60);
    assert!(arrived.iter().enumerate().all(|(i, (at, n))| *n == i as u64 && at.0 == i as u64 * 1000));
    let stats = wire.stats();
    let expected =
        Stats { received: 1000, received_bytes: 60_000, sent: 1000, sent_bytes: 60_000, ..Stats::default() };
    assert_eq!(stats, expected);
}

#[test]
fn delay_is_exact() {
    let arrived = send(&mut impairment(r#"{"delay":"10ms"}"#, 1), 1000, Duration::from_micros(7), 60);
    assert!(arrived.iter().all(|(at, number)| at.0 == number * 7000 + 10_000_000));
}

#[test]
fn jitter_is_uniform_around_the_delay_and_keeps_the_order() {
    let mut wire = impairment(r#"{"delay":"10ms","jitter":"2ms"}"#, 7);
    let every = Duration::from_millis(5);
    let arrived = send(&mut wire, FRAMES, every, 60);
    let delays: Vec<f64> = arrived.iter().map(|(at, n)| (at.0 - n * 5_000_000) as f64 / 1e6).collect();
    assert!(delays.iter().all(|delay| (8.0..=12.0).contains(delay)));
    let mean = delays.iter().sum::<f64>() / delays.len() as f64;
    let variance = delays.iter().map(|delay| (delay - mean).powi(2)).sum::<f64>() / delays.len() as f64;
    assert!((mean - 10.0).abs() < 0.02, "mean {mean}");
    assert!((variance - 4.0 / 3.0).abs() < 0.02, "variance {variance}");
    // Every tenth of the range holds a tenth of the frames.
    for tenth in 0..10 {
        let low = 8.0 + 0.4 * f64::from(tenth);
        let inside = delays.iter().filter(|delay| (low..low + 0.4).contains(*delay)).count();
        assert!(is_share(inside as u64, 0.1), "{inside} frames at {low} ms");
    }
    let mut close = impairment(r#"{"delay":"10ms","jitter":"10ms"}"#, 7);
    let arrived = send(&mut close, 10_000, Duration::from_micros(10), 60);
    assert!(arrived.is_sorted_by_key(|(_, number)| *number), "jitter reordered");
}

#[test]
fn loss_has_its_share_and_is_independent() {
    for (share, text) in [(0.05, "5%"), (0.001, "0.1%"), (0.5, "50%")] {
        let mut wire = impairment(&format!(r#"{{"loss":"{text}"}}"#), 3);
        let arrived = send(&mut wire, FRAMES, Duration::from_micros(1), 60);
        assert!(is_share(wire.stats().lost, share), "{:?}", wire.stats());
        assert_eq!(arrived.len() as u64 + wire.stats().lost, FRAMES);
        let pairs = FRAMES - 1 - arrived.windows(2).map(|w| u64::from(w[1].1 - w[0].1 == 1)).sum::<u64>();
        // A frame and its successor both arrive in (1 - p)² of all cases.
        assert!((pairs as f64 / FRAMES as f64 - (1.0 - (1.0 - share) * (1.0 - share))).abs() < 0.01);
    }
}

#[test]
fn burst_loss_has_its_share_and_its_length() {
    let mut wire = impairment(r#"{"loss":"5%","loss-burst":4}"#, 3);
    let arrived = send(&mut wire, FRAMES, Duration::from_micros(1), 60);
    let lost = wire.stats().lost as f64;
    let bursts = arrived.windows(2).filter(|w| w[1].1 - w[0].1 > 1).count() as f64;
    assert!((lost / FRAMES as f64 - 0.05).abs() < 0.006, "{lost} lost");
    assert!((lost / bursts - 4.0).abs() < 0.3, "bursts of {}", lost / bursts);
}

#[test]
fn duplicates_and_corruption_have_their_share() {
    let mut wire = impairment(r#"{"duplicate":"3%","corrupt":"2%"}"#, 5);
    let mut changed = 0;
    let mut arrived = 0;
    for index in 0..FRAMES {
        wire.handle_input(Time(index), frame(0, 60));
        let mut first = true;
        while let Some(frame) = wire.poll_transmit(Time(index)) {
            arrived += 1;
            let bits: u32 = frame.iter().map(|byte| byte.count_ones()).sum();
            assert!(bits <= 1 && frame[..14].iter().all(|byte| *byte == 0));
            changed += u64::from(bits == 1 && first);
            first = false;
        }
    }
    let stats = wire.stats();
    assert!(is_share(stats.duplicated, 0.03) && is_share(stats.corrupted, 0.02), "{stats:?}");
    assert_eq!((changed, arrived), (stats.corrupted, FRAMES + stats.duplicated));
}

#[test]
fn reordered_frames_arrive_late_and_others_keep_their_order() {
    let mut wire = impairment(r#"{"delay":"5ms","reorder":"4%","reorder-delay":"1ms"}"#, 9);
    let arrived = send(&mut wire, FRAMES, Duration::from_micros(100), 60);
    let late: Vec<u64> =
        arrived.iter().filter(|(at, n)| at.0 - n * 100_000 == 6_000_000).map(|(_, n)| *n).collect();
    assert!(is_share(late.len() as u64, 0.04) && late.len() as u64 == wire.stats().reordered);
    let mut highest = 0;
    let out_of_order = arrived.iter().filter(|(_, n)| {
        let behind = *n < highest;
        highest = highest.max(*n);
        behind
    });
    // All but those whose followers are late as well are out of order (RFC 4737).
    let share = out_of_order.count() as f64 / late.len() as f64;
    assert!(share > 0.99, "{share}");
}

#[test]
fn the_rate_is_exact_and_the_queue_has_its_limit() {
    let mut wire = impairment(r#"{"rate":"10mbit","queue":"20ms"}"#, 1);
    // Twice what fits: 1250 bytes take 1 ms on the line.
    let arrived = send(&mut wire, 20_000, Duration::from_micros(500), 1250);
    let (first, last) = (arrived.first().unwrap().0, arrived.last().unwrap().0);
    let rate = (arrived.len() - 1) as f64 * 10_000.0 / (last - first).as_secs_f64();
    assert!((rate / 10e6 - 1.0).abs() < 1e-6, "{rate} bit/s");
    let longest = arrived.iter().map(|(at, n)| *at - Time(n * 500_000)).max().unwrap();
    assert!((20..=21).contains(&longest.as_millis()), "waited {longest:?}");
    assert_eq!(arrived.len() as u64 + wire.stats().queue_full, 20_000);

    let mut wire = impairment(r#"{"rate":"10mbit","queue":"5000B"}"#, 1);
    (0..100).for_each(|index| wire.handle_input(Time::ZERO, frame(index, 1250)));
    // Four wait, and the one that finds exactly the limit still fits.
    assert_eq!(wire.stats().queued, 5);
}

#[test]
fn the_seed_decides_everything() {
    let change =
        r#"{"delay":"5ms","jitter":"5ms","loss":"5%","duplicate":"5%","reorder":"5%","corrupt":"5%"}"#;
    let run = |seed| send(&mut impairment(change, seed), 5000, Duration::from_micros(100), 60);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn frames_under_way_are_bounded() {
    let mut wire = impairment(r#"{"delay":"1s"}"#, 1);
    (0..FRAMES + 10).for_each(|index| wire.handle_input(Time::ZERO, frame(index, 22)));
    assert_eq!((wire.stats().queued, wire.stats().overrun), (FRAMES, 10));
}

#[test]
fn contradictions_are_refused() {
    let with = |text: &str| Settings::default().with(&serde_json::from_str(text).unwrap());
    assert!(with(r#"{"jitter":"1ms"}"#).is_err());
    assert!(with(r#"{"loss-burst":0}"#).is_err());
    assert!(with(r#"{"loss":"90%","loss-burst":2}"#).is_err());
    assert!(with(r#"{"loss":"60%","loss-burst":2}"#).is_ok());
}
