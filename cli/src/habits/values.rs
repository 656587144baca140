//! Values that tell whose flag was meant.

use haul_engine::Selection;

use crate::exit::Failure;
use crate::units;

/// The meaning of a flag that has one by its value only.
pub(super) fn by_value(typed: &str, text: &str) -> Result<Vec<String>, Failure> {
    let refuse = |cause: &str, hint: &str| {
        Err(Failure::usage(format!("{typed} {cause}")).hint(hint.to_owned()))
    };
    Ok(match typed {
        "-m" if is_url(text) => {
            return refuse(
                "is --max-time here; wget's fetches whole sites, which haul does not",
                "leave it out to fetch the URL itself",
            );
        }
        "-m" => vec![format!("--max-time={text}")],
        "-C" | "--continue-at" if text == "-" => vec!["--continue=always".to_owned()],
        "-C" | "--continue-at" => {
            return refuse(
                "takes only `-` here: haul finds by itself where to continue",
                "-c continues where that is proven, and -C - means -c=always; --range N- fetches \
                 from byte N on",
            );
        }
        "-T" if units::parse_duration(text).is_ok() => {
            vec![format!("--connect-timeout={text}"), format!("--stall-timeout={text}")]
        }
        "-T" => {
            return refuse(
                "sends a file, and haul only fetches (GET)",
                "wget's -T SECONDS is accepted: it is --connect-timeout and --stall-timeout",
            );
        }
        "-X" | "--request" if text.eq_ignore_ascii_case("get") => Vec::new(),
        "-X" | "--request" if text.eq_ignore_ascii_case("head") => vec!["--head".to_owned()],
        "-X" | "--request" => {
            return refuse(
                "asks for another method, and haul only fetches (GET)",
                "send it with curl; a link in the response can then be given to haul",
            );
        }
        "--proto" | "--proto-redir" => {
            let named: Vec<&str> = text.trim_start_matches('=').split(',').collect();
            if !named.iter().all(|name| matches!(*name, "http" | "https")) {
                return refuse(
                    "takes only `=https` and `=http,https` here",
                    "haul speaks http and https, and follows no redirect from https to http",
                );
            }
            // Of redirects it is so anyway.
            match typed == "--proto" && !named.contains(&"http") {
                true => vec!["--https-only".to_owned()],
                false => Vec::new(),
            }
        }
        "--url" => vec![text.to_owned()],
        "--max-tries" if text == "0" => vec![format!("--retry={}", u32::MAX)],
        "--max-tries" => vec![format!("--retry={text}")],
        "--socks4" | "--socks4a" | "--socks5" => vec![format!("--proxy={}://{text}", &typed[2..])],
        "--socks5-hostname" => vec![format!("--proxy=socks5h://{text}")],
        // All that the table has are above.
        _ => Vec::new(),
    })
}

pub(super) fn is_url(word: &str) -> bool {
    let scheme = word.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| scheme == "http" || scheme == "https")
}

pub(super) fn is_auto(text: &str) -> bool {
    text.starts_with("auto")
}

/// Whether it can only be meant as curl's `-r`: a rate has no hyphen.
pub(super) fn is_range(text: &str) -> bool {
    text.contains('-') && text.parse::<Selection>().is_ok()
}

/// Whether it is what curl's `-d` sends rather than the name of a directory.
pub(super) fn is_data(text: &str) -> bool {
    let pair = |pair: &str| pair.split_once('=').is_some_and(|(key, _)| !key.contains('/'));
    text.starts_with(['{', '@']) || text.contains('&') && text.split('&').all(pair)
}
