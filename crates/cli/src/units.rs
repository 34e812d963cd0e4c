//! Numbers as people read them: bytes, durations, counts, and text that is safe on a terminal.

use core::time::Duration;

/// A number of bytes: `950 B`, `1.5 MiB`, `23 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // One decimal below ten; rounding never shows 1024 of a unit.
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit = UNITS.get(unit).copied().unwrap_or("EiB");
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A count: exact below a million, then with three significant digits: `123456`, `1.23 M`, `4.56 G`.
pub fn count(count: u64) -> String {
    if count < 1_000_000 {
        return count.to_string();
    }
    let mut value = count as f64 / 1e6;
    let mut unit = "M";
    for next in ["G", "T", "P", "E"] {
        if value < 999.5 {
            break;
        }
        value /= 1e3;
        unit = next;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// How long something lasted or will last: `350ms`, `4.2s`, `42s`, `3m12s`, `5h03m`, `12d04h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let tenths = duration.as_millis() / 100;
    match seconds {
        0 if duration.as_millis() == 0 && duration.as_nanos() > 0 => {
            format!("{}µs", duration.as_micros().max(1))
        }
        0 if duration.is_zero() => "0s".into(),
        0 => format!("{}ms", duration.as_millis()),
        1..10 => format!("{}.{}s", tenths / 10, tenths % 10),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Text from elsewhere, without characters that a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `1 session`, `2 sessions`.
pub fn counted(count: usize, singular: &str, plural: &str) -> String {
    format!("{count} {}", if count == 1 { singular } else { plural })
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A UUID in its usual form (RFC 9562, section 4).
pub fn uuid(bytes: &[u8; 16]) -> String {
    let text = hex(bytes);
    let mut parts = Vec::with_capacity(5);
    let mut rest = text.as_str();
    for length in [8, 4, 4, 4, 12] {
        let (part, tail) = rest.split_at_checked(length).unwrap_or((rest, ""));
        parts.push(part);
        rest = tail;
    }
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_decimal_below_ten_of_a_unit() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (10 * 1024, "10 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (23 * 1024 * 1024 * 1024, "23 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn counts_are_exact_while_they_are_short() {
        let cases =
            [(999_999, "999999"), (1_234_567, "1.23 M"), (45_600_000_000, "45.6 G"), (999_950_000, "1.00 G")];
        for (value, expected) in cases {
            assert_eq!(count(value), expected);
        }
    }

    #[test]
    fn durations_keep_two_units() {
        let cases = [
            (0, "0s"),
            (350, "350ms"),
            (4_250, "4.2s"),
            (42_000, "42s"),
            (192_000, "3m12s"),
            (18_180_000, "5h03m"),
            (1_051_200_000, "12d04h"),
        ];
        for (millis, expected) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
        assert_eq!(duration(Duration::from_micros(80)), "80µs");
    }

    #[test]
    fn a_uuid_has_five_groups() {
        assert_eq!(uuid(&[0xab; 16]), "abababab-abab-abab-abab-abababababab");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
