//! What flags of curl, wget and aria2 mean here, if haul has no flag of that name.

use Means::{Flags, Never, No, Nothing, Switch, Unless, Value};

/// How a foreign flag is handled.
#[derive(Debug, Clone, Copy)]
pub(super) enum Means {
    /// haul does this anyway.
    Nothing,
    /// haul does this anyway, and the flag has a value.
    No,
    /// The flag becomes these words of haul.
    Flags(&'static [&'static str]),
    /// The flag becomes these flags of haul, each with the value.
    Value(&'static [&'static str]),
    /// The flag becomes these words unless `=false` follows, as in aria2.
    Switch(&'static [&'static str]),
    /// The flag does nothing, but with `=false` it is refused like [`Means::Never`].
    Unless(&'static str, &'static str),
    /// The value decides, in [`super::values`].
    ByValue,
    /// The flag is refused, with the reason and an alternative.
    Never(&'static str, &'static str),
}

/// Stands for taking back `--quiet`.
pub(super) const NOT_QUIET: &str = "not quiet";

const ANY: &str = "would accept any certificate, which no habit can ask for";
const CACERT: &str = "--cacert FILE trusts the authorities in FILE; --insecure accepts any \
                      certificate: whoever sits between can read and change everything";
const TLS: Means = Never(ANY, CACERT);
const BODY: Means = Never(
    "sends a body, and haul only fetches (GET)",
    "curl sends; a link that its response names can then be given to haul",
);
const SITE: Means = Never(
    "is about whole sites, and haul fetches the URLs that it is given",
    "wget --recursive fetches sites; haul -i FILE fetches a list of URLs",
);
const LOG: Means = Never(
    "names a log file, and haul writes none",
    "what it says is on stderr: 2>> FILE; --json has events on stdout",
);
const BACKGROUND: Means = Never(
    "goes to the background, and haul does not",
    "a shell does it: nohup haul -q URL & (a run that ended early is continued by the same command)",
);
const JAR: Means = Never(
    "writes cookies to a file, and haul writes none",
    "cookies that servers set are kept for the run; --load-cookies FILE reads a file",
);
const HEAD: Means = Never(
    "prints the response's head with the body, and haul prints none while it downloads",
    "-I prints the head and fetches nothing; -v tells more",
);
const LOGIN: Means = Never(
    "gives a part of a login by itself",
    "write both as --user NAME:PASS, or keep them in ~/.netrc and say -n",
);
const SPEED: Means = Never(
    "gives up what is slow, and haul only gives up what is silent",
    "--stall-timeout TIME bounds silence, --max-time TIME the whole",
);
const TORRENT: Means =
    Never("is about BitTorrent, which haul does not speak", "aria2c and transmission-cli do");
const RPC: Means = Never(
    "makes a server for other programs of it, which haul is not",
    "--json tells programs what happens; the library haul-engine does it in their process",
);
const VERSION: Means = Never(
    "compares with a file's version kept elsewhere",
    "--if-changed compares with the file that is here, and keeps its version beside it",
);

/// The flags, spelled as they are typed.
pub(super) const HABITS: &[(&[&str], Means)] = &[
    // Flags that ask for what haul does anyway.
    (&["-L", "--location", "-f", "--fail", "-S", "--show-error"], Nothing),
    (&["-J", "--remote-header-name", "--content-disposition"], Nothing),
    (&["--remote-name", "--remote-name-all", "--trust-server-names"], Nothing),
    (&["-#", "--progress-bar", "-R", "-g", "--globoff", "--no-buffer"], Nothing),
    (&["-Z", "--parallel", "--parallel-immediate", "--force-sequential"], Nothing),
    (&["--create-dirs", "--compressed", "--anyauth", "--basic", "--digest"], Nothing),
    (&["--tlsv1", "--tlsv1.0", "--tlsv1.1", "--tlsv1.2", "--ssl-reqd"], Nothing),
    (&["--retry-connrefused", "--retry-all-errors", "--auth-no-challenge"], Nothing),
    (&["--no-directories", "--no-host-directories", "--no-parent"], Nothing),
    (&["--keep-session-cookies", "--no-dns-cache", "--no-hsts", "--no-iri"], Nothing),
    (&["--tcp-nodelay", "--tcp-fastopen", "--proxytunnel"], Nothing),
    (&["--retry-delay", "--waitretry", "--retry-wait", "--keepalive-time"], No),
    // Flags that have another name in haul.
    (&["--silent"], Flags(&["--quiet"])),
    (&["--no-progress-meter", "--no-verbose"], Flags(&["--progress=none"])),
    // It takes back `-q`.
    (&["--show-progress"], Flags(&[NOT_QUIET])),
    (&["--spider"], Flags(&["--dry-run"])),
    (&["--timestamping"], Flags(&["--if-changed"])),
    (&["--fail-early"], Flags(&["--max-failures=0"])),
    (&["--inet4-only"], Flags(&["--ipv4"])),
    (&["--inet6-only"], Flags(&["--ipv6"])),
    (&["--http1.0", "-0"], Flags(&["--http1.1"])),
    (&["--no-conf"], Flags(&["--no-config"])),
    (&["--no-cache"], Flags(&["--header=Cache-Control: no-cache"])),
    (&["-m"], Means::ByValue),
    (&["-C", "--continue-at"], Means::ByValue),
    (&["-T", "-X", "--request", "--proto", "--proto-redir", "--url"], Means::ByValue),
    (&["--max-tries"], Means::ByValue),
    (&["--output-document"], Value(&["--output"])),
    (&["--directory-prefix"], Value(&["--dir"])),
    (&["--timeout"], Value(&["--connect-timeout", "--stall-timeout"])),
    (&["--stop"], Value(&["--max-time"])),
    (&["--read-timeout"], Value(&["--stall-timeout"])),
    (&["--parallel-max"], Value(&["--jobs"])),
    (&["--max-redirs"], Value(&["--max-redirect"])),
    (&["--oauth2-bearer"], Value(&["--bearer"])),
    (&["--cookie"], Value(&["--load-cookies"])),
    (&["--ca-certificate"], Value(&["--cacert"])),
    (&["-E", "--certificate"], Value(&["--cert"])),
    (&["--private-key"], Value(&["--key"])),
    (&["--bind-address"], Value(&["--interface"])),
    (&["--all-proxy"], Value(&["--proxy"])),
    (&["-M", "--metalink-file"], Value(&["--metalink"])),
    (&["--socks4", "--socks4a", "--socks5", "--socks5-hostname"], Means::ByValue),
    (&["--max-connection-per-server"], Value(&["--connections"])),
    // aria2's switches.
    (&["--allow-overwrite"], Switch(&["--overwrite"])),
    (&["--auto-file-renaming"], Switch(&["--auto-rename"])),
    (&["--conditional-get"], Switch(&["--if-changed"])),
    (&["--disable-ipv6"], Switch(&["--ipv4"])),
    (&["--http-no-cache"], Switch(&["--header=Cache-Control: no-cache"])),
    (&["--check-certificate"], Unless(ANY, CACERT)),
    // Flags that haul cannot honour.
    (&["--no-check-certificate", "--proxy-insecure"], TLS),
    (&["--data", "--data-raw", "--data-binary", "--data-urlencode", "--data-ascii"], BODY),
    (&["-F", "--form", "--form-string", "--post-data", "--post-file", "--body-data"], BODY),
    (&["--body-file", "--upload-file", "--method", "--url-query"], BODY),
    (
        &["-G", "--get"],
        Never("puts data into the URL's query", "write the query into the URL: 'URL?a=b'"),
    ),
    (&["--recursive", "-l", "--level", "-p", "--page-requisites", "--convert-links"], SITE),
    (&["--span-hosts", "--accept", "--reject", "--adjust-extension"], SITE),
    (&["--include-directories", "--exclude-directories", "--domains", "--no-clobber-dirs"], SITE),
    (&["-a", "--append-output", "--output-file", "--log", "--stderr", "--trace"], LOG),
    (&["--background", "--daemon"], BACKGROUND),
    (&["--cookie-jar", "--save-cookies"], JAR),
    (
        &["--include", "--show-headers", "--server-response", "--save-headers", "--dump-header"],
        HEAD,
    ),
    (
        &["-D"],
        Never(
            "is curl's --dump-header and aria2's --daemon",
            "-I prints the response's head and fetches nothing; a shell puts haul into the \
             background: nohup haul -q URL &",
        ),
    ),
    (
        &["-N"],
        Never(
            "has no meaning here, because curl and wget give it two",
            "wget's -N is --if-changed; curl's --no-buffer is how haul writes anyway",
        ),
    ),
    (&["--password", "--http-user", "--http-password", "--http-passwd", "--ask-password"], LOGIN),
    (
        &["--proxy-user", "--proxy-password"],
        Never(
            "gives a proxy's login by itself",
            "write it into the proxy's URL: --proxy http://NAME:PASS@HOST:PORT",
        ),
    ),
    (
        &["--location-trusted"],
        Never(
            "would send your login to whatever host a redirect leads to",
            "a login goes to the URL's own origin; ~/.netrc with -n has one for each host",
        ),
    ),
    (&["-Y", "-y", "--speed-limit", "--speed-time", "--lowest-speed-limit"], SPEED),
    (
        &["-w"],
        Never(
            "is curl's --write-out and wget's --wait",
            "--json prints what happened as JSON lines; -j 1 fetches one file at a time",
        ),
    ),
    (
        &["--write-out"],
        Never(
            "prints by a format, and haul has none",
            "--json prints what happened as JSON lines, for jq",
        ),
    ),
    (
        &["--wait", "--random-wait"],
        Never(
            "waits between files, and haul does not",
            "-j 1 fetches one file at a time, --limit-rate RATE slows all down",
        ),
    ),
    (&["-z", "--time-cond", "--etag-save", "--etag-compare"], VERSION),
    (&["--start-pos"], Never("starts in the middle", "--range N- fetches from there on")),
    (
        &["--fail-with-body"],
        Never(
            "stores the error's page, and haul never stores one",
            "leave it out: an error is exit 4 to 8, and its status is told",
        ),
    ),
    (
        &["--remove-on-error"],
        Never(
            "removes what an error left",
            "leave it out: the final name only ever has a complete file; haul clean removes partials",
        ),
    ),
    (&["--connect-to"], Never("is not known here", "--resolve HOST:PORT:ADDR connects elsewhere")),
    (
        &["--capath", "--ca-directory"],
        Never("is not known here", "--cacert FILE trusts what one file has"),
    ),
    (&["--dns-timeout"], Never("is not known here", "--connect-timeout bounds the look-up too")),
    (
        &["-K", "--config", "--execute", "--conf-path"],
        Never(
            "reads another program's settings",
            "haul's own are in ~/.config/haul/config.toml, and HAUL_* variables",
        ),
    ),
    (
        &["--next", "-:"],
        Never(
            "begins other flags for another URL, and haul's flags are for all its URLs",
            "give several URLs after each other, or use one command for each",
        ),
    ),
    (&["--torrent-file", "--show-files", "--select-file", "--seed-time", "--seed-ratio"], TORRENT),
    (&["--follow-torrent", "--listen-port", "--enable-dht", "--max-upload-limit"], TORRENT),
    (&["--enable-rpc", "--rpc-listen-port", "--rpc-secret", "--save-session"], RPC),
];
