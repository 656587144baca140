//! Nothing stays behind: each task, thread, descriptor, mapping and byte of the
//! budget is counted after a test.
//!
//! What is counted is of the process, so the tests of a binary that are checked run one
//! after another, and none beside them.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use haul_engine::{Engine, blocking};
use tokio::runtime::{Builder, Runtime};

/// Ends are waited for as long: a connection that closes, a thread that ends.
const PATIENCE: Duration = Duration::from_secs(10);

static TURN: Mutex<()> = Mutex::new(());
static WATCHED: Mutex<Vec<Engine>> = Mutex::new(Vec::new());

/// Has the check look at this engine, too. Gives it back.
#[must_use]
pub fn watched(engine: Engine) -> Engine {
    watch(&engine);
    engine
}

/// The same of an engine with a runtime, which is not kept for it.
#[must_use]
pub fn watched_blocking(engine: blocking::Engine) -> blocking::Engine {
    watch(engine.shared());
    engine
}

fn watch(engine: &Engine) {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push(engine.clone());
}

/// The watched engines that still hold something.
fn busy_engines() -> Vec<String> {
    let engines = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    engines.iter().filter(|engine| !engine.is_at_rest()).map(|it| format!("{it:?}")).collect()
}

/// Runs a test in a current-thread runtime, as `#[tokio::test]` does, and checks that
/// nothing is left of it.
///
/// # Panics
/// When something is.
#[track_caller]
pub fn checked(test: impl Future<Output = ()>) {
    checked_in(|| Builder::new_current_thread().enable_all().build().expect("a runtime"), test);
}

/// The same in a multi-thread runtime.
///
/// # Panics
/// When something is left.
#[track_caller]
pub fn checked_in_threads(test: impl Future<Output = ()>) {
    let runtime = || Builder::new_multi_thread().worker_threads(2).enable_all().build();
    checked_in(|| runtime().expect("a runtime"), test);
}

#[track_caller]
fn checked_in(runtime: impl FnOnce() -> Runtime, test: impl Future<Output = ()>) {
    guarded(|| {
        let runtime = runtime();
        runtime.block_on(async {
            test.await;
            settle("engines at rest", busy_engines).await;
            // With the engines go the connections that were kept, and their tasks.
            forget_engines();
            let metrics = tokio::runtime::Handle::current().metrics();
            settle("tasks", || match metrics.num_alive_tasks() {
                0 => Vec::new(),
                alive => vec![format!("{alive} tasks")],
            })
            .await;
        });
    });
}

/// Runs a test that has its own runtime or none, and checks that no byte of a watched
/// engine's budget, no thread, no descriptor and no mapping is left of it.
///
/// # Panics
/// When something is.
#[track_caller]
pub fn guarded(test: impl FnOnce()) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    forget_engines();
    // tokio's own pipe for signals is made with the first runtime, and stays.
    drop(Builder::new_current_thread().enable_all().build());
    // Threads without a name have that of the thread that started them: this one's.
    let _named = Named::set();
    let before = Held::now();
    test();
    until_empty("engines at rest", busy_engines);
    forget_engines();
    until_empty("left behind", || Held::now().beyond(&before));
}

/// Waits until `left` finds nothing, without a runtime.
#[track_caller]
fn until_empty(what: &str, left: impl Fn() -> Vec<String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = left();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {left:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The name of the thread of a test that is checked, so that those of others, which
/// come and go, are not counted.
const OURS: &str = "checked-test";

/// Gives this thread its own name back, also when the test fails.
struct Named(String);

impl Named {
    fn set() -> Self {
        let before = fs::read_to_string("/proc/thread-self/comm").expect("a name");
        fs::write("/proc/thread-self/comm", OURS).expect("a name of our own");
        Self(before.trim_end().to_owned())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = fs::write("/proc/thread-self/comm", &self.0);
    }
}

fn forget_engines() {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Waits until `left` finds nothing.
async fn settle(what: &str, left: impl Fn() -> Vec<String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = left();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {left:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the process holds, by name.
#[derive(Debug)]
struct Held(BTreeMap<String, usize>);

impl Held {
    fn now() -> Self {
        let mut held = BTreeMap::new();
        let mut count = |name: String| *held.entry(name).or_default() += 1;
        for thread in fs::read_dir("/proc/self/task").expect("threads").flatten() {
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            if ["haul-", "tokio-", OURS].iter().any(|ours| name.starts_with(ours)) {
                count(format!("thread {}", name.trim()));
            }
        }
        for descriptor in fs::read_dir("/proc/self/fd").expect("descriptors").flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            // The directory that is being read here is one of them.
            if !target.starts_with("/proc/") {
                // Sockets and the like have numbers of their own.
                count(format!("descriptor {}", target.split('[').next().unwrap_or_default()));
            }
        }
        let maps = fs::read_to_string("/proc/self/maps").expect("mappings");
        for mapping in maps.lines() {
            // Address, permissions, offset, device, inode, path. Libraries are private.
            let mut fields = mapping.split_whitespace().skip(1);
            if fields.next().is_some_and(|permissions| permissions.ends_with('s')) {
                count(format!("mapping {}", fields.skip(3).collect::<Vec<_>>().join(" ")));
            }
        }
        Self(held)
    }

    /// What is here and was not there.
    fn beyond(&self, before: &Self) -> Vec<String> {
        let more = self.0.iter().filter_map(|(name, count)| {
            let had = before.0.get(name).copied().unwrap_or(0);
            (*count > had).then(|| format!("{name}: {count} instead of {had}"))
        });
        more.collect()
    }
}
