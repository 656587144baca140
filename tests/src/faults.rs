//! The faults that haul must survive, what it owes in each, and the tests that
//! show it: `tests/FAULTS.md` is made of this.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A section of the table and its rows.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// Number, fault, outcome.
    pub rows: &'static [(u8, &'static str, &'static str)],
}

/// All rows, by section.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "A. Range semantics",
        rows: &[
            (1, "Range ignored: 200 with the whole object", "one stream from the start; notice"),
            (2, "some ranges answered with 200", "what is stored is given up, one stream; notice"),
            (3, "200 with a Content-Range and a slice", "never stored at 0; one stream; notice"),
            (4, "206 that starts elsewhere", "refused before its first byte, retried; exit 7"),
            (5, "206 that ends beyond what was asked", "nothing beyond is stored, retried; exit 7"),
            (6, "206 without Content-Range", "refused; one stream"),
            (7, "206 whose body ends early", "its beginning is kept, the rest asked for"),
            (8, "206 whose body is too long", "cut at the boundary, connection closed"),
            (9, "multipart/byteranges for one range", "refused; one stream"),
            (10, "416 with our size when all is here", "verified and published"),
            (11, "416 or 206 with another total", "a change, as 25"),
            (12, "206 shorter than asked, rightly", "taken, the rest asked for"),
            (13, "unknown total in Content-Range", "not used for splitting"),
            (14, "Content-Length is not the range's", "refused, retried, then one stream; exit 7"),
            (15, "chunked, no length", "one stream; its terminator decides; notice"),
            (
                16,
                "body cut short, with and without a length",
                "with a length or a reset: kept, exit 4; a clean close: taken, notice",
            ),
            (
                17,
                "Content-Encoding although none was asked for",
                "stored as sent, notice; never mixed: retried, then one stream; exit 7",
            ),
            (18, "a page in place of the object", "never stored; retried; exit 7, partial kept"),
            (19, "empty object", "empty file"),
            (20, "sizes over 4 GiB, impossible sizes", "counted; refused, exit 7"),
            (21, "1xx responses, a connection for each request", "no matter"),
        ],
    },
    Section {
        title: "B. Validators",
        rows: &[
            (22, "only a weak ETag", "in no precondition; continues only on other proof"),
            (23, "no validator", "starts over unless a digest was given; notice"),
            (24, "Last-Modified of the same second as Date", "weak"),
            (25, "the object changes midway", "one restart from zero, then exit 10"),
            (26, "412 on If-Match", "as 25, never a loop"),
            (27, "If-Match ignored, another ETag in the 206", "as 25"),
            (28, "ETag differs by edge, same size", "one stream; notice"),
            (29, "If-Range never holds", "the response's own validator decides"),
            (30, "mirrors with other bytes of the same size", "never stitched without a digest"),
            (31, "a digest in the headers does not match", "fetched again once; exit 9"),
        ],
    },
    Section {
        title: "C. Access, redirects, limits",
        rows: &[
            (32, "HEAD refused", "HEAD is never sent"),
            (33, "preconditions refused with 403", "left out; the response's validator decides"),
            (34, "link expires midway", "resolved again once; exit 6, partial kept"),
            (
                35,
                "fresh link with another query",
                "the same download; another path is proven first",
            ),
            (36, "each request redirected elsewhere", "resolved once"),
            (37, "all kinds of redirects; loops", "followed; exit 7"),
            (38, "redirect from https to http", "refused, exit 7, unless allowed"),
            (39, "429 or 503 with Retry-After", "honoured, capped, shared by all connections"),
            (40, "connections limited by address", "fewer; completes; notice"),
            (41, "401, 403, 407 at once", "exit 6, never a loop"),
            (42, "captive portal", "as 18; completes when it goes away in time"),
        ],
    },
    Section {
        title: "D. Transport",
        rows: &[
            (43, "a connection stalls", "the rest goes to another; exit 4 when all do"),
            (44, "a connection crawls", "the rest is asked for again"),
            (45, "reset or early end", "what came is kept; retried"),
            (46, "pooled connection closed under a request", "sent again, not counted"),
            (47, "HTTP/2 GOAWAY, REFUSED_STREAM", "sent again, not counted"),
            (48, "HTTP/2 flow control and a slow disk", "no deadlock, bounded memory"),
            (49, "TLS closed without close_notify", "the length decides"),
            (50, "bad certificate", "exit 5, never retried"),
            (51, "dead addresses, IPv6 black hole", "the next address"),
            (52, "header bomb", "refused within bounds, exit 7"),
            (53, "network away for minutes", "goes on; progress starts the count again"),
            (54, "server restarted midway", "goes on"),
        ],
    },
    Section {
        title: "E. Local",
        rows: &[
            (55, "no space at the start", "exit 11, nothing left"),
            (56, "disk full midway", "exit 11, partial kept, never SIGBUS"),
            (57, "error of a sync", "what it covered is missing again; exit 3, partial kept"),
            (58, "blocks cannot be reserved", "positioned writes; notice"),
            (59, "partial truncated underneath", "exit 3, checkpoint kept"),
            (60, "partial deleted or replaced underneath", "noticed before publishing; exit 3"),
            (61, "directory, descriptors or file size refuse", "exit 3 or 11 before the transfer"),
            (62, "damaged checkpoint", "not believed; notice"),
            (63, "checkpoint of a newer version", "exit 3, left as it is"),
            (64, "checkpoint of another object", "starts over; never merged"),
            (65, "partial missing or short", "its segments are missing"),
            (
                66,
                "partial edited, same size",
                "found by its hash; `verify --repair` has it fetched again",
            ),
            (67, "several hauls on one target; foreign .part", "one proceeds; exit 3 names it"),
            (68, "SIGKILL at any instant", "continues; little is fetched again"),
            (69, "power cut, writes reordered", "no wrong byte is published"),
            (70, "wall clock jumps", "no matter"),
            (71, "output exists, or appears meanwhile", "exit 3, never replaced unasked"),
            (72, "impossible names", "cut and escaped; notice"),
            (73, "SIGINT, SIGTERM, SIGHUP", "recorded; exit 130, 143, 129 in time"),
            (74, "stdout closed", "the download goes on"),
            (75, "SIGSTOP, SIGCONT", "goes on"),
        ],
    },
    Section {
        title: "F. Security",
        rows: &[
            (76, "names that leave the directory", "one safe component"),
            (77, "names with a leading dot or hyphen", "prefixed"),
            (78, "symlink or FIFO at .part or .haul", "not followed; exit 3"),
            (79, "credentials and redirects to other origins", "not sent"),
            (80, "netrc and redirects", "only to the host they are for"),
            (81, "CR, LF in URLs and headers", "refused, exit 2"),
            (82, "terminal escapes from servers", "escaped"),
            (83, "signed queries and credentials", "in no log, file or text"),
            (84, "partial readable by others", "mode 0600"),
            (85, "redirect to file:, data:, ftp:", "refused, exit 7"),
            (86, "proxy credentials", "never to the origin, nor the reverse"),
            (87, "loopback endpoint reached from a web page", "Host checked, path unguessable"),
        ],
    },
    Section {
        title: "G. Servers, file systems and files as people meet them",
        rows: &[
            (
                88,
                "the URL leads to another object of equal size and validator",
                "two stored segments, fetched again, must match; else starts over; notice",
            ),
            (
                89,
                "a strong validator is known and a response shows another or none",
                "not joined; one stream or exit 7; a stream of bytes: exit 10",
            ),
            (90, "a Transfer-Encoding other than chunked", "refused, retried; exit 7"),
            (91, "a total that is the end of the part", "not believed before a byte behind it"),
            (92, "the strong tag again, with another total", "refused; exit 7"),
            (93, "ranges refused, the plain object served", "one plain request"),
            (94, "parts above a size refused", "halved, remembered for the host"),
            (95, "a link that is good for one request", "the first request brings the object"),
            (
                96,
                "a 200 with a Content-Range of the whole, a plain 206 without",
                "taken, unless its length contradicts",
            ),
            (97, "response heads that are a little wrong", "read within bounds"),
            (98, "one refusal midway", "asked again, without conditions"),
            (99, "403, 509, 530 that ask to wait", "as 39"),
            (100, "Last-Modified is always now", "no validator; contradicts nothing"),
            (101, "an entity tag that breaks the grammar", "may be equal; proven by segments"),
            (102, "the first byte comes after a minute", "waited for, with words, by one request"),
            (103, "a redirect sets a cookie and wants it", "sent back for the run"),
            (104, "raw bytes, blanks and slips in Location", "followed as browsers do"),
            (105, "names in old or odd forms", "the name that a browser gives, made safe"),
            (106, "lists, digests, logins, cookies in odd encodings", "read, line by line"),
            (107, "file systems without locks, links or long names", "the file; notice"),
            (
                108,
                "a checkpoint beside another data file",
                "stored segments are hashed again; nothing matches: exit 3, untouched",
            ),
            (109, "a partial of another owner, or with a second name", "exit 3, untouched"),
            (110, "files of somebody's own under our side names", "exit 3, untouched"),
            (111, "names in a Metalink", "each component made safe"),
            (112, "a stream whose repeat has another length", "never exit 0"),
            (113, "a page in place of a film, archive or image", "notice"),
        ],
    },
];

/// Tests by the number of their row: the functions called `fault_NNN_...` in
/// the tests and the engine, and what the system tests name so.
#[derive(Debug, Default)]
pub struct Tests(BTreeMap<u8, Vec<(String, String)>>);

impl Tests {
    /// Those in the workspace at `root`.
    ///
    /// # Panics
    /// When its files cannot be read.
    #[must_use]
    pub fn found_in(root: &Path) -> Self {
        let mut tests = Self::default();
        for (folder, marker) in
            [("tests/tests", "fn fault_"), ("engine/src", "fn fault_"), ("tests/system", "fault_")]
        {
            for path in files_below(&root.join(folder)) {
                let text = fs::read_to_string(&path).expect("a source file");
                let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                tests.add(&text, marker, shown.strip_prefix("tests/").unwrap_or(&shown));
            }
        }
        for found in tests.0.values_mut() {
            found.sort();
            found.dedup();
        }
        tests
    }

    fn add(&mut self, text: &str, marker: &str, file: &str) {
        let prefix_len = marker.len() - "fault_".len();
        for (at, _) in text.match_indices(marker) {
            let name = &text[at + prefix_len..];
            let len = name.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            let name = &name[..len.unwrap_or(name.len())];
            let number = name.get(6..9).and_then(|number| number.parse().ok());
            if let Some(number) = number.filter(|_| name.as_bytes().get(9) == Some(&b'_')) {
                self.0.entry(number).or_default().push((file.to_owned(), name.to_owned()));
            }
        }
    }

    /// What is wrong: rows without a test, tests of rows that do not exist.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let rows = || SECTIONS.iter().flat_map(|section| section.rows).map(|row| row.0);
        let mut complaints = Vec::new();
        for row in rows().filter(|row| !self.0.contains_key(row)) {
            complaints.push(format!("row {row} has no test"));
        }
        for number in self.0.keys().filter(|number| !rows().any(|row| row == **number)) {
            complaints.push(format!("there is no row {number}: {:?}", self.0[number]));
        }
        complaints
    }

    /// The table as Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = "# The faults, what haul does, and the tests that show it\n\n\
            Made from `src/faults.rs` and the names of the tests by\n\
            `HAUL_REFRESH=1 cargo test -p haul-tests --test command fault_table`.\n\
            In every row the final name holds exactly one version of the object or does not exist,\n\
            and no secret is on disk or in any output.\n"
            .to_owned();
        for section in SECTIONS {
            let _ = write!(text, "\n## {}\n\n", section.title);
            text.push_str("| row | fault | outcome | tests |\n|---|---|---|---|\n");
            for (row, fault, outcome) in section.rows {
                let _ = writeln!(text, "| {row} | {fault} | {outcome} | {} |", self.cell(*row));
            }
        }
        text
    }

    fn cell(&self, row: u8) -> String {
        let Some(found) = self.0.get(&row) else { return "none yet".to_owned() };
        let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (file, name) in found {
            by_file.entry(file).or_default().push(name);
        }
        let cell = |(file, names): (&str, Vec<&str>)| {
            let names: Vec<String> =
                names.iter().map(|name| format!("`{}`", &name[10..])).collect();
            format!("{file}: {}", names.join(", "))
        };
        by_file.into_iter().map(cell).collect::<Vec<_>>().join("<br>")
    }
}

/// All files in `folder` and in the folders below it; none where it cannot be read.
#[must_use]
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_without_a_gap() {
        let rows: Vec<u8> =
            SECTIONS.iter().flat_map(|section| section.rows).map(|row| row.0).collect();
        assert_eq!(rows, (1..=113).collect::<Vec<u8>>());
    }

    #[test]
    fn names_are_found_and_gaps_complained_about() {
        let mut tests = Tests::default();
        for row in 1..=113 {
            tests.add(&format!("fn fault_{row:03}_is_seen() {{"), "fn fault_", "a.rs");
        }
        assert_eq!(tests.complaints(), [""; 0]);
        tests.add("fn fault_12_x() fn fault_1234() fault_199_y", "fn fault_", "a.rs");
        assert_eq!(tests.complaints(), [""; 0], "these are no names of tests");
        tests.add("# fault_199_y: no such row", "fault_", "system/run");
        tests.0.remove(&7);
        let complaints = tests.complaints().join("\n");
        for part in ["row 7 has no test", "no row 199"] {
            assert!(complaints.contains(part), "{complaints}");
        }
        assert!(tests.table().contains("| 1 | Range ignored"));
        assert!(tests.table().contains("| a.rs: `is_seen` |"));
        assert!(tests.table().contains("| none yet |"));
    }
}
