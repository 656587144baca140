//! `Link` fields that tell of mirrors (RFC 6249, by the syntax of RFC 8288).
//!
//! What cannot be read is left out: a field is an offer, and nothing is refused
//! for it.

use http::HeaderMap;
use http::header::LINK;

/// More links than these of one response are not read.
const MAX_LINKS: usize = 64;

/// The targets of links with `rel=duplicate`, as sent, the best (`pri`) first
/// (RFC 6249 section 3).
#[must_use]
pub fn duplicates(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let mut found: Vec<(u64, String)> = fields
        .flat_map(links)
        .take(MAX_LINKS)
        .filter(|link| {
            let mut kinds = link.value("rel").unwrap_or_default().split_ascii_whitespace();
            kinds.any(|kind| kind.eq_ignore_ascii_case("duplicate"))
        })
        .map(|link| {
            let priority = link.value("pri").and_then(|digits| digits.parse().ok());
            (priority.unwrap_or(999_999), link.target.to_owned())
        })
        .collect();
    found.sort_by_key(|(priority, _)| *priority);
    found.into_iter().map(|(_, target)| target).collect()
}

struct Link<'a> {
    target: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Link<'_> {
    /// The first parameter of that name counts (RFC 8288 section 3.3).
    fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|it| it.1)
    }
}

/// `<target>; name=value; name="value", <target>...`
fn links(field: &str) -> Vec<Link<'_>> {
    let mut rest = field;
    let mut found = Vec::new();
    while let Some((_, after)) = rest.split_once('<')
        && let Some((target, after)) = after.split_once('>')
        && found.len() < MAX_LINKS
    {
        let mut link = Link { target: target.trim(), parameters: Vec::new() };
        rest = after;
        while let Some(parameter) = rest.trim_start().strip_prefix(';') {
            let end = parameter.find(['=', ';', ',']).unwrap_or(parameter.len());
            let (name, after) = parameter.split_at(end);
            let (value, after) = match after.strip_prefix('=').map(str::trim_start) {
                None => ("", after),
                Some(quoted) if quoted.starts_with('"') => {
                    let quoted = &quoted[1..];
                    quoted.split_once('"').unwrap_or((quoted, ""))
                }
                Some(token) => token.split_at(token.find([';', ',']).unwrap_or(token.len())),
            };
            link.parameters.push((name.trim(), value.trim()));
            rest = after;
        }
        found.push(link);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(LINK, field.parse().unwrap());
        }
        duplicates(&headers)
    }

    #[test]
    fn mirrors_come_in_the_order_of_their_priority() {
        let fields = [
            "<http://c/f>; rel=duplicate, <http://b/f>; rel=duplicate; pri=2; geo=de; depth=1",
            "<http://a/f,x;y>; title=\"a; rel=none, <no>\"; rel=\"alternate duplicate\"; pri=1",
            "<http://m/f.meta4>; rel=describedby; type=\"application/metalink4+xml\"",
            "<http://t/f.torrent>; rel=describedby",
        ];
        assert_eq!(of(&fields), ["http://a/f,x;y", "http://b/f", "http://c/f"]);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        for field in [
            "",
            "<",
            ">",
            "<a",
            "rel=duplicate",
            "<a>; rel",
            "<a>; rel=",
            "<a>;;;",
            "<a>; rel=\"dup",
            "<a>; rel=\"",
            "<a>; =duplicate",
        ] {
            assert_eq!(of(&[field]), [""; 0], "{field}");
        }
        assert_eq!(of(&["<a>;rel=duplicate;pri=x", "<b>;rel=DUPLICATE;pri=1"]), ["b", "a"]);
        assert!(of(&["<a>;rel=duplicate,".repeat(1000).as_str()]).len() <= MAX_LINKS);
    }
}
