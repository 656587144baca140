//! The film and its forms: forty seconds, a piece for each second, pictures that count.
//!
//! It is encoded once; each form only packs the same packets in another way, so that one list of
//! pictures is right for all of them.

use std::fs;
use std::path::Path;

use super::Ffmpeg;
use crate::Failure;

/// How long the film lasts. The sound ends a tenth earlier, so that no form has a last packet of
/// sound beyond the length that its manifest tells.
const SECONDS: u32 = 40;
const SOUND_SECONDS: &str = "39.9";

/// The film in one file.
pub const FILM: &str = "film.mp4";
/// The directory that is served.
pub const SERVED: &str = "served";

const HIGH: &str = "high";
const LOW: &str = "low";
const SOUND: &str = "sound";
const TRACKS: [&str; 3] = [HIGH, LOW, SOUND];

/// A way in which the film is served.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The scenario's name in the tables.
    pub name: &'static str,
    /// One line of explanation.
    pub about: &'static str,
    /// The manifest's path below the served directory.
    pub manifest: &'static str,
    /// Only pieces of the lower quality have this in their path.
    spare: Option<&'static str>,
    /// The bar: haul's time to that of the fastest peer.
    pub bound: f64,
}

/// All forms.
pub const FORMS: [Form; 6] = [
    Form {
        name: "film hls-ts",
        about: "HLS, 40 pieces of MPEG-TS",
        manifest: "hls-ts/index.m3u8",
        spare: None,
        bound: 0.7,
    },
    Form {
        name: "film hls-mp4",
        about: "HLS, an initialization and 40 pieces of MP4",
        manifest: "hls-mp4/index.m3u8",
        spare: None,
        bound: 0.7,
    },
    Form {
        name: "film hls-apart",
        about: "HLS, two qualities, sound apart, 40 pieces of MPEG-TS each",
        manifest: "hls-apart/master.m3u8",
        spare: Some("/low/"),
        bound: 0.7,
    },
    Form {
        name: "film hls-ranges",
        about: "HLS, 40 byte ranges of one MPEG-TS file",
        manifest: "hls-ranges/index.m3u8",
        spare: None,
        bound: 0.5,
    },
    Form {
        name: "film dash-number",
        about: "DASH, SegmentTemplate by number, two qualities, sound apart, 20 pieces each",
        manifest: "dash-number/index.mpd",
        spare: Some("stream1"),
        bound: 0.7,
    },
    Form {
        name: "film dash-base",
        about: "DASH, SegmentBase: one file for each of two qualities and the sound",
        manifest: "dash-base/index.mpd",
        spare: Some("low.mp4"),
        bound: 0.5,
    },
];

impl Form {
    /// The bytes of all that has to be fetched from `served`: the better pictures, the sound and
    /// manifests.
    ///
    /// # Errors
    ///
    /// When a directory cannot be read.
    pub fn wanted_bytes(&self, served: &Path) -> Result<u64, Failure> {
        let mut total = 0;
        let mut left = vec![served.join(self.manifest).with_file_name("")];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    left.push(path);
                } else if !self.spare(path.strip_prefix(served)?) {
                    total += fs::metadata(&path)?.len();
                }
            }
        }
        Ok(total)
    }

    fn spare(&self, path: &Path) -> bool {
        self.spare.is_some_and(|mark| path.to_string_lossy().contains(mark))
    }
}

/// Makes the film, `film.mp4`, and all its forms below `served`, both in `directory`.
///
/// # Errors
///
/// When the directory cannot be written, or in ffmpeg's words.
pub fn make(ffmpeg: &Ffmpeg, directory: &Path) -> Result<(), Failure> {
    for form in FORMS {
        fs::create_dir_all(directory.join(SERVED).join(form.manifest).with_file_name(""))?;
    }
    for name in TRACKS {
        fs::create_dir_all(directory.join(SERVED).join("hls-apart").join(name))?;
    }
    let run =
        |arguments: &str| ffmpeg.run(directory, arguments.split_ascii_whitespace()).map(|_| ());
    for (name, size, bits_per_s) in [(HIGH, "640x360", "900k"), (LOW, "320x180", "250k")] {
        run(&format!(
            "-f lavfi -i testsrc2=size={size}:rate=25:duration={SECONDS} -c:v libx264 \
             -preset ultrafast -threads 1 -pix_fmt yuv420p -g 25 -keyint_min 25 -sc_threshold 0 \
             -b:v {bits_per_s} -maxrate {bits_per_s} -bufsize {bits_per_s} {name}.mp4"
        ))?;
    }
    // By way of ADTS: an MP4 of the encoder begins with an edit list, which some forms would lose.
    run(&format!(
        "-f lavfi -i sine=frequency=440:beep_factor=4:sample_rate=48000:duration={SOUND_SECONDS} \
         -ac 2 -c:a aac -b:a 96k {SOUND}.aac"
    ))?;
    run(&format!("-i {SOUND}.aac -c copy {SOUND}.mp4"))?;
    run(&format!("-i {HIGH}.mp4 -i {SOUND}.mp4 -map 0:v -map 1:a -c copy {FILM}"))?;

    let hls = |source: &str, options: &str, form: &str| {
        run(&format!(
            "-i {source} -map 0 -c copy -f hls -hls_time 1 -hls_playlist_type vod \
             -hls_list_size 0 {options} {SERVED}/{form}/index.m3u8"
        ))
    };
    let pieces = |form: &str, extension: &str| {
        format!("-hls_segment_filename {SERVED}/{form}/s%03d.{extension}")
    };
    hls(FILM, &pieces("hls-ts", "ts"), "hls-ts")?;
    hls(FILM, &format!("-hls_segment_type fmp4 {}", pieces("hls-mp4", "m4s")), "hls-mp4")?;
    let one = format!("-hls_flags single_file -hls_segment_filename {SERVED}/hls-ranges/all.ts");
    hls(FILM, &one, "hls-ranges")?;
    for name in TRACKS {
        let form = format!("hls-apart/{name}");
        hls(&format!("{name}.mp4"), &pieces(&form, "ts"), &form)?;
    }
    fs::write(directory.join(SERVED).join("hls-apart/master.m3u8"), MASTER)?;

    let sources = format!("-i {HIGH}.mp4 -i {LOW}.mp4 -i {SOUND}.mp4");
    let by_number = format!(
        "{sources} -map 0 -map 1 -map 2 -c copy -f dash -seg_duration 2 -use_template 1 \
         -use_timeline 0 -adaptation_sets"
    );
    let manifest = format!("{SERVED}/dash-number/index.mpd");
    let sets = ["id=0,streams=v id=1,streams=a", manifest.as_str()];
    ffmpeg.run(directory, by_number.split_ascii_whitespace().chain(sets))?;

    for name in TRACKS {
        run(&format!(
            "-i {name}.mp4 -c copy -frag_duration 2000000 -f mp4 \
             -movflags +frag_keyframe+dash+global_sidx+default_base_moof \
             {SERVED}/dash-base/{name}.mp4"
        ))?;
    }
    let base = directory.join(SERVED).join("dash-base");
    Ok(fs::write(base.join("index.mpd"), segment_base(&base)?)?)
}

const MASTER: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",LANGUAGE=\"en\",DEFAULT=YES,\
    AUTOSELECT=YES,CHANNELS=\"2\",URI=\"sound/index.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=400000,RESOLUTION=320x180,FRAME-RATE=25.000,\
    CODECS=\"avc1.42c01e,mp4a.40.2\",AUDIO=\"a\"\nlow/index.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=1150000,RESOLUTION=640x360,FRAME-RATE=25.000,\
    CODECS=\"avc1.42c01e,mp4a.40.2\",AUDIO=\"a\"\nhigh/index.m3u8\n";

/// The manifest of the files in `directory`, which begin with their initialization and then their
/// index. ffmpeg writes no such manifest.
fn segment_base(directory: &Path) -> Result<String, Failure> {
    let place = |name: &str| -> Result<String, Failure> {
        let (start, end) = index_of(&fs::read(directory.join(name).with_extension("mp4"))?)
            .ok_or_else(|| format!("ffmpeg made {name}.mp4 without an index"))?;
        Ok(format!(
            "<BaseURL>{name}.mp4</BaseURL><SegmentBase indexRange=\"{start}-{}\">\
             <Initialization range=\"0-{}\"/></SegmentBase>",
            end - 1,
            start - 1
        ))
    };
    let pictures = |name: &str, bits_per_s: u32, size: &str| -> Result<String, Failure> {
        Ok(format!(
            "<Representation id=\"{name}\" mimeType=\"video/mp4\" codecs=\"avc1.42c01e\" \
             bandwidth=\"{bits_per_s}\" {size} frameRate=\"25\">{}</Representation>\n",
            place(name)?
        ))
    };
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" minBufferTime=\"PT4S\" \
         mediaPresentationDuration=\"PT{SECONDS}S\" \
         profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\">\n<Period start=\"PT0S\">\n\
         <AdaptationSet contentType=\"video\" segmentAlignment=\"true\">\n{}{}</AdaptationSet>\n\
         <AdaptationSet contentType=\"audio\" lang=\"en\" segmentAlignment=\"true\">\n\
         <Representation id=\"{SOUND}\" mimeType=\"audio/mp4\" codecs=\"mp4a.40.2\" \
         bandwidth=\"96000\" audioSamplingRate=\"48000\">{}</Representation>\n\
         </AdaptationSet>\n</Period>\n</MPD>\n",
        pictures(HIGH, 900_000, "width=\"640\" height=\"360\"")?,
        pictures(LOW, 250_000, "width=\"320\" height=\"180\"")?,
        place(SOUND)?
    ))
}

/// Where in a file of MP4 boxes the index (`sidx`) is, half-open.
fn index_of(file: &[u8]) -> Option<(usize, usize)> {
    let mut start = 0;
    loop {
        let head = file.get(start..start + 8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let end = start + usize::try_from(length).ok().filter(|&length| length >= 8)?;
        if &head[4..] == b"sidx" {
            return Some((start, end));
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_found_among_the_boxes() {
        let boxes =
            [&b"\0\0\0\x0bftypabc"[..], b"\0\0\0\x08moov", b"\0\0\0\x0asidx12", b"\0\0\0\x08moof"];
        assert_eq!(index_of(&boxes.concat()), Some((19, 29)));
        assert_eq!(index_of(&boxes[..2].concat()), None);
        assert_eq!(index_of(b"\0\0\0\0sidx"), None, "a length of nothing would never end");
    }
}
