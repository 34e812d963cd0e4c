//! The key two routers share, and the file it is kept in.

use core::fmt;

use aws_lc_rs::constant_time;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::scrub;

const KEY_LENGTH: usize = 32;
const HEX_LENGTH: usize = 2 * KEY_LENGTH;
const BASE64_LENGTH: usize = 44;

/// A secret of 32 bytes that two neighbouring routers share, and nobody else.
///
/// It is redacted in `Debug`, compared in constant time and zeroed when dropped. It stays in one place:
/// moving it leaves no copy behind.
#[derive(Clone)]
pub struct PeerKey(Box<[u8; KEY_LENGTH]>);

/// Why a key file was refused. No variant repeats any byte of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyFileError {
    /// There is no line with a key.
    #[error("the file holds no key: expected one line of 64 hexadecimal digits or 44 base64 characters")]
    Missing,
    /// There is more than one line with a key.
    #[error("line {line}: a second key; a key file holds exactly one")]
    SecondKey {
        /// The line, counted from 1.
        line: usize,
    },
    /// The key is neither 64 nor 44 characters long.
    #[error("line {line}: {length} characters; expected 64 hexadecimal digits or 44 base64 characters")]
    Length {
        /// The line, counted from 1.
        line: usize,
        /// How many characters it has.
        length: usize,
    },
    /// A character that is no hexadecimal digit in a key of 64 characters.
    #[error("line {line}: character {position} of the key is not a hexadecimal digit")]
    NotHex {
        /// The line, counted from 1.
        line: usize,
        /// The position within the key, counted from 1.
        position: usize,
    },
    /// A character that is not base64 (RFC 4648, section 4) in a key of 44 characters.
    #[error("line {line}: character {position} of the key is not valid base64 for 32 bytes")]
    NotBase64 {
        /// The line, counted from 1.
        line: usize,
        /// The position within the key, counted from 1.
        position: usize,
    },
    /// The key is zero in every byte.
    #[error("line {line}: the key is all zeros")]
    Zero {
        /// The line, counted from 1.
        line: usize,
    },
}

impl PeerKey {
    /// A key of these bytes, which must come from a cryptographic generator.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; KEY_LENGTH]) -> Self {
        let mut key = Self::blank();
        key.0.copy_from_slice(&bytes);
        bytes.zeroize();
        key
    }

    fn blank() -> Self {
        scrub::note();
        Self(Box::new([0; KEY_LENGTH]))
    }

    /// The key in the content of a key file: one line of 64 hexadecimal digits or 44 base64
    /// characters (RFC 4648, section 4). Blank lines, surrounding white space and everything after
    /// a `#` are ignored.
    ///
    /// # Errors
    /// Says which line is wrong and how, without repeating any of it.
    pub fn parse(text: &[u8]) -> Result<Self, KeyFileError> {
        let mut found = None;
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let content = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
            if content.is_empty() {
                continue;
            }
            let line = index + 1;
            if found.is_some() {
                return Err(KeyFileError::SecondKey { line });
            }
            found = Some(Self::parse_line(content, line)?);
        }
        found.ok_or(KeyFileError::Missing)
    }

    fn parse_line(content: &[u8], line: usize) -> Result<Self, KeyFileError> {
        let key = match content.len() {
            HEX_LENGTH => {
                decode_hex(content).map_err(|index| KeyFileError::NotHex { line, position: index + 1 })?
            }
            BASE64_LENGTH => decode_base64(content)
                .map_err(|index| KeyFileError::NotBase64 { line, position: index + 1 })?,
            length => return Err(KeyFileError::Length { line, length }),
        };
        if *key.0 == [0; KEY_LENGTH] {
            return Err(KeyFileError::Zero { line });
        }
        Ok(key)
    }

    /// The content of a key file that [`Self::parse`] reads back.
    #[must_use]
    pub fn to_file_text(&self) -> Zeroizing<String> {
        const HEADER: &str =
            "# Fairway peer key: the same file on both routers of an adjacency, readable by root only.\n";
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // Reserved whole, so that no copy of the secret is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + HEX_LENGTH + 1));
        text.push_str(HEADER);
        for &byte in self.0.iter() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text.push('\n');
        text
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl Drop for PeerKey {
    fn drop(&mut self) {
        scrub::note();
        self.0.zeroize();
    }
}

impl PartialEq for PeerKey {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.bytes(), other.bytes()).is_ok()
    }
}

impl Eq for PeerKey {}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerKey(redacted)")
    }
}

/// Decodes 64 digits, or names the index of the first that is none.
fn decode_hex(digits: &[u8]) -> Result<PeerKey, usize> {
    let mut key = PeerKey::blank();
    for (index, &digit) in digits.iter().enumerate() {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return Err(index),
        };
        let byte = key.0.get_mut(index / 2).ok_or(index)?;
        *byte = *byte << 4 | value;
    }
    Ok(key)
}

/// Decodes 43 characters and one `=`, or names the index of the first wrong one. The two bits
/// beyond 32 bytes must be zero, so that a key has one spelling only.
fn decode_base64(characters: &[u8]) -> Result<PeerKey, usize> {
    let mut key = PeerKey::blank();
    let (&padding, characters) = characters.split_last().ok_or(0usize)?;
    let (mut pending, mut bits, mut filled) = (0u32, 0, 0);
    for (index, &character) in characters.iter().enumerate() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(index),
        };
        pending = pending << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *key.0.get_mut(filled).ok_or(index)? = (pending >> bits) as u8;
            filled += 1;
            pending &= (1 << bits) - 1;
        }
    }
    if pending != 0 {
        return Err(characters.len() - 1);
    }
    if padding != b'=' || filled != KEY_LENGTH {
        return Err(characters.len());
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn counting() -> PeerKey {
        PeerKey::from_bytes(core::array::from_fn(|index| index as u8))
    }

    #[test]
    fn both_spellings_and_comments_are_read() {
        let commented = format!("# branch to dc\r\n\r\n  {} # one line\r\n", HEX.to_uppercase());
        for text in [HEX, BASE64, &commented] {
            assert_eq!(PeerKey::parse(text.as_bytes()), Ok(counting()));
        }
    }

    #[test]
    fn every_fault_is_named_without_the_secret() {
        let two = format!("{HEX}\n#\n{BASE64}");
        let not_hex = HEX.replace("0a", "0x");
        let not_base64 = BASE64.replace("AAEC", "A-EC");
        let loose_bits = BASE64.replace("Hh8=", "Hh9=");
        let unpadded = BASE64.replace('=', "A");
        let zeros = "0".repeat(64);
        for (text, fault) in [
            ("", KeyFileError::Missing),
            ("# nothing\n\n", KeyFileError::Missing),
            (two.as_str(), KeyFileError::SecondKey { line: 3 }),
            ("\n1234", KeyFileError::Length { line: 2, length: 4 }),
            (&not_hex, KeyFileError::NotHex { line: 1, position: 22 }),
            (&not_base64, KeyFileError::NotBase64 { line: 1, position: 2 }),
            (&loose_bits, KeyFileError::NotBase64 { line: 1, position: 43 }),
            (&unpadded, KeyFileError::NotBase64 { line: 1, position: 44 }),
            (&zeros, KeyFileError::Zero { line: 1 }),
        ] {
            assert_eq!(PeerKey::parse(text.as_bytes()), Err(fault), "{text}");
        }
        assert_eq!(format!("{:?}", counting()), "PeerKey(redacted)");
    }

    proptest! {
        #[test]
        fn a_written_key_file_is_read_back(bytes in any::<[u8; 32]>()) {
            prop_assume!(bytes != [0; 32]);
            let key = PeerKey::from_bytes(bytes);
            prop_assert_eq!(PeerKey::parse(key.to_file_text().as_bytes()), Ok(key));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PeerKey::parse(&bytes);
        }
    }
}
