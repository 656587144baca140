//! `haul page`: the film of a web page, which yt-dlp finds and haul downloads.
//!
//! `question` says what yt-dlp is asked, `ytdlp` runs it, `info` reads what it prints, and this module
//! makes of that what the rest of haul downloads anyway: one object, or a film of several tracks. When
//! links expire, yt-dlp is asked again. What a site is like is known to yt-dlp alone.

mod info;
mod question;
mod ytdlp;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use haul_engine::{DownloadBuilder, Error, Progress, Refresh, Refreshing, redact_url};
use haul_film::choice::{NoSuch, Wanted, choose, table};
use haul_film::model::Film;
use haul_film::{Finder, Finding, Requests};
use url::Url;

use self::info::{Answer, Format, Found, Several};
pub(crate) use self::ytdlp::YtDlp;
use self::ytdlp::{Question, Said};
use crate::address::are_of_one_origin;
use crate::args::DownloadArgs;
use crate::drive::{Curfew, Outcome};
use crate::exit::{self, Failure};
use crate::film::{self, FilmRequests, FoundFilm};
use crate::input::Item;
use crate::plan::GetPlan;
use crate::render::{View, Voice, escape, seconds, to_stdout};
use crate::request::{Request, is_told_to_pieces};
use crate::units::plural;

/// How often a page is asked about again for the links of one film.
const MAX_REFRESHES: u32 = 10;
/// Lines of yt-dlp that are passed on where details are wanted.
const TOLD_WARNINGS: usize = 20;

/// How the URLs of a run are pages.
#[derive(Debug, Clone)]
pub(crate) struct PagePlan {
    ytdlp: YtDlp,
    question: Question,
    wanted: Wanted,
    list: bool,
}

impl PagePlan {
    /// What these flags mean for pages.
    ///
    /// # Errors
    /// Exit 2 for flags that mean nothing for a page.
    pub(crate) fn of(args: &DownloadArgs) -> Result<Self, Failure> {
        let film = &args.film;
        if film.as_is {
            let text = "--as-is is for the page itself, and `haul page` takes the film of it";
            return Err(Failure::usage(text).hint("haul URL downloads the page itself"));
        }
        Ok(Self {
            ytdlp: film.yt_dlp.clone().unwrap_or_default(),
            question: Question::new(film, &args.request, args.talk.no_config)?,
            wanted: Wanted {
                quality: film.quality.unwrap_or_default(),
                audio: film.audio.clone(),
                subtitles: film.subs.clone(),
            },
            list: film.list,
        })
    }
}

/// What is downloaded in a page's place.
pub(crate) enum Leads {
    /// One object, and what finds fresh links for it.
    Object(Box<Item>, Lookout),
    /// A film of several tracks, or of pieces.
    Film(Box<Item>, FoundFilm),
}

/// Finds what a page leads to, or tells how the download has ended instead: listed, failed,
/// interrupted.
pub(crate) async fn find(
    plan: &GetPlan,
    page: &PagePlan,
    requests: FilmRequests,
    item: &Item,
    (id, view): (usize, &dyn View),
    curfew: &mut Curfew,
) -> Result<Leads, Outcome> {
    let started = Instant::now();
    let address = &item.urls[0];
    let url = Url::parse(address).map_err(|it| failed(Failure::usage(it.to_string())))?;
    let tells = matches!(
        plan.voice,
        Voice::Bar { verbose: true } | Voice::Plain { verbose: true, .. } | Voice::Json
    );
    let asking = ask(page, address, |line| {
        if tells {
            view.note(id, "yt-dlp", line);
        }
    });
    tokio::pin!(asking);
    let mut tick = tokio::time::interval(view.interval());
    let answer = loop {
        tokio::select! {
            biased;
            early = curfew.reached() => return Err(curfew.outcome(&early, None, id, view)),
            answer = &mut asking => break answer.map_err(failed)?,
            _ = tick.tick() => view.connecting(id, &Progress::default()),
        }
    };
    let found = match answer {
        Answer::Film(found) => *found,
        Answer::Several(several) if page.list => {
            to_stdout(&listed(&several, plan.voice, id, started));
            return Err(Outcome::Planned);
        }
        Answer::Several(several) => return Err(failed(refused(&several, address))),
        Answer::Elsewhere(_) => return Err(failed(nothing(address))),
    };
    if page.list {
        film::list(&table(&found.everything()), plan.voice, id, started.elapsed());
        return Err(Outcome::Planned);
    }
    let found = chosen(page, found, address).map_err(failed)?;
    let mut item = Item { urls: vec![address.clone()], ..item.clone() };
    if item.out.is_none() && !plan.names_one_file() {
        item.out = Some(found.name.clone());
    }
    let ids = found.wanted().renditions.into_iter().map(|it| it.id).collect();
    let lookout = Lookout(Arc::new(State {
        url,
        page: page.clone(),
        request: requests.request.clone(),
        ids,
        now: Mutex::default(),
        asked: tokio::sync::Mutex::new(0),
    }));
    lookout.0.take(&found);
    let formats: Vec<&Format> = found.chosen().collect();
    if let [Format { is_object: true, url: Some(url), headers, .. }] = formats[..]
        && found.text.is_none()
    {
        let own = are_of_one_origin(address, url.as_str());
        // What was typed takes precedence.
        let is_new = |name: &str| !own || !requests.request.has_header(name);
        let of_format = headers.iter().filter(|(name, _)| is_new(name)).cloned();
        let of_item = std::mem::take(&mut item.headers).into_iter().filter(|_| own);
        item.headers = of_item.chain(of_format).collect();
        item.urls = vec![url.as_str().to_owned()];
        item.offered_by = Some(address.clone());
        return Ok(Leads::Object(Box::new(item), lookout));
    }
    if plan.dry_run {
        film::list(&table(&found.picked()), plan.voice, id, started.elapsed());
        return Err(Outcome::Planned);
    }
    let film = FoundFilm {
        film: found.wanted(),
        requests: Arc::new(PageRequests { of_film: requests, page: Arc::clone(&lookout.0) }),
        finder: Arc::new(lookout),
        subtitles: found.text,
    };
    Ok(Leads::Film(Box::new(item), film))
}

/// Asks what a page is. A list of one film is that film.
async fn ask(page: &PagePlan, address: &str, tell: impl Fn(&str)) -> Result<Answer, Failure> {
    let mut address = address.to_owned();
    for _ in 0..2 {
        let Said { info, warnings } = page.ytdlp.ask(&address, &page.question).await?;
        warnings.iter().take(TOLD_WARNINGS).for_each(|line| tell(line));
        match Answer::of(&info) {
            Some(Answer::Elsewhere(other)) => {
                address = crate::address::url(&other)?;
            }
            Some(Answer::Film(found)) if found.formats.is_empty() && !found.is_protected => {
                let why = warnings.last().map(|line| format!(": {line}")).unwrap_or_default();
                let mut failure = nothing(&address);
                failure.message += &why;
                return Err(failure);
            }
            Some(answer) => return Ok(answer),
            None => break,
        }
    }
    Err(nothing(&address))
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure)
}

fn nothing(page: &str) -> Failure {
    let text = format!("yt-dlp found nothing to download at {}", redact_url(page));
    Failure::new(exit::PROTOCOL, "page", text)
        .hint("sites change, and a newer yt-dlp may know this one: yt-dlp -U")
}

/// The film with what is wanted of it, if all of that can be fetched.
fn chosen(page: &PagePlan, mut found: Found, address: &str) -> Result<Found, Failure> {
    if found.is_protected && found.formats.is_empty() || found.chosen().any(|it| it.is_protected) {
        let shown = redact_url(address);
        let text =
            format!("the film of {shown} is protected by DRM: only licensed players show it");
        return Err(Failure::new(exit::PROTECTED, "protected", text)
            .hint("nothing was fetched; haul does not open protected films"));
    }
    let no_such = |error: NoSuch| {
        Failure::usage(escape(&error.to_string())).hint("--list shows what there is")
    };
    if found.chosen().next().is_none() {
        let wanted = Wanted { subtitles: None, ..page.wanted.clone() };
        return Err(match choose(&found.everything(), &wanted) {
            Err(error) => no_such(error),
            Ok(_) => Failure::usage("yt-dlp finds no format that fits")
                .hint("--list shows what there is"),
        });
    }
    if page.wanted.subtitles.is_some() {
        let mut all = found.wanted();
        all.renditions.extend(found.texts.iter().map(|text| text.rendition.clone()));
        let wanted = Wanted { subtitles: page.wanted.subtitles.clone(), ..Wanted::default() };
        let text = choose(&all, &wanted).map_err(no_such)?.subtitles;
        found.text = text.and_then(|text| text.language.clone());
    }
    let problem = found.to_take().find_map(|format| {
        let problem = format.problem.as_ref()?;
        Some(format!("the {} of {} {problem}", format.rendition.kind, redact_url(address)))
    });
    match problem {
        None => Ok(found),
        Some(text) => Err(Failure::new(exit::PROTOCOL, "page", text).hint(
            "--list and --quality may find another format; or let yt-dlp download it: yt-dlp \
             --downloader haul-aria2c URL",
        )),
    }
}

fn refused(several: &Several, page: &str) -> Failure {
    let (count, shown) = (several.count, redact_url(page));
    if count == 0 {
        return nothing(page);
    }
    let what = if several.are_parts { "one film in" } else { "a list of" };
    let each = if several.are_parts { "part" } else { "film" };
    let films = plural(count, each, &format!("{each}s"));
    Failure::usage(format!(
        "{shown} is {what} {films}, and haul page takes one: nothing was fetched"
    ))
    .hint("--list shows the URL of each; --yt-dlp 'yt-dlp -I 1' takes the first")
}

fn listed(several: &Several, voice: Voice, id: usize, started: Instant) -> Vec<String> {
    if voice == Voice::Json {
        let entries = several
            .entries
            .iter()
            .map(|entry| serde_json::json!({ "title": entry.title, "url": entry.url }));
        let entries: Vec<_> = entries.collect();
        let t = seconds(started.elapsed());
        let event =
            serde_json::json!({ "v": 1, "event": "entries", "id": id, "t": t, "entries": entries });
        return vec![event.to_string()];
    }
    let line = |(number, entry): (usize, &info::Entry)| {
        let url = entry.url.as_deref().unwrap_or_default();
        escape(&format!("{number}  {url}  {}", entry.title.as_deref().unwrap_or_default()))
    };
    (1..).zip(&several.entries).map(line).collect()
}

/// Finds the links of a page's film again. Clones find for the same film.
#[derive(Clone)]
pub(crate) struct Lookout(Arc<State>);

struct State {
    /// The page.
    url: Url,
    page: PagePlan,
    request: Request,
    /// The ids of what is downloaded.
    ids: Vec<String>,
    /// That, with the newest links.
    now: Mutex<Arc<Vec<Format>>>,
    /// How often the page was asked about again. While that happens, others wait for the answer.
    asked: tokio::sync::Mutex<u32>,
}

impl State {
    fn formats(&self) -> Arc<Vec<Format>> {
        Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the links and cookies of what is downloaded.
    fn take(&self, found: &Found) {
        let all = found.formats.iter().chain(&found.texts);
        let all: Vec<Format> =
            all.filter(|it| self.ids.contains(&it.rendition.id)).cloned().collect();
        for format in &all {
            if let (Some(cookies), Some(url)) = (&format.cookies, &format.url) {
                self.request.keep_cookies(url, cookies);
            }
        }
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    /// The id of the format at this URL.
    fn id_of(&self, url: &str) -> Option<String> {
        let formats = self.formats();
        let is_it = |it: &&Format| it.url.as_ref().is_some_and(|it| it.as_str() == url);
        let found = formats.iter().find(is_it).map(|it| it.rendition.id.clone());
        // A download that has not heard of newer links asks by an old one.
        found.or_else(|| self.ids.first().filter(|_| self.ids.len() == 1).cloned())
    }

    /// The newest URL of a format.
    fn url_of(&self, id: &str) -> Option<String> {
        let formats = self.formats();
        let found = formats.iter().find(|it| it.rendition.id == id)?;
        found.url.clone().map(String::from)
    }

    /// Asks again, and returns everything that can be fetched.
    async fn renew(&self, asked: &mut u32) -> Result<Film, String> {
        if *asked >= MAX_REFRESHES {
            return Err(format!(
                "yt-dlp was asked {} for fresh links",
                plural(u64::from(*asked), "time", "times")
            ));
        }
        *asked += 1;
        let answer = ask(&self.page, self.url.as_str(), |_| {}).await;
        let found = match answer.map_err(|failure| failure.message)? {
            Answer::Film(found) => *found,
            _ => return Err("yt-dlp finds no single film in the page any more".to_owned()),
        };
        self.take(&found);
        Ok(found.fetchable())
    }
}

impl Finder for Lookout {
    fn url(&self) -> &Url {
        &self.0.url
    }

    fn find(&self) -> Finding<'_> {
        Box::pin(async move {
            let mut asked = self.0.asked.lock().await;
            self.0.renew(&mut asked).await
        })
    }
}

impl Refresh for Lookout {
    fn refresh<'a>(&'a self, url: &'a str) -> Refreshing<'a> {
        Box::pin(async move {
            let gone = "the page no longer has this format";
            let id = self.0.id_of(url);
            let mut asked = self.0.asked.lock().await;
            let id = id.ok_or(gone)?;
            // Another download's request may have been first.
            if let Some(fresh) = self.0.url_of(&id).filter(|fresh| fresh != url) {
                return Ok(fresh);
            }
            self.0.renew(&mut asked).await?;
            Ok(self.0.url_of(&id).ok_or(gone)?)
        })
    }
}

/// The requests of a page's film: with yt-dlp's headers for the origins of its formats. Others get
/// those of them that are no secret.
struct PageRequests {
    of_film: FilmRequests,
    page: Arc<State>,
}

impl Requests for PageRequests {
    fn request(&self, url: &Url) -> Result<DownloadBuilder, Error> {
        let mut download = self.of_film.request(url)?;
        let formats = self.page.formats();
        let of_origin = formats.iter().find(|it| it.origins.contains(&url.origin()));
        let is_own = of_origin.is_some();
        let format = of_origin.or(formats.first());
        let headers = &mut download.options_mut().headers;
        for (name, value) in format.into_iter().flat_map(|format| &format.headers) {
            let is_set = headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            if !is_set && (is_own || is_told_to_pieces(name)) {
                headers.push((name.clone(), value.clone()));
            }
        }
        Ok(download)
    }

    fn allows(&self, url: &Url) -> bool {
        self.of_film.allows(url)
    }
}

/// Tells what takes the film of a page that was downloaded as it is.
pub(crate) const NOTE: &str =
    "this is a web page: `haul page URL` downloads the film that it shows, by yt-dlp";

/// Whether the page itself was meant.
pub(crate) fn is_meant(item: &Item, output: &Path) -> bool {
    let is_named = |name: &str| {
        let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
        end.is_some_and(|end| matches!(&*end, "html" | "htm" | "xhtml" | "mhtml" | "shtml"))
    };
    let url = Url::parse(&item.urls[0]);
    is_named(&output.to_string_lossy()) || url.map_or(true, |url| is_named(url.path()))
}
