//! What an NBD client is told of a name. Answers from memory: no KMS is called, no backing touched.

use super::state::{Phase, Work};
use super::{LookUp, Registry, VolumeRef};

impl Registry {
    /// What an NBD client that asks for `name` (or an id) is to be told.
    pub fn look_up(&self, name: &str) -> LookUp {
        let Ok(volume) = name.parse::<VolumeRef>() else {
            return LookUp::Unknown;
        };
        let mut table = self.table.lock();
        let Some(id) = table.resolve(&volume) else {
            return LookUp::Unknown;
        };
        let Ok(entry) = table.entry_mut(&id) else {
            return LookUp::Unknown;
        };
        // A client that lost us over the restart would take any refusal for the last word.
        let in_window = entry.awaited && self.started.elapsed() < self.settings.dead_connection_window;
        match &entry.phase {
            Phase::Attached(attachment) => LookUp::Attached(attachment.clone()),
            Phase::Detaching { .. } => LookUp::Draining,
            Phase::Busy { work: Work::Attaching | Work::Reattaching, .. } | Phase::Idle { .. } if in_window => {
                LookUp::DeadConnectionWindow
            }
            phase => phase.refusal().cloned().map_or(LookUp::Unknown, LookUp::Refused),
        }
    }
}
