//! Properties that must hold for any bytes in a list of downloads; a violation panics. The target
//! in `tests/fuzz` feeds them with a fuzzer's findings, and the test below with the kept inputs and
//! random changes of them.

use std::path::{Component, Path};

use crate::input::{Fault, Item, Items};

/// No sentence about a line may be longer, in bytes.
const LONGEST_SENTENCE_BYTES: usize = 2000;

/// Checks the bytes of an input file.
///
/// # Panics
/// If an item is not what it may be, or if a refusal would steer a terminal.
pub fn input_file(bytes: &[u8]) {
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    let mut entries = 0;
    for entry in Items::new(bytes) {
        entries += 1;
        assert!(entries <= lines, "more entries than lines: it does not end");
        match entry {
            Ok((line, item)) => {
                assert!((1..=lines as u64).contains(&line), "an item in line {line}");
                usable(&item);
                assert_eq!(item.key(), item.clone().key(), "another key for the same item");
            }
            Err(Fault::Line(line, failure)) => {
                assert!((1..=lines as u64).contains(&line), "a fault in line {line}");
                for text in [Some(&failure.message), failure.hint.as_ref()].into_iter().flatten() {
                    assert!(text.len() <= LONGEST_SENTENCE_BYTES, "{} bytes", text.len());
                    assert!(!text.chars().any(steers), "{text:?}");
                }
            }
            Err(Fault::Read(error)) => panic!("bytes can be read: {error}"),
        }
    }
}

fn usable(item: &Item) {
    assert!(!item.urls.is_empty(), "an item without a URL");
    for url in &item.urls {
        let lower = url.to_ascii_lowercase();
        assert!(lower.starts_with("http://") || lower.starts_with("https://"), "{url:?}");
        assert!(!url.chars().any(char::is_control), "{url:?}");
    }
    for path in [&item.out, &item.dir].into_iter().flatten() {
        assert!(stays_below(path), "{path:?}");
    }
    for (name, value) in &item.headers {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
        assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
    }
}

fn stays_below(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
        && path.components().next().is_some()
}

/// Written again on purpose, so that the tables of the escaping code do not check themselves.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&[u8]; 16] = [
        b"\n",
        b"\r",
        b"\t",
        b" out=",
        b" dir=",
        b" header=",
        b"{\"url\":\"",
        b"\"}",
        b"../",
        b"http://h/",
        b"?sig=",
        b"#",
        b"\0",
        b"\x1b[31m",
        "\u{202e}".as_bytes(),
        b"@",
    ];

    #[test]
    fn kept_lists_and_changes_of_them() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/input_file");
        let files = std::fs::read_dir(folder).expect("the kept inputs are there");
        let mut kept: Vec<Vec<u8>> =
            files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        kept.sort();
        assert!(kept.len() >= 6, "the kept inputs are there");
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = random.choice(&kept).unwrap().clone();
            for _ in 0..random.usize(0..6) {
                let at = random.usize(..=bytes.len());
                let until = (at + random.usize(..8)).min(bytes.len());
                match random.u8(..3) {
                    0 => drop(bytes.drain(at..until)),
                    1 => bytes[at..until].iter_mut().for_each(|byte| *byte ^= 1 << random.u8(..8)),
                    _ => {
                        drop(
                            bytes.splice(at..until, random.choice(WORDS).unwrap().iter().copied()),
                        );
                    }
                }
            }
            input_file(&bytes);
        }
    }
}
