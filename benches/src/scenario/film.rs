//! `film`: one film in six forms, each in many pieces, by haul and by programs for films.
//!
//! Who ends with another film than was served has not finished: its lane says what is wrong. The
//! programs in Python take a while to start. That counts, as it does for whoever types the command,
//! and a table of its own says how much it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bar::{Bar, fastest_peer, lane, peak_bar};
use super::quick::starts;
use super::{Outcome, Venue, describe_place};
use crate::Failure;
use crate::contender::{Role, quiet};
use crate::film::Ffmpeg;
use crate::film::content::Content;
use crate::film::make::{FILM, FORMS, Form, SERVED, make};
use crate::film::peers::FoundFilmPeer;
use crate::servers::shape::Shape;
use crate::servers::{Shaped, ShapedFile};
use crate::track::{Course, Entry, Lane, Patience, race};

const ONE_WAY: Duration = Duration::from_millis(40);
const BYTES_PER_S: u64 = 2_000_000;
/// As it comes, with the film synced to the disk, which no peer does.
const HAUL: &str = "-q";
const STARTS: u32 = 10;

pub(super) fn run(venue: &Venue<'_>, shuffle: &mut fastrand::Rng) -> Result<Vec<Outcome>, Failure> {
    let Some(ffmpeg) = Ffmpeg::find() else {
        eprintln!(
            "note: film needs ffmpeg with libx264, and ffprobe (apt-get install ffmpeg), to make \
             the film and to look at what came: it was skipped"
        );
        return Ok(Vec::new());
    };
    let place = venue.work.join("film");
    make(&ffmpeg, &place)?;
    let shape = Shape { one_way: ONE_WAY, ..Shape::capped(BYTES_PER_S) };
    let field = Field {
        venue,
        film: Content::of(&ffmpeg, &place.join(FILM))?,
        ffmpeg: &ffmpeg,
        server: Shaped::start(&shape, &place.join(SERVED))?,
        served: place.join(SERVED),
        starts: start_times(venue)?,
    };
    let mut outcomes = vec![field.starts_outcome()];
    for form in FORMS {
        outcomes.push(field.run(form, shuffle)?);
    }
    std::fs::remove_dir_all(place)?;
    Ok(outcomes)
}

/// What all forms have in common.
struct Field<'a> {
    venue: &'a Venue<'a>,
    ffmpeg: &'a Ffmpeg,
    film: Content,
    server: Shaped,
    served: PathBuf,
    /// What the start of haul takes, and of each of the peers in their order.
    starts: Vec<Lane>,
}

fn start_times(venue: &Venue<'_>) -> Result<Vec<Lane>, Failure> {
    let haul = (venue.haul, "haul", "--version");
    let peers = venue.film_peers.iter();
    let peers = peers.map(|it| (it.program.as_path(), it.peer.name(), it.peer.version_flag()));
    std::iter::once(haul)
        .chain(peers)
        .map(|(program, name, flag)| {
            let lane = Lane::new(&format!("{name} {flag}"), Role::Aside);
            starts(venue, lane, program, flag, STARTS)
        })
        .collect()
}

impl Field<'_> {
    fn starts_outcome(&self) -> Outcome {
        let versions: Vec<String> =
            self.venue.film_peers.iter().map(FoundFilmPeer::version).collect();
        Outcome {
            scenario: "film starts",
            size_bytes: 0,
            files: 0,
            output: String::new(),
            limit_s: None,
            lanes: self.starts.clone(),
            notes: vec![format!("peers: {}", versions.join(", "))],
            bars: Vec::new(),
        }
    }

    fn run(&self, form: Form, shuffle: &mut fastrand::Rng) -> Result<Outcome, Failure> {
        let venue = self.venue;
        let output = venue.work.join("out");
        let source = ShapedFile { server: &self.server, path: form.manifest };
        let course = Course {
            guard: venue.origin.guard(),
            scenario: form.name,
            output: output.clone(),
            keep: false,
            check: &|_, directory| self.check(directory),
            then_sync: false,
            patience: Patience::USUAL,
        };
        let entries = self.entries(&source, &output);
        let lanes = race(&course, &entries, venue.args.rounds, shuffle)?;
        let mut notes = vec![format!(
            "{}; a round trip of {} ms, {} MB/s a connection",
            form.about,
            ONE_WAY.as_millis() * 2,
            BYTES_PER_S / 1_000_000
        )];
        notes.extend(self.without_starts(&lanes));
        let mut bars: Vec<Bar> = fastest_peer(&lanes, Lane::wall)
            .map(|(peer, theirs)| {
                let what = format!("{}: wall of haul {HAUL} to that of {}", form.name, peer.name);
                let mine = lane(&lanes, &venue.haul(HAUL).name).and_then(Lane::wall);
                Bar::ratio(what, mine, Some(theirs), form.bound)
            })
            .into_iter()
            .collect();
        bars.extend(peak_bar(&lanes, form.name));
        Ok(Outcome {
            scenario: form.name,
            size_bytes: form.wanted_bytes(&self.served)?,
            files: 1,
            output: describe_place(&output),
            limit_s: None,
            lanes,
            notes,
            bars,
        })
    }

    fn entries<'a>(&'a self, source: &'a ShapedFile<'a>, output: &'a Path) -> Vec<Entry<'a>> {
        let haul = self.venue.haul(HAUL);
        // Nobody has been at this server before, so haul must not know it from the last round.
        let state = output.with_extension("state");
        let first = Entry {
            name: haul.name,
            role: haul.role,
            source,
            after: None,
            prepare: Box::new(move |url| {
                if state.exists() {
                    std::fs::remove_dir_all(&state)?;
                }
                let mut command = quiet(self.venue.haul);
                command.args(HAUL.split(' ')).arg(url).current_dir(output);
                command.env("XDG_STATE_HOME", &state);
                Ok(command)
            }),
        };
        let peers = self.venue.film_peers.iter().map(|found| Entry {
            name: found.title(),
            role: Role::Peer,
            source,
            after: None,
            prepare: Box::new(|url: &str| Ok(found.command(url, output))),
        });
        std::iter::once(first).chain(peers).collect()
    }

    /// The one file in `directory` must be the film.
    fn check(&self, directory: &Path) -> Result<(), Failure> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            files.push(entry?.path());
        }
        let [file] = &files[..] else {
            return Err(format!("wrong film: {} files instead of one", files.len()).into());
        };
        let found = Content::of(self.ffmpeg, file).map_err(|error| format!("wrong film: {error}"));
        self.film.same(&found?)
    }

    /// How haul and the fastest peer compare when neither had to start.
    fn without_starts(&self, lanes: &[Lane]) -> Option<String> {
        let (peer, theirs) = fastest_peer(lanes, Lane::wall)?;
        let place = lanes.iter().position(|lane| lane.name == peer.name)?;
        let least = |lane: &Lane| Some(lane.wall()?.min);
        let (mine, my_start) = (least(lanes.first()?)?, least(self.starts.first()?)?);
        let their_start = least(self.starts.get(place)?)?;
        let ratio = (mine - my_start) / (theirs.min - their_start);
        Some(format!(
            "without the time of a start ({my_start:.3} s and {their_start:.3} s), haul {HAUL} took \
             {ratio:.2} of the time of {}",
            peer.name
        ))
    }
}
