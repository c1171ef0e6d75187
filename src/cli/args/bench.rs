//! The words of `envol bench`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::nbd::client::{BadUri, NbdUri};
use crate::units::ByteCount;

/// What `--size` is a multiple of: a sector.
const SIZE_UNIT: u64 = 4096;

/// The least `--size`, several of the largest requests.
const SIZE_MIN: ByteCount = ByteCount::new(4 << 20);

/// `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  envol bench --svg ladder.svg                 the ladder on this machine, as a table and a picture
  envol bench --dir /srv/disk --size 4G        on another file system, with more data
  envol bench --against 'nbdkit file=nbd+unix:///?socket=/tmp/nbdkit.sock' --yes
  envol bench --against nbd://server/disk --read-only
  envol bench --json | jq '.jobs[].results[] | {rung, iops, loss}'

Needs twice --size of room. A server named with --against is OVERWRITTEN, from its start as far as
--size, unless --read-only is given. Its ratio is to envol's own NBD rung in the same rounds.

--json is one document:
  version, build, time, machine, cipher, backing, settings
  rungs: [{id, label, uri, reference, absent, notes}]
  jobs: [{id, title, direction, order, block_size, depth, results: [{rung, iops, bytes_per_second,
    iops_by_round, p50_us, p99_us, ratio, loss, of_possible}]}]
A ratio is the median of the ratios of each round. A loss is 1 - ratio: negative where a rung is
faster than the one below, as a server with many threads over a core measured on one can be.

Exit codes: 3 no such server or export, 4 a server refuses writes, 7 something did not keep what
was written, 8 no room, or a disk or server that fails, 130 interrupted.")]
pub struct BenchArgs {
    /// Where the data lies meanwhile [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How much data the jobs touch, such as 4G [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) size: Option<ByteCount>,
    /// How long each rung is measured in each round, for each job [default: 0.25]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Rounds; figures are medians over them [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=999))]
    pub(crate) rounds: Option<u16>,
    /// A run of seconds, to see that all works: little data, short steps
    #[arg(long)]
    pub(crate) quick: bool,
    /// Draw the picture into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Other NBD servers to measure on the same axes: nbd://HOST[:PORT]/EXPORT or
    /// nbd+unix:///EXPORT?socket=PATH, with a name before it where that helps
    #[arg(long, value_name = "[NAME=]URI", num_args = 1..)]
    pub(crate) against: Vec<Against>,
    /// Leave out the jobs that write
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Overwrite the servers named with --against without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Against {
    /// What it is called.
    pub(crate) label: String,
    /// Where it is.
    pub(crate) uri: NbdUri,
}

impl FromStr for Against {
    type Err = BadUri;

    fn from_str(text: &str) -> Result<Self, BadUri> {
        let named = text.split_once('=').filter(|(label, _)| !label.contains(':') && !label.is_empty());
        let (label, uri) = named.unwrap_or((text, text));
        Ok(Self { label: label.to_owned(), uri: uri.parse()? })
    }
}

fn size(text: &str) -> Result<ByteCount, String> {
    let size: ByteCount = text.parse().map_err(|error| format!("{error}"))?;
    let good = size >= SIZE_MIN && size.is_aligned(SIZE_UNIT);
    if good { Ok(size) } else { Err("it is at least 4M, and a multiple of 4096 bytes".to_owned()) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is a number, such as 0.25".to_owned())?;
    let good = (0.001..=3600.0).contains(&seconds);
    if good { Ok(Duration::from_secs_f64(seconds)) } else { Err("it is 0.001 to 3600 seconds".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_have_a_name() {
        for (text, label) in [
            ("nbd://h/x", "nbd://h/x"),
            ("nbd+unix:///?socket=/a", "nbd+unix:///?socket=/a"),
            ("nbdkit file=nbd+unix:///?socket=/a", "nbdkit file"),
        ] {
            assert_eq!(text.parse::<Against>().expect("good").label, label);
        }
        assert_eq!("x=http://h/".parse::<Against>(), Err(BadUri::Scheme));
        assert_eq!("".parse::<Against>(), Err(BadUri::Scheme));
    }

    #[test]
    fn sizes_and_seconds_have_bounds() {
        assert!(size("4M").is_ok() && size("3M").is_err() && size("5000000").is_err());
        assert!(seconds("0.01").is_ok());
        for bad in ["0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
