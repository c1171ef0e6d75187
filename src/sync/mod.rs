//! The synchronisation primitives that everything below `daemon` uses, so that one place decides what they are.
//!
//! They are std's, with one change: a lock whose holder panicked is taken over instead of poisoned, since every guarded
//! value here is valid between any two statements that change it.
//!
//! Under the feature `schedules` they are shuttle's, which runs threads one at a time and decides at each of these calls
//! which goes on (`tests/schedules`). Time passes there as the scheduler likes: a wait with a deadline may end at any moment.

mod gate;

pub use gate::{Gate, Permit};
#[cfg(not(feature = "schedules"))]
pub use std::sync::atomic;
pub use std::sync::{Arc, OnceLock, Weak};

#[cfg(feature = "schedules")]
use shuttle::sync;
#[cfg(feature = "schedules")]
pub use shuttle::sync::atomic;
#[cfg(not(feature = "schedules"))]
use std::sync;
use std::sync::{PoisonError, TryLockError};
use std::time::Instant;

/// Threads, as far as what is attached starts any.
pub mod thread {
    #[cfg(feature = "schedules")]
    pub use shuttle::thread::Builder;
    #[cfg(not(feature = "schedules"))]
    pub use std::thread::Builder;
}

/// What [`Mutex::lock`] gives.
pub type MutexGuard<'a, T> = sync::MutexGuard<'a, T>;

/// What [`RwLock::read`] gives.
pub type RwLockReadGuard<'a, T> = sync::RwLockReadGuard<'a, T>;

/// What [`RwLock::write`] gives.
pub type RwLockWriteGuard<'a, T> = sync::RwLockWriteGuard<'a, T>;

/// Mutual exclusion.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex around `value`.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock if that needs no waiting.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The value itself, the lock gone.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Many readers or one writer.
#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// Waits until no writer holds the lock.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock for reading if that needs no waiting.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        match self.0.try_read() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Waits until nobody holds the lock.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place to wait for a condition on a [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

impl Condvar {
    /// A condition nobody waits for yet.
    pub const fn new() -> Self {
        Self(sync::Condvar::new())
    }

    /// Wakes one that waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits for a wake-up while `condition` holds.
    pub fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        self.0.wait_while(guard, condition).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `condition` holds, until `deadline` at the longest; whether it still holds is for the caller to see.
    #[cfg(not(feature = "schedules"))]
    pub fn wait_while_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
        condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        let left = deadline.saturating_duration_since(Instant::now()).max(std::time::Duration::from_nanos(1));
        self.0.wait_timeout_while(guard, left, condition).unwrap_or_else(PoisonError::into_inner).0
    }

    /// The same where the scheduler decides how late it is: the deadline is a thread, and is over once that has had some
    /// turns; mostly so many that what is waited for comes first, if it comes at all.
    #[cfg(feature = "schedules")]
    pub fn wait_while_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _deadline: Instant,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        use shuttle::rand::Rng;
        use std::sync::atomic::{AtomicBool, Ordering};
        let mut guard = guard;
        if !condition(&mut guard) {
            return guard;
        }
        let (late, answered) = (AtomicBool::new(false), AtomicBool::new(false));
        let (late, answered) = (&late, &answered);
        let mut random = shuttle::rand::thread_rng();
        let turns = if random.gen_ratio(1, 4) { random.gen_range(0..30) } else { 2_000 };
        shuttle::thread::scope(|scope| {
            scope.spawn(move || {
                for turn in 0.. {
                    if answered.load(Ordering::SeqCst) {
                        return;
                    }
                    if turn >= turns {
                        // Again and again: the wait may just be about to begin.
                        late.store(true, Ordering::SeqCst);
                        self.notify_all();
                    }
                    shuttle::thread::yield_now();
                }
            });
            let guard = self.wait_while(guard, |value| condition(value) && !late.load(Ordering::SeqCst));
            answered.store(true, Ordering::SeqCst);
            guard
        })
    }
}
