//! Who carries out a request that has a buffer of its own: the thread that received it, or a worker.
//!
//! A worker, where another request is there already and a processor has nothing to do: so reading or encrypting one overlaps
//! with sending or receiving the other. Else the thread itself, as long as that needs no waiting for the disk: with all
//! processors busy, a hop to another thread is work and gains nothing. What has to wait is waited for here only for a client
//! that waits for each answer (`solitude`): what it does not ask for meanwhile cannot be late.

use super::Export;
use super::errno::{self, Errno};
use super::link::{Link, LinkError};
use super::processors::{Processors, Working};
use super::request::Work;
use super::solitude::Solitude;
use super::waits::{self, Permit, answer_read};
use super::workers::{Job, Workers};
use crate::block::{Durability, Io, Op, Patience};
use crate::sync::Arc;

/// What a connection needs to have requests carried out.
pub(super) struct Dispatch {
    pub(super) link: Arc<Link>,
    pub(super) export: Arc<dyn Export>,
    pub(super) workers: Workers,
    pub(super) processors: Arc<Processors>,
    /// Whether something arrives while the workers owe one answer.
    pub(super) solitude: Solitude,
}

impl Dispatch {
    /// Has a job carried out that nobody has tried yet, or gives it back where it has to wait; `more` says whether others
    /// are there to be seen to meanwhile.
    pub(super) fn carry_out(&self, mut job: Job, more: bool) -> Result<Option<Job>, LinkError> {
        if !may_be_tried(&job.work) {
            return Ok(Some(job));
        }
        let mine = self.processors.work();
        if more {
            job.working = self.processors.spare();
        }
        if job.working.is_some() { self.hand_on(job).map(|()| None) } else { self.attempt(job, mine) }
    }

    /// Has a job carried out that has to wait; `only` says that nothing else of its client is here.
    pub(super) fn see_to(&mut self, job: Job, only: bool) -> Result<(), LinkError> {
        let only = only && self.workers.owe_nothing();
        if !only || !self.solitude.is_certain() || self.link.is_stopping() {
            if only {
                self.solitude.observe();
            }
            return self.hand_on(job);
        }
        let Self { link, export, solitude, .. } = self;
        waits::carry_out(job, link, export, || solitude.note(!link.has_more()));
        Ok(())
    }

    /// Notes that something was received.
    pub(super) fn arrived(&mut self) {
        let workers = &self.workers;
        self.solitude.arrived(|| workers.owe_nothing());
    }

    /// Hands a job to the workers, or answers it where the server stops.
    pub(super) fn hand_on(&self, job: Job) -> Result<(), LinkError> {
        if self.link.is_stopping() {
            return self.link.reply(job.pending.failure(Errno::Shutdown).bytes());
        }
        self.workers.submit(job);
        Ok(())
    }

    /// Carries a job out if that needs no waiting, and answers it; else gives it back.
    fn attempt(&self, mut job: Job, mine: Working) -> Result<Option<Job>, LinkError> {
        let permit = if self.link.is_stopping() { None } else { Permit::enter(&self.export) };
        let Some(permit) = permit else {
            self.link.reply(job.pending.failure(Errno::Shutdown).bytes())?;
            return Ok(None);
        };
        let op = match job.work {
            Work::Read(extent) => Op::Read { at: extent.start(), into: job.room.data(extent.length()) },
            Work::Write(extent, durability) => {
                Op::Write { at: extent.start(), from: job.room.data(extent.length()), durability }
            }
            _ => unreachable!("nothing else is tried"),
        };
        let mut ios = [Io::new(op, 0)];
        self.export.device().submit(&mut ios, Patience::TryNow, &mut |_| ());
        let outcome = ios[0].outcome();
        // The client may take its time to take the answer.
        drop((permit, mine));
        let Some(outcome) = outcome else { return Ok(Some(job)) };
        let Job { pending, work, mut room, .. } = job;
        match work {
            Work::Read(extent) => answer_read(&self.link, pending, extent.length(), room.buffer(), outcome)?,
            _ => self.link.reply(pending.answer(outcome.map_err(errno::of)).bytes())?,
        }
        Ok(None)
    }
}

/// Whether `work` may be done without waiting.
fn may_be_tried(work: &Work) -> bool {
    matches!(work, Work::Read(_) | Work::Write(_, Durability::Cached))
}
