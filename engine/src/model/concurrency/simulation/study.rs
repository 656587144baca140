//! What rules cost on many servers: the regret, a run's time over that of the fixed number that
//! would have been the best.

use super::{Family, Outcome, Rule, Server, Today, run};

/// What is compared, beside what a table is about.
pub const FIXED: [usize; 7] = [16, 8, 4, 32, 64, 2, 1];

/// No download is given more time.
const MOST_S: f64 = 400.0;

/// One download, and what it cost over the best.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Time over the best time.
    pub regret: f64,
    /// The download.
    pub outcome: Outcome,
}

/// A server, and the fixed numbers' downloads from it.
#[derive(Debug)]
pub struct Scenario {
    server: Server,
    seed: u64,
    /// Of the best fixed number.
    best_s: f64,
    fixed: Vec<(usize, Outcome)>,
}

impl Scenario {
    /// A server of `family`, drawn by `seed`.
    #[must_use]
    pub fn new(family: Family, seed: u64) -> Self {
        let own = seed.wrapping_mul(64).wrapping_add(family as u64);
        let server = family.draw(&mut fastrand::Rng::with_seed(own));
        let (mut best_s, mut fixed) = (f64::INFINITY, Vec::new());
        for count in FIXED.into_iter().filter(|count| *count <= family.most()) {
            let outcome = run(&server, &mut Today::fixed(count), own, (12.0 * best_s).min(MOST_S));
            best_s = best_s.min(outcome.seconds);
            fixed.push((count, outcome));
        }
        Self { server, seed: own, best_s, fixed }
    }

    /// What `rule` costs here, where it is at most 12 times the best.
    pub fn cost(&self, rule: &mut dyn Rule) -> Cost {
        let outcome = run(&self.server, rule, self.seed, 12.0 * self.best_s);
        Cost { regret: outcome.seconds / self.best_s, outcome }
    }

    /// The best fixed number.
    #[must_use]
    pub fn best(&self) -> Option<usize> {
        self.fixed.iter().min_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds)).map(|it| it.0)
    }

    /// What the fixed number `count` costs here, where it was compared.
    #[must_use]
    pub fn fixed(&self, count: usize) -> Option<Cost> {
        let (_, outcome) = self.fixed.iter().find(|it| it.0 == count)?;
        Some(Cost { regret: outcome.seconds / self.best_s, outcome: *outcome })
    }
}

/// Costs of one rule on many servers, in one figure each.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Summary {
    pub median: f64,
    pub p95: f64,
    pub worst: f64,
    pub connections: f64,
    pub refused: f64,
    pub requests: f64,
    /// How many of the downloads had more than 16 connections.
    pub over_16: f64,
    /// Of the logarithm of the regret.
    pub log_mean: f64,
}

impl Summary {
    /// Of at least one.
    #[must_use]
    pub fn of(costs: &[Cost]) -> Self {
        let mut regrets: Vec<f64> = costs.iter().map(|cost| cost.regret).collect();
        regrets.sort_by(f64::total_cmp);
        let at = |part: f64| regrets[((regrets.len() - 1) as f64 * part).round() as usize];
        let mean =
            |of: &dyn Fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / costs.len() as f64;
        Self {
            median: at(0.5),
            p95: at(0.95),
            worst: at(1.0),
            connections: mean(&|it| it.outcome.mean),
            refused: mean(&|it| it.outcome.refused as f64),
            requests: mean(&|it| it.outcome.requests as f64),
            over_16: mean(&|it| f64::from(it.outcome.most > 16)),
            log_mean: mean(&|it| it.regret.ln()),
        }
    }
}
