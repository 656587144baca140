//! `Link` fields that name mirrors (RFC 6249, in the syntax of RFC 8288).
//!
//! Whatever cannot be read is left out: a field is an offer, and nothing is
//! refused because of it.

use http::HeaderMap;
use http::header::LINK;

/// Further links of one response are not read.
const MAX_LINKS: usize = 64;

/// The media type of a Metalink document (RFC 5854 section 7.1).
const METALINK: &str = "application/metalink4+xml";

/// A mirror that a server names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Its URL, as sent.
    pub target: String,
    /// The country that it is said to be in (`geo`), in lower case. It decides
    /// nothing: mirrors are used by their measured speed.
    pub country: Option<String>,
}

/// The links with `rel=duplicate`, the best (`pri`, from 1) first (RFC 6249
/// section 3).
#[must_use]
pub fn duplicates(headers: &HeaderMap) -> Vec<Duplicate> {
    let all = fields(headers).flat_map(links).take(MAX_LINKS);
    let mut found: Vec<(u64, Duplicate)> = all
        .filter(|link| link.is("duplicate"))
        .map(|link| {
            let priority = link.value("pri").and_then(|digits| digits.parse().ok());
            let country = link.value("geo").filter(|geo| is_country(geo));
            let country = country.map(str::to_ascii_lowercase);
            (priority.unwrap_or(999_999), Duplicate { target: link.target.to_owned(), country })
        })
        .collect();
    found.sort_by_key(|(priority, _)| *priority);
    found.into_iter().map(|(_, duplicate)| duplicate).collect()
}

/// The target of the first link to a Metalink that describes the object, as sent:
/// `rel=describedby` with that document's media type (RFC 6249 section 4).
#[must_use]
pub fn description(headers: &HeaderMap) -> Option<String> {
    let mut all = fields(headers).flat_map(links).take(MAX_LINKS);
    let found = all.find(|link| {
        let kind = link.value("type").unwrap_or_default().split(';').next().unwrap_or_default();
        link.is("describedby") && kind.trim().eq_ignore_ascii_case(METALINK)
    });
    found.map(|link| link.target.to_owned())
}

fn fields(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok())
}

/// ISO 3166-1, two letters.
fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

struct Link<'a> {
    target: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Link<'_> {
    /// The first parameter with that name counts (RFC 8288 section 3.3).
    fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|it| it.1)
    }

    /// Whether this is one of its relations.
    fn is(&self, relation: &str) -> bool {
        let mut kinds = self.value("rel").unwrap_or_default().split_ascii_whitespace();
        kinds.any(|kind| kind.eq_ignore_ascii_case(relation))
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

    fn headers(fields: &[&str]) -> HeaderMap {
        let of = |field: &&str| (LINK, field.parse().unwrap());
        fields.iter().map(of).collect()
    }

    fn of(fields: &[&str]) -> Vec<String> {
        duplicates(&headers(fields)).into_iter().map(|found| found.target).collect()
    }

    #[test]
    fn a_country_has_two_letters() {
        let fields = ["<a>; rel=duplicate; geo=DE, <b>; rel=duplicate; geo=\"x y\""];
        let found = duplicates(&headers(&fields));
        let countries: Vec<_> = found.iter().map(|it| it.country.as_deref()).collect();
        assert_eq!(countries, [Some("de"), None]);
    }

    #[test]
    fn a_description_is_a_metalink_of_version_4() {
        let of = |fields: &[&str]| description(&headers(fields));
        let metalink = "<a.meta4>; rel=\"describedby\"; type=\"application/metalink4+xml\"";
        assert_eq!(of(&["<t.torrent>; rel=describedby", metalink]).as_deref(), Some("a.meta4"));
        for other in [
            "<a>; rel=describedby; type=application/x-bittorrent",
            "<a>; rel=describedby",
            "<a>; rel=duplicate; type=application/metalink4+xml",
        ] {
            assert_eq!(of(&[other]), None, "{other}");
        }
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
