//! How long requests took: a histogram of three digits, whose memory is there before the first of them.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies of one rung in one job.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet; from a nanosecond to a minute can be told apart.
    pub fn new() -> Self {
        const LONGEST_NS: u64 = 60_000_000_000;
        Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are good"))
    }

    /// One request took `latency`.
    pub fn note(&mut self, latency: Duration) {
        self.note_many(latency, 1);
    }

    /// `count` requests took `latency` each.
    pub fn note_many(&mut self, latency: Duration, count: u64) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record_n(ns.max(1), count);
    }

    /// Takes the latencies of another part of the same work in.
    pub fn take_in(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// What `percent` of the requests did not exceed, in microseconds; `None` where none was noted.
    pub fn percentile_us(&self, percent: f64) -> Option<f64> {
        let ns = u32::try_from(self.0.value_at_percentile(percent)).unwrap_or(u32::MAX);
        (!self.0.is_empty()).then(|| f64::from(ns) / 1000.0)
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_noted() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentile_us(50.0), None);
        latencies.note_many(Duration::from_micros(10), 98);
        let mut other = Latencies::new();
        other.note(Duration::from_millis(1));
        other.note(Duration::from_secs(100));
        latencies.take_in(&other);
        let of = |percent| latencies.percentile_us(percent).expect("noted");
        assert!((of(50.0) - 10.0).abs() < 0.01, "{}", of(50.0));
        assert!((of(99.0) - 1000.0).abs() < 1.0, "{}", of(99.0));
    }
}
