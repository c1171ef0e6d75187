//! Sizes for people: in the largest binary unit that leaves at least one before the point.

/// `bytes` such as `10 GiB`, `1.5 MiB`, `513 B`.
pub(crate) fn human_size(bytes: u64) -> String {
    let units = [(60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        None => format!("{bytes} B"),
        Some((shift, unit)) => {
            let whole = bytes >> shift;
            // Tenths are cut, not rounded, so that nothing short of 1 GiB is ever called 1 GiB.
            let tenths = ((bytes >> (shift - 10)) & 1023) * 10 / 1024;
            if tenths == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenths} {unit}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::human_size;

    #[test]
    fn sizes_are_cut_to_a_tenth() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (10 << 30, "10 GiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human_size(bytes), text);
        }
    }
}
