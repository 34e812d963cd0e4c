//! Captures by tcpdump, read back.

use std::fs;

use crate::lab::{Background, Lab, poll};

/// A capture that runs.
pub struct Capture {
    tcpdump: Background,
    file: String,
}

impl Capture {
    /// Captures on a device of a node, from now on.
    #[track_caller]
    pub fn start(lab: &Lab, node: &str, device: &str) -> Self {
        let file = lab.path(&format!("{node}/{device}.pcap"));
        let log = format!("{file}.log");
        // What an earlier capture said is no sign that this one has begun.
        let _ = fs::remove_file(&log);
        let command =
            format!("exec tcpdump -Z root -ni {device} -s 0 -B 16384 --immediate-mode -w {file} 2>{log}");
        let tcpdump = lab.start(node, &["bash", "-c", &command]);
        let listens = || fs::read_to_string(&log).unwrap_or_default().contains("listening on");
        assert!(poll(10, listens), "tcpdump does not start: {:?}", fs::read_to_string(&log));
        Self { tcpdump, file }
    }

    /// Ends it: the IP packets that were captured, in order.
    #[track_caller]
    pub fn packets(self) -> Vec<Vec<u8>> {
        self.tcpdump.interrupt();
        let bytes = fs::read(&self.file).unwrap();
        frames(&bytes).filter_map(ip_packet).collect()
    }
}

/// The frames of a pcap file in this machine's byte order.
fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(24..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (header, after) = rest.split_at_checked(16)?;
        let length = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
        let (frame, after) = after.split_at_checked(length)?;
        rest = after;
        Some(frame)
    })
}

/// The IP packet of an Ethernet frame, without padding.
fn ip_packet(frame: &[u8]) -> Option<Vec<u8>> {
    let packet = frame.get(14..)?;
    let length = match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        0x86dd => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        _ => return None,
    };
    packet.get(..length).map(<[u8]>::to_vec)
}
