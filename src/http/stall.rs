//! A timer for a peer that stands still: it runs only while one waits for the peer, and begins anew when something moved.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How long a peer may stand still.
pub(crate) struct Stall {
    allowed: Duration,
    /// Made when the peer makes one wait for the first time.
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Stall {
    /// A timer that does not run yet.
    pub(crate) fn new(allowed: Duration) -> Self {
        Self { allowed, timer: None, running: false }
    }

    /// Something moved.
    pub(crate) fn clear(&mut self) {
        self.running = false;
    }

    /// The peer makes one wait: ready when it does so for too long.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let allowed = self.allowed;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(allowed)));
        if !self.running {
            timer.as_mut().set(sleep(allowed));
            self.running = true;
        }
        timer.as_mut().poll(context)
    }
}
