//! Films: which of their renditions, and what counts as one.

use clap::Args;
use haul_film::choice::Quality;

use crate::page::YtDlp;

/// What becomes of a URL that is a playlist (HLS) or a manifest (DASH).
#[derive(Debug, Default, Args)]
pub(crate) struct FilmArgs {
    /// Film: take this quality: best, worst, 720p, <=1080p [best]
    ///
    /// A URL of a playlist (HLS) or a manifest (DASH) stands for the film that it describes: its
    /// pieces are fetched and joined into one file. Pictures and sound that come apart are put
    /// together by ffmpeg, without coding anything anew.
    #[arg(long, hide_short_help = true, value_name = "QUALITY")]
    pub(crate) quality: Option<Quality>,
    /// Film: take sound in this language, such as en
    #[arg(long, hide_short_help = true, value_name = "LANG")]
    pub(crate) audio: Option<String>,
    /// Film: take subtitles in this language, beside the film as .vtt
    #[arg(long, hide_short_help = true, value_name = "LANG")]
    pub(crate) subs: Option<String>,
    /// Film: list what there is to choose from, and fetch nothing
    #[arg(long, hide_short_help = true, conflicts_with = "as_is")]
    pub(crate) list: bool,
    /// Film: write it although pieces are missing, and say which
    ///
    /// Without this flag a film with a hole is exit 7, and no file is made.
    #[arg(long, hide_short_help = true)]
    pub(crate) allow_holes: bool,
    /// Film: begin a live film with the first piece that its playlist has [default]
    ///
    /// A film that was begun goes on with what it has, whatever is given here.
    #[arg(long, hide_short_help = true, overrides_with = "live_from_now")]
    pub(crate) live_from_start: bool,
    /// Film: begin a live film three pieces before its end, as players do
    #[arg(long, hide_short_help = true, overrides_with = "live_from_start")]
    pub(crate) live_from_now: bool,
    /// Page: run this to read pages [yt-dlp]
    ///
    /// CMD is split at spaces, and no shell reads it. Its options come along: `yt-dlp
    /// --cookies-from-browser firefox`. yt-dlp reads its own configuration, unless --no-config is
    /// given.
    #[arg(long, hide_short_help = true, value_name = "CMD")]
    pub(crate) yt_dlp: Option<YtDlp>,
    /// Fetch a playlist or manifest itself, and not the film
    #[arg(long, hide_short_help = true)]
    pub(crate) as_is: bool,
}
