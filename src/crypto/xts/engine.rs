//! The engines: ways to compute the one cipher, chosen by what the processor has.

use std::fmt;

/// A way to compute XTS. All give the same bytes; they differ in speed only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Four blocks an instruction: AVX-512 (F, BW, VBMI, VBMI2) with VAES, VPCLMULQDQ and GFNI.
    #[cfg(target_arch = "x86_64")]
    Vaes512,
    /// Two blocks an instruction: AVX2 with VAES and VPCLMULQDQ.
    #[cfg(target_arch = "x86_64")]
    Vaes256,
    /// One block an instruction: AES-NI, in the encoding that AVX brought.
    #[cfg(target_arch = "x86_64")]
    AesNi,
    /// The `aes` crate: the AES instructions of other processors (aarch64), or constant-time integer arithmetic.
    Portable,
}

impl Engine {
    /// The engines that this processor can run, the fastest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|engine| engine.is_available()).collect()
    }

    /// The fastest engine that this processor can run.
    pub fn fastest() -> Self {
        Self::ALL.iter().copied().find(|engine| engine.is_available()).unwrap_or(Self::Portable)
    }

    #[cfg(target_arch = "x86_64")]
    const ALL: &[Self] = &[Self::Vaes512, Self::Vaes256, Self::AesNi, Self::Portable];
    #[cfg(not(target_arch = "x86_64"))]
    const ALL: &[Self] = &[Self::Portable];

    /// Whether this processor can run it.
    pub(super) fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vaes512 => super::vaes512::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes256 => super::vaes256::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::AesNi => super::aes_ni::is_available(),
            Self::Portable => true,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vaes512 => "vaes-512",
            #[cfg(target_arch = "x86_64")]
            Self::Vaes256 => "vaes-256",
            #[cfg(target_arch = "x86_64")]
            Self::AesNi => "aes-ni",
            Self::Portable => "portable",
        })
    }
}
