//! The expanded keys of an engine, and the one place where an engine's functions are called.
//!
//! A value of [`Expanded`] for an x86 engine exists only where the processor was seen to have its instructions; that is
//! what makes the calls below sound.

use super::KeyRefused;
use super::engine::Engine;
#[cfg(feature = "bench-null")]
use super::null;
use super::portable;
use super::runs::Runs;
use super::tweak::{self, Tweak};
#[cfg(target_arch = "x86_64")]
use super::{aes_ni, schedule, vaes256, vaes512};
use crate::crypto::stack;
use crate::sys::locked_box::Locked;
#[cfg(target_arch = "x86_64")]
use crate::sys::registers;

/// Round keys in locked memory, wiped on drop.
pub(super) enum Expanded {
    #[cfg(target_arch = "x86_64")]
    Vaes512(Locked<schedule::Keys>),
    #[cfg(target_arch = "x86_64")]
    Vaes256(Locked<schedule::Keys>),
    #[cfg(target_arch = "x86_64")]
    AesNi(Locked<schedule::Keys>),
    Portable(Locked<portable::Keys>),
    #[cfg(feature = "bench-null")]
    Null,
}

impl Expanded {
    /// Expands both halves for `engine`, if the processor can run it.
    pub(super) fn new(engine: Engine, data: &[u8; 32], tweak: &[u8; 32]) -> Result<Self, KeyRefused> {
        if !engine.is_available() {
            return Err(KeyRefused::NoSuchEngine(engine));
        }
        // SAFETY: the x86 engines are available only where the AES instructions are.
        #[cfg(target_arch = "x86_64")]
        let x86 = || Locked::filled_by(|slot| slot.write(unsafe { schedule::Keys::expand(data, tweak) }));
        let portable = || Locked::filled_by(|slot| slot.write(portable::Keys::expand(data, tweak)));
        let expanded = stack::wiped_after(|| match engine {
            #[cfg(target_arch = "x86_64")]
            Engine::Vaes512 => x86().map(Self::Vaes512),
            #[cfg(target_arch = "x86_64")]
            Engine::Vaes256 => x86().map(Self::Vaes256),
            #[cfg(target_arch = "x86_64")]
            Engine::AesNi => x86().map(Self::AesNi),
            Engine::Portable => portable().map(Self::Portable),
            #[cfg(feature = "bench-null")]
            Engine::Null => Ok(Self::Null),
        });
        Ok(expanded?)
    }

    /// Encrypts the numbers of `count` consecutive sectors, from `first` on, with the tweak half: they become starting
    /// tweaks. Of `tweaks`, whose length is a multiple of 4, those behind them have no meaning.
    pub(super) fn encrypt_numbers(&self, first: u64, count: usize, tweaks: &mut [Tweak]) {
        match self {
            // SAFETY: these keys exist only where the engine's instructions do.
            #[cfg(target_arch = "x86_64")]
            Self::Vaes512(keys) => unsafe {
                in_registers(|| vaes512::encrypt_numbers(&keys.tweak, first, count, tweaks));
            },
            // SAFETY: as above, and VAES is offered only beside AES-NI.
            #[cfg(target_arch = "x86_64")]
            Self::Vaes256(keys) | Self::AesNi(keys) => unsafe {
                in_registers(|| aes_ni::encrypt_numbers(&keys.tweak, first, &mut tweaks[..count]));
            },
            Self::Portable(keys) => {
                tweak::number(first, &mut tweaks[..count]);
                keys.encrypt_tweaks(&mut tweaks[..count]);
            }
            #[cfg(feature = "bench-null")]
            Self::Null => (),
        }
    }

    /// Encrypts one tweak value in place with the tweak half.
    pub(super) fn encrypt_tweak(&self, tweak: &mut Tweak) {
        match self {
            // SAFETY: these keys exist only where the engine's instructions do, and VAES is offered only beside AES-NI.
            #[cfg(target_arch = "x86_64")]
            Self::Vaes512(keys) | Self::Vaes256(keys) | Self::AesNi(keys) => unsafe {
                in_registers(|| aes_ni::encrypt_tweak(&keys.tweak, tweak));
            },
            Self::Portable(keys) => keys.encrypt_tweaks(std::slice::from_mut(tweak)),
            #[cfg(feature = "bench-null")]
            Self::Null => (),
        }
    }

    /// Encrypts each run from its starting tweak.
    pub(super) fn encrypt(&self, starts: &[Tweak], runs: Runs<'_>) {
        match self {
            // SAFETY: these keys exist only where the engine's instructions do.
            #[cfg(target_arch = "x86_64")]
            Self::Vaes512(keys) => unsafe { in_registers(|| vaes512::encrypt(&keys.encrypt, starts, runs)) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Vaes256(keys) => unsafe { in_registers(|| vaes256::encrypt(&keys.encrypt, starts, runs)) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AesNi(keys) => unsafe { in_registers(|| aes_ni::encrypt(&keys.encrypt, starts, runs)) },
            Self::Portable(keys) => keys.encrypt(starts, runs),
            #[cfg(feature = "bench-null")]
            Self::Null => null::bring(runs),
        }
    }

    /// Decrypts each run from its starting tweak.
    pub(super) fn decrypt(&self, starts: &[Tweak], runs: Runs<'_>) {
        match self {
            // SAFETY: these keys exist only where the engine's instructions do.
            #[cfg(target_arch = "x86_64")]
            Self::Vaes512(keys) => unsafe { in_registers(|| vaes512::decrypt(&keys.decrypt, starts, runs)) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Vaes256(keys) => unsafe { in_registers(|| vaes256::decrypt(&keys.decrypt, starts, runs)) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AesNi(keys) => unsafe { in_registers(|| aes_ni::decrypt(&keys.decrypt, starts, runs)) },
            Self::Portable(keys) => keys.decrypt(starts, runs),
            #[cfg(feature = "bench-null")]
            Self::Null => null::bring(runs),
        }
    }
}

/// Runs a kernel, and wipes the registers that it used. The compiler keeps round keys there where it optimises; where it does
/// not, it puts them on the stack, which is wiped then. The scan of `tests/secrets` looks at builds of both kinds.
#[cfg(target_arch = "x86_64")]
#[inline]
fn in_registers(kernel: impl FnOnce()) {
    if cfg!(debug_assertions) {
        stack::wiped_after(kernel);
    } else {
        kernel();
        registers::wipe();
    }
}
