//! One WebVTT file of many: segments each have a header of their own, and repeat a cue that lasts
//! beyond their end.

use std::collections::HashSet;

/// The segments of `text`, which stand one after the other, as one file.
pub(crate) fn merged(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace(['\r'], "\n").replace('\u{feff}', "");
    let mut out = "WEBVTT\n".to_owned();
    let mut seen = HashSet::new();
    for block in text.split("\n\n").map(|block| block.trim_matches('\n')) {
        // A header may stand right after the last cue of the segment before.
        let (before, after) = match block.find("WEBVTT") {
            Some(at) if at == 0 || block[..at].ends_with('\n') => (&block[..at], None),
            _ => (block, Some(())),
        };
        let cue = before.trim_matches('\n');
        let is_style = cue.starts_with("STYLE") || cue.starts_with("REGION");
        let is_cue = cue.contains("-->") || is_style;
        if !cue.is_empty() && (is_cue || after.is_some()) && seen.insert(cue.to_owned()) {
            out.push('\n');
            out.push_str(cue);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_become_one_file_with_one_header() {
        let text = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n1\n00:00.000 --> 00:02.000\n\
                    one\n\nWEBVTT\r\n\r\n1\n00:00.000 --> 00:02.000\none\n\n00:02.000 --> 00:03.000\n\
                    two\nWEBVTT\n\n00:05.000 --> 00:06.000\nthree\n";
        assert_eq!(
            merged(text),
            "WEBVTT\n\n1\n00:00.000 --> 00:02.000\none\n\n00:02.000 --> 00:03.000\ntwo\n\n\
             00:05.000 --> 00:06.000\nthree\n"
        );
    }
}
