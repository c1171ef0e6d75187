//! The vector registers, through which copies of secrets go: `memcpy` moves 16 to 64 bytes in one, the cipher keeps round
//! keys there. A thread that then waits keeps them for as long as it waits, and they are in every core of it.

/// Zeros all vector registers of this thread, on x86-64 and aarch64.
#[inline]
pub(crate) fn wipe() {
    #[cfg(target_arch = "x86_64")]
    x86::wipe();
    #[cfg(target_arch = "aarch64")]
    arm::wipe();
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::asm;

    #[inline]
    pub(super) fn wipe() {
        // SAFETY: every processor of this kind has the instructions, which zero these registers and do nothing else.
        unsafe {
            asm!(
                "movi v0.2d, #0", "movi v1.2d, #0", "movi v2.2d, #0", "movi v3.2d, #0",
                "movi v4.2d, #0", "movi v5.2d, #0", "movi v6.2d, #0", "movi v7.2d, #0",
                "movi v8.2d, #0", "movi v9.2d, #0", "movi v10.2d, #0", "movi v11.2d, #0",
                "movi v12.2d, #0", "movi v13.2d, #0", "movi v14.2d, #0", "movi v15.2d, #0",
                "movi v16.2d, #0", "movi v17.2d, #0", "movi v18.2d, #0", "movi v19.2d, #0",
                "movi v20.2d, #0", "movi v21.2d, #0", "movi v22.2d, #0", "movi v23.2d, #0",
                "movi v24.2d, #0", "movi v25.2d, #0", "movi v26.2d, #0", "movi v27.2d, #0",
                "movi v28.2d, #0", "movi v29.2d, #0", "movi v30.2d, #0", "movi v31.2d, #0",
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }

    #[cfg(test)]
    mod tests {
        /// What was in a register is not there any more; the last one, too.
        #[test]
        fn nothing_is_left_in_a_register() {
            let (mut low, mut high) = ([1_u64; 2], [1_u64; 2]);
            // SAFETY: the addresses are those of 16 bytes each, in registers that a call keeps, and all that are named are
            // declared.
            unsafe {
                std::arch::asm!(
                    "movi v3.16b, #255", "movi v31.16b, #255",
                    "bl {wipe}",
                    "str q3, [x20]", "str q31, [x21]",
                    in("x20") low.as_mut_ptr(), in("x21") high.as_mut_ptr(),
                    wipe = sym wipe_by_call,
                    clobber_abi("C"),
                );
            }
            assert_eq!((low, high), ([0; 2], [0; 2]));
        }

        extern "C" fn wipe_by_call() {
            super::wipe();
        }
    }
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
