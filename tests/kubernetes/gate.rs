//! Who kills the server is alone on the cluster: the other tests talk to it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct Gate {
    /// How many others are in, or nobody but one.
    within: Mutex<Within>,
    left: Condvar,
}

#[derive(Clone, Copy)]
enum Within {
    Others(usize),
    One,
}

static GATE: Gate = Gate { within: Mutex::new(Within::Others(0)), left: Condvar::new() };

/// To be in; dropped, one is out.
pub(crate) struct Pass(());

impl Gate {
    fn within(&self) -> MutexGuard<'_, Within> {
        self.within.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is possible. Each test has a thread of its own.
    fn enter(&self, possible: impl Fn(Within) -> Option<Within>) -> Pass {
        let mut within = self.within();
        loop {
            if let Some(then) = possible(*within) {
                *within = then;
                return Pass(());
            }
            within = self.left.wait(within).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A test may come in more than once: it never waits for one that waits.
pub(crate) fn with_others() -> Pass {
    GATE.enter(|within| match within {
        Within::Others(n) => Some(Within::Others(n + 1)),
        Within::One => None,
    })
}

pub(crate) fn alone() -> Pass {
    GATE.enter(|within| matches!(within, Within::Others(0)).then_some(Within::One))
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut within = GATE.within();
        *within = match *within {
            Within::Others(n) => Within::Others(n.saturating_sub(1)),
            Within::One => Within::Others(0),
        };
        GATE.left.notify_all();
    }
}
