//! Habits of curl, wget and aria2, and what haul makes of them: `docs/coming-from.md` is made of
//! this, and the tests type every line of it.

use std::fmt::Write as _;

/// One command line of another program. `URL` is an object that its server names `file`.
#[derive(Debug, Clone, Copy)]
pub struct Habit {
    /// What is typed after the program's name. Single quotes keep blanks.
    pub typed: &'static str,
    /// What haul has for it, or why not.
    pub here: &'static str,
    /// What the same words do when haul gets them.
    pub outcome: Outcome,
}

/// What a command line comes to.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// The object is in this file, and nothing else is there.
    File(&'static str),
    /// The same, and every request had this field.
    Sent(&'static str, &'static str),
    /// The object is in `file`, and stderr says nothing.
    Quiet,
    /// The object is on stdout, and no file is there.
    Stdout,
    /// Nothing is stored, and stdout has this.
    Shown(&'static str),
    /// It ends with this code, and nothing is stored.
    Fails(i32),
    /// Exit 2 before any request, and stderr has this.
    Refused(&'static str),
}

use Outcome::{Fails, File, Quiet, Refused, Sent, Shown, Stdout};

const fn habit(typed: &'static str, here: &'static str, outcome: Outcome) -> Habit {
    Habit { typed, here, outcome }
}

const ANYWAY: &str = "haul does it anyway";
const GETS: &str = "haul only fetches (GET)";
const SITES: &str = "haul fetches URLs and lists of them (`-i`), no sites";
const NO_TORRENTS: &str = "haul does not speak BitTorrent";

/// The programs, and the habits of each.
pub const HABITS: &[(&str, &[Habit])] = &[
    (
        "curl",
        &[
            habit("-O URL", ANYWAY, File("file")),
            habit("-LOJ URL", "redirects and the server's name: haul does it anyway", File("file")),
            habit("-fL -# -o a URL", "`-o a`; the rest haul does anyway", File("a")),
            habit("--location --fail --show-error URL", ANYWAY, File("file")),
            habit("--silent URL", "`-q`", Quiet),
            habit("-sSL URL", "`-q`; `-s` is `--split` here", Refused("-q")),
            habit("URL -s", "`-q`; `-s` is `--split` here", Refused("-q")),
            habit("-o - URL", "the same: to stdout, in order", Stdout),
            habit("-o dir/ URL", "into that directory, as `-d dir`", File("dir/file")),
            habit(
                "--output-dir dir --create-dirs -O URL",
                "`-d dir`, which is created",
                File("dir/file"),
            ),
            habit(
                "-C - -O URL",
                "`-c=always`: also what curl left; plain `haul URL` continues what is its own",
                File("file"),
            ),
            habit(
                "-C 100 URL",
                "haul finds the place itself; `--range 100-` fetches a part",
                Refused("--range"),
            ),
            habit("-m 60 URL", "`--max-time 60`", File("file")),
            habit("-I URL", "`-I`: the plan, with the response's head", Shown("content-range: ")),
            habit("-X HEAD URL", "`-I`", Shown("content-range: ")),
            habit("-i URL", "`-I` shows the head; `-i` is a list here", Refused("-I")),
            habit("-D - URL", "`-I` shows the head", Refused("-I")),
            habit("-Z URL", "parallel is how haul works", File("file")),
            habit("--parallel --parallel-max 2 URL", "`-j 2`", File("file")),
            habit("-A me URL", "the same", Sent("User-Agent", "me")),
            habit("-e http://r/ URL", "the same", Sent("Referer", "http://r/")),
            habit("-H 'X-A: b' URL", "the same, to the URL's own origin", Sent("X-A", "b")),
            habit(
                "-u me:pw URL",
                "the same, to the URL's own origin",
                Sent("Authorization", "Basic bWU6cHc="),
            ),
            habit("--oauth2-bearer t URL", "`--bearer t`", Sent("Authorization", "Bearer t")),
            habit(
                "-b 'a=1; b=2' URL",
                "the same, to the URL's own origin; else `-b FILE`",
                Sent("Cookie", "a=1; b=2"),
            ),
            habit("--cookie a=1 URL", "`-b a=1`", Sent("Cookie", "a=1")),
            habit(
                "-c jar.txt URL",
                "cookies of servers are kept for the run, and not written",
                Refused("-b FILE"),
            ),
            habit("--compressed URL", "the file is stored as it is", File("file")),
            habit("-R URL", "the server's time is kept by default", File("file")),
            habit("-r 0-99 URL", "`--range 0-99`; with a number `-r` is the rate", Shown("")),
            habit("--limit-rate 100M URL", "the same, all connections together", File("file")),
            habit("-x http://proxy URL", "`--proxy http://proxy`", Refused("--proxy")),
            habit("--retry 0 --socks5 127.0.0.1:9 URL", "`--proxy socks5://127.0.0.1:9`", Fails(4)),
            habit(
                "-U me:pw URL",
                "write it into the proxy's URL; `-U` is the user agent here",
                Refused("--proxy"),
            ),
            habit(
                "-k URL",
                "`--insecure`, typed out; `--cacert FILE` is better",
                Refused("--insecure"),
            ),
            habit(
                "--tlsv1.2 --proto-redir =https --retry-all-errors --max-redirs 3 URL",
                "haul does it anyway; `--max-redirect 3`",
                File("file"),
            ),
            habit("--proto =http,https URL", "the only two that haul speaks", File("file")),
            habit(
                "--proto =https URL",
                "for an `http://` URL, as by curl; any `https://` URL is fetched",
                Refused("is not https"),
            ),
            habit("-d a=1&b=2 URL", GETS, Refused("only fetches")),
            habit("--data a URL", GETS, Refused("only fetches")),
            habit("-X POST URL", GETS, Refused("only fetches")),
            habit("-F a=b URL", GETS, Refused("only fetches")),
            habit("-T up URL", GETS, Refused("only fetches")),
            habit(
                "-N URL",
                "`--no-buffer` is how haul writes; wget's `-N` is `--if-changed`",
                Refused("--if-changed"),
            ),
            habit("-w '%{size}' URL", "`--json`", Refused("--json")),
            habit("-z file URL", "`--if-changed`", Refused("--if-changed")),
            habit("-y 10 -Y 1000 URL", "`--stall-timeout 10s`", Refused("--stall-timeout")),
            habit("-K curlrc URL", "`~/.config/haul/config.toml`", Refused("config.toml")),
            habit("--location-trusted URL", "a login goes to no other origin", Refused("-n")),
        ],
    ),
    (
        "wget",
        &[
            habit("URL", "the same, over several connections", File("file")),
            habit(
                "-c URL",
                "the same for what haul left, and the default; `-c=always` for what wget left",
                File("file"),
            ),
            habit("-O a URL", "`-o a`", File("a")),
            habit("--output-document=a URL", "`-o a`", File("a")),
            habit("-qO- URL", "`-q -o -`", Stdout),
            habit("-O - URL", "`-o -`", Stdout),
            habit("-P dir URL", "the same, or `-d dir`", File("dir/file")),
            habit("--directory-prefix=dir URL", "`-d dir`", File("dir/file")),
            habit("-nc URL", "`--no-clobber`, the default", File("file")),
            habit("-nd -np URL", ANYWAY, File("file")),
            habit("--content-disposition --trust-server-names URL", ANYWAY, File("file")),
            habit("-q URL", "the same", Quiet),
            habit(
                "-q --show-progress URL",
                "`--progress bar`; a terminal has a bar anyway",
                File("file"),
            ),
            habit("--no-verbose URL", "`--progress none`", File("file")),
            habit("--progress=dot:giga URL", "`--progress plain`", File("file")),
            habit(
                "-N URL",
                "`--if-changed`; curl's `-N` is `--no-buffer`",
                Refused("--if-changed"),
            ),
            habit("--timestamping URL", "`--if-changed`", File("file")),
            habit("--spider URL", "`--dry-run`", Shown("validator")),
            habit("-S URL", "`-I` shows the head; `-S` alone says nothing more here", File("file")),
            habit("--server-response URL", "`-I` shows the head", Refused("-I")),
            habit(
                "-t 3 -T 30 --waitretry 1 URL",
                "`--retry 3`, `--connect-timeout 30 --stall-timeout 30`",
                File("file"),
            ),
            habit("--timeout=30 URL", "`--connect-timeout 30 --stall-timeout 30`", File("file")),
            habit("--no-proxy URL", "`--proxy ''`", File("file")),
            habit("-4 --inet4-only URL", "`-4`", File("file")),
            habit("--header='X-A: b' -U me URL", "the same", Sent("X-A", "b")),
            habit(
                "--no-cache URL",
                "`-H 'Cache-Control: no-cache'`",
                Sent("Cache-Control", "no-cache"),
            ),
            habit("-e robots=off URL", "robots.txt is about sites", File("file")),
            habit(
                "--user me --password pw URL",
                "`-u me:pw`, or `-n`",
                Refused("--user NAME:PASS"),
            ),
            habit(
                "--no-check-certificate URL",
                "`--insecure`, typed out; `--cacert FILE` is better",
                Refused("--insecure"),
            ),
            habit("--post-data a URL", GETS, Refused("only fetches")),
            habit("-r URL", SITES, Refused("haul -i FILE")),
            habit("-m URL", SITES, Refused("--max-time")),
            habit(
                "--mirror URL",
                "another URL of the same file; haul fetches no sites",
                Refused("--mirror"),
            ),
            habit("-p URL", SITES, Refused("haul -i FILE")),
            habit("-b URL", "`nohup haul -q URL &`; `-b` is cookies here", Refused("nohup")),
            habit(
                "--save-cookies jar URL",
                "cookies of servers are kept for the run, and not written",
                Refused("--load-cookies"),
            ),
            habit("-a log URL", "`2>> log`", Refused("2>> FILE")),
            habit("-i URL", "`-i` takes a file, or `-`", Refused("-i -")),
        ],
    ),
    (
        "aria2c",
        &[
            habit("-x16 -s16 -k1M URL", "the same; `-x auto` is the default", File("file")),
            habit("-k 20M URL", "`--min-split-size 20M`", File("file")),
            habit("--max-connection-per-server=4 --split=4 URL", "`-x 4`", File("file")),
            habit("-d dir -o a URL", "the same", File("dir/a")),
            habit(
                "-c --continue=true URL",
                "the same for what haul left, and the default; `-c=always` for what aria2 left",
                File("file"),
            ),
            habit("--allow-overwrite=true URL", "`--overwrite`", File("file")),
            habit("--auto-file-renaming=true URL", "`--auto-rename`", File("file")),
            habit(
                "--auto-file-renaming=false --allow-overwrite=false URL",
                "the default",
                File("file"),
            ),
            habit("--conditional-get=true URL", "`--if-changed`", File("file")),
            habit("--max-tries=3 --retry-wait=1 URL", "`--retry 3`", File("file")),
            habit("--max-concurrent-downloads=2 URL", "`-j 2`", File("file")),
            habit("--max-overall-download-limit=100M URL", "`-r 100M`", File("file")),
            habit("--file-allocation=prealloc URL", "`--file-allocation falloc`", File("file")),
            habit(
                "--summary-interval=0 --console-log-level=warn URL",
                "`-q` says less",
                File("file"),
            ),
            habit(
                "--remote-time=true --dry-run=false URL",
                "the same, without `=true`",
                File("file"),
            ),
            habit("--dry-run=true URL", "`--dry-run`", Shown("validator")),
            habit("-Z URL", "several URLs are several files anyway", File("file")),
            habit("--disable-ipv6=true URL", "`-4`", File("file")),
            habit("--retry 0 --all-proxy=http://127.0.0.1:9 URL", "`--proxy URL`", Fails(4)),
            habit(
                "--check-certificate=false URL",
                "`--insecure`, typed out; `--cacert FILE` is better",
                Refused("--insecure"),
            ),
            habit(
                "--http-user=me --http-passwd=pw URL",
                "`-u me:pw`, or `-n`",
                Refused("--user NAME:PASS"),
            ),
            habit("--daemon=true URL", "`nohup haul -q URL &`", Refused("nohup")),
            habit("--enable-rpc URL", "`--json`, or the library", Refused("--json")),
            habit("--seed-time=0 URL", NO_TORRENTS, Refused("BitTorrent")),
            habit("'magnet:?xt=urn:btih:00'", NO_TORRENTS, Refused("BitTorrent")),
        ],
    ),
];

impl Habit {
    /// The words of what is typed.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let (mut word, mut quoted) = (None::<String>, false);
        for c in self.typed.chars() {
            match c {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                ' ' if !quoted => words.extend(word.take()),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }
}

/// What stands above the tables.
const INTRODUCTION: &str = "\
# Coming from curl, wget or aria2

Most of what your fingers know works: haul takes the flags of the three programs that mean the same here. A flag that
haul cannot honour ends the command at once (exit 2) with a message that names the alternative. Where two programs give
one letter two meanings, haul follows aria2 for the shape of the download (`-x`, `-j`, `-d`) and curl for the shape of
the request (`-H`, `-A`, `-e`, `-u`). No foreign flag switches certificate checks off: `--insecure` has to be typed out.

For a file that only a logged-in browser can fetch, choose *Copy as cURL* in its network tools, then run

    haul --from-curl 'curl https://...'       # or --from-curl -, paste, Ctrl-D

This uses the URL, headers, cookies, user agent, referer and login. Cookies and headers go only to that URL's own
origin, and none of them is printed. For programs that call `aria2c` there is `haul-aria2c`.

Some letters mean something else here than you may expect, and haul cannot tell which you meant: wget's `-o LOG` is the
output, aria2's `-t SECONDS` is `--retry` and its `-m TRIES` is `--max-time`, wget's `-nv` is `-n -v`. An existing file
is never overwritten or renamed unasked.

## What they left

`haul -c=always URL`, or `-C -`, continues in place a file that another program began. Without that flag, the same
command leaves the file alone (exit 3).

| left by | what is there | what shows that it belongs to the object |
|---|---|---|
| curl, wget | `NAME`, shorter than the object | its first, its last and one other MiB, fetched again |
| Firefox | `NAME.part` or `STEM.xxxxxxxx.EXT.part`, and an empty `NAME` | the same |
| aria2 | `NAME` and `NAME.aria2` | the same, for the pieces that `NAME.aria2` lists; the others are fetched |
| others | `NAME.crdownload`, `NAME.part` alone | the same, and `--checksum` in the end |

Anything else is exit 3 and changes no file: a byte that differs, a hole, a file that a program still has open for
writing, and a file of another user or with a second name. A continued file becomes `NAME.part`, with its checkpoint,
until it is complete. If the digest differs in the end, or the object has changed, the file is put back as it was.
`NAME.aria2` stays until then.

haul's tests type each line of the tables below.
";

/// The page, `docs/coming-from.md`.
#[must_use]
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (program, habits) in HABITS {
        let _ = write!(page, "\n## {program}\n\n| {program} | haul |\n|---|---|\n");
        for habit in *habits {
            let says = if matches!(habit.outcome, Refused(_)) { "not taken: " } else { "" };
            let typed = habit.typed.replace('|', "\\|");
            let _ = writeln!(page, "| `{typed}` | {says}{} |", habit.here);
        }
    }
    page
}
