//! IP fragments as hosts make them and put them together.

use std::collections::HashMap;
use std::net::IpAddr;

use fairway_wire::fragment::{self, Cut, View};
use fairway_wire::ip;

/// A packet in fragments of at most `mtu` bytes; alone, where it fits. IPv4 packets lose DF.
#[must_use]
pub fn cut(packet: &[u8], mtu: usize, id: u32) -> Vec<Vec<u8>> {
    if packet.len() <= mtu {
        return vec![packet.to_vec()];
    }
    let Some(cut) = Cut::new(packet, mtu, id) else { return Vec::new() };
    let emit = |index| {
        let mut out = vec![0; mtu];
        let length = cut.emit(index, &mut out)?;
        out.truncate(length);
        Some(out)
    };
    (0..cut.count()).filter_map(emit).collect()
}

/// What a host makes of the packets that arrive: those whose fragments are all there, and those that
/// arrive whole, in their order.
#[must_use]
pub fn join(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut desk = Desk::default();
    packets.iter().filter_map(|packet| desk.take(packet.clone())).collect()
}

/// Where a host puts fragments together. It never forgets any: a fabric delivers what is whole.
#[derive(Default)]
pub struct Desk {
    open: HashMap<Name, Vec<Vec<u8>>>,
}

/// Addresses, identification and protocol.
type Name = (IpAddr, IpAddr, u32, u8);

impl Desk {
    /// Takes a packet that arrives, and gives one that is whole now. What cannot be parsed is given as
    /// it is.
    pub fn take(&mut self, packet: Vec<u8>) -> Option<Vec<u8>> {
        let view = ip::parse(&packet).ok().and_then(|parsed| Some((parsed, View::of(&packet, &parsed)?)));
        let Some((parsed, view)) = view else { return Some(packet) };
        let name = (parsed.source, parsed.destination, view.id, view.protocol);
        let fragments = self.open.entry(name).or_default();
        fragments.push(packet);
        let parsed = fragments.iter().filter_map(|fragment| Some((fragment, ip::parse(fragment).ok()?)));
        let mut views: Vec<View<'_>> =
            parsed.filter_map(|(fragment, parsed)| View::of(fragment, &parsed)).collect();
        let whole = assemble(&mut views)?;
        self.open.remove(&name);
        Some(whole)
    }

    /// How many packets are not whole.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

fn assemble(views: &mut [View<'_>]) -> Option<Vec<u8>> {
    views.sort_by_key(|view| view.offset);
    let (first, last) = (views.first()?, views.last()?);
    let mut packet = vec![0; first.head_len()];
    first.emit_head(&mut packet);
    for view in &*views {
        (packet.len() == first.head_len() + view.offset).then(|| packet.extend_from_slice(view.data))?;
    }
    (!last.more).then_some(())?;
    fragment::complete(&mut packet, false)?;
    Some(packet)
}
