//! No cipher: bytes are brought from where they are to where they go. For measuring what everything else costs, in builds
//! with the feature `bench-null` only.

use super::runs::{Piece, Runs, Stride};

/// Copies what has two places, and leaves alone what has one.
pub(super) fn bring(runs: Runs<'_>) {
    for run in runs {
        run.strides::<{ size_of::<Piece>() }>().map(Stride::in_place).for_each(drop);
    }
}
