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

const ANY: &str = "would accept any certificate, which only haul's own flag can ask for";
const CACERT: &str = "--cacert FILE trusts the authorities in FILE; --insecure accepts any \
                      certificate: anyone on the path can read and change everything";
const TLS: Means = Never(ANY, CACERT);
const BODY: Means = Never(
    "sends a body, and haul only fetches (GET)",
    "send it with curl; a link in the response can then be given to haul",
);
const SITE: Means = Never(
    "is about whole sites, and haul fetches only the URLs that it is given",
    "wget --recursive fetches sites; haul -i FILE fetches a list of URLs",
);
const LOG: Means = Never(
    "names a log file, and haul writes none",
    "messages go to stderr: 2>> FILE; --json prints events on stdout",
);
const BACKGROUND: Means = Never(
    "runs in the background, and haul does not",
    "use a shell: nohup haul -q URL & (the same command continues a run that ended early)",
);
const JAR: Means = Never(
    "writes cookies to a file, and haul writes none",
    "cookies that servers set are kept for the run; --load-cookies FILE reads a file",
);
const HEAD: Means = Never(
    "prints the response's head with the body, and haul prints none while it downloads",
    "-I prints the head and fetches nothing; -v prints more",
);
const LOGIN: Means = Never(
    "gives only a part of a login",
    "write both as --user NAME:PASS, or keep them in ~/.netrc and use -n",
);
const SPEED: Means = Never(
    "gives up slow connections, and haul gives up only silent ones",
    "--stall-timeout TIME limits silence, --max-time TIME limits the whole download",
);
const TORRENT: Means =
    Never("is about BitTorrent, which haul does not speak", "aria2c and transmission-cli do");
const RPC: Means = Never(
    "makes a server for other programs, and haul is none",
    "--json reports events to programs; the library haul-engine downloads inside them",
);
const VERSION: Means = Never(
    "compares with a version that is kept elsewhere",
    "--if-changed compares with the existing file, and keeps its version with it",
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
            "gives a proxy's login separately",
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
            "prints by a format, and haul does not",
            "--json prints what happened as JSON lines, for jq",
        ),
    ),
    (
        &["--wait", "--random-wait"],
        Never(
            "waits between files, and haul does not",
            "-j 1 fetches one file at a time, and --limit-rate RATE slows everything down",
        ),
    ),
    (&["-z", "--time-cond", "--etag-save", "--etag-compare"], VERSION),
    (&["--start-pos"], Never("starts in the middle", "--range N- fetches from byte N on")),
    (
        &["--fail-with-body"],
        Never(
            "stores the error page, and haul never does",
            "leave it out: an error is exit 4 to 8, and its status is printed",
        ),
    ),
    (
        &["--remove-on-error"],
        Never(
            "removes what a failed download left",
            "leave it out: the final name only ever holds a complete file; haul clean removes \
             partials",
        ),
    ),
    (&["--connect-to"], Never("is not known here", "--resolve HOST:PORT:ADDR connects elsewhere")),
    (
        &["--capath", "--ca-directory"],
        Never("is not known here", "--cacert FILE trusts the authorities in one file"),
    ),
    (&["--dns-timeout"], Never("is not known here", "--connect-timeout includes the look-up")),
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
            "begins separate flags for another URL, and haul's flags apply to all its URLs",
            "give several URLs after each other, or use one command for each",
        ),
    ),
    (&["--torrent-file", "--show-files", "--select-file", "--seed-time", "--seed-ratio"], TORRENT),
    (&["--follow-torrent", "--listen-port", "--enable-dht", "--max-upload-limit"], TORRENT),
    (&["--enable-rpc", "--rpc-listen-port", "--rpc-secret", "--save-session"], RPC),
];
