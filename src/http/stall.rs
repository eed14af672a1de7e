//! Timers for a peer that stands still or hardly moves: they run only while one waits for the peer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};

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

/// How slowly a peer may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How long it may send nothing.
    pub(crate) idle: Duration,
    /// Bytes per second that it must come to, on average over each window; 0 for any.
    pub(crate) least_rate: u64,
    /// How long one waits for it before that is looked at.
    pub(crate) window: Duration,
    /// How long it may take altogether.
    pub(crate) longest: Duration,
}

impl Pace {
    /// Bytes that must come in a window.
    fn least(self) -> u64 {
        let milliseconds = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        self.least_rate.saturating_mul(milliseconds) / 1000
    }
}

/// Watches a peer that sends. A peer that now and then sends a byte is not still, yet holds what it has been given.
pub(crate) struct Watch {
    pace: Pace,
    /// When it began to send.
    began: Instant,
    /// Made when the peer makes one wait for the first time.
    timer: Option<Pin<Box<Sleep>>>,
    /// The wait under way: since when, and since when it counts in this window.
    wait: Option<(Instant, Instant)>,
    /// How long one has waited in this window, without the wait under way.
    waited: Duration,
    /// What came in this window.
    received: u64,
}

impl Watch {
    /// One that does not wait yet.
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, began: Instant::now(), timer: None, wait: None, waited: Duration::ZERO, received: 0 }
    }

    /// Something came.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.received = self.received.saturating_add(bytes);
        if let Some((_, counted)) = self.wait.take() {
            self.waited = self.waited.saturating_add(counted.elapsed());
        }
    }

    /// The peer makes one wait: ready when it has done so for too long.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let (since, mut counted) = *self.wait.get_or_insert((now, now));
        if since == now {
            self.arm(since, counted);
        }
        loop {
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(context));
            if since.elapsed() >= self.pace.idle || self.began.elapsed() >= self.pace.longest {
                return Poll::Ready(());
            }
            if self.waited.saturating_add(counted.elapsed()) >= self.pace.window {
                if self.received < self.pace.least() {
                    return Poll::Ready(());
                }
                counted = Instant::now();
                (self.wait, self.waited, self.received) = (Some((since, counted)), Duration::ZERO, 0);
            }
            self.arm(since, counted);
        }
    }

    /// Sets the timer to what comes first: the end of the patience with a peer that stands still, that of the window, or that of
    /// all its time.
    fn arm(&mut self, since: Instant, counted: Instant) {
        let still = (since + self.pace.idle).min(self.began + self.pace.longest);
        let window = counted + self.pace.window.saturating_sub(self.waited);
        let end = if self.pace.least() == 0 { still } else { still.min(window) };
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(end),
            None => self.timer = Some(Box::pin(sleep_until(end))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    /// Any rate will do.
    const IDLE: Pace = Pace {
        idle: Duration::from_millis(400),
        least_rate: 0,
        window: Duration::from_millis(400),
        longest: Duration::from_mins(1),
    };

    fn watch(least_rate: u64) -> Watch {
        Watch::new(Pace { least_rate, window: Duration::from_millis(20), ..IDLE })
    }

    /// Lets the peer send so many bytes every few milliseconds; how often it did before it was cut, if it was.
    async fn cut_after(mut watch: Watch, bytes: u64) -> Option<u32> {
        for turn in 0..30 {
            if timeout(Duration::from_millis(5), poll_fn(|context| watch.poll(context))).await.is_ok() {
                return Some(turn);
            }
            watch.moved(bytes);
        }
        None
    }

    #[tokio::test]
    async fn a_peer_that_sends_a_byte_now_and_then_is_cut() {
        assert!(cut_after(watch(10_000), 1).await.is_some());
    }

    #[tokio::test]
    async fn a_peer_that_sends_fast_enough_is_not_cut() {
        assert_eq!(cut_after(watch(10_000), 1 << 20).await, None);
        assert_eq!(cut_after(watch(0), 1).await, None, "any rate will do");
    }

    #[tokio::test]
    async fn what_came_fast_does_not_pay_for_what_comes_slowly_later() {
        let mut watch = watch(10_000);
        watch.moved(60 << 20);
        assert!(cut_after(watch, 1).await.is_some());
    }

    #[tokio::test]
    async fn a_peer_that_stands_still_is_cut_whatever_it_sent_before() {
        let mut watch = Watch::new(Pace { idle: Duration::from_millis(5), least_rate: 1, ..IDLE });
        watch.moved(60 << 20);
        let cut = timeout(Duration::from_mins(1), poll_fn(|context| watch.poll(context)));
        assert!(cut.await.is_ok());
    }

    #[tokio::test]
    async fn a_peer_that_takes_too_long_altogether_is_cut_however_fast_it_is() {
        let pace = Pace { longest: Duration::from_millis(30), ..IDLE };
        assert!(cut_after(Watch::new(pace), 1 << 20).await.is_some());
    }
}
