//! Marks in payloads, by which the simulation recognises packets wherever it meets them.

/// Whose packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The conversation.
    pub conversation: u32,
    /// Whether it goes from server to client.
    pub answer: bool,
    /// Which of the direction's packets.
    pub step: u16,
}

const MAGIC: [u8; 6] = [0xf7, 0xe5, 0xd3, 0xc1, 0xa9, 0x9b];
/// Bytes of a mark.
pub const LEN: usize = MAGIC.len() + 5 + 1 + 3;

/// Seven bits a byte, the eighth set: a mark looks like no address.
fn pack(value: u32, bytes: &mut [u8]) {
    for (index, byte) in bytes.iter_mut().rev().enumerate() {
        *byte = 0x80 | (value >> (7 * index) & 0x7f) as u8;
    }
}

fn unpack(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 7 | u32::from(byte & 0x7f))
}

/// A payload of `length` bytes, but at least a mark's, that begins with a mark.
#[must_use]
pub fn payload(mark: Mark, length: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.resize(LEN, 0);
    pack(mark.conversation, &mut bytes[6..11]);
    bytes[11] = 0x80 | u8::from(mark.answer);
    pack(u32::from(mark.step), &mut bytes[12..15]);
    bytes.extend((LEN..length).map(|index| 0x80 | index as u8));
    bytes
}

/// The mark somewhere in `bytes`, if there is one.
#[must_use]
pub fn find(bytes: &[u8]) -> Option<Mark> {
    let at = bytes.windows(LEN).position(|window| window.starts_with(&MAGIC))?;
    let bytes = &bytes[at..at + LEN];
    Some(Mark {
        conversation: unpack(&bytes[6..11]),
        answer: bytes[11] & 1 == 1,
        step: unpack(&bytes[12..15]) as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_it_is() {
        let mark = Mark { conversation: 123_456, answer: true, step: 777 };
        let mut bytes = vec![1, 2, 3];
        bytes.extend(payload(mark, 100));
        assert_eq!(bytes.len(), 103);
        assert_eq!(find(&bytes), Some(mark));
        assert_eq!(find(&bytes[1..10]), None);
    }
}
