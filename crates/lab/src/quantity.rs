//! Quantities as people write them: `10ms`, `5%`, `100mbit`, `64kB`.
//!
//! Each is a small type that parses and prints itself, and travels through YAML and JSON as that
//! text. Parsing never rounds away more than the last digit of the unit below.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A quantity that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct QuantityError {
    text: String,
    expected: &'static str,
}

/// A length of time: `0`, `250us`, `10ms`, `1.5s`. Whole nanoseconds, at most one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// A share of all frames: `0%`–`100%`, to the millionth of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u32);

/// Bits a second: `64kbit`, `1.5mbit`, `10gbit`, or `unlimited`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u64);

/// How much may wait in front of a rate limit: a time (`50ms`) or an amount (`64kB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum QueueLimit {
    /// The time a frame may wait.
    Time(Span),
    /// The bytes that may wait.
    Bytes(u64),
}

const TIME_UNITS: &[(&str, f64)] = &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9)];
const RATE_UNITS: &[(&str, f64)] = &[("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
const SIZE_UNITS: &[(&str, f64)] = &[("B", 1.0), ("kB", 1e3), ("MB", 1e6)];

impl Span {
    /// The longest span: one hour.
    pub const MAX: Self = Self(Duration::from_secs(3600));

    /// A span of whole milliseconds, at most [`Span::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis > 3_600_000 { Self::MAX } else { Self(Duration::from_millis(millis)) }
    }

    /// The same as a [`Duration`].
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// In nanoseconds.
    #[must_use]
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Share {
    /// The parts of a whole.
    const WHOLE: u32 = 1_000_000_000;

    /// Parts per billion: 0–1,000,000,000.
    #[must_use]
    pub const fn parts_per_billion(self) -> u32 {
        self.0
    }

    /// A share from parts per billion, or `None` when it exceeds the whole.
    #[must_use]
    pub const fn from_parts_per_billion(parts: u32) -> Option<Self> {
        if parts <= Self::WHOLE { Some(Self(parts)) } else { None }
    }

    /// Between 0 and 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self(0);

    /// A rate in bits a second; zero is [`Rate::UNLIMITED`].
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Bits a second, or `None` without a limit.
    #[must_use]
    pub const fn bits(self) -> Option<u64> {
        if self.0 == 0 { None } else { Some(self.0) }
    }
}

impl Default for QueueLimit {
    /// 50 ms.
    fn default() -> Self {
        Self::Time(Span::from_millis(50))
    }
}

/// Reads a number with one of `units` behind it, as a count of the smallest unit.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start();
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let number: f64 = number.parse().ok()?;
    Some((number * factor).round())
}

/// Prints `value` with the largest unit that divides it well.
fn scale(value: u64, units: &[(&str, f64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let number = value as f64;
    let fitting = units.iter().rev().find(|(_, factor)| number >= *factor).or(units.first());
    match fitting {
        Some((unit, factor)) => f.pad(&format!("{}{unit}", number / factor)),
        None => f.pad(&value.to_string()),
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text == "0" {
            return Ok(Self::default());
        }
        let nanos = scaled(text, TIME_UNITS).filter(|nanos| *nanos <= 3600e9);
        nanos.map(|nanos| Self(Duration::from_nanos(nanos as u64))).ok_or(QuantityError {
            text: text.to_owned(),
            expected: "a time: a number and `us`, `ms` or `s`, such as `10ms`, at most one hour",
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nanos() {
            0 => f.pad("0"),
            nanos => scale(nanos, TIME_UNITS.get(..4).unwrap_or(TIME_UNITS), f),
        }
    }
}

impl FromStr for Share {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let percent = match text {
            "0" => Some(0.0),
            _ => text.strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok()),
        };
        let parts = percent.filter(|percent| (0.0..=100.0).contains(percent));
        parts.map(|percent| Self((percent * 1e7).round() as u32)).ok_or(QuantityError {
            text: text.to_owned(),
            expected: "a share between `0%` and `100%`, such as `2.5%`",
        })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", f64::from(self.0) / 1e7))
    }
}

impl FromStr for Rate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text == "unlimited" {
            return Ok(Self::UNLIMITED);
        }
        let bits = scaled(text, RATE_UNITS).filter(|bits| (1000.0..=1e12).contains(bits));
        bits.map(|bits| Self(bits as u64)).ok_or(QuantityError {
            text: text.to_owned(),
            expected: "a rate: a number and `kbit`, `mbit` or `gbit`, such as `100mbit`, or `unlimited`",
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits() {
            None => f.pad("unlimited"),
            Some(bits) => scale(bits, RATE_UNITS, f),
        }
    }
}

impl FromStr for QueueLimit {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let bytes = scaled(text, SIZE_UNITS).filter(|bytes| *bytes <= 1e12);
        if let Some(bytes) = bytes {
            return Ok(Self::Bytes(bytes as u64));
        }
        text.parse().map(Self::Time).map_err(|_| QuantityError {
            text: text.to_owned(),
            expected: "a queue: a time such as `50ms` or an amount such as `64kB`",
        })
    }
}

impl fmt::Display for QueueLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(span) => span.fmt(f),
            Self::Bytes(0) => f.pad("0B"),
            Self::Bytes(bytes) => scale(*bytes, SIZE_UNITS, f),
        }
    }
}

/// Text in YAML and JSON, by [`FromStr`] and [`fmt::Display`].
macro_rules! as_text {
    ($($kind:ty),+) => {$(
        impl TryFrom<String> for $kind {
            type Error = QuantityError;

            fn try_from(text: String) -> Result<Self, QuantityError> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )+};
}

as_text!(Span, Share, Rate, QueueLimit);

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: FromStr<Err = QuantityError> + fmt::Display>(text: &str) -> String {
        text.parse::<T>().map_or_else(|error| error.to_string(), |value| value.to_string())
    }

    #[test]
    fn what_is_written_is_what_is_printed() {
        for text in ["0", "250us", "10ms", "1.5s", "3600s"] {
            assert_eq!(round::<Span>(text), text);
        }
        for text in ["0%", "0.1%", "5%", "33.333333%", "100%"] {
            assert_eq!(round::<Share>(text), text);
        }
        for text in ["64kbit", "1.5mbit", "10gbit", "unlimited"] {
            assert_eq!(round::<Rate>(text), text);
        }
        for text in ["50ms", "0", "500B", "1.5kB", "64kB"] {
            assert_eq!(round::<QueueLimit>(text), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "10", "ms", "-1ms", "10 parsecs", "1e9s", "3601s", "1.2.3s"] {
            assert!(round::<Span>(text).contains("such as `10ms`"), "{text}");
        }
        for text in ["5", "101%", "-1%", "NaN%", "%"] {
            assert!(round::<Share>(text).contains("such as `2.5%`"), "{text}");
        }
        for text in ["100", "10bit", "fast", "0mbit"] {
            assert!(round::<Rate>(text).contains("such as `100mbit`"), "{text}");
        }
        assert!(round::<QueueLimit>("many").contains("such as `50ms`"));
    }
}
