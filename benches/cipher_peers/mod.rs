//! What the cipher is measured with: envol's engines and other implementations behind one face.
//!
//! A contender ciphers one request in place, sector by sector where that is all its interface knows, with its key
//! expanded before. Peers are called by the cheapest of their public functions.

use std::ffi::c_int;
use std::fmt;
use std::ptr::{null, null_mut};

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use envol::crypto::xts::{Engine, XtsKey};
use envol::secret::Secret;
use envol::units::{PieceNumber, SectorSize};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;

/// Encrypting or decrypting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Encrypt,
    Decrypt,
}

/// What buffers are aligned to, as those of a data path are.
pub(crate) const PAGE: usize = 4096;

/// One way to cipher a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// One of envol's engines, in place.
    Envol(Engine),
    /// One of envol's engines, into another buffer.
    EnvolInto(Engine),
    /// AWS-LC.
    AwsLc,
    /// OpenSSL, as this process found it.
    OpenSsl,
    /// The `xts-mode` crate on the `aes` crate, as they come.
    XtsMode,
    /// The limit: the `aes` crate on raw blocks, which is no XTS.
    RawBlocks,
}

impl Contender {
    pub(crate) const OTHERS: [Self; 4] = [Self::AwsLc, Self::OpenSsl, Self::XtsMode, Self::RawBlocks];

    /// A request of at most `longest` bytes, with the key expanded.
    pub(crate) fn request(self, way: Way, sectors: SectorSize, longest: usize) -> Request {
        match self {
            Self::Envol(engine) => envol(engine, way, sectors),
            Self::EnvolInto(engine) => envol_into(engine, way, sectors, longest),
            Self::AwsLc => aws_lc(way, sectors),
            Self::OpenSsl => openssl(way, sectors),
            Self::XtsMode => xts_mode(way, sectors),
            Self::RawBlocks => raw_blocks(way),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Envol(engine) => write!(f, "envol {engine}"),
            Self::EnvolInto(engine) => write!(f, "envol {engine}, into"),
            Self::AwsLc => f.write_str("AWS-LC"),
            Self::OpenSsl => f.write_str("OpenSSL"),
            Self::XtsMode => f.write_str("xts-mode"),
            Self::RawBlocks => f.write_str("aes, raw blocks"),
        }
    }
}

/// Ciphers the request in place; the number is that of its first sector.
pub(crate) type Request = Box<dyn FnMut(u64, &mut [u8])>;

/// A key with different halves, the same for all.
fn key() -> [u8; 64] {
    std::array::from_fn(|place| u8::try_from(3 * place + 1).expect("below 256"))
}

fn bytes(sectors: SectorSize) -> usize {
    usize::try_from(sectors.bytes()).expect("small")
}

fn engine_key(engine: Engine) -> XtsKey {
    let secret = Secret::filled_by(|bytes| *bytes = key()).expect("memory locks");
    XtsKey::with_engine(&secret, engine).expect("the processor has the engine")
}

/// One of envol's engines, in place.
fn envol(engine: Engine, way: Way, sectors: SectorSize) -> Request {
    let key = engine_key(engine);
    Box::new(move |first, data| {
        let first = PieceNumber::new(first * sectors.pieces());
        match way {
            Way::Encrypt => key.encrypt(sectors, first, data),
            Way::Decrypt => key.decrypt(sectors, first, data),
        }
    })
}

/// One of envol's engines, into another buffer of at most `longest` bytes.
fn envol_into(engine: Engine, way: Way, sectors: SectorSize, longest: usize) -> Request {
    let key = engine_key(engine);
    let mut memory = vec![0; longest + PAGE];
    let start = memory.as_ptr().align_offset(PAGE);
    Box::new(move |first, data| {
        let first = PieceNumber::new(first * sectors.pieces());
        let other = &mut memory[start..][..data.len()];
        match way {
            Way::Encrypt => key.encrypt_into(sectors, first, data, other),
            Way::Decrypt => key.decrypt_into(sectors, first, data, other),
        }
    })
}

/// OpenSSL, as this process found it.
fn openssl(way: Way, sectors: SectorSize) -> Request {
    let mut context = CipherCtx::new().expect("a context");
    match way {
        Way::Encrypt => context.encrypt_init(Some(Cipher::aes_256_xts()), Some(&key()), None),
        Way::Decrypt => context.decrypt_init(Some(Cipher::aes_256_xts()), Some(&key()), None),
    }
    .expect("the key is taken");
    Box::new(move |first, data| {
        for (number, sector) in (first..).zip(data.chunks_exact_mut(bytes(sectors))) {
            let tweak = u128::from(number).to_le_bytes();
            match way {
                Way::Encrypt => context.encrypt_init(None, None, Some(&tweak)),
                Way::Decrypt => context.decrypt_init(None, None, Some(&tweak)),
            }
            .expect("the tweak is taken");
            let length = sector.len();
            context.cipher_update_inplace(sector, length).expect("ciphers");
        }
    })
}

/// AWS-LC.
fn aws_lc(way: Way, sectors: SectorSize) -> Request {
    let direction = c_int::from(way == Way::Encrypt);
    // SAFETY: the constructor has no conditions.
    let context = unsafe { aws_lc_sys::EVP_CIPHER_CTX_new() };
    assert!(!context.is_null());
    // SAFETY: the context is new, and the key has the length that the cipher takes.
    let taken = unsafe {
        let cipher = aws_lc_sys::EVP_aes_256_xts();
        aws_lc_sys::EVP_CipherInit_ex(context, cipher, null_mut(), key().as_ptr(), null(), direction)
    };
    assert_eq!(taken, 1, "the key is taken");
    Box::new(move |first, data| {
        for (number, sector) in (first..).zip(data.chunks_exact_mut(bytes(sectors))) {
            let tweak = u128::from(number).to_le_bytes();
            let place = sector.as_mut_ptr();
            // SAFETY: the context is initialised and lives as long as the process; the tweak has 16 bytes; in place is
            // allowed.
            let done = unsafe {
                aws_lc_sys::EVP_CipherInit_ex(context, null(), null_mut(), null(), tweak.as_ptr(), direction) == 1
                    && aws_lc_sys::EVP_Cipher(context, place, place, sector.len()) == 1
            };
            assert!(done, "ciphers");
        }
    })
}

/// The `xts-mode` crate on the `aes` crate, as they come.
fn xts_mode(way: Way, sectors: SectorSize) -> Request {
    let half = |part: &[u8]| Aes256::new_from_slice(part).expect("32 bytes");
    let cipher = xts_mode::Xts128::new(half(&key()[..32]), half(&key()[32..]));
    Box::new(move |first, data| match way {
        Way::Encrypt => cipher.encrypt_area(data, bytes(sectors), first.into(), xts_mode::get_tweak_default),
        Way::Decrypt => cipher.decrypt_area(data, bytes(sectors), first.into(), xts_mode::get_tweak_default),
    })
}

/// The limit: the `aes` crate on raw blocks, which is no XTS.
fn raw_blocks(way: Way) -> Request {
    let cipher = Aes256::new_from_slice(&key()[..32]).expect("32 bytes");
    Box::new(move |_, data| {
        let (blocks, _) = data.as_chunks_mut::<16>();
        let blocks = Array::cast_slice_from_core_mut(blocks);
        match way {
            Way::Encrypt => cipher.encrypt_blocks(blocks),
            Way::Decrypt => cipher.decrypt_blocks(blocks),
        }
    })
}
