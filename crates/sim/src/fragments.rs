//! IP fragments as hosts make them and put them together.

use std::collections::HashMap;

use fairway_wire::fragment::{self, Cut, View};
use fairway_wire::ip::{self, Fragment};

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
    let mut open: HashMap<_, Vec<View<'_>>> = HashMap::new();
    let mut whole = Vec::new();
    for packet in packets {
        let Ok(parsed) = ip::parse(packet) else { continue };
        if parsed.fragment == Fragment::No {
            whole.push(packet.clone());
            continue;
        }
        let Some(view) = View::of(packet, &parsed) else { continue };
        let name = (parsed.source, parsed.destination, view.id, parsed.protocol);
        let views = open.entry(name).or_default();
        views.push(view);
        if let Some(packet) = assemble(views) {
            whole.push(packet);
            open.remove(&name);
        }
    }
    whole
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
