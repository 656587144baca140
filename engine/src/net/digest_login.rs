//! Logins by Digest (RFC 7616), where a server asks for them.
//!
//! A request carries its login in Basic form, and with it the decision that this
//! origin may have it. What a server of the origin asks for decides only in which
//! form it is sent: once Digest is in use, nothing is sent there in the clear.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::connect::Origin;
use crate::lock::Lock;
use crate::model::config::hex;

/// How many origins' challenges are remembered.
const MAX_ORIGINS: usize = 1024;

/// How often one request is sent again with another login.
const MAX_ANSWERS: u32 = 3;

/// What servers have asked for.
#[derive(Debug, Default)]
pub(super) struct DigestLogins(Lock<HashMap<Origin, Challenge>>);

/// The login of one request, and what became of it so far.
#[derive(Debug)]
pub(super) struct Login {
    name: Vec<u8>,
    password: Vec<u8>,
    basic: HeaderValue,
    /// The challenge that was answered last, and whether this request received it:
    /// an older one may have expired.
    answered: Option<(String, bool)>,
    answers: u32,
}

impl Login {
    /// The login that a request carries; only the Basic form counts.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let basic = headers.get(AUTHORIZATION)?;
        let encoded = basic.to_str().ok()?.strip_prefix("Basic ")?;
        let decoded = STANDARD.decode(encoded).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(Self {
            name: decoded[..colon].to_vec(),
            password: decoded[colon + 1..].to_vec(),
            basic: basic.clone(),
            answered: None,
            answers: 0,
        })
    }
}

impl DigestLogins {
    /// The login in the form that the origin is known to want.
    pub(super) fn known(&self, origin: &Origin, login: &mut Login, target: &str) -> HeaderValue {
        let mut challenges = self.0.lock();
        match challenges.get_mut(origin) {
            None => login.basic.clone(),
            Some(challenge) => {
                login.answered = Some((challenge.nonce.clone(), false));
                challenge.answer(login, target)
            }
        }
    }

    /// The login to resend a request with after a 401 with these fields; `None`
    /// when that refusal is the final answer.
    pub(super) fn after_refusal(
        &self,
        origin: &Origin,
        login: &mut Login,
        target: &str,
        headers: &HeaderMap,
    ) -> Option<HeaderValue> {
        login.answers += 1;
        if login.answers > MAX_ANSWERS {
            return None;
        }
        let mut challenges = self.0.lock();
        let Some(challenge) = Challenge::of(headers) else {
            // It does not ask for Digest here, or no longer does.
            challenges.remove(origin);
            let basic = schemes(headers, &WWW_AUTHENTICATE)
                .iter()
                .any(|it| it.eq_ignore_ascii_case("basic"));
            return login.answered.take().filter(|_| basic).map(|_| login.basic.clone());
        };
        if let Some((nonce, own)) = &login.answered
            && !challenge.stale
            && (*own || *nonce == challenge.nonce)
        {
            return None;
        }
        if challenges.len() >= MAX_ORIGINS {
            challenges.clear();
        }
        login.answered = Some((challenge.nonce.clone(), true));
        // Others may be answering the same challenge, so its count goes on.
        let kept = challenges.entry(origin.clone()).or_insert_with(|| challenge.clone());
        if kept.nonce != challenge.nonce {
            *kept = challenge;
        }
        Some(kept.answer(login, target))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Md5,
    Sha256,
}

impl Hash {
    fn hex(self, parts: &[&[u8]]) -> String {
        let text = parts.join(&b':');
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

/// What a server asks for by Digest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Challenge {
    hash: Hash,
    /// The session's key is hashed with nonces of both sides.
    session: bool,
    /// As the server named it, if it did.
    algorithm: Option<String>,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// `qop=auth`; without it the answer is that of RFC 2069.
    auth: bool,
    userhash: bool,
    stale: bool,
    /// How many requests answered it.
    count: u32,
}

impl Challenge {
    /// The strongest challenge that can be answered.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let fields = headers.get_all(WWW_AUTHENTICATE).iter();
        let offered =
            fields.flat_map(|field| challenges(&String::from_utf8_lossy(field.as_bytes())));
        offered.filter_map(|(scheme, parameters)| Self::from(&scheme, &parameters)).fold(
            None,
            |best: Option<Self>, next| match best {
                Some(best) if best.hash >= next.hash => Some(best),
                _ => Some(next),
            },
        )
    }

    fn from(scheme: &str, parameters: &[(String, String)]) -> Option<Self> {
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let get = |name: &str| {
            let found = parameters.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let is_true =
            |name: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let algorithm = get("algorithm");
        let (hash, session) = match algorithm.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("md5") => (Hash::Md5, false),
            Some("md5-sess") => (Hash::Md5, true),
            Some("sha-256") => (Hash::Sha256, false),
            Some("sha-256-sess") => (Hash::Sha256, true),
            Some(_) => return None,
        };
        let qop = get("qop");
        let auth = match &qop {
            None => false,
            Some(qop) if qop.split(',').any(|it| it.trim().eq_ignore_ascii_case("auth")) => true,
            // Nobody asks for `auth-int` alone.
            Some(_) => return None,
        };
        let text =
            |value: String| value.bytes().all(|byte| !byte.is_ascii_control()).then_some(value);
        Some(Self {
            hash,
            session,
            algorithm: algorithm.and_then(text),
            realm: get("realm").and_then(text)?,
            nonce: get("nonce").and_then(text)?,
            opaque: get("opaque").and_then(text),
            auth,
            userhash: is_true("userhash"),
            stale: is_true("stale"),
            count: 0,
        })
    }

    /// The answer for one request, a GET.
    fn answer(&mut self, login: &Login, target: &str) -> HeaderValue {
        self.count = self.count.wrapping_add(1);
        let cnonce = format!("{:032x}", fastrand::u128(..));
        self.answer_with(login, target, &cnonce)
    }

    fn answer_with(&self, login: &Login, target: &str, cnonce: &str) -> HeaderValue {
        let hash = |parts: &[&[u8]]| self.hash.hex(parts);
        let (realm, nonce) = (self.realm.as_bytes(), self.nonce.as_bytes());
        let count = format!("{:08x}", self.count);
        let mut secret = hash(&[&login.name, realm, &login.password]);
        if self.session {
            secret = hash(&[secret.as_bytes(), nonce, cnonce.as_bytes()]);
        }
        let asked = hash(&[b"GET", target.as_bytes()]);
        let response = if self.auth {
            let count = count.as_bytes();
            hash(&[secret.as_bytes(), nonce, count, cnonce.as_bytes(), b"auth", asked.as_bytes()])
        } else {
            hash(&[secret.as_bytes(), nonce, asked.as_bytes()])
        };
        let mut text = b"Digest username=".to_vec();
        if self.userhash {
            quote(&mut text, hash(&[&login.name, realm]).as_bytes());
        } else {
            quote(&mut text, &login.name);
        }
        for (name, value) in [
            ("realm", &*self.realm),
            ("nonce", &*self.nonce),
            ("uri", target),
            ("response", &*response),
        ] {
            text.extend(format!(", {name}=").bytes());
            quote(&mut text, value.as_bytes());
        }
        if let Some(algorithm) = &self.algorithm {
            text.extend(format!(", algorithm={algorithm}").bytes());
        }
        if self.auth {
            text.extend(format!(", qop=auth, nc={count}").bytes());
        }
        if self.auth || self.session {
            text.extend(format!(", cnonce=\"{cnonce}\"").bytes());
        }
        if let Some(opaque) = &self.opaque {
            text.extend(b", opaque=");
            quote(&mut text, opaque.as_bytes());
        }
        if self.userhash {
            text.extend(b", userhash=true");
        }
        // The text has no control character: a name with one would not fit into a
        // Basic field either, and is left to the server to refuse.
        let mut value =
            HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("Digest"));
        value.set_sensitive(true);
        value
    }
}

fn quote(text: &mut Vec<u8>, value: &[u8]) {
    text.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text.push(b'"');
}

/// The challenges of a `WWW-Authenticate` field (RFC 9110 section 11.6.1): commas
/// separate both the challenges and their parameters.
fn challenges(field: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let is_separator = |c: char| c == ',' || c.is_ascii_whitespace();
    let mut rest = field.trim_start_matches(is_separator);
    while !rest.is_empty() {
        let end = rest.find(|c| is_separator(c) || c == '=').unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let value = behind.trim_start().strip_prefix('=').map(str::trim_start);
        let Some(value) = value else {
            found.push((word.to_owned(), Vec::new()));
            rest = behind.trim_start_matches(is_separator);
            continue;
        };
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = value.find(is_separator).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        if let Some((_, parameters)) = found.last_mut() {
            parameters.push((word.to_owned(), value));
        }
        rest = behind.trim_start_matches(is_separator);
    }
    found
}

/// The quoted string that `text` begins with, its first quote removed, and what follows it.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// The login schemes that a refusal offers in this field.
pub(crate) fn schemes(headers: &HeaderMap, field: &HeaderName) -> Vec<String> {
    let fields = headers.get_all(field).iter();
    let offered = fields.flat_map(|field| challenges(&String::from_utf8_lossy(field.as_bytes())));
    // A bare word, with what follows it, may be an NTLM token, say.
    let named = offered.map(|(scheme, _)| scheme).filter(|scheme| {
        scheme.len() <= 20 && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
    });
    named.take(4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(name: &str, password: &str) -> Login {
        let mut headers = HeaderMap::new();
        let basic = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&basic).unwrap());
        Login::of(&headers).unwrap()
    }

    fn asked(fields: &[&str]) -> HeaderMap {
        let value = |field: &&str| HeaderValue::from_str(field).unwrap();
        fields.iter().map(|field| (WWW_AUTHENTICATE, value(field))).collect()
    }

    fn origin() -> Origin {
        Origin { https: false, host: "h".to_owned(), port: 80 }
    }

    /// RFC 7616 section 3.9.1.
    const OFFERED: &str = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
        algorithm=SHA-256, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
        opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    #[test]
    fn the_answers_are_those_of_the_standard() {
        let login = login("Mufasa", "Circle of Life");
        for (field, response) in [
            (
                OFFERED.to_owned(),
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
            (OFFERED.replace("SHA-256", "MD5"), "8ca523f5e9506fed4657c9700eebdbec"),
        ] {
            let mut challenge = Challenge::of(&asked(&[&field])).unwrap();
            challenge.count = 1;
            let answer = challenge.answer_with(&login, "/dir/index.html", CNONCE);
            let answer = answer.to_str().unwrap();
            assert!(answer.contains(&format!("response=\"{response}\"")), "{answer}");
            assert!(answer.contains(", qop=auth, nc=00000001, ") && !answer.contains("Circle"));
        }
    }

    #[test]
    fn the_strongest_of_several_is_taken() {
        let basic = "Basic realm=\"a, Digest b\"";
        let md5 = "Digest realm=x, nonce = \"1\\\"2\", algorithm=MD5";
        let sha = "Digest realm=\"x\",nonce=\"3\",algorithm=SHA-256,qop=auth";
        let new = "Digest realm=x, nonce=4, algorithm=SHA-512-256";
        let one = Challenge::of(&asked(&[basic, md5])).unwrap();
        assert_eq!((one.hash, &*one.nonce, one.auth), (Hash::Md5, "1\"2", false));
        for fields in [&[md5, sha][..], &[&format!("{basic}, {sha}, {md5}, {new}")]] {
            assert_eq!(Challenge::of(&asked(fields)).unwrap().hash, Hash::Sha256);
        }
        for field in [basic, new, "Negotiate", "NTLM TlRMTVNTUAA=", "Digest realm=x", ""] {
            assert_eq!(Challenge::of(&asked(&[field])), None, "{field}");
        }
        let several = asked(&["Negotiate", "NTLM", basic]);
        assert_eq!(schemes(&several, &WWW_AUTHENTICATE), ["Negotiate", "NTLM", "Basic"]);
    }

    #[test]
    fn each_request_counts_and_a_wrong_password_ends() {
        let logins = DigestLogins::default();
        let field = |nonce: &str, more: &str| {
            asked(&[&format!("Digest realm=x, qop=auth, nonce={nonce}{more}")])
        };
        let mut first = login("a", "b");
        assert_eq!(logins.known(&origin(), &mut first, "/"), first.basic);
        let again = |login: &mut Login, headers: &HeaderMap| {
            let value = logins.after_refusal(&origin(), login, "/", headers)?;
            Some(value.to_str().unwrap().to_owned())
        };
        assert!(again(&mut first, &field("n", "")).unwrap().contains("nc=00000001"));
        // The challenge was its own: the password is wrong, whatever comes with the refusal.
        assert_eq!(again(&mut first, &field("n", "")), None);
        assert_eq!(again(&mut first, &field("m", "")), None);
        let mut second = login("a", "b");
        let value = logins.known(&origin(), &mut second, "/");
        assert!(value.to_str().unwrap().contains("nc=00000002"));
        // An old challenge may have expired without a word.
        assert!(again(&mut second, &field("m", "")).unwrap().contains("nonce=\"m\""));
        assert!(again(&mut second, &field("o", ", stale=true")).unwrap().contains("nonce=\"o\""));
        assert!(again(&mut second, &field("p", ", stale=TRUE")).is_some());
        assert_eq!(again(&mut second, &field("q", ", stale=true")), None);
        // Basic is sent where it is asked for instead, once.
        let mut third = login("a", "b");
        logins.known(&origin(), &mut third, "/");
        let basic = third.basic.to_str().unwrap().to_owned();
        assert_eq!(again(&mut third, &asked(&["Basic realm=x"])), Some(basic));
        assert_eq!(again(&mut third, &asked(&["Basic realm=x"])), None);
        assert!(Login::of(&HeaderMap::new()).is_none());
    }
}
