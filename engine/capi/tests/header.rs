//! The header that is checked in is that of the sources.

use std::fs;
use std::path::Path;

#[test]
fn header_is_fresh() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).expect("a configuration");
    let bindings = cbindgen::Builder::new().with_crate(here).with_config(config).generate();
    let mut made = Vec::new();
    bindings.expect("sources that cbindgen reads").write(&mut made);
    let path = here.join("include/haul.h");
    if std::env::var_os("HAUL_BLESS").is_some() {
        fs::write(&path, &made).expect("a place for the header");
    }
    assert!(
        fs::read(&path).is_ok_and(|kept| kept == made),
        "include/haul.h is not that of the sources; write it anew and look at what changed:\n  \
         HAUL_BLESS=1 cargo test -p haul-capi --test header"
    );
}
