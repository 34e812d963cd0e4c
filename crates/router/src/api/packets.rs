//! What a capture streams.

use serde::{Deserialize, Serialize};

/// A capture has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capturing {
    /// The router's name.
    pub router: String,
    /// What is captured; packets name these by their position.
    pub interfaces: Vec<CaptureInterface>,
}

/// An interface of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureInterface {
    /// The network-interface.
    pub name: String,
    /// The Linux device.
    pub device: String,
    /// Whether packets carry an Ethernet header; else they begin with IP.
    pub ethernet: bool,
}

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The position in [`Capturing::interfaces`].
    pub interface: u32,
    /// Whether it was sent; else it was received.
    pub sent: bool,
    /// When, in nanoseconds since the Unix epoch.
    pub timestamp_nanoseconds: u64,
    /// Its length on the wire, link header included.
    pub length_bytes: u32,
    /// Its bytes, link header first, shortened to the request's `snap_bytes`. Hexadecimal in JSON.
    #[serde(with = "hexadecimal")]
    pub data: Vec<u8>,
}

/// A capture has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Packets streamed.
    pub packets: u64,
    /// Packets left out because the client was too slow.
    pub lost: u64,
}

mod hexadecimal {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    const DIGITS: &[u8; 16] = b"0123456789abcdef";

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> =
            text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        match digits {
            Some(digits) if digits.len().is_multiple_of(2) => {
                Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
            }
            _ => Err(D::Error::custom("expected an even number of hexadecimal digits")),
        }
    }
}
