//! Which renditions of a film to download.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use crate::model::{Film, Kind, Rendition, Source};

/// What to download, as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Which video.
    pub quality: Quality,
    /// A language tag or a name; `None` takes the default of the film.
    pub audio: Option<String>,
    /// A language tag or a name; `None` means no subtitles.
    pub subtitles: Option<String>,
}

/// Which video to take. Among videos of equal height, the bandwidth decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quality {
    /// The greatest height.
    #[default]
    Best,
    /// The least height.
    Worst,
    /// Exactly this height in pixels.
    Height(u32),
    /// The greatest height up to this one, in pixels.
    AtMost(u32),
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Worst => f.write_str("worst"),
            Self::Height(height) => write!(f, "{height}p"),
            Self::AtMost(height) => write!(f, "<={height}p"),
        }
    }
}

/// The error for text that is not a [`Quality`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a quality: write best, worst, a height such as 720p, or a limit such as <=1080p"
)]
pub struct NoQuality(String);

impl FromStr for Quality {
    type Err = NoQuality;

    /// Reads `best`, `worst`, `720p`, `720`, `<=1080p` or `<=1080`.
    ///
    /// # Errors
    ///
    /// [`NoQuality`] for any other text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let height = |text: &str| {
            let digits = text.strip_suffix(['p', 'P']).unwrap_or(text);
            // The parser of integers would take a sign.
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|&height| is_number && height > 0)
        };
        let quality = match text {
            "best" => Some(Self::Best),
            "worst" => Some(Self::Worst),
            _ => match text.strip_prefix("<=") {
                Some(limit) => height(limit).map(Self::AtMost),
                None => height(text).map(Self::Height),
            },
        };
        quality.ok_or_else(|| NoQuality(text.to_owned()))
    }
}

/// The renditions to download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chosen<'a> {
    /// `None` if the film has no video.
    pub video: Option<&'a Rendition>,
    /// `None` if the film has no audio, or has it within the video.
    pub audio: Option<&'a Rendition>,
    /// `None` unless they are wanted.
    pub subtitles: Option<&'a Rendition>,
}

/// The film does not have what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSuch {
    /// No video of the wanted height.
    #[error("there is no video of {wanted}, only of {offered}")]
    Video {
        /// What was wanted.
        wanted: Quality,
        /// For people: the heights that there are.
        offered: String,
    },
    /// No audio of the wanted language or name goes with the chosen video.
    #[error("there is no audio {wanted:?}, {offered}")]
    Audio {
        /// What was wanted.
        wanted: String,
        /// For people: what there is.
        offered: String,
    },
    /// No subtitles of the wanted language or name go with the chosen video.
    #[error("there are no subtitles {wanted:?}, {offered}")]
    Subtitles {
        /// What was wanted.
        wanted: String,
        /// For people: what there is.
        offered: String,
    },
    /// Neither video nor audio.
    #[error("the film has neither video nor audio")]
    Anything,
}

/// Chooses what to download of `film`.
///
/// In a film without video, the quality has no effect.
///
/// # Errors
///
/// [`NoSuch`] if the film has no video of the wanted height or nothing in the wanted language. That
/// includes any audio language if the audio is within the video, as its language is unknown.
pub fn choose<'a>(film: &'a Film, wanted: &Wanted) -> Result<Chosen<'a>, NoSuch> {
    let video = choose_video(film, wanted.quality)?;
    let goes_with = |kind: Kind, group: fn(&Rendition) -> &Option<String>| {
        film.renditions
            .iter()
            .filter(|rendition| {
                rendition.kind == kind && video.is_none_or(|video| rendition.group == *group(video))
            })
            .collect::<Vec<_>>()
    };
    let audios = goes_with(Kind::Audio, |video| &video.audio_group);
    let audio =
        match &wanted.audio {
            Some(audio) => Some(named(&audios, audio).ok_or_else(|| NoSuch::Audio {
                wanted: audio.clone(),
                offered: offered(&audios),
            })?),
            None => preferred(&audios),
        };
    let texts = goes_with(Kind::Subtitles, |video| &video.subtitles_group);
    let subtitles =
        match &wanted.subtitles {
            Some(text) => Some(named(&texts, text).ok_or_else(|| NoSuch::Subtitles {
                wanted: text.clone(),
                offered: offered(&texts),
            })?),
            None => None,
        };
    if video.is_none() && audio.is_none() && subtitles.is_none() {
        return Err(NoSuch::Anything);
    }
    let audio = audio.filter(|audio| audio.source != Source::WithinVideo);
    Ok(Chosen { video, audio, subtitles })
}

fn choose_video(film: &Film, quality: Quality) -> Result<Option<&Rendition>, NoSuch> {
    let mut videos =
        film.renditions.iter().filter(|rendition| rendition.kind == Kind::Video).peekable();
    if videos.peek().is_none() {
        return Ok(None);
    }
    // Among equals, the manifest's order expresses its preference.
    let best = |fits: &dyn Fn(u32) -> bool| {
        videos
            .clone()
            .filter(|video| height(video).is_some_and(fits))
            .min_by_key(|video| Reverse((height(video), video.bandwidth)))
    };
    let chosen = match quality {
        Quality::Best => {
            videos.clone().min_by_key(|video| Reverse((height(video), video.bandwidth)))
        }
        Quality::Worst => videos.clone().min_by_key(|video| {
            // A video of unknown height may well be the best.
            (height(video).unwrap_or(u32::MAX), video.bandwidth.unwrap_or(u64::MAX))
        }),
        Quality::Height(wanted) => best(&|height| height == wanted),
        Quality::AtMost(limit) => best(&|height| height <= limit),
    };
    if chosen.is_none() {
        let mut heights: Vec<u32> = videos.filter_map(height).collect();
        heights.sort_unstable_by_key(|&height| Reverse(height));
        heights.dedup();
        let heights: Vec<String> = heights.iter().map(|height| format!("{height}p")).collect();
        let offered = if heights.is_empty() {
            "heights that the manifest does not tell".to_owned()
        } else {
            heights.join(", ")
        };
        return Err(NoSuch::Video { wanted: quality, offered });
    }
    Ok(chosen)
}

/// Finds a language or a name: the exact tag first, then another variety of the language, then the
/// name.
fn named<'a>(among: &[&'a Rendition], wanted: &str) -> Option<&'a Rendition> {
    let same = |of: Option<&str>| of.is_some_and(|of| of.eq_ignore_ascii_case(wanted));
    let fits: [&dyn Fn(&Rendition) -> bool; 3] = [
        &|rendition| same(rendition.language.as_deref()),
        &|rendition| {
            let language = rendition.language.as_deref();
            language.is_some_and(|language| {
                primary_tag(language).eq_ignore_ascii_case(primary_tag(wanted))
            })
        },
        &|rendition| same(rendition.name.as_deref()),
    ];
    fits.iter().find_map(|fits| {
        let fitting: Vec<&Rendition> = among.iter().copied().filter(|of| fits(of)).collect();
        preferred(&fitting)
    })
}

/// The default rendition, or the first if none is the default, in its best quality: the greatest
/// bandwidth among those with the same language and name.
fn preferred<'a>(among: &[&'a Rendition]) -> Option<&'a Rendition> {
    let says = |rendition: &'a Rendition| {
        (rendition.is_default, rendition.language.as_deref(), rendition.name.as_deref())
    };
    let model = among.iter().find(|rendition| rendition.is_default).or(among.first())?;
    among
        .iter()
        .copied()
        .filter(|rendition| says(rendition) == says(model))
        .min_by_key(|rendition| Reverse(rendition.bandwidth))
}

/// The language of a tag: "en" of "en-US".
fn primary_tag(tag: &str) -> &str {
    tag.split(['-', '_']).next().unwrap_or(tag)
}

/// The end of a message about something missing.
fn offered(renditions: &[&Rendition]) -> String {
    let mut names: Vec<String> = Vec::new();
    for rendition in renditions {
        let name = match (&rendition.language, &rendition.name) {
            (Some(language), Some(name)) => format!("{language} ({name})"),
            (Some(text), None) | (None, Some(text)) => text.clone(),
            (None, None) => "one without a language".to_owned(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return "and nothing to choose from".to_owned();
    }
    format!("only {}", names.join(", "))
}

fn height(rendition: &Rendition) -> Option<u32> {
    rendition.resolution.map(|(_, height)| height)
}

/// A rendition in a list for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is for.
    pub kind: Kind,
    /// What the manifest calls it.
    pub id: String,
    /// In pixels.
    pub height: Option<u32>,
    /// In bits a second.
    pub bandwidth: Option<u64>,
    /// RFC 6381 names, separated by commas.
    pub codecs: Option<String>,
    /// RFC 5646 tag.
    pub language: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// Whether the film recommends it.
    pub is_default: bool,
}

/// Lists the renditions of a film: videos from best to worst, then audio, then subtitles, both in
/// the order of the manifest.
pub fn table(film: &Film) -> Vec<Row> {
    let mut rows: Vec<Row> = (film.renditions.iter())
        .map(|rendition| Row {
            kind: rendition.kind,
            id: rendition.id.clone(),
            height: height(rendition),
            bandwidth: rendition.bandwidth,
            codecs: rendition.codecs.clone(),
            language: rendition.language.clone(),
            name: rendition.name.clone(),
            is_default: rendition.is_default,
        })
        .collect();
    rows.sort_by_key(|row| {
        let quality = (row.kind == Kind::Video).then_some((row.height, row.bandwidth));
        (row.kind, Reverse(quality))
    });
    rows
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::model::Variables;

    fn rendition(id: &str, kind: Kind) -> Rendition {
        let playlist = Url::parse("https://a.test/p.m3u8").unwrap();
        Rendition::new(id.to_owned(), kind, Source::Playlist(playlist))
    }

    fn video(id: &str, height: u32, bandwidth: u64) -> Rendition {
        Rendition {
            resolution: Some((height * 16 / 9, height)),
            bandwidth: Some(bandwidth),
            ..rendition(id, Kind::Video)
        }
    }

    fn sound(id: &str, language: &str) -> Rendition {
        Rendition { language: Some(language.to_owned()), ..rendition(id, Kind::Audio) }
    }

    fn text(id: &str, language: &str) -> Rendition {
        Rendition { language: Some(language.to_owned()), ..rendition(id, Kind::Subtitles) }
    }

    fn film(renditions: impl IntoIterator<Item = Rendition>) -> Film {
        Film { renditions: renditions.into_iter().collect(), variables: Variables::new() }
    }

    fn wanted(quality: &str) -> Wanted {
        Wanted { quality: quality.parse().unwrap(), ..Wanted::default() }
    }

    fn audio(language: &str) -> Wanted {
        Wanted { audio: Some(language.to_owned()), ..Wanted::default() }
    }

    /// The ids of what is chosen, with "-" for nothing.
    fn ids(film: &Film, wanted: &Wanted) -> String {
        match choose(film, wanted) {
            Ok(chosen) => [chosen.video, chosen.audio, chosen.subtitles]
                .map(|chosen| chosen.map_or("-", |chosen| &chosen.id))
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_quality_is_read_as_it_is_shown() {
        for text in ["best", "worst", "720p", "<=1080p"] {
            assert_eq!(text.parse::<Quality>().unwrap().to_string(), text);
        }
        assert_eq!("720".parse(), Ok(Quality::Height(720)));
        assert_eq!("<=1080".parse(), Ok(Quality::AtMost(1080)));
    }

    #[test]
    fn what_is_no_quality_is_quoted_with_the_grammar() {
        for text in ["", "p", "0p", "+720", "-1", "<=", ">=720", "720pp", "Best!", "99999999999"] {
            let error = text.parse::<Quality>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a quality")), "{error}");
            assert!(error.contains("720p") && error.contains("<=1080p"), "{error}");
        }
    }

    #[test]
    fn the_height_decides_and_then_the_bandwidth() {
        let film = film([
            video("a", 720, 9),
            video("b", 1080, 3),
            video("c", 1080, 4),
            video("d", 360, 1),
        ]);
        assert_eq!(ids(&film, &wanted("best")), "c - -");
        assert_eq!(ids(&film, &wanted("worst")), "d - -");
        assert_eq!(ids(&film, &wanted("720p")), "a - -");
        assert_eq!(ids(&film, &wanted("<=1000")), "a - -");
        assert_eq!(ids(&film, &wanted("<=1080")), "c - -");
    }

    #[test]
    fn a_height_that_is_not_there_is_answered_with_those_that_are() {
        let film = film([video("a", 720, 9), video("b", 1080, 3), video("c", 720, 1)]);
        let error = "there is no video of 480p, only of 1080p, 720p";
        assert_eq!(ids(&film, &wanted("480p")), error);
        let error = "there is no video of <=480p, only of 1080p, 720p";
        assert_eq!(ids(&film, &wanted("<=480p")), error);
    }

    #[test]
    fn videos_of_unknown_height_are_neither_the_best_nor_the_worst() {
        let unknown = Rendition { bandwidth: Some(99), ..rendition("u", Kind::Video) };
        let both = film([unknown.clone(), video("a", 720, 9)]);
        assert_eq!(ids(&both, &wanted("best")), "a - -");
        assert_eq!(ids(&both, &wanted("worst")), "a - -");
        let alone = film([unknown]);
        assert_eq!(ids(&alone, &wanted("best")), "u - -");
        assert!(ids(&alone, &wanted("720p")).ends_with("heights that the manifest does not tell"));
    }

    #[test]
    fn of_variants_that_differ_in_their_audio_group_the_first_is_taken() {
        let of = |id: &str, group: &str| Rendition {
            audio_group: Some(group.to_owned()),
            ..video(id, 720, 9)
        };
        let within =
            |id: &str, group: &str| Rendition { group: Some(group.to_owned()), ..sound(id, "en") };
        let film = film([of("a", "aac"), of("b", "ac3"), within("s1", "ac3"), within("s2", "aac")]);
        assert_eq!(ids(&film, &Wanted::default()), "a s2 -");
    }

    #[test]
    fn sound_within_the_video_is_not_chosen_apart() {
        let grouped = Rendition { group: Some("g".to_owned()), ..sound("s", "en") };
        let plain = film([video("a", 720, 9), grouped.clone()]);
        assert_eq!(ids(&plain, &Wanted::default()), "a - -");
        let muxed = Rendition { source: Source::WithinVideo, is_default: true, ..grouped.clone() };
        let with_group = Rendition { audio_group: Some("g".to_owned()), ..video("a", 720, 9) };
        let french = Rendition { language: Some("fr".to_owned()), id: "f".to_owned(), ..grouped };
        let film = film([with_group, muxed, french]);
        assert_eq!(ids(&film, &Wanted::default()), "a - -");
        assert_eq!(ids(&film, &audio("fr")), "a f -");
    }

    #[test]
    fn without_a_wish_the_recommended_language_is_taken_in_its_best_quality() {
        let best = Rendition { bandwidth: Some(2), ..sound("fr2", "fr") };
        let film_of = |is_default: bool| {
            film([
                sound("en", "en"),
                Rendition { is_default, bandwidth: Some(1), ..sound("fr1", "fr") },
                Rendition { is_default, ..best.clone() },
            ])
        };
        assert_eq!(ids(&film_of(true), &Wanted::default()), "- fr2 -");
        assert_eq!(ids(&film_of(false), &Wanted::default()), "- en -");
    }

    #[test]
    fn a_language_is_found_by_tag_then_primary_tag_then_name() {
        let commentary = Rendition { name: Some("Commentary".to_owned()), ..sound("c", "en") };
        let film =
            film([sound("gb", "en-GB"), sound("us", "en-US"), sound("de", "de"), commentary]);
        assert_eq!(ids(&film, &audio("EN-us")), "- us -");
        assert_eq!(ids(&film, &audio("de-AT")), "- de -");
        assert_eq!(ids(&film, &audio("commentary")), "- c -");
        let error = "there is no audio \"fr\", only en-GB, en-US, de, en (Commentary)";
        assert_eq!(ids(&film, &audio("fr")), error);
        let american = super::tests::film([sound("us", "en-US")]);
        assert_eq!(ids(&american, &audio("en")), "- us -");
    }

    #[test]
    fn an_audio_language_of_muxed_videos_cannot_be_chosen() {
        let error = ids(&film([video("a", 720, 9)]), &audio("en"));
        assert_eq!(error, "there is no audio \"en\", and nothing to choose from");
    }

    #[test]
    fn subtitles_are_chosen_only_if_wanted() {
        let film = film([video("a", 720, 9), text("t", "en"), text("u", "fr")]);
        assert_eq!(ids(&film, &Wanted::default()), "a - -");
        let wanted = |text: &str| Wanted { subtitles: Some(text.to_owned()), ..Wanted::default() };
        assert_eq!(ids(&film, &wanted("FR")), "a - u");
        assert_eq!(ids(&film, &wanted("de")), "there are no subtitles \"de\", only en, fr");
    }

    #[test]
    fn a_film_without_pictures_is_its_sound_whatever_the_quality() {
        assert_eq!(ids(&film([sound("s", "en")]), &wanted("720p")), "- s -");
        assert_eq!(choose(&film([]), &Wanted::default()), Err(NoSuch::Anything));
    }

    #[test]
    fn the_table_lists_pictures_from_the_best_and_the_rest_as_it_is() {
        let film = film([
            text("t", "en"),
            sound("s2", "fr"),
            video("a", 360, 1),
            sound("s1", "en"),
            video("b", 720, 2),
        ]);
        let ids: Vec<String> = table(&film).into_iter().map(|row| row.id).collect();
        assert_eq!(ids, ["b", "a", "s2", "s1", "t"]);
        assert_eq!(table(&film)[0].height, Some(720));
    }
}
