//! The last steps of a run, for whoever has to find out what went wrong.

use std::collections::VecDeque;

/// Lines about a run; the oldest give way.
pub(super) struct Trace {
    lines: VecDeque<String>,
    /// How many steps are kept.
    length: usize,
}

impl Trace {
    /// Keeps nothing.
    pub(super) fn none() -> Self {
        Self::of_last(0)
    }

    /// Keeps the last `length` steps.
    pub(super) fn of_last(length: usize) -> Self {
        Self { lines: VecDeque::new(), length }
    }

    /// A step begins.
    pub(super) fn step(&mut self, line: impl FnOnce() -> String) {
        if self.length > 0 {
            while self.lines.len() >= self.length {
                self.lines.pop_front();
            }
            self.lines.push_back(line());
        }
    }

    /// Something happened in this step.
    pub(super) fn detail(&mut self, line: impl FnOnce() -> String) {
        if let Some(last) = self.lines.back_mut() {
            last.push_str("\n          ");
            last.push_str(&line());
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
