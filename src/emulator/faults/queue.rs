//! The queue of faults.

use std::collections::VecDeque;

use super::Fault;
use crate::emulator::settings::Operation;

/// The queue of faults that have not been used up.
#[derive(Default)]
pub(in crate::emulator) struct FaultQueue(VecDeque<Fault>);

impl FaultQueue {
    pub(in crate::emulator) fn add(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.0.extend(faults.into_iter().filter(|fault| fault.times > 0));
    }

    /// Removes all faults, and returns how many there were.
    pub(in crate::emulator) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }

    pub(in crate::emulator) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the first fault that applies to a request for this operation.
    pub(in crate::emulator) fn take(&mut self, operation: Operation) -> Option<Fault> {
        let index = self.0.iter_mut().position(|fault| {
            let applies = fault.on.is_none_or(|on| on == operation);
            let is_skipped = applies && fault.skip > 0;
            if is_skipped {
                fault.skip -= 1;
            }
            applies && !is_skipped
        })?;
        let fault = self.0.get_mut(index)?;
        if fault.times == u32::MAX {
            return Some(fault.clone());
        }
        fault.times -= 1;
        if fault.times > 0 { Some(fault.clone()) } else { self.0.remove(index) }
    }
}
