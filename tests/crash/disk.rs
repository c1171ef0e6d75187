//! The disk under test: memory, a script of failing syncs, and a place where other clients come between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use envol::block::memory::MemoryDevice;
use envol::block::record::{Journal, Recorder, Step};
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Geometry, Io, Op, Patience};
use nix::errno::Errno;

use crate::image::Image;

/// What happens while an operation is under way in the disk.
pub type Meanwhile = Arc<dyn Fn() + Send + Sync>;

/// Below the recorder: whatever is done from here is done while an operation is under way.
pub struct Platter {
    memory: MemoryDevice,
    meanwhile: Mutex<Option<Meanwhile>>,
    /// How many syncs fail from now on.
    failing: AtomicU64,
}

/// A disk whose every operation is in the journal.
pub struct Disk {
    pub recorder: Arc<Recorder<Platter>>,
    pub journal: Arc<Journal>,
}

impl Disk {
    pub fn holding(image: &Image, size: envol::units::ByteCount, journal: Arc<Journal>) -> Self {
        let platter = Platter { memory: image.device(size), meanwhile: Mutex::new(None), failing: AtomicU64::new(0) };
        Self { recorder: Arc::new(Recorder::new(platter, Arc::clone(&journal))), journal }
    }

    pub fn steps(&self) -> Vec<Step> {
        self.journal.steps()
    }

    /// The next `count` syncs fail, and what they should have made durable never will be.
    pub fn fail_syncs(&self, count: u64) {
        self.recorder.inner().failing.store(count, Ordering::SeqCst);
    }

    /// `meanwhile` is called before and after each operation is carried out, with the operation under way.
    pub fn interrupt(&self, meanwhile: Option<Meanwhile>) {
        *self.recorder.inner().meanwhile.lock().expect("no panic") = meanwhile;
    }
}

impl Platter {
    fn interrupted(&self) {
        let meanwhile = self.meanwhile.lock().expect("no panic").clone();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }

    fn sync_fails(&self, op: &Op<'_>) -> bool {
        let syncs = matches!(op, Op::Flush) || op.durability() == Some(Durability::Durable);
        syncs && self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

impl BlockDevice for Platter {
    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], _patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch.iter_mut().filter(|io| io.outcome().is_none()) {
            self.interrupted();
            let fails = self.sync_fails(&io.op);
            self.memory.submit(std::slice::from_mut(io), Patience::MayBlock, &mut |_| ());
            if fails {
                // Nobody comes in between: a sync that ran beside this one would be told that all is well, and the
                // product lets no two syncs of a file run at once (`mutants` shows both).
                io.complete(Err(BlockError::System(Errno::EIO)));
            } else {
                self.interrupted();
            }
            done(io);
        }
    }
}

/// All bytes of `device`.
pub fn read_all(device: &dyn BlockDevice) -> Result<Vec<u8>, BlockError> {
    let mut bytes = vec![0; device.geometry().size.get() as usize];
    device.read_at(envol::units::ByteOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}
