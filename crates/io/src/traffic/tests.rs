//! A flood between two namespaces: it arrives, as often and as whole as it was sent.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::sys::{enter_namespace, is_root};

const PORT: u16 = 9000;
const SESSIONS: u32 = 4000;

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two namespaces and the pair between them, removed with this value.
struct Two(String);

impl Two {
    fn new(name: &str) -> Self {
        let name = format!("fwio-{}-{name}", std::process::id());
        sh(&format!(
            "ip netns add {name}-x; ip netns add {name}-y
ip link add flood netns {name}-x type veth peer name sink netns {name}-y
ip -n {name}-x address add 10.1.0.2/24 dev flood; ip -n {name}-x link set flood up
ip -n {name}-y address add 10.1.0.1/24 dev sink; ip -n {name}-y link set sink up
ip netns exec {name}-y ethtool -K sink gro on"
        ));
        Self(name)
    }

    /// The number and the link address of a device.
    fn device(&self, side: char, device: &str) -> (u32, [u8; 6]) {
        let command = format!("ip -n {}-{side} -o link show {device}", self.0);
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let index = text.split(':').next().unwrap().parse().unwrap();
        let address = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
        let bytes: Vec<u8> = address.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        (index, bytes.try_into().unwrap())
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        for side in ["x", "y"] {
            let _ = Command::new("ip").args(["netns", "delete", &format!("{}-{side}", self.0)]).status();
        }
    }
}

fn plan(two: &Two, order: Order) -> FloodPlan {
    let ((ifindex, near), (_, far)) = (two.device('x', "flood"), two.device('y', "sink"));
    FloodPlan {
        ifindex,
        link: [far, near],
        from: Ipv4Addr::new(10, 1, 0, 100),
        to: SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 1), PORT),
        payload: (0..64).collect(),
        sessions: SESSIONS,
        order,
    }
}

/// Runs `work` on a thread inside one of the namespaces.
fn inside<T: Send>(two: &Two, side: char, work: impl FnOnce() -> T + Send) -> T {
    let name = format!("{}-{side}", two.0);
    let entered = || {
        enter_namespace(&name).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(entered).join()).unwrap()
}

/// Waits until a tally has come to `count`: the kernel takes frames off the wire when it has time.
fn reaches(tally: &Tally, count: u64) {
    for _ in 0..2000 {
        if tally.count().unwrap() >= count {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(tally.count().unwrap(), count);
}

#[test]
fn a_flood_is_counted_and_its_datagrams_are_whole() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let two = Two::new("flood");
    let flood = inside(&two, 'x', || Flood::new(&plan(&two, Order::Random)).unwrap());
    let (sink, socket) = inside(&two, 'y', || {
        let socket = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (ifindex, _) = two.device('y', "sink");
        (Tally::attach(ifindex, Side::Destination, PORT, 64, Fate::AnswerOneIn(64)).unwrap(), socket)
    });
    for round in 1..=400 {
        inside(&two, 'x', || flood.send(128).unwrap());
        reaches(&sink, round * 128);
    }
    assert_eq!(flood.sent().unwrap(), 400 * 128);
    let mut buffer = [0; 128];
    let mut sources = std::collections::BTreeSet::new();
    // About 12 of 51,200 go on to the socket, which checks their checksums as it always does.
    let error = loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                assert!(buffer[..length].iter().copied().eq(0..64));
                sources.insert(from);
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(sources.len() > 1, "{sources:?}");
}

#[test]
fn each_session_is_answered_once_when_they_come_in_turn() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let two = Two::new("echo");
    let plan = plan(&two, Order::InTurn);
    let (flood, back) = inside(&two, 'x', || {
        let back = Tally::attach(plan.ifindex, Side::Source, PORT, 64, Fate::DropAll).unwrap();
        (Flood::new(&plan).unwrap(), back)
    });
    let (ifindex, _) = two.device('y', "sink");
    let echo =
        inside(&two, 'y', || Tally::attach(ifindex, Side::Destination, PORT, 64, Fate::Return).unwrap());
    for round in 1..=u64::from(SESSIONS) / 100 {
        inside(&two, 'x', || flood.send(100).unwrap());
        reaches(&back, round * 100);
    }
    reaches(&echo, SESSIONS.into());
}
