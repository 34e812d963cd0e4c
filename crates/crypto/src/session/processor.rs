//! What the processor has that makes one way faster than another.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "other processors have fewer ways"))]

use std::sync::OnceLock;

/// Which of several ways are worth taking here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processor {
    /// AES and carry-less multiplication on 256 bits, and no AVX-512.
    pub(super) gcm_on_256_bits: bool,
    /// Instructions for AES: several blocks at once cost little more than one.
    pub(super) aes: bool,
    /// How several messages are hashed faster at once than one after the other.
    pub(super) hash: Option<Hashing>,
}

/// How to hash several messages at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hashing {
    /// Two at a time with the instructions for SHA-256: one waits where the other works.
    Pairs,
    /// Eight in each AVX2 register.
    Bits256,
    /// Sixteen in each AVX-512 register.
    Bits512,
}

impl Hashing {
    /// All of them, the fastest first.
    pub(super) const ALL: [Self; 3] = [Self::Bits512, Self::Pairs, Self::Bits256];

    /// Whether the processor can.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_possible(self) -> bool {
        use std::is_x86_feature_detected as has;
        match self {
            Self::Pairs => has!("sha") && has!("sse4.1") && has!("ssse3"),
            Self::Bits256 => has!("avx2"),
            Self::Bits512 => has!("avx512f") && has!("avx512bw") && has!("avx512vl"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn is_possible(self) -> bool {
        false
    }
}

impl Processor {
    /// The one this program runs on.
    pub(super) fn get() -> Self {
        static HERE: OnceLock<Processor> = OnceLock::new();
        *HERE.get_or_init(Self::detect)
    }

    /// One that has nothing: all is left to the usual library, which looks for itself.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { gcm_on_256_bits: false, aes: false, hash: None };

    /// One that seals with AES-GCM on registers of 256 bits, if this one can.
    #[cfg(test)]
    pub(super) fn with_wide_gcm() -> Option<Self> {
        has_gcm_on_256_bits().then_some(Self { gcm_on_256_bits: true, ..Self::PLAIN })
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        use std::is_x86_feature_detected as has;
        let wider = Hashing::Bits512.is_possible();
        Self {
            gcm_on_256_bits: has_gcm_on_256_bits() && !wider,
            aes: has!("aes"),
            hash: Hashing::ALL.into_iter().find(|hashing| hashing.is_possible()),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Self { gcm_on_256_bits: false, aes: cfg!(target_feature = "aes"), hash: None }
    }
}

/// Whether the processor has AES and carry-less multiplication on 256 bits.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_gcm_on_256_bits() -> bool {
    use std::is_x86_feature_detected as has;
    has!("vaes") && has!("vpclmulqdq") && has!("avx2") && has!("aes") && has!("pclmulqdq")
}

#[cfg(all(test, not(target_arch = "x86_64")))]
fn has_gcm_on_256_bits() -> bool {
    false
}
