//! A film as a playlist of its pieces (RFC 8216), for what makes no single stream.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use super::{Form, Stage, Staged, StagedReel};
use crate::container::Container;
use crate::model::{Kind, Role};

/// The type of a playlist.
pub(super) const TYPE: &str = "application/vnd.apple.mpegurl";

/// The playlist of all tracks is any name with this extension that is none of a track.
const EXTENSION: &str = ".m3u8";

/// See [`super::Viewer::file`].
pub(super) async fn file(stage: &Stage, name: &str) -> io::Result<(&'static str, Vec<u8>)> {
    let none = || io::Error::from(io::ErrorKind::NotFound);
    let found = stage.until(|state| Some((Arc::clone(state.film.as_ref()?), state.form?))).await;
    let Some((film, Form::Playlist(container))) = found else { return Err(none()) };
    if let Some(stem) = name.strip_suffix(EXTENSION) {
        let text = match stem.strip_prefix("track-").and_then(|it| it.parse().ok()) {
            Some(track) => of_track(&film, track, container).ok_or_else(none)?,
            None => of_all(&film),
        };
        return Ok((TYPE, text.into_bytes()));
    }
    let place = name.split_once('.').and_then(|(stem, _)| stem.split_once('-'));
    let place = place.and_then(|(reel, at)| Some((reel.parse().ok()?, at.parse().ok()?)));
    let place: (usize, usize) = place.ok_or_else(none)?;
    let reel = film.reels.get(place.0).ok_or_else(none)?;
    reel.pieces.get(place.1).ok_or_else(none)?;
    let bytes = stage.piece(&film, place).await?;
    let is_sound = reel.kind == Kind::Audio;
    let kind = Container::of_beginning(&bytes).map_or(TYPE, |it| it.content_type(is_sound));
    Ok((kind, bytes))
}

fn tracks(film: &Staged) -> Vec<(usize, &StagedReel)> {
    let mut tracks: Vec<(usize, &StagedReel)> = Vec::new();
    for reel in &film.reels {
        if tracks.iter().all(|(track, _)| *track != reel.track) {
            tracks.push((reel.track, reel));
        }
    }
    tracks
}

/// The playlist that names those of the tracks. Pictures come with the first sound.
fn of_all(film: &Staged) -> String {
    let tracks = tracks(film);
    let pictures = tracks.iter().find(|(_, reel)| reel.kind == Kind::Video);
    let (main, _) = *pictures.or(tracks.first()).unwrap_or(&(0, &film.reels[0]));
    let mut text = "#EXTM3U\n".to_owned();
    let mut sound = "";
    for (track, reel) in tracks.iter().filter(|(track, _)| *track != main) {
        // A language is a tag of letters, digits and dashes, or it is left out.
        let language = reel
            .language
            .as_deref()
            .filter(|it| it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        let language = language.map(|it| format!(",LANGUAGE=\"{it}\"")).unwrap_or_default();
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound\",NAME=\"sound {track}\",DEFAULT=YES,\
             AUTOSELECT=YES{language},URI=\"track-{track}{EXTENSION}\""
        );
        sound = ",AUDIO=\"sound\"";
    }
    let _ = writeln!(text, "#EXT-X-STREAM-INF:BANDWIDTH=1000000{sound}\ntrack-{main}{EXTENSION}");
    text
}

fn of_track(film: &Staged, track: usize, container: Container) -> Option<String> {
    let reels = || film.reels.iter().enumerate().filter(|(_, reel)| reel.track == track);
    let lasts = reels().flat_map(|(_, reel)| &reel.pieces).map(|it| it.1).max()?;
    let longest = lasts.as_secs() + u64::from(lasts.subsec_nanos() > 0);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{longest}\n#EXT-X-PLAYLIST-TYPE:VOD\n"
    );
    let extension = container.extension();
    for (number, (index, reel)) in reels().enumerate() {
        if number > 0 {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        for (at, (role, lasts)) in reel.pieces.iter().enumerate() {
            let name = format!("{index}-{at}.{extension}");
            let _ = match role {
                Role::Init => writeln!(text, "#EXT-X-MAP:URI=\"{name}\""),
                Role::Media => writeln!(text, "#EXTINF:{:.3},\n{name}", lasts.as_secs_f64()),
            };
        }
    }
    text.push_str("#EXT-X-ENDLIST\n");
    Some(text)
}
