//! `tests/FAULTS.md` tells what the tests show, and every fault has one.

use std::fs;
use std::path::Path;

use haul_tests::faults::Tests;

#[test]
fn fault_table_is_fresh() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = Tests::found_in(package.parent().expect("the workspace"));
    let table = package.join("FAULTS.md");
    if std::env::var_os("HAUL_REFRESH").is_some() {
        fs::write(&table, tests.table()).unwrap();
    }
    let complaints = tests.complaints();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(
        fs::read_to_string(&table).unwrap_or_default() == tests.table(),
        "tests/FAULTS.md is not what the tests are: \
         HAUL_REFRESH=1 cargo test -p haul-tests --test command fault_table"
    );
}
