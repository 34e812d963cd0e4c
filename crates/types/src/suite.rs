//! How the payload of a session is protected.

/// A way to protect payload. Its absence, `Option::None`, means: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// Authenticated, not encrypted: counter ‖ P ‖ HMAC-SHA256-128.
    HmacSha256,
    /// IV ‖ AES-128-CBC(P, PKCS#7) ‖ HMAC-SHA256-128.
    Aes128Cbc,
    /// IV ‖ AES-256-CBC(P, PKCS#7) ‖ HMAC-SHA256-128.
    Aes256Cbc,
    /// Counter ‖ AES-256-GCM(P) ‖ tag.
    Aes256Gcm,
}

/// Bytes of an AES block, and of an IV.
const BLOCK: usize = 16;
/// Bytes of the counter that every packet bears.
const COUNTER: usize = 8;
/// Bytes of a tag.
const TAG: usize = 16;

impl Suite {
    /// All suites.
    pub const ALL: [Self; 4] = [Self::HmacSha256, Self::Aes128Cbc, Self::Aes256Cbc, Self::Aes256Gcm];

    /// The number in front of the secret in TLV 46 (F).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::HmacSha256 => 1,
            Self::Aes128Cbc => 2,
            Self::Aes256Cbc => 3,
            Self::Aes256Gcm => 4,
        }
    }

    /// The suite of a number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// The name on screens and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256-128",
            Self::Aes128Cbc => "aes-cbc-128",
            Self::Aes256Cbc => "aes-cbc-256",
            Self::Aes256Gcm => "aes-gcm-256",
        }
    }

    /// Whether payload is hidden, and not only guarded against change.
    #[must_use]
    pub const fn encrypts(self) -> bool {
        !matches!(self, Self::HmacSha256)
    }

    /// Whether the cipher works on whole blocks, under an IV.
    #[must_use]
    pub const fn is_cbc(self) -> bool {
        matches!(self, Self::Aes128Cbc | Self::Aes256Cbc)
    }

    /// Bytes that protection puts in front of a payload.
    #[must_use]
    pub const fn front(self) -> usize {
        if self.is_cbc() { BLOCK } else { COUNTER }
    }

    /// Bytes that protection puts behind a payload of `length` bytes.
    #[must_use]
    pub const fn back(self, length: usize) -> usize {
        if self.is_cbc() { BLOCK - length % BLOCK + TAG } else { TAG }
    }

    /// By how many bytes protection makes any payload longer, at most.
    #[must_use]
    pub const fn max_overhead(self) -> usize {
        self.front() + self.back(0)
    }
}
