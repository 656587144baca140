//! Flags that haul has, where the value or the following word can only be meant for another
//! program's flag of that name.

use std::collections::VecDeque;
use std::ffi::OsString;

use super::values::{is_auto, is_data, is_range, is_url};
use super::{Flag, Walk, curl};
use crate::exit::Failure;

impl Walk<'_> {
    /// Handles a flag of haul whose value may be meant for another program's flag.
    pub(super) fn ours(
        &mut self,
        flag: &Flag<'_>,
        id: &str,
        value: Option<OsString>,
        as_typed: Vec<OsString>,
        rest: &mut VecDeque<OsString>,
    ) -> Result<(), Failure> {
        let typed = flag.typed();
        let text = value.as_ref().and_then(|value| value.to_str()).unwrap_or_default().to_owned();
        let refuse = |cause: &str, hint: &str| {
            Err(Failure::usage(format!("{typed} {cause}")).hint(hint.to_owned()))
        };
        match (typed.as_str(), id) {
            ("--from-curl", _) if value.is_some() => return self.curl(value.unwrap_or_default()),
            ("-s", _) if !text.starts_with(|c: char| c.is_ascii_digit()) && !is_auto(&text) => {
                return refuse(
                    "is --split here and takes a number of connections",
                    "curl's -s is -q (--quiet); its -S, -L and -f are what haul does anyway, so \
                     -sSL is -q",
                );
            }
            ("-x", _) if text.contains(':') && !is_auto(&text) => {
                return refuse(
                    "is --connections here and takes a number",
                    "curl's -x is --proxy URL",
                );
            }
            ("-r", _) if is_range(&text) => {
                self.push(format!("--range={text}"));
                return Ok(());
            }
            ("-r", _) if is_url(&text) => {
                return refuse(
                    "is --limit-rate here; wget's fetches sites, and haul fetches only the URLs \
                     that it is given",
                    "wget --recursive fetches sites; haul -i FILE fetches a list of URLs",
                );
            }
            ("-d", _) if is_data(&text) => {
                return refuse(
                    "is --dir here; curl's sends a body, and haul only fetches (GET)",
                    "send it with curl; for a directory of that name, write --dir ./NAME",
                );
            }
            ("-e", _) if text.starts_with("robots=") => return Ok(()),
            ("-U", _) if text.contains(':') && !text.contains([' ', '/']) => {
                return refuse(
                    "is --user-agent here; curl's is a proxy's login, which would be sent to the \
                     server",
                    "--proxy http://NAME:PASS@HOST:PORT gives a proxy's login; -A also sets the \
                     user agent",
                );
            }
            ("-b", _) if is_url(&text) => {
                return refuse(
                    "is --load-cookies here; wget's runs in the background, and haul does not",
                    "use a shell: nohup haul -q URL &",
                );
            }
            ("-i" | "--input-file", _) if is_url(&text) => {
                return refuse(
                    "takes a file with URLs, not a URL",
                    "curl's -i, the response's head, is -I here; for a list on the web: curl URL \
                     | haul -i -",
                );
            }
            // wget's `--no-proxy` takes no value and ignores the environment's proxies.
            ("--no-proxy", _) if is_url(&text) => {
                self.push("--proxy=");
                value.into_iter().for_each(|url| rest.push_front(url));
                return Ok(());
            }
            (_, "progress") if text.starts_with("dot") => {
                self.push("--progress=plain");
                return Ok(());
            }
            (_, "progress") if text.starts_with("bar:") => {
                self.push("--progress=bar");
                return Ok(());
            }
            (_, "file_allocation") if matches!(text.as_str(), "prealloc" | "trunc") => {
                let ours = if text == "trunc" { "none" } else { "falloc" };
                self.push(format!("--file-allocation={ours}"));
                return Ok(());
            }
            _ => {}
        }
        self.has_list |= matches!(id, "input_file" | "metalink");
        self.mirrors |= id == "mirror";
        self.out.extend(as_typed);
        Ok(())
    }

    /// Handles wget's `-O NAME` and curl's `-O`, which asks for haul's default. Returns whether the
    /// rest of the word was consumed.
    pub(super) fn remote_name(&mut self, behind: &str, rest: &mut VecDeque<OsString>) -> bool {
        if behind == "-" || behind.contains(['.', '/']) {
            self.push(format!("--output={behind}"));
            return true;
        }
        let next = rest.front().and_then(|word| word.to_str());
        match next.filter(|_| behind.is_empty()) {
            Some("-") => {
                rest.pop_front();
                self.push("--output=-");
            }
            Some(word) if !word.starts_with('-') && !is_url(word) => {
                self.push("-O");
                self.named = Some(self.out.len());
            }
            _ => self.push("-O"),
        }
        false
    }

    /// Handles `--from-curl`: the words of the curl command go before the typed ones, which take
    /// precedence.
    fn curl(&mut self, value: OsString) -> Result<(), Failure> {
        let words = curl::words(value, self.insecure)?;
        self.urls += 1;
        self.named = self.named.map(|at| at + words.len());
        self.out.splice(self.at..self.at, words.into_iter().map(OsString::from));
        Ok(())
    }
}
