//! Whether a file is the film: by what it shows and what it sounds, whatever holds it.
//!
//! Every program packs the pieces in another way, so bytes say nothing. Pictures are decoded and
//! hashed in their order; sound is hashed as it is coded, without the headers of its container.

use std::path::Path;

use super::Ffmpeg;
use crate::Failure;

/// How far a container's length may be off: the last piece of sound, or where the clock begins.
const LENGTH_OFF_S: f64 = 0.5;

/// What a film consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pictures: Vec<String>,
    sound: Vec<String>,
    /// Some containers do not tell it.
    length_s: Option<f64>,
}

impl Content {
    /// That of `file`.
    ///
    /// # Errors
    ///
    /// When ffmpeg cannot read it; in its words.
    pub fn of(ffmpeg: &Ffmpeg, file: &Path) -> Result<Self, Failure> {
        let hashes = |how: &str| -> Result<Vec<String>, Failure> {
            let input = ["-i".as_ref(), file.as_os_str()];
            let how = how.split_ascii_whitespace().map(AsRef::as_ref);
            let text = ffmpeg.run(Path::new("."), input.into_iter().chain(how))?;
            Ok(read_hashes(&text))
        };
        let length = ffmpeg.probe(file, "format=duration")?;
        Ok(Self {
            pictures: hashes("-map 0:v:0? -fps_mode passthrough -f framemd5 -")?,
            sound: hashes("-map 0:a:0? -c copy -bsf:a aac_adtstoasc -f framemd5 -")?,
            length_s: length.trim().parse().ok(),
        })
    }

    /// Whether `other` is the same film.
    ///
    /// # Errors
    ///
    /// A sentence that names the first difference.
    pub fn same(&self, other: &Self) -> Result<(), Failure> {
        same_list("pictures", &self.pictures, &other.pictures)?;
        same_list("packets of sound", &self.sound, &other.sound)?;
        match self.length_s.zip(other.length_s) {
            Some((wanted, found)) if (wanted - found).abs() > LENGTH_OFF_S => {
                Err(format!("wrong film: it lasts {found:.2} s instead of {wanted:.2}").into())
            }
            _ => Ok(()),
        }
    }
}

/// The sixth field of each line that is no remark: stream, two times, length, size, hash.
fn read_hashes(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.split(',').nth(5)?.trim().to_owned())).collect()
}

fn same_list(what: &str, wanted: &[String], found: &[String]) -> Result<(), Failure> {
    if wanted.len() != found.len() {
        let (wanted, found) = (wanted.len(), found.len());
        return Err(format!("wrong film: {found} {what} instead of {wanted}").into());
    }
    match wanted.iter().zip(found).position(|(wanted, found)| wanted != found) {
        None => Ok(()),
        Some(first) => Err(format!("wrong film: of the {what}, number {first} differs").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(pictures: &[&str], length_s: f64) -> Content {
        let pictures = pictures.iter().map(|&hash| hash.to_owned()).collect();
        Content { pictures, sound: vec!["s".to_owned()], length_s: Some(length_s) }
    }

    #[test]
    fn hashes_are_read_without_times() {
        let text = "#format: frame checksums\n#stream#, dts, ...\n\
                    0,          0,          0,        1,    86400, 5f2c\n\
                    0,       1024,       1024,     1024,      371, 99aa, S=1, 10\n";
        assert_eq!(read_hashes(text), ["5f2c", "99aa"]);
    }

    #[test]
    fn a_film_with_a_hole_or_another_picture_is_wrong() {
        let film = content(&["a", "b", "c"], 40.0);
        film.same(&content(&["a", "b", "c"], 39.9)).expect("the same");
        film.same(&Content { length_s: None, ..film.clone() }).expect("a length is not told");
        for (other, words) in [
            (content(&["a", "b"], 40.0), "2 pictures instead of 3"),
            (content(&["a", "x", "c"], 40.0), "of the pictures, number 1 differs"),
            (content(&["a", "b", "c"], 41.0), "lasts 41.00 s instead of 40.00"),
            (Content { sound: Vec::new(), ..film.clone() }, "0 packets of sound instead of 1"),
        ] {
            let error = film.same(&other).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
