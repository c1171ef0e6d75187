//! Rounds in which all rungs take turns: what disturbs the machine for a while disturbs neighbours alike, and the median
//! over the rounds forgets what disturbed one.

use std::time::Duration;

use super::{BenchError, Job, Latencies, Places, Rung};

/// How long, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds; an odd number has a median that was measured.
    pub rounds: usize,
    /// How long a rung is measured in each.
    pub step: Duration,
}

/// One rung in one job: what each round gave.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Requests in a second, by round.
    pub rates: Vec<f64>,
    /// Of all rounds.
    pub latencies: Latencies,
}

/// What is about to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Which job.
    pub job: Job,
    /// How many turns there were before.
    pub done: usize,
    /// How many there will be.
    pub of: usize,
}

/// Measures `rungs` in each of `jobs`; `before_each` is told of each turn and answers whether to go on. The series are by
/// job, then by rung.
///
/// # Errors
/// Whatever failed, or [`BenchError::Stopped`].
pub fn run(
    rungs: &mut [Box<dyn Rung>],
    jobs: &[Job],
    plan: Plan,
    before_each: &mut dyn FnMut(Turn) -> bool,
) -> Result<Vec<Vec<Series>>, BenchError> {
    let mut series = vec![vec![Series::default(); rungs.len()]; jobs.len()];
    let of = plan.rounds * jobs.len() * rungs.len();
    let mut done = 0;
    for round in 0..plan.rounds {
        for (job, series) in jobs.iter().zip(&mut series) {
            for place in 0..rungs.len() {
                // Every other round goes down instead of up, so that nobody always comes after the same neighbour.
                let at = if round % 2 == 0 { place } else { rungs.len() - 1 - place };
                if !before_each(Turn { job: *job, done, of }) {
                    return Err(BenchError::Stopped);
                }
                let (rung, series) = (&mut rungs[at], &mut series[at]);
                let mut places = Places::new(job, rung.size(), round as u64);
                let finished = rung.run(job, &mut places, plan.step, &mut series.latencies)?;
                series.rates.push(finished.rate());
                done += 1;
            }
        }
    }
    Ok(series)
}

/// The middle one; of an even number, the mean of the middle two. `None` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (middle, last) = (values.len() / 2, values.len().checked_sub(1)?);
    Some(f64::midpoint(values[middle], values[last - middle]))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::bench::job::JOBS;
    use crate::bench::rungs::Done;
    use crate::units::ByteCount;

    /// Notes when it was its turn.
    struct Noting<'l> {
        name: char,
        log: &'l RefCell<String>,
    }

    impl Rung for Noting<'_> {
        fn size(&self) -> ByteCount {
            ByteCount::new(1 << 20)
        }

        fn run(&mut self, _: &Job, _: &mut Places, took: Duration, _: &mut Latencies) -> Result<Done, BenchError> {
            self.log.borrow_mut().push(self.name);
            Ok(Done { requests: 10, took })
        }
    }

    #[test]
    fn rungs_take_turns_in_either_direction_and_can_be_stopped() {
        let log: &RefCell<String> = Box::leak(Box::default());
        let mut rungs: Vec<Box<dyn Rung>> =
            ['a', 'b', 'c'].into_iter().map(|name| Box::new(Noting { name, log }) as Box<dyn Rung>).collect();
        let plan = Plan { rounds: 3, step: Duration::from_secs(2) };
        let series = run(&mut rungs, &JOBS[..1], plan, &mut |_| true).expect("measured");
        assert_eq!(*log.borrow(), "abccbaabc");
        assert_eq!(series[0].iter().map(|series| series.rates.clone()).collect::<Vec<_>>(), vec![vec![5.0; 3]; 3]);
        let mut turns = 0;
        let stopped = run(&mut rungs, &JOBS, plan, &mut |turn| {
            turns = turn.done;
            turn.done < 4
        });
        assert!(matches!(stopped, Err(BenchError::Stopped)));
        assert_eq!(turns, 4);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median([9.0, 1.0, 5.0, 7.0]), Some(6.0));
    }
}
