//! `bottler requests watch`: shows requests as they come. At a terminal, one key looks at a request and the next ones decide;
//! otherwise there is a line for each request.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::ask::{self, Grant, of_all, of_bottle};
use super::keys::{Terminal, keys};
use super::model::{Action, Choice, Key, Model};
use super::view;
use crate::cli::open::state;
use crate::cli::print::{Format, print_data, print_message};
use crate::cli::terminal::{Signals, is_there, size};
use crate::holder::{FromHolder, Receiver, Wire, reach, served_in, split};
use crate::primitive::{Event, ShownRequest};
use crate::report::{ascii_json, failure};
use crate::session::{Class, Failure};

/// How often new bottles are looked for, and ages are drawn anew.
const LOOK: Duration = Duration::from_secs(2);
/// After news, how long to wait for more of them before the list is read again.
const TOGETHER: Duration = Duration::from_millis(30);

/// What `requests watch` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The bottle's id [default: all running bottles]
    bottle: Option<String>,
    /// The output format where there is no terminal
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn watch(args: &Args) -> Result<u8, Failure> {
    let mut watched = Watched::new(args.bottle.clone());
    if let Some(bottle) = &args.bottle {
        // A mistake is reported at once.
        of_bottle(bottle).await?;
    }
    watched.look().await?;
    if is_there() && args.format == Format::Text { screen(watched).await } else { lines(watched, args.format).await }
}

/// The bottles whose requests are shown, and news of them.
struct Watched {
    only: Option<String>,
    /// The directories of holders that are listened to.
    holders: BTreeSet<PathBuf>,
    sender: mpsc::Sender<PathBuf>,
    news: mpsc::Receiver<PathBuf>,
    ended: mpsc::UnboundedReceiver<PathBuf>,
    end: mpsc::UnboundedSender<PathBuf>,
}

impl Watched {
    fn new(only: Option<String>) -> Self {
        let (sender, news) = mpsc::channel(1);
        let (end, ended) = mpsc::unbounded_channel();
        Self { only, holders: BTreeSet::new(), sender, news, ended, end }
    }

    /// Listens to the holders of bottles that run now.
    async fn look(&mut self) -> Result<(), Failure> {
        while let Ok(gone) = self.ended.try_recv() {
            self.holders.remove(&gone);
        }
        let state = state()?;
        let wanted = |bottle: &String| self.only.as_ref().is_none_or(|only| only == bottle) && state.is_alive(bottle);
        for bottle in state.bottles().unwrap_or_default().into_iter().filter(wanted) {
            let directory = served_in(&state.bottle(&bottle));
            if self.holders.contains(&directory) {
                continue;
            }
            // One that cannot be reached is starting or ending; the next look finds it.
            let Ok(stream) = reach(&directory).await else { continue };
            let (from, to) = split(stream);
            self.holders.insert(directory.clone());
            crate::task::spawn(listen(directory, from, to, self.sender.clone(), self.end.clone()));
        }
        Ok(())
    }

    /// The requests now, or as soon as those that come together have come. Nothing is borrowed, so that keys are served meanwhile.
    fn read(&self, after: Duration) -> BoxFuture<'static, Vec<ShownRequest>> {
        let only = self.only.clone();
        async move {
            tokio::time::sleep(after).await;
            match &only {
                // The bottle has ended: nothing waits.
                Some(bottle) => of_bottle(bottle).await.unwrap_or_default(),
                None => of_all().await.unwrap_or_default(),
            }
        }
        .boxed()
    }

    /// Whether the only bottle has ended.
    fn is_over(&self) -> bool {
        self.only.as_ref().is_some_and(|only| state().is_ok_and(|state| !state.is_alive(only)))
    }
}

/// Passes on that a holder has news of requests. Other events are not for this.
async fn listen(
    directory: PathBuf,
    mut from: Receiver<FromHolder>,
    _to: Wire,
    news: mpsc::Sender<PathBuf>,
    end: mpsc::UnboundedSender<PathBuf>,
) {
    while let Ok(Some(message)) = from.next().await {
        if let FromHolder::Event { event, .. } = message
            && matches!(*event, Event::Request { .. })
        {
            // News that wait already stand for these.
            let _ = news.try_send(directory.clone());
        }
    }
    let _ = end.send(directory);
}

/// A line for each request that is new.
async fn lines(mut watched: Watched, format: Format) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut look = interval(LOOK);
    loop {
        let is_news = |one: &ShownRequest| one.request.is_pending() || one.request.is_noted();
        for one in watched.read(Duration::ZERO).await.into_iter().filter(is_news) {
            if !seen.insert((one.bottle.clone(), one.request.id.clone())) {
                continue;
            }
            match format {
                Format::Json => {
                    let text = serde_json::to_string(&one)
                        .map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
                    print_data(&format!("{}\n", ascii_json(&text)));
                }
                Format::Text => print_data(&format!("{} {} {}\n", one.bottle, one.request.id, view::summary(&one))),
            }
        }
        tokio::select! {
            Some(_) = watched.news.recv() => tokio::time::sleep(TOGETHER).await,
            _ = look.tick() => watched.look().await?,
            _ = signals.next() => return Ok(0),
        }
        if watched.is_over() {
            print_message("the bottle has ended");
            return Ok(0);
        }
    }
}

/// What goes on while keys are served.
#[derive(Default)]
struct Work {
    /// The list is read.
    reading: Option<BoxFuture<'static, Vec<ShownRequest>>>,
    /// News came while it was read.
    again: bool,
    /// The request that is looked at is shown anew once the list is read.
    reload: bool,
    /// A decision is carried out.
    deciding: Option<BoxFuture<'static, Result<String, Failure>>>,
}

impl Work {
    fn read(&mut self, watched: &Watched, after: Duration) {
        self.again = self.reading.is_some();
        self.reading.get_or_insert_with(|| watched.read(after));
    }
}

/// The result of what goes on, if something does.
async fn of<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    let done = match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    };
    *work = None;
    done
}

/// The screen, until the user quits. A key waits for nothing: lists are read, and decisions are carried out, beside.
async fn screen(mut watched: Watched) -> Result<u8, Failure> {
    let broken = |error: std::io::Error| Failure::new(Class::Internal, format!("use the terminal: {error}"));
    let mut signals = Signals::new()?;
    let terminal = Terminal::enter().map_err(broken)?;
    let mut keys = keys();
    let (mut model, mut drawn, mut work) = (Model::default(), Vec::new(), Work::default());
    model.update(watched.read(Duration::ZERO).await);
    let mut look = interval(LOOK);
    loop {
        draw(&model, &mut drawn).map_err(broken)?;
        tokio::select! {
            // A key first, whatever else comes.
            biased;
            key = keys.recv() => {
                let Some(key) = key else { break };
                if work.deciding.is_some() {
                    // What was decided goes on in the holder, and no other key counts until that is done.
                    if key == Key::Char('q') {
                        break;
                    }
                    continue;
                }
                match model.key(key, Instant::now()) {
                    None => {}
                    Some(Action::Quit) => break,
                    Some(Action::Reload) => {
                        work.reload = true;
                        work.read(&watched, Duration::ZERO);
                    }
                    Some(Action::Decide { bottle, id, hash, choice }) => {
                        model.say(&format!("{id} of {bottle}: the holder is asked"));
                        work.deciding = Some(decide(bottle, id, hash, choice).boxed());
                    }
                }
            }
            _ = signals.next() => break,
            done = of(&mut work.deciding) => {
                match done {
                    Ok(text) => {
                        model.leave();
                        model.say(&text);
                    }
                    Err(refused) => model.say(&failure(&refused, &[]).replace('\n', "; ")),
                }
                work.read(&watched, Duration::ZERO);
            }
            all = of(&mut work.reading) => {
                model.update(all);
                if std::mem::take(&mut work.again) {
                    work.read(&watched, TOGETHER);
                } else if std::mem::take(&mut work.reload) {
                    model.reload(Instant::now());
                }
            }
            Some(_) = watched.news.recv() => work.read(&watched, TOGETHER),
            _ = look.tick() => {
                watched.look().await?;
                if watched.is_over() {
                    break;
                }
            }
        }
    }
    let over = watched.is_over();
    drop(terminal);
    if over {
        print_message("the bottle has ended");
    }
    Ok(0)
}

/// Something to do every so often; what was missed is not made up for.
fn interval(every: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

async fn decide(bottle: String, id: String, hash: String, choice: Choice) -> Result<String, Failure> {
    match choice {
        Choice::Reject => ask::reject(&bottle, &id, "").await.map(|_| format!("{id} of {bottle} is rejected")),
        Choice::Grant(grant) => Grant::carry_out(Some(grant), &bottle, &id, &hash).await.map(|(_, text)| text),
    }
}

/// Draws the lines that have changed.
fn draw(model: &Model, drawn: &mut Vec<String>) -> std::io::Result<()> {
    let (width, height) = size().map_or((80, 24), |size| (usize::from(size.width), usize::from(size.height)));
    let lines = model.draw(width, height, ask::now());
    let mut text = String::new();
    if lines.len() != drawn.len() {
        text.push_str("\x1b[2J");
        drawn.clear();
    }
    for (place, line) in lines.iter().enumerate() {
        if drawn.get(place) != Some(line) {
            text.push_str(&format!("\x1b[{};1H{line}\x1b[K", place + 1));
        }
    }
    *drawn = lines;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
