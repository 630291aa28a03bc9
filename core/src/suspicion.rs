//! How suspicious a silence is: φ of the accrual failure detector (Hayashibara, Défago, Yared and Katayama, "The φ accrual failure detector", 2004, §4).
//!
//! φ is minus the decimal logarithm of the chance that a peer which works would be silent for so long, if its gaps are spread normally around their mean: at 1 one
//! verdict in ten is wrong, at 8 one in a hundred million. It is counted here in thousandths, by integers and a table: logarithm and exponential differ in their last digit
//! from one machine's library to another's, and what a node does must be the same in a sandbox and outside.

use std::collections::VecDeque;
use std::time::Duration;

/// φ in thousandths for a silence of −4, −3.75, … 12 standard deviations beyond the mean. Between two of them it is read from the line that joins
/// them, which is off by less than 4 thousandths.
const TABLE: [u32; 65] = [
    0, 0, 0, 0, 1, 1, 3, 5, 10, 18, 30, 48, 75, 112, 160, 223, 301, 397, 511, 645, 800, 976, 1175, 1397, 1643, 1913, 2207, 2526, 2870,
    3239, 3633, 4053, 4499, 4971, 5469, 5993, 6543, 7119, 7721, 8350, 9006, 9688, 10396, 11131, 11893, 12681, 13496, 14338, 15206, 16101,
    17023, 17972, 18947, 19950, 20979, 22035, 23118, 24228, 25365, 26528, 27719, 28936, 30181, 31452, 32750,
];

/// Standard deviations are counted in parts of this many.
const PARTS: i64 = 1024;
/// The parts between two numbers of the table.
const STEP: i64 = PARTS / 4;
/// Where the table begins.
const LOWEST: i64 = -4 * PARTS;

/// The longest gap that is kept, and the longest silence that is told from longer ones, in microseconds: a minute and an hour.
const MAX_GAP: u64 = 60_000_000;
const MAX_SILENCE: u64 = 3_600_000_000;

/// φ in thousandths, for a silence that is so many parts of a standard deviation beyond the mean.
fn phi(parts: i64) -> u32 {
    let at = (parts - LOWEST).max(0);
    let (below, rest) = (usize::try_from(at / STEP).unwrap_or(usize::MAX), at % STEP);
    let (Some(&low), Some(&high)) = (TABLE.get(below), TABLE.get(below.saturating_add(1))) else { return TABLE[TABLE.len() - 1] };
    low + u32::try_from(i64::from(high - low) * rest / STEP).expect("a part of a number of 32 bits")
}

/// The latest gaps between a peer's signs of life, in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    latest: VecDeque<u64>,
    sum: u64,
    /// At most 1000 gaps of a minute: 3.6 · 10¹⁸.
    squares: u64,
}

impl Gaps {
    /// Takes note of a gap, and forgets the oldest if there are more than `most`.
    pub(crate) fn add(&mut self, gap: Duration, most: usize) {
        let gap = micros(gap).min(MAX_GAP);
        self.latest.push_back(gap);
        (self.sum, self.squares) = (self.sum + gap, self.squares + gap * gap);
        while self.latest.len() > most {
            let oldest = self.latest.pop_front().expect("it is longer than something");
            (self.sum, self.squares) = (self.sum - oldest, self.squares - oldest * oldest);
        }
    }

    /// φ in thousandths of a silence, where gaps of `usual` are expected as long as none has been seen, and spread by `min_deviation` at least.
    pub(crate) fn phi(&self, silence: Duration, usual: Duration, min_deviation: Duration) -> u32 {
        let (mean, deviation) = match self.latest.len() as u64 {
            0 => (micros(usual), 0),
            count => {
                let (sum, squares, n) = (u128::from(self.sum), u128::from(self.squares), u128::from(count));
                let deviation = (n * squares - sum * sum).isqrt() / n;
                (self.sum / count, u64::try_from(deviation).expect("no more than the longest gap"))
            }
        };
        let signed = |micros: u64| i64::try_from(micros.min(MAX_SILENCE)).expect("an hour");
        let beyond = signed(micros(silence)) - signed(mean);
        phi(beyond * PARTS / signed(deviation.max(micros(min_deviation)).max(1)))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The normal distribution's upper tail, by adding up its density in small steps.
    fn tail(z: f64) -> f64 {
        const STEPS: u32 = 20_000;
        let width = 40.0 / f64::from(STEPS);
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        (0..STEPS).map(|step| density(z + (f64::from(step) + 0.5) * width) * width).sum()
    }

    #[test]
    fn the_table_is_that_of_the_normal_distribution() {
        for quarters in -16..=48 {
            for part in [0, STEP / 2] {
                let parts = quarters * STEP + part;
                #[allow(clippy::cast_precision_loss, reason = "small numbers")]
                let exact = -1000.0 * tail(parts as f64 / PARTS as f64).log10();
                assert!(quarters == 48 || (f64::from(phi(parts)) - exact).abs() < 4.0, "{quarters}/4: {} is not {exact}", phi(parts));
            }
        }
        assert_eq!((phi(i64::MIN / 2), phi(i64::MAX / 2)), (0, 32_750), "beyond the table");
        assert!((-5 * PARTS..13 * PARTS).all(|parts| phi(parts) <= phi(parts + 1)), "suspicion only grows with silence");
    }

    #[test]
    fn it_is_measured_against_the_peers_own_habits() {
        let phi_of = |gaps: &Gaps, silence| gaps.phi(silence, 50 * MS, 10 * MS);
        let (mut steady, mut jittery) = (Gaps::default(), Gaps::default());
        for n in 0..200 {
            steady.add(50 * MS, 100);
            jittery.add(if n % 2 == 0 { 20 * MS } else { 180 * MS }, 100);
        }
        assert_eq!(phi_of(&steady, 50 * MS), 301, "half of the gaps are longer than the mean");
        assert_eq!(phi_of(&steady, 50 * MS), phi_of(&Gaps::default(), 50 * MS), "until there are gaps, the usual ones are expected");
        assert!(phi_of(&steady, 150 * MS) > 20_000 && phi_of(&jittery, 150 * MS) < 1_000);
        assert_eq!(phi_of(&jittery, 100 * MS), 301);
        assert_eq!(phi_of(&jittery, 180 * MS), 800, "its deviation is 80 ms");
    }

    #[test]
    fn old_gaps_are_forgotten_and_enormous_ones_fit() {
        let mut gaps = Gaps::default();
        for _ in 0..2_000 {
            gaps.add(Duration::MAX, 1_000);
        }
        assert_eq!(gaps.phi(Duration::from_secs(60), MS, MS), 301);
        assert_eq!(gaps.phi(Duration::MAX, MS, MS), 32_750);
        for _ in 0..1_000 {
            gaps.add(50 * MS, 1_000);
        }
        assert_eq!((gaps.latest.len(), gaps.sum, gaps.squares), (1_000, 50_000_000, 2_500_000_000_000));
    }
}
