//! What an `hf://` address names.

use crate::exit::Failure;
use crate::render::escape;

/// How the address begins.
const SCHEME: &str = "hf://";

/// The most characters that the hub allows in a name.
const MAX_NAME_CHARS: usize = 96;

/// What sort of repository it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    Dataset,
    Space,
}

impl Kind {
    /// The name that the hub's API and its cache have for several.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }
}

/// A repository of the hub, or some of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) kind: Kind,
    /// `ORG/REPO`, or `REPO` alone for some old ones.
    pub(super) repo: String,
    /// A branch, a tag or a commit.
    pub(super) revision: Option<String>,
    /// A file, a directory, or a pattern of files; empty for everything.
    pub(super) path: String,
}

impl Place {
    /// Whether a text is such an address.
    pub(crate) fn is(text: &str) -> bool {
        text.get(..SCHEME.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(SCHEME))
    }

    /// What the address names: `hf://[datasets/|spaces/|models/]ORG/REPO[@REVISION][/PATH]`, with
    /// `%2F` for `/` in a revision.
    ///
    /// # Errors
    /// Exit 2 for one that names nothing.
    pub(crate) fn of(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Err(Failure::usage(format!("not an address of the hub: `{}`: {why}", escape(text)))
                .hint(
                    "write hf://ORG/REPO, hf://ORG/REPO/PATH, hf://datasets/ORG/REPO or \
                 hf://ORG/REPO@REVISION",
                ))
        };
        let rest = text.get(SCHEME.len()..).unwrap_or_default();
        if rest.chars().any(char::is_control) {
            return refuse("it has a control character in it");
        }
        let (kind, rest) = match rest.split_once('/') {
            Some(("models", rest)) => (Kind::Model, rest),
            Some(("datasets", rest)) => (Kind::Dataset, rest),
            Some(("spaces", rest)) => (Kind::Space, rest),
            Some((other @ ("buckets" | "kernels" | "model" | "dataset" | "space"), _)) => {
                return refuse(&format!("`{other}` is none of models, datasets and spaces"));
            }
            _ => (Kind::Model, rest),
        };
        let of_name = |text: &str| text.matches('/').count() <= 1;
        let (repo, revision, path) = match rest.split_once('@').filter(|(repo, _)| of_name(repo)) {
            Some((repo, after)) => {
                let (revision, path) = revision(after);
                (repo, Some(revision.replace("%2F", "/").replace("%2f", "/")), path)
            }
            None => {
                let end = rest.match_indices('/').nth(1).map_or(rest.len(), |(at, _)| at);
                (&rest[..end], None, &rest[end..])
            }
        };
        let repo = if path.is_empty() { repo.trim_end_matches('/') } else { repo };
        if !repo.split('/').all(is_name) {
            return refuse("it names no repository");
        }
        if revision.as_deref().is_some_and(|it| it.is_empty() || !it.split('/').all(is_ordinary)) {
            return refuse("it has an `@` and no revision after it");
        }
        let path = path.trim_matches('/');
        if !path.is_empty() && !path.split('/').all(is_ordinary) {
            return refuse("its path leads elsewhere");
        }
        Ok(Self { kind, repo: repo.to_owned(), revision, path: path.to_owned() })
    }

    /// The directory that has everything that is named, as far as the path says, and whether the
    /// path is a pattern.
    pub(super) fn directory(&self) -> (&str, bool) {
        match self.path.find(['*', '?', '[']) {
            None => (&self.path, false),
            Some(at) => (self.path[..at].rsplit_once('/').map_or("", |(dir, _)| dir), true),
        }
    }

    /// The address, for messages.
    pub(super) fn shown(&self) -> String {
        escape(&self.address(self.revision.as_deref(), &self.path))
    }

    /// What distinguishes a file from all others of the hub.
    pub(super) fn identity(&self, commit: &str, path: &str) -> String {
        self.address(Some(commit), path)
    }

    fn address(&self, revision: Option<&str>, path: &str) -> String {
        let kind = match self.kind {
            Kind::Model => String::new(),
            other => format!("{}/", other.plural()),
        };
        let revision =
            revision.map_or_else(String::new, |it| format!("@{}", it.replace('/', "%2F")));
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        format!("{SCHEME}{kind}{}{revision}{path}", self.repo)
    }
}

/// A revision and the path after it. Those of pull requests have slashes in their names.
fn revision(after: &str) -> (&str, &str) {
    let ends = |slashes: usize| after.match_indices('/').nth(slashes).map(|(at, _)| at);
    let is_reference = after.starts_with("refs/pr/") || after.starts_with("refs/convert/");
    let end = ends(if is_reference { 2 } else { 0 }).unwrap_or(after.len());
    after.split_at(end)
}

fn is_name(name: &str) -> bool {
    is_ordinary(name)
        && name.len() <= MAX_NAME_CHARS
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Whether a component of a path stays where it is.
pub(super) fn is_ordinary(component: &str) -> bool {
    !matches!(component, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> (Kind, String, Option<String>, String) {
        let Place { kind, repo, revision, path } = Place::of(text).unwrap();
        (kind, repo, revision, path)
    }

    #[test]
    fn addresses_name_what_the_hub_has() {
        let some = |text: &str| Some(text.to_owned());
        for (text, kind, repo, revision, path) in [
            ("hf://org/repo", Kind::Model, "org/repo", None, ""),
            ("HF://org/repo/", Kind::Model, "org/repo", None, ""),
            ("hf://gpt2", Kind::Model, "gpt2", None, ""),
            ("hf://models/org/repo/a b/c.bin", Kind::Model, "org/repo", None, "a b/c.bin"),
            ("hf://datasets/o/r@v1.0/x@y/z", Kind::Dataset, "o/r", some("v1.0"), "x@y/z"),
            ("hf://spaces/o/r@main", Kind::Space, "o/r", some("main"), ""),
            ("hf://o/r@refs/pr/3/x", Kind::Model, "o/r", some("refs/pr/3"), "x"),
            ("hf://o/r@refs%2Fpr%2F3/x", Kind::Model, "o/r", some("refs/pr/3"), "x"),
            ("hf://o/r@a%2Fb", Kind::Model, "o/r", some("a/b"), ""),
            ("hf://o/r/mail@home", Kind::Model, "o/r", None, "mail@home"),
        ] {
            assert_eq!(place(text), (kind, repo.to_owned(), revision, path.to_owned()), "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "hf://",
            "hf:///",
            "hf://datasets/",
            "hf://o/r@",
            "hf://o/r@/x",
            "hf://o//x",
            "hf://../r",
            "hf://o/r/../x",
            "hf://o/r/a//b",
            "hf://o/r@a/../b",
            "hf://o p/r",
            "hf://o/r/a\nb",
            "hf://dataset/o/r",
        ] {
            let failure = Place::of(text).unwrap_err();
            assert_eq!(failure.exit, crate::exit::USAGE, "{text}");
        }
    }

    #[test]
    fn a_pattern_is_looked_for_below_its_directory() {
        for (path, directory) in [
            ("", ("", false)),
            ("a/b", ("a/b", false)),
            ("*.bin", ("", true)),
            ("a/b*/c", ("a", true)),
            ("a/b/?", ("a/b", true)),
        ] {
            let place = Place::of(&format!("hf://o/r/{path}")).unwrap();
            assert_eq!(place.directory(), directory, "{path}");
        }
    }
}
