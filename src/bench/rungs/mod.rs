//! The rungs: what carries a job out for a while. Each does the same work, so that the differences between them are theirs.

mod cipher;
mod device;
mod kernel;
mod server;

use std::time::Duration;

pub use cipher::CipherRung;
pub use device::DeviceRung;
pub use kernel::KernelRung;
pub use server::ServerRung;

use super::{BenchError, Job, Latencies, Places};
use crate::units::ByteCount;

/// What was done in one step.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Requests completed.
    pub requests: u64,
    /// From before the first to after the last.
    pub took: Duration,
}

impl Done {
    /// Requests in a second.
    pub fn rate(&self) -> f64 {
        let requests = u32::try_from(self.requests).map_or(f64::MAX, f64::from);
        requests / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Something that is measured.
pub trait Rung {
    /// Bytes that the jobs may touch.
    fn size(&self) -> ByteCount;

    /// Keeps `job` going for `length`, at `places`; nothing is under way when it returns.
    ///
    /// # Errors
    /// Whatever failed; there is no figure then.
    fn run(
        &mut self,
        job: &Job,
        places: &mut Places,
        length: Duration,
        latencies: &mut Latencies,
    ) -> Result<Done, BenchError>;
}
