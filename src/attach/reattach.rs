//! After a restart: what was attached is attached again, each volume through its KMS, as if for the first time.
//!
//! Each KMS has its own queue and its own few workers, so one that never answers delays nobody else. What a KMS refuses
//! stays detached, with its cause; what it does not answer is tried again, with back-off, until it does, the daemon stops,
//! or somebody attaches or detaches the volume by hand. The workers hold the registry only while they try.

use std::collections::BTreeMap;
use std::time::Instant;

use super::deadline::{Stop, back_off};
use super::events::Happening;
use super::open::options_of;
use super::state::{Phase, Work};
use super::{AttachError, Registry};
use crate::limits;
use crate::names::VolumeId;
use crate::sync::{Arc, Mutex, Weak, thread};

/// The volumes of one KMS that are still to be attached, by when they are due.
struct Queue {
    due: Mutex<BTreeMap<(Instant, VolumeId), Tries>>,
}

/// How often a volume was tried.
type Tries = u32;

impl Queue {
    /// Takes out what is due first. The lock is not held while it is worked on.
    fn first(&self) -> Option<((Instant, VolumeId), Tries)> {
        self.due.lock().pop_first()
    }
}

/// What is to become of a volume that was tried.
enum Next {
    Done,
    Again,
}

impl Registry {
    /// Starts attaching again, in the background, what was attached when the daemon last ran.
    pub fn reattach_wanted(self: &Arc<Self>) {
        for (kms, ids) in self.awaited_by_kms() {
            let workers = ids.len().min(limits::REATTACH_AT_ONCE);
            tracing::info!(%kms, volumes = ids.len(), "attaching again what was attached before");
            let now = Instant::now();
            let due = ids.into_iter().map(|id| ((now, id), 0)).collect();
            let queue = Arc::new(Queue { due: Mutex::new(due) });
            for _ in 0..workers {
                let (registry, queue, stop) = (Arc::downgrade(self), Arc::clone(&queue), Arc::clone(&self.stop));
                let worker = thread::Builder::new().name("envol-reattach".into());
                if let Err(error) = worker.spawn(move || work_off(&registry, &queue, &stop)) {
                    tracing::error!(%kms, %error, "no thread to attach volumes again on");
                }
            }
        }
    }

    fn awaited_by_kms(&self) -> BTreeMap<String, Vec<VolumeId>> {
        let mut by_kms = BTreeMap::<_, Vec<_>>::new();
        for entry in self.table.lock().entries().filter(|entry| entry.awaited) {
            by_kms.entry(entry.record.kms.clone()).or_default().push(entry.record.id.clone());
        }
        by_kms
    }

    fn try_again(&self, id: &VolumeId, tries: Tries) -> Next {
        let Some(options) = self.still_wanted(id) else {
            return Next::Done;
        };
        let claim = match self.claim(id, Work::Reattaching) {
            Ok(claim) => claim,
            // Somebody else is at it; how that ends decides.
            Err(AttachError::Busy { .. }) => return Next::Again,
            Err(_) => return Next::Done,
        };
        let outcome = self.attach_claimed(claim, &self.infrastructure(), options);
        let failure = outcome.as_ref().err();
        // Busy: it was let go meanwhile.
        if matches!(failure, Some(AttachError::Stopping | AttachError::Busy { .. })) {
            return Next::Done;
        }
        let may_pass = failure.is_some_and(AttachError::may_pass);
        // Of the tries that got no answer the first is told; the later ones would only repeat it.
        if !may_pass || tries == 0 {
            let reported = self.report_attach(id, Happening::ReattachVolume, failure);
            if let (Ok(record), Some(error)) = (reported, failure) {
                tracing::error!(volume = %record.name, %error, retrying = may_pass, "not attached again");
            }
        }
        if may_pass { Next::Again } else { Next::Done }
    }

    /// How a volume is to be attached, as long as it is wanted and is not.
    fn still_wanted(&self, id: &VolumeId) -> Option<super::AttachOptions> {
        let mut table = self.table.lock();
        let entry = table.entry_mut(id).ok()?;
        let open = matches!(entry.phase, Phase::Attached(_) | Phase::Detaching { .. });
        options_of(&entry.record).filter(|_| !open)
    }
}

/// A worker: takes what is due until nothing is left, or the registry is gone.
fn work_off(registry: &Weak<Registry>, queue: &Queue, stop: &Stop) {
    while let Some(((due, id), tries)) = queue.first() {
        if !stop.sleep_until(due) {
            return;
        }
        let Some(registry) = registry.upgrade() else {
            return;
        };
        if let Next::Again = registry.try_again(&id, tries) {
            let pause = back_off(tries + 1, limits::REATTACH_BACK_OFF_FIRST, limits::REATTACH_BACK_OFF_MOST);
            queue.due.lock().insert((Instant::now() + pause, id), tries + 1);
        }
    }
}
