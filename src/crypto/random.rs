//! Random bytes from the operating system.

/// Fills `out`.
///
/// # Panics
/// Where the system has no randomness to give, without which nothing here may go on.
pub fn fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the operating system gives randomness");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fills_differ() {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        fill(&mut one);
        fill(&mut other);
        assert_ne!(one, other);
        assert_ne!(one, [0; 32]);
    }
}
