//! What the programs cost.

use fairway_types::OffloadId;

use super::*;

/// Not a test of anything: prints what the programs cost.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let Some(mut bench) = Bench::new(Way::Stack) else { return };
    // Flows that leave as they came can be looked at again and again, until their TTL is over.
    for (name, protocol) in [(NAME, 17), (OffloadId(2), 6)] {
        let (forth, back) = pair(protocol);
        bench.flows.install(name, [route(forth, forth), route(back, back)]).unwrap();
        bench.flows.touch(name);
    }
    bench.drain();
    let ((udp, _), (tcp, _)) = (pair(17), pair(6));
    let packet = frame(&udp, 255, 0, &[7; 64]);
    let mut other = udp;
    other.source.set_port(1);
    let miss = frame(&other, 255, 0, &[7; 64]);
    let segment = frame(&tcp, 255, ACK, &[7; 1440]);
    let left = unfinished(&segment, &tcp);
    bench.driver.know(true);
    let (serve, driver) = (bench.classifier.serving_program().unwrap(), &bench.driver.program);
    let cases = [
        ("tc, 64 bytes", serve, &packet),
        ("tc, 1440 bytes", serve, &segment),
        ("tc, another flow", serve, &miss),
        ("XDP, another flow", driver, &miss),
        ("XDP, 64 bytes", driver, &packet),
        ("XDP, 1440 bytes", driver, &segment),
        ("XDP, 1440 bytes, the first of 250 unfinished", driver, &left),
    ];
    let mut best = cases.map(|_| u32::MAX);
    for _ in 0..2000 {
        for ((_, program, packet), best) in cases.iter().zip(&mut best) {
            *best = (*best).min(program.repeat(packet, 250).unwrap().1);
        }
    }
    for ((what, ..), best) in cases.iter().zip(best) {
        eprintln!("{what}: {best} ns");
    }
}
