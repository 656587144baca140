//! `--shard` and `--max-failures`: which items belong to this run, and how many of them may fail.

use std::str::FromStr;

/// One of several runs that share a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// Whether an item with this key belongs to this shard.
    pub(crate) fn has(self, key: u64) -> bool {
        key % self.count == self.index
    }

    /// Reads `I/N`, `/N` or `auto`; `variable` reads the environment.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub(crate) fn parse(
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        const GRAMMAR: &str = "write I/N with I from 0 to N-1; /N takes I from \
                               JOB_COMPLETION_INDEX; auto takes both from SLURM_ARRAY_TASK_ID, \
                               _MIN and _COUNT";
        let of_environment = |name: &str| {
            let value = variable(name).ok_or_else(|| format!("{name} is not set; {GRAMMAR}"))?;
            let number = value.trim().parse::<u64>();
            number.map_err(|_| format!("{name}={value:?} is not a number; {GRAMMAR}"))
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| GRAMMAR.to_owned());
        let (index, count) = if text == "auto" {
            let first = match variable("SLURM_ARRAY_TASK_MIN") {
                Some(_) => of_environment("SLURM_ARRAY_TASK_MIN")?,
                None => 0,
            };
            let id = of_environment("SLURM_ARRAY_TASK_ID")?;
            let index = id.checked_sub(first).ok_or("SLURM_ARRAY_TASK_ID is below its _MIN")?;
            (index, of_environment("SLURM_ARRAY_TASK_COUNT")?)
        } else {
            let (index, count) = text.split_once('/').ok_or(GRAMMAR)?;
            let index = match index {
                "" => of_environment("JOB_COMPLETION_INDEX")?,
                index => number(index)?,
            };
            (index, number(count)?)
        };
        if index >= count {
            return Err(format!("shard {index} of {count}: shards count from 0; {GRAMMAR}"));
        }
        Ok(Self { index, count })
    }
}

/// How many items may fail before no more are started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum MaxFailures {
    /// This many items.
    Count(u64),
    /// This percentage of the items that have ended.
    Percent(f64),
}

/// With fewer items than this, a percentage says nothing.
const MIN_ENDED: u64 = 100;

impl MaxFailures {
    /// Whether more items failed than may.
    pub(crate) fn exceeded(self, failed: u64, ended: u64) -> bool {
        match self {
            Self::Count(most) => failed > most,
            Self::Percent(most) => {
                ended >= MIN_ENDED && failed as f64 * 100.0 > most * ended as f64
            }
        }
    }
}

impl FromStr for MaxFailures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let grammar = || "write N, or P% of 0 to 100".to_owned();
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Count).map_err(|_| grammar()),
            Some(percent) => match percent.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
                _ => Err(grammar()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(text: &str, variables: &[(&str, &str)]) -> Result<Shard, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Shard::parse(text, variable)
    }

    #[test]
    fn shards_come_from_the_flag_or_from_the_scheduler() {
        assert_eq!(shard("1/4", &[]), Ok(Shard { index: 1, count: 4 }));
        assert_eq!(shard("/4", &[("JOB_COMPLETION_INDEX", "3")]), Ok(Shard { index: 3, count: 4 }));
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "5"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_COUNT", "8"),
        ];
        assert_eq!(shard("auto", &slurm), Ok(Shard { index: 4, count: 8 }));
        for bad in ["4/4", "1", "a/4", "1/0", "-1/4", "", "1/4/5"] {
            assert!(shard(bad, &[]).unwrap_err().contains("I/N"), "{bad}");
        }
        assert!(shard("/4", &[]).unwrap_err().contains("JOB_COMPLETION_INDEX is not set"));
        assert!(shard("auto", &[]).unwrap_err().contains("SLURM_ARRAY_TASK_ID"));
    }

    #[test]
    fn every_key_is_of_exactly_one_shard() {
        let shards: Vec<Shard> = (0..7).map(|index| Shard { index, count: 7 }).collect();
        for key in (0..1000).chain([u64::MAX]) {
            assert_eq!(shards.iter().filter(|shard| shard.has(key)).count(), 1);
        }
    }

    #[test]
    fn failures_are_counted_or_weighed() {
        assert_eq!("0".parse(), Ok(MaxFailures::Count(0)));
        assert_eq!("2.5%".parse(), Ok(MaxFailures::Percent(2.5)));
        for bad in ["", "%", "-1", "101%", "many", "NaN%"] {
            assert!(bad.parse::<MaxFailures>().is_err(), "{bad}");
        }
        assert!(MaxFailures::Count(0).exceeded(1, 1) && !MaxFailures::Count(1).exceeded(1, 1));
        let percent = MaxFailures::Percent(10.0);
        assert!(!percent.exceeded(50, 99), "too few to tell");
        assert!(!percent.exceeded(10, 100) && percent.exceeded(11, 100));
    }
}
