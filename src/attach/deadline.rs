//! KMS calls with an end: [`Bounded`] is a [`Kms`] in front of another that may be slow, throttle, or never answer.
//!
//! Each call runs on a thread of its own that is left behind when its time is up; what such a call answers later is
//! dropped there, which wipes it. Refusals are answered at once; a KMS that throttles or cannot be reached is asked
//! again, with jittered back-off, as long as the deadline lasts. All attaches share one [`Door`] for each KMS: so many
//! calls at once and no more, and so many left behind and no more.

use std::time::{Duration, Instant};

use super::mailbox::{self, Undelivered};
use crate::crypto::random;
use crate::kms::{
    DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal, WrappedKey,
};
use crate::limits;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Condvar, Mutex, thread};

/// The way to one KMS, shared by all that ask it.
pub(super) struct Door {
    kms: Arc<dyn Kms>,
    load: Mutex<Load>,
    freed: Condvar,
}

#[derive(Default)]
struct Load {
    asking: usize,
    /// Below zero for a moment where a call returns late before it is counted as left behind.
    left_behind: isize,
}

/// When calls through a [`Bounded`] end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// All together by then.
    Until(Instant),
    /// Each on its own within this time.
    Each(Duration),
}

/// A KMS whose calls end.
pub(super) struct Bounded {
    door: Arc<Door>,
    patience: Patience,
    stop: Arc<Stop>,
    timed_out: AtomicBool,
    /// Whether it is not envol's own.
    elsewhere: bool,
}

/// Ends every wait of this module at once when the registry stops.
#[derive(Default)]
pub(super) struct Stop {
    stopped: Mutex<bool>,
    told: Condvar,
}

/// What came of one try.
enum Tried<T> {
    Answered(Result<T, KmsError>),
    TimedOut,
}

impl Stop {
    pub(super) fn set(&self) {
        *self.stopped.lock() = true;
        self.told.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *self.stopped.lock()
    }

    /// Sleeps until `until`; answers whether to go on.
    pub(super) fn sleep_until(&self, until: Instant) -> bool {
        !*self.told.wait_while_until(self.stopped.lock(), until, |stopped| !*stopped)
    }
}

impl Door {
    pub(super) fn new(kms: Arc<dyn Kms>) -> Arc<Self> {
        Arc::new(Self { kms, load: Mutex::default(), freed: Condvar::new() })
    }

    /// Waits for a place, until `until`.
    fn enter(&self, until: Instant) -> bool {
        let full = |load: &mut Load| {
            load.asking >= limits::KMS_CALLS_AT_ONCE || load.left_behind >= limits::KMS_CALLS_LEFT_BEHIND
        };
        let mut load = self.freed.wait_while_until(self.load.lock(), until, |load| full(load));
        let admitted = !full(&mut load);
        load.asking += usize::from(admitted);
        admitted
    }

    fn leave(&self, left_behind: bool) {
        let mut load = self.load.lock();
        load.asking -= 1;
        load.left_behind += isize::from(left_behind);
        drop(load);
        self.freed.notify_all();
    }

    fn returned_late(&self) {
        self.load.lock().left_behind -= 1;
        self.freed.notify_all();
    }

    /// One try: the call on a thread that is left behind at `until`.
    fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        until: Instant,
        call: impl FnOnce(&dyn Kms) -> Result<T, KmsError> + Send + 'static,
    ) -> Tried<T> {
        if !self.enter(until) {
            return Tried::TimedOut;
        }
        let (sender, receiver) = mailbox::pair();
        let (kms, door) = (Arc::clone(&self.kms), Arc::downgrade(self));
        let spawned = thread::Builder::new().name("envol-kms-call".into()).spawn(move || {
            let answer = call(&*kms);
            if let Err(late) = sender.deliver(answer) {
                drop(late);
                door.upgrade().iter().for_each(|door| door.returned_late());
            }
        });
        if let Err(error) = spawned {
            self.leave(false);
            return Tried::Answered(Err(KmsError::Unreachable(format!("no thread to call it from: {error}"))));
        }
        let delivered = receiver.wait(until);
        self.leave(matches!(delivered, Err(Undelivered::TimedOut)));
        match delivered {
            Ok(answer) => Tried::Answered(answer),
            Err(Undelivered::TimedOut) => Tried::TimedOut,
            Err(Undelivered::Lost) => Tried::Answered(Err(KmsError::BadAnswer("the call panicked".into()))),
        }
    }
}

/// Whether asking again may help.
pub(super) fn may_pass(error: &KmsError) -> bool {
    matches!(error, KmsError::Throttled { .. } | KmsError::Unreachable(_))
}

/// The pause before try number `attempt` (from 1): doubling from `first` to `most`, the upper half of it random.
pub(super) fn back_off(attempt: u32, first: Duration, most: Duration) -> Duration {
    let whole = first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(most);
    let mut random = [0; 2];
    random::fill(&mut random);
    let share = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    whole.mul_f64(0.5 + 0.5 * share)
}

impl Bounded {
    pub(super) fn new(door: Arc<Door>, patience: Patience, stop: Arc<Stop>) -> Self {
        Self { door, patience, stop, timed_out: AtomicBool::new(false), elsewhere: false }
    }

    /// The same, of a KMS that is not envol's own where that is so.
    pub(super) fn placed(self, elsewhere: bool) -> Self {
        Self { elsewhere, ..self }
    }

    /// Whether it is not envol's own.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// Whether the last failure was our giving up rather than the KMS's answer.
    pub(super) fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Relaxed)
    }

    fn deadline(&self) -> Instant {
        match self.patience {
            Patience::Until(end) => end,
            Patience::Each(time) => Instant::now() + time,
        }
    }

    fn patiently<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Kms) -> Result<T, KmsError> + Clone + Send + 'static,
    ) -> Result<T, KmsError> {
        let (began, end) = (Instant::now(), self.deadline());
        for attempt in 1.. {
            let until = end.min(Instant::now() + limits::KMS_CALL_DEADLINE);
            let failure = match self.door.ask(until, call.clone()) {
                Tried::Answered(Err(error)) if may_pass(&error) => Some(error),
                Tried::Answered(answer) => {
                    self.timed_out.store(false, Ordering::Relaxed);
                    return answer;
                }
                Tried::TimedOut => None,
            };
            self.timed_out.store(failure.is_none(), Ordering::Relaxed);
            let pause = back_off(attempt, limits::KMS_BACK_OFF_FIRST, limits::KMS_BACK_OFF_MOST);
            let next = Instant::now() + pause;
            if attempt == limits::KMS_TRIES_MAX || next >= end || !self.stop.sleep_until(next) {
                let waited = began.elapsed().as_secs_f32();
                let silence = || KmsError::Unreachable(format!("no answer within {waited:.1} s"));
                return Err(failure.unwrap_or_else(silence));
            }
        }
        unreachable!("the last try returns")
    }
}

impl Kms for Bounded {
    fn generate_data_key_without_plaintext(
        &self,
        caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let (caller, key, context) = (caller.clone(), key.clone(), context.clone());
        self.patiently(move |kms| kms.generate_data_key_without_plaintext(&caller, &key, &context))
    }

    fn decrypt(
        &self,
        caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        let (caller, key, wrapped, context) = (caller.clone(), key.clone(), wrapped.clone(), context.clone());
        self.patiently(move |kms| kms.decrypt(&caller, &key, &wrapped, &context))
    }

    fn re_encrypt(
        &self,
        caller: &Principal,
        (from, wrapped): (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let (caller, from, wrapped) = (caller.clone(), from.clone(), wrapped.clone());
        let (to, context) = (to.clone(), context.clone());
        self.patiently(move |kms| kms.re_encrypt(&caller, (&from, &wrapped), &to, &context))
    }

    fn encrypt(
        &self,
        caller: &Principal,
        key: &KeyName,
        data_key: &Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let (caller, key) = (caller.clone(), key.clone());
        let (data_key, context) = (Arc::clone(data_key), context.clone());
        self.patiently(move |kms| kms.encrypt(&caller, &key, &data_key, &context))
    }
}
