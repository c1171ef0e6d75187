//! The figures as one document: what `--json` prints, and what the table and the picture are drawn from.
//!
//! A ratio is the median of the ratios of each round, not the ratio of two medians: what slowed both in one round down
//! cancels out.

use serde::Serialize;

use super::job::{Direction, Order};
use super::machine::Machine;
use super::measure::{Series, median};
use super::{Job, ladder};

/// One run of `envol bench`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of envol.
    pub version: String,
    /// `release`, or `debug` where the compiler did not optimise and no figure means anything.
    pub build: &'static str,
    /// When it began (RFC 3339).
    pub time: String,
    /// Where.
    pub machine: Machine,
    /// Which cipher.
    pub cipher: Cipher,
    /// Where the data lay.
    pub backing: Backing,
    /// How it was measured.
    pub settings: Settings,
    /// What was measured: the ladder from below, then the other servers.
    pub rungs: Vec<RungReport>,
    /// The figures.
    pub jobs: Vec<JobReport>,
}

/// The cipher of the ladder.
#[derive(Debug, Clone, Serialize)]
pub struct Cipher {
    /// The engine.
    pub engine: String,
    /// Bytes that share a tweak.
    pub sector_size: u64,
}

/// The files of the ladder.
#[derive(Debug, Clone, Serialize)]
pub struct Backing {
    /// Where they lay.
    pub directory: String,
    /// On which file system.
    pub file_system: Option<String>,
    /// Bytes that the jobs touched.
    pub size: u64,
    /// What part of them was in memory throughout, from 0 to 1; null where the file system cannot tell.
    pub in_page_cache: Option<f64>,
}

/// How it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Rounds; each figure is the median over them.
    pub rounds: usize,
    /// Seconds that a rung was measured in each round.
    pub seconds: f64,
    /// Whether the jobs that write were left out.
    pub read_only: bool,
}

/// One thing that was measured, or could not be.
#[derive(Debug, Clone, Serialize)]
pub struct RungReport {
    /// Its name for scripts: `cipher`, `file`, `core`, `nbd`, `kernel`, or `server-1` and so on.
    pub id: String,
    /// Its name for people.
    pub label: String,
    /// Where an export is, if it is one.
    pub uri: Option<String>,
    /// What it is compared with: the rung below, or `nbd` for another server.
    pub reference: Option<String>,
    /// Why there are no figures of it.
    pub absent: Option<String>,
    /// What must be known to judge its figures.
    pub notes: Vec<String>,
}

/// One job on every rung.
#[derive(Debug, Clone, Serialize)]
pub struct JobReport {
    /// Its name for scripts.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// `read` or `write`.
    pub direction: &'static str,
    /// In which order.
    pub order: Order,
    /// Bytes of each request.
    pub block_size: u32,
    /// Requests under way at once.
    pub depth: usize,
    /// Of the rungs that are not absent.
    pub results: Vec<Figures>,
}

/// One job on one rung.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Which rung.
    pub rung: String,
    /// Requests in a second: the median over the rounds.
    pub iops: f64,
    /// The same in bytes.
    pub bytes_per_second: f64,
    /// Requests in a second, round by round.
    pub iops_by_round: Vec<f64>,
    /// What half of the requests did not exceed, in microseconds.
    pub p50_us: Option<f64>,
    /// What 99 in 100 did not exceed.
    pub p99_us: Option<f64>,
    /// As a part of the reference's rate: the median over the rounds.
    pub ratio: Option<f64>,
    /// 1 - `ratio`: what was lost on the way from the rung below. Negative where it is faster. Only in the ladder.
    pub loss: Option<f64>,
    /// Only for the volume core: as a part of what cipher and backing file, one after the other on one core, could give.
    pub of_possible: Option<f64>,
}

impl RungReport {
    /// A rung of the ladder, above `reference`.
    pub fn of_ladder(id: &str, label: &str, reference: Option<&str>) -> Self {
        let (id, label, reference) = (id.to_owned(), label.to_owned(), reference.map(str::to_owned));
        Self { id, label, uri: None, reference, absent: None, notes: Vec::new() }
    }

    /// Whether it is a rung of the ladder, not another server.
    pub fn is_of_ladder(&self) -> bool {
        !self.id.starts_with("server-")
    }
}

impl Cipher {
    /// The one that volumes use here.
    ///
    /// # Errors
    /// The environment names one that this processor cannot run.
    pub fn this() -> Result<Self, super::BenchError> {
        let engine = super::rungs::CipherRung::engine()?;
        Ok(Self { engine: engine.to_string(), sector_size: ladder::SECTORS.bytes() })
    }
}

impl JobReport {
    /// The figures of `job`, whose `series` are those of the `rungs` that are not absent.
    pub fn new(job: &Job, rungs: &[RungReport], series: &[Series]) -> Self {
        let present: Vec<&RungReport> = rungs.iter().filter(|rung| rung.absent.is_none()).collect();
        let rates = |id: &str| {
            let at = present.iter().position(|rung| rung.id == id)?;
            Some(series[at].rates.as_slice())
        };
        let results = present.iter().zip(series).map(|(rung, series)| {
            let mut figures = Figures::of(rung, series, job, rung.reference.as_deref().and_then(rates));
            if rung.id == "core"
                && let (Some(cipher), Some(file)) = (rates("cipher"), rates("file"))
            {
                figures.of_possible = ratio(&series.rates, &one_after_the_other(cipher, file));
            }
            figures
        });
        Self {
            id: job.id,
            title: job.title,
            direction: if job.direction == Direction::Read { "read" } else { "write" },
            order: job.order,
            block_size: job.length,
            depth: job.depth,
            results: results.collect(),
        }
    }

    /// The figures of one rung.
    pub fn of(&self, rung: &str) -> Option<&Figures> {
        self.results.iter().find(|figures| figures.rung == rung)
    }
}

impl Figures {
    fn of(rung: &RungReport, series: &Series, job: &Job, reference: Option<&[f64]>) -> Self {
        let iops = median(series.rates.iter().copied()).unwrap_or_default();
        let ratio = reference.and_then(|reference| ratio(&series.rates, reference));
        Self {
            rung: rung.id.clone(),
            iops,
            bytes_per_second: iops * f64::from(job.length),
            iops_by_round: series.rates.clone(),
            p50_us: series.latencies.percentile_us(50.0),
            p99_us: series.latencies.percentile_us(99.0),
            ratio,
            loss: ratio.filter(|_| rung.is_of_ladder()).map(|ratio| 1.0 - ratio),
            of_possible: None,
        }
    }
}

/// The median of the ratios of each round.
fn ratio(rates: &[f64], reference: &[f64]) -> Option<f64> {
    median(rates.iter().zip(reference).map(|(rate, reference)| rate / reference))
}

/// What two things that each request takes one after the other give together.
fn one_after_the_other(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| 1.0 / (1.0 / a + 1.0 / b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::job::JOBS;

    fn series(rates: &[f64]) -> Series {
        Series { rates: rates.to_vec(), ..Series::default() }
    }

    #[test]
    fn losses_are_against_the_rung_below_and_servers_against_ours() {
        let mut kernel = RungReport::of_ladder("kernel", "kernel device", Some("nbd"));
        kernel.absent = Some("no module".to_owned());
        let rungs = [
            RungReport::of_ladder("cipher", "cipher", None),
            RungReport::of_ladder("file", "backing file", Some("cipher")),
            RungReport::of_ladder("core", "volume core", Some("file")),
            RungReport::of_ladder("nbd", "NBD", Some("core")),
            kernel,
            RungReport::of_ladder("server-1", "other", Some("nbd")),
        ];
        let all = [
            series(&[400.0, 800.0, 400.0]),
            series(&[400.0, 800.0, 400.0]),
            series(&[100.0, 200.0, 100.0]),
            series(&[50.0, 50.0, 50.0]),
            series(&[25.0, 100.0, 25.0]),
        ];
        let report = JobReport::new(&JOBS[0], &rungs, &all);
        let of = |rung: &str| report.of(rung).expect("measured");
        assert_eq!((of("cipher").ratio, of("cipher").loss), (None, None));
        assert_eq!((of("core").ratio, of("core").loss), (Some(0.25), Some(0.75)));
        assert_eq!(of("core").of_possible, Some(0.5), "half of 1/(1/400 + 1/400)");
        assert_eq!(of("nbd").ratio, Some(0.5), "the median of the rounds' ratios");
        assert_eq!((of("server-1").ratio, of("server-1").loss), (Some(0.5), None));
        assert_eq!((of("nbd").iops, of("nbd").bytes_per_second), (50.0, 50.0 * 4096.0));
        assert!(report.of("kernel").is_none());
    }
}
