//! A client that asks for one thing after another, the same things each time, and writes down what came of each.

use envol::block::Zeroing;
use envol::nbd::client::{Client, ClientError};

use crate::ledger::{End, Ledger, PIECE};
use crate::random::Random;

/// The bytes that the script works on, from the volume's start on.
pub const PART: usize = 512 << 10;
/// How many requests a script is long.
pub const STEPS: usize = 200;
const LONGEST: u64 = 24 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Read,
    Write,
    WriteDurably,
    Zero,
    Trim,
    Flush,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Step {
    pub what: What,
    pub at: usize,
    /// What is there afterwards; for a READ only their number counts.
    pub bytes: Vec<u8>,
}

/// The requests of script `number`.
pub fn steps(number: u64) -> Vec<Step> {
    let mut random = Random::new(number);
    (0..STEPS).map(|_| step(&mut random)).collect()
}

fn step(random: &mut Random) -> Step {
    use What::{Flush, Read, Trim, Write, WriteDurably, Zero};
    let what = *random.of(&[Read, Read, Write, Write, Write, Write, WriteDurably, Zero, Trim, Flush]);
    let unit = if random.percent(50) || what == Trim { PIECE as u64 } else { 1 };
    let length = random.within(1..LONGEST / unit) * unit;
    let at = random.below((PART as u64 - length) / unit + 1) * unit;
    let mut bytes = vec![0; length as usize];
    if matches!(what, Write | WriteDurably) {
        bytes.fill_with(|| random.next().to_le_bytes()[0]);
    }
    Step { what, at: at as usize, bytes }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Errno(u32),
    /// The connection ended.
    None,
}

/// How far the client came.
#[derive(Debug, Default)]
pub struct Course {
    pub acknowledged: usize,
    pub errors: Vec<u32>,
    /// The connection ended before the script did.
    pub cut_off: bool,
    /// The first FLUSH or FUA request that failed, and how many were acknowledged afterwards.
    pub sync_failed: Option<What>,
    pub syncs_afterwards: usize,
}

impl Step {
    /// Asks for it; a READ must be answered with what the ledger allows.
    pub fn ask(&self, client: &mut Client, ledger: &mut Ledger) -> Answer {
        let answer = sorted(self.send(client, ledger));
        self.enter(ledger, answer);
        answer
    }

    fn send(&self, client: &mut Client, ledger: &mut Ledger) -> Result<(), ClientError> {
        let (at, length) = (self.at as u64, self.bytes.len() as u32);
        match self.what {
            What::Read => read(client, ledger),
            What::Write => client.write(at, &self.bytes),
            What::WriteDurably => client.write_durably(at, &self.bytes),
            What::Zero => client.zero(at, length, Zeroing::MayPunch),
            What::Trim => client.trim(at, length),
            What::Flush => client.flush(),
        }
    }

    /// Writes down what came of it.
    pub fn enter(&self, ledger: &mut Ledger, answer: Answer) {
        let end = if answer == Answer::Done { End::Acknowledged } else { End::Open };
        match self.what {
            What::Read => {}
            What::Flush if end == End::Acknowledged => ledger.flush(),
            What::Flush => {}
            _ => ledger.change(self.at, &self.bytes, end),
        }
        if self.what == What::WriteDurably && end == End::Acknowledged {
            ledger.cover(self.at, self.bytes.len());
        }
    }

    fn syncs(&self) -> bool {
        matches!(self.what, What::Flush | What::WriteDurably)
    }
}

/// Reads all of the part, which must hold what it may.
pub fn read(client: &mut Client, ledger: &mut Ledger) -> Result<(), ClientError> {
    let mut plain = vec![0; PART];
    client.read(0, &mut plain)?;
    ledger.judge(&plain).unwrap_or_else(|lost| panic!("{}", ledger.tell(&lost, &plain)));
    Ok(())
}

/// An errno leaves the connection in use; anything else is its end.
fn sorted(result: Result<(), ClientError>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(ClientError::Errno(errno)) => Answer::Errno(errno),
        Err(ClientError::Connection(_)) => Answer::None,
        Err(error) => panic!("{error}"),
    }
}

/// Goes through `steps` until they are done or the connection ends.
pub fn follow(steps: &[Step], client: &mut Client, ledger: &mut Ledger) -> Course {
    let mut course = Course::default();
    for step in steps {
        match step.ask(client, ledger) {
            Answer::Done => course.done(step),
            Answer::Errno(errno) => course.failed(step, errno),
            Answer::None => {
                course.cut_off = true;
                return course;
            }
        }
    }
    course
}

impl Course {
    fn done(&mut self, step: &Step) {
        self.acknowledged += 1;
        self.syncs_afterwards += usize::from(self.sync_failed.is_some() && step.syncs());
    }

    fn failed(&mut self, step: &Step, errno: u32) {
        self.errors.push(errno);
        if step.syncs() && self.sync_failed.is_none() {
            self.sync_failed = Some(step.what);
        }
    }
}
