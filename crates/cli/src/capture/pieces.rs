//! Payloads that a capture shows in pieces (TLV 1), put together. The capture is believed: of pieces that
//! overlap, the first one counts.

use std::collections::{BTreeMap, HashMap};

use fairway_wire::svr::Fragment;

use super::sessions::Flow;

/// So many payloads are kept that are not complete; then all are forgotten.
const PAYLOADS: usize = 1024;

/// What is there of a payload.
#[derive(Default)]
struct Parts {
    /// By offset.
    parts: BTreeMap<usize, Vec<u8>>,
    end: Option<usize>,
}

/// All payloads that are not complete.
#[derive(Default)]
pub struct Pieces {
    payloads: HashMap<(Flow, u32), Parts>,
}

impl Pieces {
    /// Takes a piece, and gives the payload if that completes it.
    pub fn take(&mut self, flow: Flow, piece: &Fragment, data: &[u8]) -> Option<Vec<u8>> {
        if self.payloads.len() >= PAYLOADS {
            self.payloads.clear();
        }
        let name = (flow, piece.extended_id);
        let payload = self.payloads.entry(name).or_default();
        let offset = usize::from(piece.offset) * 8;
        payload.parts.entry(offset).or_insert_with(|| data.to_vec());
        if !piece.more_fragments {
            payload.end = Some(offset + data.len());
        }
        let mut whole = Vec::new();
        for (offset, data) in &payload.parts {
            (*offset == whole.len()).then(|| whole.extend_from_slice(data))?;
        }
        (payload.end == Some(whole.len())).then_some(())?;
        self.payloads.remove(&name);
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: u32, offset: u16, more_fragments: bool) -> Fragment {
        Fragment { extended_id: id, offset, more_fragments, ..Fragment::default() }
    }

    #[test]
    fn pieces_make_the_payload_in_any_order_and_once() {
        let flow = (([192, 0, 2, 1], 1).into(), ([192, 0, 2, 2], 2).into(), 17);
        let mut pieces = Pieces::default();
        assert_eq!(pieces.take(flow, &piece(1, 2, false), b"the end"), None);
        assert_eq!(pieces.take(flow, &piece(2, 0, true), b"another "), None);
        assert_eq!(pieces.take(flow, &piece(1, 0, true), b"from the"), None);
        assert_eq!(pieces.take(flow, &piece(1, 0, true), b"repeated"), None);
        let whole = pieces.take(flow, &piece(1, 1, true), b" start, ");
        assert_eq!(whole.as_deref(), Some(&b"from the start, the end"[..]));
        assert_eq!(pieces.take(flow, &piece(1, 2, false), b"the end"), None);
        assert_eq!(pieces.take(flow, &piece(3, 0, false), b"alone").as_deref(), Some(&b"alone"[..]));
        for id in 0..3000 {
            assert_eq!(pieces.take(flow, &piece(id, 0, true), b"no end  "), None);
        }
        assert!(pieces.payloads.len() <= PAYLOADS);
    }
}
