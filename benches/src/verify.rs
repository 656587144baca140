//! Whether a download holds the bytes that were served.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Failure;

/// Small on purpose: a child inherits the race's resident size until it executes.
const BLOCK_BYTES: usize = 64 * 1024;
const SAMPLES: u64 = 128;

/// Compares every byte.
///
/// # Errors
///
/// Where the first difference lies, or why a file could not be read.
pub fn same_whole(expected: &Path, actual: &Path) -> Result<(), Failure> {
    let (mut left, mut right, size) = open_both(expected, actual)?;
    let (mut a, mut b) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut offset = 0;
    while offset < size {
        let length = BLOCK_BYTES.min(usize::try_from(size - offset).unwrap_or(BLOCK_BYTES));
        left.read_exact(&mut a[..length])?;
        right.read_exact(&mut b[..length])?;
        differ(&a[..length], &b[..length], offset, actual)?;
        offset += length as u64;
    }
    Ok(())
}

/// Compares the size, the first and last block, and blocks spread evenly with a random shift.
///
/// # Errors
///
/// Where a difference lies, or why a file could not be read.
pub fn same_sampled(expected: &Path, actual: &Path) -> Result<(), Failure> {
    let (left, right, size) = open_both(expected, actual)?;
    let block = (BLOCK_BYTES as u64).min(size);
    let room = size - block;
    let stride = (room / SAMPLES).max(1);
    let (mut a, mut b) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut check = |offset: u64| -> Result<(), Failure> {
        let length = usize::try_from(block)?;
        left.read_exact_at(&mut a[..length], offset)?;
        right.read_exact_at(&mut b[..length], offset)?;
        differ(&a[..length], &b[..length], offset, actual)
    };
    for index in 0..SAMPLES {
        check((index * stride + fastrand::u64(0..stride)).min(room))?;
    }
    check(0)?;
    check(room)
}

fn open_both(expected: &Path, actual: &Path) -> Result<(File, File, u64), Failure> {
    let open = |path: &Path| {
        File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let (left, right) = (open(expected)?, open(actual)?);
    let (wanted, found) = (left.metadata()?.len(), right.metadata()?.len());
    if wanted != found {
        return Err(format!("{} has {found} bytes instead of {wanted}", actual.display()).into());
    }
    Ok((left, right, wanted))
}

fn differ(expected: &[u8], actual: &[u8], offset: u64, path: &Path) -> Result<(), Failure> {
    // Equality of slices is a memcmp; the place is only looked for when it fails.
    if expected == actual {
        return Ok(());
    }
    let at = expected.iter().zip(actual).position(|(x, y)| x != y).unwrap_or(0) as u64;
    Err(format!("{} differs from what was served at byte {}", path.display(), offset + at).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> [std::path::PathBuf; 2] {
        let stem = std::env::temp_dir().join(format!("haul-verify-{}-{name}", std::process::id()));
        let paths = [stem.with_extension("a"), stem.with_extension("b")];
        let mut bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&paths[0], &bytes).expect("write a");
        change(&mut bytes);
        std::fs::write(&paths[1], &bytes).expect("write b");
        paths
    }

    fn drop_pair(paths: &[std::path::PathBuf; 2]) {
        for path in paths {
            std::fs::remove_file(path).expect("remove");
        }
    }

    #[test]
    fn equal_files_are_the_same() {
        let paths = pair("equal", |_| {});
        same_whole(&paths[0], &paths[1]).expect("whole");
        same_sampled(&paths[0], &paths[1]).expect("sampled");
        drop_pair(&paths);
    }

    #[test]
    fn one_changed_byte_is_found_and_named() {
        let paths = pair("byte", |bytes| bytes[299_999] ^= 1);
        let error = same_whole(&paths[0], &paths[1]).expect_err("differs").to_string();
        assert!(error.ends_with("at byte 299999"), "{error}");
        same_sampled(&paths[0], &paths[1]).expect_err("the last block is always compared");
        drop_pair(&paths);
    }

    #[test]
    fn another_size_is_found() {
        let paths = pair("size", |bytes| bytes.truncate(10));
        let error = same_sampled(&paths[0], &paths[1]).expect_err("shorter").to_string();
        assert!(error.contains("10 bytes instead of 300000"), "{error}");
        drop_pair(&paths);
    }
}
