//! The honest answer: what a static file server like nginx would say. Scripts
//! start from it and change what they want to be wrong.

use super::date;
use super::request::Request;
use super::response::Response;
use crate::object::Object;

/// Answers a request for `object`: one byte range, the preconditions of RFC
/// 9110 section 13 in their order, 304, 412, 416.
#[must_use]
pub fn standard(object: &Object, request: &Request) -> Response {
    if request.method != "GET" && request.method != "HEAD" {
        return Response::empty(405);
    }
    if let Some(status) = failed_precondition(object, request) {
        return Response::empty(status);
    }
    let size = object.size_bytes();
    let response = match request.range().filter(|_| if_range_holds(object, request)) {
        None => Response::full(object),
        Some(asked) => match asked.within(size) {
            None => Response::unsatisfiable(size),
            Some(range) => Response::partial(object, range),
        },
    };
    if request.method == "HEAD" { response.no_body() } else { response }
}

fn failed_precondition(object: &Object, request: &Request) -> Option<u16> {
    if let Some(tags) = request.header("If-Match") {
        let matches = tags.trim() == "*" || strong(object).is_some_and(|own| listed(tags, own));
        if !matches {
            return Some(412);
        }
    } else if let Some(since) = request.header("If-Unmodified-Since").and_then(date::parse)
        && object.last_modified_unix().is_some_and(|modified| modified > since)
    {
        return Some(412);
    }
    if let Some(tags) = request.header("If-None-Match") {
        let own = object.etag().map(|tag| tag.trim_start_matches("W/"));
        if tags.trim() == "*" || own.is_some_and(|own| listed(&tags.replace("W/", ""), own)) {
            return Some(304);
        }
    } else if let Some(since) = request.header("If-Modified-Since").and_then(date::parse)
        && object.last_modified_unix().is_some_and(|modified| modified <= since)
    {
        return Some(304);
    }
    None
}

/// Whether a Range counts: without If-Range, or when that names this version.
fn if_range_holds(object: &Object, request: &Request) -> bool {
    request.header("If-Range").is_none_or(|wanted| {
        strong(object) == Some(wanted)
            || (object.last_modified_unix().is_some()
                && date::parse(wanted) == object.last_modified_unix())
    })
}

fn strong(object: &Object) -> Option<&str> {
    object.etag().filter(|tag| !tag.starts_with("W/"))
}

fn listed(tags: &str, own: &str) -> bool {
    tags.split(',').any(|tag| tag.trim() == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(object: &Object, method: &str, headers: &str) -> u16 {
        let head = format!("{method} /x HTTP/1.1\r\n{headers}");
        standard(object, &Request::parse(head.as_bytes()).unwrap()).status
    }

    #[test]
    fn ranges_and_preconditions() {
        let object = Object::new(1, 1000).with_etag(Some("\"a\"")).with_last_modified(Some(1_000));
        let weak = object.clone().with_etag(Some("W/\"a\""));
        let old = date::format(999);
        let same = date::format(1_000);
        for (expected, object, headers) in [
            (200, &object, String::new()),
            (206, &object, "Range: bytes=0-9".to_owned()),
            (416, &object, "Range: bytes=1000-".to_owned()),
            (206, &object, "Range: bytes=0-9\r\nIf-Match: \"a\"".to_owned()),
            (412, &object, "Range: bytes=0-9\r\nIf-Match: \"b\"".to_owned()),
            (412, &weak, "Range: bytes=0-9\r\nIf-Match: W/\"a\"".to_owned()),
            (206, &object, format!("Range: bytes=0-9\r\nIf-Unmodified-Since: {same}")),
            (412, &object, format!("Range: bytes=0-9\r\nIf-Unmodified-Since: {old}")),
            (206, &object, "Range: bytes=0-9\r\nIf-Range: \"a\"".to_owned()),
            (200, &object, "Range: bytes=0-9\r\nIf-Range: \"b\"".to_owned()),
            (200, &weak, "Range: bytes=0-9\r\nIf-Range: W/\"a\"".to_owned()),
            (206, &object, format!("Range: bytes=0-9\r\nIf-Range: {same}")),
            (304, &weak, "If-None-Match: \"a\"".to_owned()),
            (304, &object, format!("If-Modified-Since: {same}")),
            (200, &object, format!("If-Modified-Since: {old}")),
        ] {
            assert_eq!(status(object, "GET", &headers), expected, "{headers}");
        }
        assert_eq!(status(&object, "POST", ""), 405);
    }

    #[test]
    fn empty_object_satisfies_no_range() {
        let object = Object::new(1, 0);
        assert_eq!(status(&object, "GET", "Range: bytes=0-"), 416);
        assert_eq!(status(&object, "GET", ""), 200);
    }
}
