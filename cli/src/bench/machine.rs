//! Who else used this machine during the measurement, according to /proc. Without /proc, nothing is
//! reported.

use std::fs;

/// The load that disturbs: this many cores used by other programs, or this fraction of the time
/// taken by other machines.
const OTHERS: f64 = 0.25;
const STOLEN: f64 = 0.05;

/// With this fraction of the cores busy, processor time is scarce.
const FULL: f64 = 0.9;

/// A program that uses less than this many cores waits for something else, however busy the others
/// are: the system shares processors out evenly.
const WAITS: f64 = 0.25;

/// Counters of processor time, in ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    all: u64,
    busy: u64,
    stolen: u64,
    own: u64,
    cores: usize,
}

/// The load between two readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Cores that this process kept busy, on average.
    pub(super) own_cores: f64,
    /// Cores that other programs kept busy, on average.
    pub(super) others_cores: f64,
    /// The fraction of the time in which the hypervisor ran something else.
    pub(super) stolen: f64,
    pub(super) cores: usize,
}

impl Ticks {
    /// The counters now.
    pub(super) fn now() -> Option<Self> {
        let (stat, own) =
            (fs::read_to_string("/proc/stat").ok()?, fs::read_to_string("/proc/self/stat").ok()?);
        Self::parse(&stat, &own)
    }

    /// See proc_stat(5) and proc_pid_stat(5).
    fn parse(stat: &str, own: &str) -> Option<Self> {
        let times: Vec<u64> = stat
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        let at = |index: usize| times.get(index).copied().unwrap_or(0);
        let is_core = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        // A process name may contain spaces and parentheses.
        let mut fields = own.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut own_ticks = || fields.next()?.parse::<u64>().ok();
        Some(Self {
            // Guest time is already included in user and nice.
            all: times.iter().take(8).sum(),
            // user, nice, system, irq, softirq
            busy: at(0) + at(1) + at(2) + at(5) + at(6),
            stolen: at(7),
            own: own_ticks()? + own_ticks()?,
            cores: stat.lines().filter(is_core).count().max(1),
        })
    }

    /// The load since then; `None` if no time has passed.
    pub(super) fn until(self, later: Self) -> Option<Load> {
        let all = later.all.checked_sub(self.all).filter(|&ticks| ticks > 0)? as f64;
        let busy = later.busy.saturating_sub(self.busy);
        let own = later.own.saturating_sub(self.own);
        let cores = later.cores;
        Some(Load {
            own_cores: own as f64 / all * cores as f64,
            others_cores: busy.saturating_sub(own) as f64 / all * cores as f64,
            stolen: later.stolen.saturating_sub(self.stolen) as f64 / all,
            cores,
        })
    }
}

impl Load {
    /// Whether others took processor time that a run may have missed.
    pub(super) fn is_disturbed(self) -> bool {
        self.stolen > STOLEN || self.others_cores > OTHERS
    }

    /// Whether processor time was scarce and this process wanted more of it.
    pub(super) fn holds_back(self) -> bool {
        self.is_full() && self.own_cores >= WAITS
    }

    /// Whether hardly any processor time was left over.
    pub(super) fn is_full(self) -> bool {
        self.own_cores + self.others_cores + self.stolen * self.cores as f64
            >= FULL * self.cores as f64
    }

    /// A warning about what disturbed, with a remedy.
    pub(super) fn warning(self) -> Option<String> {
        if self.stolen > STOLEN {
            return Some(format!(
                "the hypervisor gave {:.0} % of this machine's time to others: measure when the \
                 host is quiet",
                self.stolen * 100.0
            ));
        }
        self.is_disturbed().then(|| {
            format!(
                "other programs kept {:.1} of {} cores busy (the server too, if it runs here): \
                 close them and measure again",
                self.others_cores, self.cores
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_others_is_what_is_not_ours_nor_idle() {
        let own = |ticks: u64| format!("7 (a) b) S {} {ticks} {ticks} 0", "0 ".repeat(10).trim());
        let stat = |user: u64, idle: u64, stolen: u64| {
            format!("cpu  {user} 0 0 {idle} 0 0 0 {stolen} 0 0\ncpu0 1\ncpu1 2\nintr 3\n")
        };
        let read = |stat: String, ticks| Ticks::parse(&stat, &own(ticks)).unwrap();
        let load = read(stat(0, 0, 0), 0).until(read(stat(100, 100, 0), 10)).unwrap();
        assert_eq!(load.cores, 2);
        assert!((load.others_cores - 0.8).abs() < 0.01, "{load:?}");
        assert!(load.warning().unwrap().contains("0.8 of 2 cores"));
        assert!((load.own_cores - 0.2).abs() < 0.01 && !load.is_full(), "{load:?}");
        let alone = read(stat(0, 0, 0), 0).until(read(stat(100, 100, 0), 50)).unwrap();
        assert_eq!((alone.warning(), alone.is_disturbed()), (None, false));
        let full = read(stat(0, 0, 0), 0).until(read(stat(95, 5, 0), 40)).unwrap();
        assert!(full.is_full() && full.holds_back(), "{full:?}");
        let full = read(stat(0, 0, 0), 0).until(read(stat(95, 5, 0), 5)).unwrap();
        assert!(full.is_full() && !full.holds_back(), "{full:?}");
        let stolen = read(stat(0, 0, 0), 0).until(read(stat(0, 80, 20), 0)).unwrap();
        assert!(stolen.warning().unwrap().contains("20 %"));
        assert!(read(stat(1, 1, 0), 0).until(read(stat(1, 1, 0), 0)).is_none());
        assert!(Ticks::parse("", "").is_none());
    }

    #[test]
    fn this_machine_has_counters() {
        assert!(Ticks::now().is_some_and(|ticks| ticks.all > 0 && ticks.cores > 0));
    }
}
