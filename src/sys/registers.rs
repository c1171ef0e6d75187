//! The vector registers, through which copies of secrets go: `memcpy` moves 16 to 64 bytes in one, the cipher keeps round
//! keys there. A thread that then waits keeps them for as long as it waits, and they are in every core of it.

/// Zeros all vector registers of this thread, on x86-64.
#[inline]
pub(crate) fn wipe() {
    #[cfg(target_arch = "x86_64")]
    x86::wipe();
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    #[inline]
    pub(super) fn wipe() {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions.
            unsafe { all_32() }
        } else if is_x86_feature_detected!("avx") {
            // SAFETY: the processor has the instructions.
            unsafe { first_16() }
        } else {
            halves()
        }
    }

    /// Registers 0 to 15 of a processor that has no more than their first 16 bytes.
    #[inline]
    fn halves() {
        // SAFETY: every processor of this kind has the instructions, which zero these registers and do nothing else.
        unsafe {
            asm!(
                "pxor xmm0, xmm0", "pxor xmm1, xmm1", "pxor xmm2, xmm2", "pxor xmm3, xmm3",
                "pxor xmm4, xmm4", "pxor xmm5, xmm5", "pxor xmm6, xmm6", "pxor xmm7, xmm7",
                "pxor xmm8, xmm8", "pxor xmm9, xmm9", "pxor xmm10, xmm10", "pxor xmm11, xmm11",
                "pxor xmm12, xmm12", "pxor xmm13, xmm13", "pxor xmm14, xmm14", "pxor xmm15, xmm15",
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }

    /// Whole registers 0 to 15.
    #[inline]
    #[target_feature(enable = "avx")]
    fn first_16() {
        // SAFETY: the instruction zeros these registers and does nothing else.
        unsafe {
            asm!(
                "vzeroall",
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn all_32() {
        first_16();
        // SAFETY: the instructions zero these registers and do nothing else.
        unsafe {
            asm!(
                "vpxord zmm16, zmm16, zmm16", "vpxord zmm17, zmm17, zmm17",
                "vpxord zmm18, zmm18, zmm18", "vpxord zmm19, zmm19, zmm19",
                "vpxord zmm20, zmm20, zmm20", "vpxord zmm21, zmm21, zmm21",
                "vpxord zmm22, zmm22, zmm22", "vpxord zmm23, zmm23, zmm23",
                "vpxord zmm24, zmm24, zmm24", "vpxord zmm25, zmm25, zmm25",
                "vpxord zmm26, zmm26, zmm26", "vpxord zmm27, zmm27, zmm27",
                "vpxord zmm28, zmm28, zmm28", "vpxord zmm29, zmm29, zmm29",
                "vpxord zmm30, zmm30, zmm30", "vpxord zmm31, zmm31, zmm31",
                out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
                out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
                out("xmm24") _, out("xmm25") _, out("xmm26") _, out("xmm27") _,
                out("xmm28") _, out("xmm29") _, out("xmm30") _, out("xmm31") _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }

    #[cfg(test)]
    mod tests {
        use std::arch::x86_64::{_mm256_set1_epi64x, _mm256_storeu_si256};

        /// What was in a register is not there any more; the last ones of those that there are, too.
        #[test]
        #[cfg(target_arch = "x86_64")]
        fn nothing_is_left_in_a_register() {
            if !is_x86_feature_detected!("avx512vl") {
                return;
            }
            // SAFETY: the processor has the instructions.
            let (low, high) = unsafe { filled_then_wiped() };
            assert_eq!((low, high), ([0; 4], [0; 4]));
        }

        #[target_feature(enable = "avx512f,avx512vl")]
        fn filled_then_wiped() -> ([u64; 4], [u64; 4]) {
            let full = _mm256_set1_epi64x(-1);
            let (mut low, mut high) = ([1; 4], [1; 4]);
            // SAFETY: the addresses are those of 32 bytes each, and all registers that are named are declared.
            unsafe {
                _mm256_storeu_si256(low.as_mut_ptr().cast(), full);
                std::arch::asm!(
                    "vmovdqu64 ymm3, [r12]", "vmovdqu64 ymm31, [r12]",
                    "call {wipe}",
                    "vmovdqu64 [r12], ymm3", "vmovdqu64 [r13], ymm31",
                    in("r12") low.as_mut_ptr(), in("r13") high.as_mut_ptr(),
                    wipe = sym wipe_by_call,
                    clobber_abi("C"),
                );
            }
            (low, high)
        }

        extern "C" fn wipe_by_call() {
            super::wipe();
        }
    }
}
