//! Time-outs that are hardly ever reached.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for all the waits of a connection. Setting a timer costs a lock, and mostly a system call
/// that wakes the event loop; a connection that waits once for each of its requests would pay that each
/// time. This timer is set again only where it went off too early, or would go off too late.
pub(super) struct Deadline(Pin<Box<Sleep>>);

impl Deadline {
    /// A timer that is set at the first wait.
    pub fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// Resolves when `wait` has passed from now; dropped before, nothing happens.
    pub async fn after(&mut self, wait: Duration) {
        // As tokio does: for what cannot be said the far future is taken.
        let far = Duration::from_secs(86_400 * 365 * 30);
        let now = Instant::now();
        let at = now.checked_add(wait).unwrap_or_else(|| now + far);
        let timer = &mut self.0;
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        loop {
            timer.as_mut().await;
            if timer.deadline() >= at {
                return;
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn given_up(deadline: &mut Deadline, wait: Duration) {
        tokio::select! {
            biased;
            () = deadline.after(wait) => unreachable!(),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn each_wait_ends_in_its_own_time() {
        let mut deadline = Deadline::new();
        let wait = Duration::from_millis(40);
        // Given up before its end, and the next one counts from its own beginning.
        given_up(&mut deadline, wait).await;
        tokio::time::sleep(wait / 2).await;
        let start = Instant::now();
        deadline.after(wait).await;
        assert!(start.elapsed() >= wait);
        // A shorter wait than the timer was set for, one that is over already, and for ever.
        given_up(&mut deadline, Duration::from_secs(86_400)).await;
        let start = Instant::now();
        deadline.after(wait).await;
        assert!(start.elapsed() >= wait);
        deadline.after(Duration::ZERO).await;
        given_up(&mut deadline, Duration::MAX).await;
    }
}
