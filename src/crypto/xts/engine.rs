//! The engines: ways to compute the one cipher, chosen by what the processor has, or by name.
//!
//! A name comes from the environment ([`VARIABLE`]), so that the tests and a daemon can be run on every engine, or from the
//! daemon's configuration. A name that is unknown or that the processor cannot follow is an error, never another engine.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// What names the engine of this process, before any configuration.
pub const VARIABLE: &str = "ENVOL_CIPHER";

/// The name that leaves the choice to the processor.
pub const AUTO: &str = "auto";

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
    /// No cipher at all: what everything but the cipher costs. Never available by itself, only by its name.
    #[cfg(feature = "bench-null")]
    Null,
}

/// A name that gives no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineRefused {
    /// There is no such name.
    #[error("there is no cipher engine {0:?}: the names are auto, vaes-512, vaes-256, aes-ni and portable")]
    Unknown(String),
    /// The processor lacks the instructions, or is of another kind.
    #[error("this processor cannot run the cipher engine {name}; it can run {}", names(.available))]
    Unavailable {
        /// What was asked for.
        name: String,
        /// What could be asked for.
        available: Vec<Engine>,
    },
}

static CHOSEN: OnceLock<Result<Engine, EngineRefused>> = OnceLock::new();

impl Engine {
    /// The engines that this processor can run, the fastest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|engine| engine.is_available()).collect()
    }

    /// The fastest engine that this processor can run.
    pub fn fastest() -> Self {
        Self::ALL.iter().copied().find(|engine| engine.is_available()).unwrap_or(Self::Portable)
    }

    /// The engine of this process: what the environment names, else what was chosen, else the fastest. It is settled by
    /// the first call of this or of [`Engine::choose`], and stays.
    ///
    /// # Errors
    /// The environment names none that this processor can run.
    pub fn chosen() -> Result<Self, EngineRefused> {
        Self::choose(Self::fastest())
    }

    /// Makes `configured` the engine of this process, unless the environment names one. As [`Engine::chosen`].
    ///
    /// # Errors
    /// As [`Engine::chosen`].
    pub fn choose(configured: Self) -> Result<Self, EngineRefused> {
        let named = || match std::env::var_os(VARIABLE) {
            Some(name) => name.to_string_lossy().parse(),
            None => Ok(configured),
        };
        CHOSEN.get_or_init(named).clone()
    }

    /// Whether it is a cipher: all are, but for the one of the builds that measure what is left without.
    pub fn encrypts(self) -> bool {
        match self {
            #[cfg(feature = "bench-null")]
            Self::Null => false,
            _ => true,
        }
    }

    #[cfg(target_arch = "x86_64")]
    const ALL: &[Self] = &[Self::Vaes512, Self::Vaes256, Self::AesNi, Self::Portable];
    #[cfg(not(target_arch = "x86_64"))]
    const ALL: &[Self] = &[Self::Portable];

    /// Names of engines that are of another kind of processor: known, and not available.
    #[cfg(not(target_arch = "x86_64"))]
    const ELSEWHERE: &[&str] = &["vaes-512", "vaes-256", "aes-ni"];
    #[cfg(target_arch = "x86_64")]
    const ELSEWHERE: &[&str] = &[];

    #[cfg(feature = "bench-null")]
    const BY_NAME_ONLY: &[Self] = &[Self::Null];
    #[cfg(not(feature = "bench-null"))]
    const BY_NAME_ONLY: &[Self] = &[];

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
            #[cfg(feature = "bench-null")]
            Self::Null => true,
        }
    }
}

impl FromStr for Engine {
    type Err = EngineRefused;

    /// The engine of that name, or the fastest for [`AUTO`].
    fn from_str(name: &str) -> Result<Self, EngineRefused> {
        if name == AUTO {
            return Ok(Self::fastest());
        }
        let unavailable = || EngineRefused::Unavailable { name: name.to_owned(), available: Self::available() };
        let known = Self::ALL.iter().chain(Self::BY_NAME_ONLY).find(|engine| engine.to_string() == name);
        match known {
            Some(engine) if engine.is_available() => Ok(*engine),
            Some(_) => Err(unavailable()),
            None if Self::ELSEWHERE.contains(&name) => Err(unavailable()),
            None => Err(EngineRefused::Unknown(name.to_owned())),
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
            #[cfg(feature = "bench-null")]
            Self::Null => "null",
        })
    }
}

fn names(engines: &[Engine]) -> String {
    engines.iter().map(Engine::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_found_by_the_names_that_they_show() {
        for engine in Engine::available() {
            assert_eq!(engine.to_string().parse(), Ok(engine));
            assert!(engine.encrypts());
        }
        assert_eq!(AUTO.parse(), Ok(Engine::fastest()));
        for name in ["", "AUTO", "vaes", "vaes-512 "] {
            assert_eq!(name.parse::<Engine>(), Err(EngineRefused::Unknown(name.to_owned())));
        }
    }

    #[test]
    fn every_known_name_is_an_engine_or_an_engine_of_another_processor() {
        for name in ["vaes-512", "vaes-256", "aes-ni", "portable"] {
            let available = Engine::available().iter().any(|engine| engine.to_string() == name);
            match name.parse::<Engine>() {
                Ok(engine) => assert!(available && engine.to_string() == name),
                Err(refused) => {
                    assert!(!available && matches!(refused, EngineRefused::Unavailable { .. }), "{refused}")
                }
            }
        }
    }
}
