//! How much the runs of a series may fetch.
//!
//! The burst of a server that limits each response can fill a run's bytes before the steady speed
//! is seen. Runs may therefore fetch more once a first run has seen a burst, but all of them
//! together no more than they may without it: later rounds are left out.

use super::measure::{Limits, Sample};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    /// What all runs may fetch, if each of them has a limit.
    all_bytes: u64,
    spent_bytes: u64,
    bursts: bool,
}

impl Budget {
    /// A budget for this many runs.
    pub(super) fn new(limits: Limits, runs: u64) -> Self {
        let all_bytes = limits.bytes.unwrap_or(u64::MAX).saturating_mul(runs);
        Self { limits, all_bytes, spent_bytes: 0, bursts: false }
    }

    /// The limits of the next run, after which so many more are sure to come.
    pub(super) fn next(&self, more_runs: usize) -> Limits {
        let Limits { bytes: Some(usual), bytes_after_burst: Some(most), .. } = self.limits else {
            return self.limits;
        };
        let kept_bytes = usual.saturating_mul(more_runs as u64);
        let left = self.all_bytes.saturating_sub(self.spent_bytes).saturating_sub(kept_bytes);
        let bytes = if self.bursts { left.clamp(usual, most.max(usual)) } else { usual };
        Limits { bytes: Some(bytes), ..self.limits }
    }

    /// Learns from the first run, which had one connection. A run that its bytes ended says nothing
    /// of a burst: a fast server is not asked for more.
    pub(super) fn learn(&mut self, first: &Sample) {
        let ended_by_bytes = self.limits.bytes.is_some_and(|most| first.bytes >= most);
        self.bursts = !ended_by_bytes && first.pace.is_some_and(|pace| pace.after_burst);
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.spent_bytes += bytes;
    }

    pub(super) fn spent_bytes(&self) -> u64 {
        self.spent_bytes
    }

    /// Whether another round is allowed that fetches this much.
    pub(super) fn allows(&self, round_bytes: u64) -> bool {
        let exceeds = self.spent_bytes.saturating_add(round_bytes) > self.all_bytes;
        !(self.bursts && self.limits.bytes_after_burst.is_some() && exceeds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::course::Pace;
    use super::super::judge::tests::a_sample;
    use super::*;

    fn a_budget(bytes_after_burst: Option<u64>, first_bytes: u64, after_burst: bool) -> Budget {
        let limits = Limits { bytes: Some(64), bytes_after_burst, ..Limits::default() };
        let mut budget = Budget::new(limits, 10);
        let pace = Pace { bytes_per_second: 1.0, steady: true, after_burst };
        let first = Sample { bytes: first_bytes, pace: Some(pace), ..a_sample(1, 1.0) };
        budget.learn(&first);
        budget
    }

    #[test]
    fn runs_fetch_more_after_a_burst_and_all_together_do_not() {
        let mut budget = a_budget(Some(256), 12, true);
        assert_eq!(budget.next(4).bytes, Some(256));
        assert_eq!(budget.next(7).bytes, Some(192), "the others get theirs");
        budget.spend(500);
        assert_eq!(budget.next(0).bytes, Some(140), "what is left");
        assert!(budget.allows(140) && !budget.allows(141));
        budget.spend(140);
        assert_eq!(budget.next(0).bytes, Some(64), "what any run may fetch");
    }

    #[test]
    fn server_without_a_burst_is_asked_for_no_more() {
        for budget in [
            a_budget(Some(256), 12, false),
            // It was so fast that the end of the burst was not seen, if there was one.
            a_budget(Some(256), 64, true),
            // The person has set the limit.
            a_budget(None, 12, true),
        ] {
            assert_eq!(budget.next(0).bytes, Some(64), "{budget:?}");
            assert!(budget.allows(10_000), "{budget:?}");
        }
        assert_eq!(Budget::new(Limits::default(), 10).next(0).bytes, None);
    }
}
