//! An NBD server, through the measuring client: envol's own, or any other.

use std::time::{Duration, Instant};

use super::{Done, Rung};
use crate::bench::{BenchError, Job, Latencies, PATIENCE, Places};
use crate::nbd::client::pipeline::{Load, Pipeline};
use crate::nbd::client::{ClientError, NbdUri};
use crate::units::ByteCount;

/// A connection to a server.
pub struct ServerRung {
    name: String,
    pipeline: Pipeline,
    size: ByteCount,
}

impl ServerRung {
    /// Connects to the export of `uri`, called `name` in errors; at most `most` bytes of it are used.
    ///
    /// # Errors
    /// [`BenchError::Server`].
    pub fn connect(name: &str, uri: &NbdUri, most: ByteCount) -> Result<Self, BenchError> {
        let pipeline = Pipeline::connect(uri, PATIENCE).map_err(|source| failed(name, source))?;
        let size = ByteCount::new(pipeline.size()).min(most);
        Ok(Self { name: name.to_owned(), pipeline, size })
    }
}

fn failed(server: &str, source: ClientError) -> BenchError {
    BenchError::Server { server: server.to_owned(), source }
}

impl Rung for ServerRung {
    fn size(&self) -> ByteCount {
        self.size
    }

    fn run(
        &mut self,
        job: &Job,
        places: &mut Places,
        length: Duration,
        latencies: &mut Latencies,
    ) -> Result<Done, BenchError> {
        let start = Instant::now();
        let load = Load { direction: job.direction, length: job.length, depth: job.depth, until: start + length };
        let mut next = || places.next_place().get();
        let requests = self.pipeline.run(load, &mut next, &mut |latency| latencies.note(latency));
        let requests = requests.map_err(|source| failed(&self.name, source))?;
        Ok(Done { requests, took: start.elapsed() })
    }
}
