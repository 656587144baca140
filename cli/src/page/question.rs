//! The flags of `haul page` in yt-dlp's words.

use haul_film::choice::Quality;

use super::ytdlp::Question;
use crate::args::{FilmArgs, RequestArgs};
use crate::exit::Failure;
use crate::render::escape;

impl Question {
    /// What is asked with these flags.
    ///
    /// # Errors
    /// Exit 2 for a language that is none.
    pub(super) fn new(
        film: &FilmArgs,
        request: &RequestArgs,
        no_config: bool,
    ) -> Result<Self, Failure> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|it| (*it).to_owned()));
        // A list is only listed: its films would all be looked at otherwise. A film that is not
        // there in the wanted form is told with all that is.
        add(&["--dump-single-json", "--simulate", "--no-playlist", "--flat-playlist"]);
        add(&["--ignore-no-formats-error"]);
        if no_config {
            add(&["--ignore-config"]);
        }
        let audio = film.audio.as_deref().map(|it| language("--audio", it)).transpose()?;
        if let Some(selector) = selector(film.quality, audio) {
            add(&["--format", &selector]);
        }
        let text = film.subs.as_deref().map(|it| language("--subs", it)).transpose()?;
        match text {
            Some(text) => {
                let languages = format!("{text},{text}-.*");
                add(&["--write-subs", "--write-auto-subs", "--sub-langs", &languages]);
                add(&["--sub-format", "vtt/best"]);
            }
            None if film.list => add(&["--write-subs"]),
            None => {}
        }
        if request.trust.insecure {
            add(&["--no-check-certificates"]);
        }
        if request.ways.ipv4 {
            add(&["--force-ipv4"]);
        }
        if request.ways.ipv6 {
            add(&["--force-ipv6"]);
        }
        if let Some(agent) = &request.user_agent {
            add(&["--user-agent", agent]);
        }
        // Proxies may have passwords, which the list of processes would show.
        let ways = &request.ways;
        let of_all = |given: &Option<String>| given.clone().or_else(|| ways.proxy.clone());
        let environment = [
            ("http_proxy", of_all(&ways.http_proxy)),
            ("https_proxy", of_all(&ways.https_proxy)),
            ("no_proxy", ways.no_proxy.clone()),
        ];
        let environment =
            environment.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Ok(Self { arguments, environment })
    }
}

/// A tag of a language as yt-dlp's filters take it.
fn language<'a>(flag: &str, text: &'a str) -> Result<&'a str, Failure> {
    let is_tag = |it: &str| it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !text.is_empty() && text.len() <= 35 && !text.starts_with('-') && is_tag(text) {
        return Ok(text);
    }
    Err(Failure::usage(format!("{flag}: `{}` is not the tag of a language", escape(text)))
        .hint("write en or pt-BR; of a page, no other names are taken"))
}

/// yt-dlp's expression for these wishes; `None` leaves the choice to it.
fn selector(quality: Option<Quality>, audio: Option<&str>) -> Option<String> {
    let quality = quality.unwrap_or_default();
    if quality == Quality::Best && audio.is_none() {
        return None;
    }
    let (which, height) = match quality {
        Quality::Best => ("b", String::new()),
        Quality::Worst => ("w", String::new()),
        Quality::Height(height) => ("b", format!("[height={height}]")),
        Quality::AtMost(height) => ("b", format!("[height<={height}]")),
    };
    // Pictures with the best sound, or both in one, or what has no sound.
    let Some(tag) = audio else {
        return Some(format!("{which}v*{height}+ba/{which}{height}/{which}v*{height}"));
    };
    let primary = tag.split('-').next().unwrap_or(tag);
    let filters = [
        format!("[language={tag}]"),
        format!("[language={primary}]"),
        format!("[language^={primary}-]"),
    ];
    let apart = filters.each_ref().map(|filter| format!("ba{filter}")).join("/");
    let within = filters.each_ref().map(|filter| format!("{which}{height}{filter}")).join("/");
    // A page may have sound alone.
    Some(format!("{which}v{height}+({apart})/{within}/{apart}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_put_into_yt_dlps_words() {
        let selected = |quality: &str, audio| selector(Some(quality.parse().unwrap()), audio);
        assert_eq!(selected("best", None), None);
        assert_eq!(selected("worst", None).unwrap(), "wv*+ba/w/wv*");
        assert_eq!(
            selected("720p", None).unwrap(),
            "bv*[height=720]+ba/b[height=720]/bv*[height=720]"
        );
        assert_eq!(
            selected("<=480p", Some("pt-BR")).unwrap(),
            "bv[height<=480]+(ba[language=pt-BR]/ba[language=pt]/ba[language^=pt-])/\
             b[height<=480][language=pt-BR]/b[height<=480][language=pt]/\
             b[height<=480][language^=pt-]/\
             ba[language=pt-BR]/ba[language=pt]/ba[language^=pt-]"
        );
    }

    #[test]
    fn a_language_is_no_expression() {
        for text in ["", "-en", "en]", "en/bv", "a b", "English!", &"e".repeat(36)] {
            assert_eq!(language("--audio", text).unwrap_err().exit, 2, "{text}");
        }
        assert_eq!(language("--audio", "pt-BR").unwrap(), "pt-BR");
    }
}
