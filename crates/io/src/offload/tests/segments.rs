//! Metadata among the segments of a super-packet.

use super::*;

/// A connection in the kernel whose segments are looked at.
fn given(look: Look) -> Option<Bench> {
    let mut bench = Bench::new(Way::Stack)?;
    let (forth, back) = pair(6);
    let mut routes = [route(forth, back.reversed()), route(back, forth.reversed())];
    routes.iter_mut().for_each(|route| route.flow.look = look);
    bench.flows.install(NAME, routes).unwrap();
    bench.drain();
    Some(bench)
}

#[test]
fn metadata_at_the_start_of_any_segment_is_found() {
    let Some(mut bench) = given(Look::Everywhere) else { return };
    let (forth, _) = pair(6);
    let mut payload = vec![0x55; 4 * 300 + 100];
    assert!(bench.pass(&frame(&forth, 64, ACK, &payload), 300).is_some());
    for segment in 0..5 {
        payload.fill(0x55);
        payload[segment * 300..][..8].copy_from_slice(&svr::COOKIE);
        assert!(bench.pass(&frame(&forth, 64, ACK, &payload), 300).is_none(), "segment {segment}");
        bench.drain();
        payload.rotate_right(1);
        assert!(bench.pass(&frame(&forth, 64, ACK, &payload), 300).is_some(), "not at the start");
    }
    assert!(bench.pass(&frame(&forth, 64, ACK, &payload), 1457).is_none(), "segments that are too big");
    bench.drain();
    assert!(bench.pass(&frame(&forth, 64, ACK, &payload), 10).is_none(), "too many to look at");
}

#[test]
fn metadata_is_looked_for_in_the_first_and_the_last_segment_of_what_a_peer_sends() {
    let Some(mut bench) = given(Look::AtEnds) else { return };
    let (forth, _) = pair(6);
    // The last is as long as the others, shorter, or too short for a cookie.
    for last in [300, 100, 8, 7] {
        let mut payload = vec![0x55; 4 * 300 + last];
        for segment in 0..5 {
            payload.fill(0x55);
            let start = &mut payload[segment * 300..];
            let length = start.len().min(svr::COOKIE.len());
            start[..length].copy_from_slice(&svr::COOKIE[..length]);
            let seen = segment == 0 || segment == 4 && last >= svr::COOKIE.len();
            let passed = bench.pass(&frame(&forth, 64, ACK, &payload), 300).is_some();
            assert_eq!(passed, !seen, "segment {segment} of five, the last {last} bytes long");
            bench.drain();
        }
        payload.fill(0x55);
        let found = bench.pass(&frame(&forth, 64, ACK, &payload), 300).unwrap();
        assert_eq!(found[found.len() - payload.len()..], payload);
    }
    assert!(bench.pass(&frame(&forth, 64, ACK, &[0x55; 3000]), 10).is_some(), "however many there are");
}
