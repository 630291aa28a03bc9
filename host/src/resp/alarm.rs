//! A timer for deadlines that mostly move before they are reached.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// Goes off at a deadline. Moving the deadline back costs nothing until the old one is reached: a connection does so with each request.
#[derive(Debug)]
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(super) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// Completes at the deadline.
    pub(super) async fn at(&mut self, deadline: Instant) {
        if self.0.deadline() > deadline {
            self.0.as_mut().reset(deadline);
        }
        self.0.as_mut().await;
        while self.0.deadline() < deadline {
            self.0.as_mut().reset(deadline);
            self.0.as_mut().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_may_move_both_ways() {
        let (start, mut alarm) = (Instant::now(), Alarm::new());
        let after = |seconds| start + Duration::from_secs(seconds);
        for (given_up_at, deadline, expected) in [(1, 30, 1), (2, 300, 2), (3, 30, 3), (400, 10, 10), (400, 20, 20)] {
            tokio::select! {
                () = alarm.at(after(deadline)) => {}
                () = sleep_until(after(given_up_at)) => {}
            }
            assert_eq!(start.elapsed().as_secs(), expected);
        }
    }
}
