//! `bottler requests watch`: shows requests as they come. At a terminal, one key looks at a request and the next ones decide;
//! otherwise there is a line for each request.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::ask::{self, of_all, of_bottle};
use super::keys::{Terminal, keys};
use super::model::{Action, Choice, Model};
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
            tokio::spawn(listen(directory, from, to, self.sender.clone(), self.end.clone()));
        }
        Ok(())
    }

    /// The requests now.
    async fn read(&self) -> Vec<ShownRequest> {
        match &self.only {
            // The bottle has ended: nothing waits.
            Some(bottle) => of_bottle(bottle).await.unwrap_or_default(),
            None => of_all().await.unwrap_or_default(),
        }
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
    loop {
        for one in watched.read().await.into_iter().filter(|one| one.request.is_pending()) {
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
            () = tokio::time::sleep(LOOK) => watched.look().await?,
            _ = signals.next() => return Ok(0),
        }
        if watched.is_over() {
            print_message("the bottle has ended");
            return Ok(0);
        }
    }
}

/// The screen, until the user quits.
async fn screen(mut watched: Watched) -> Result<u8, Failure> {
    let broken = |error: std::io::Error| Failure::new(Class::Internal, format!("use the terminal: {error}"));
    let mut signals = Signals::new()?;
    let terminal = Terminal::enter().map_err(broken)?;
    let mut keys = keys();
    let mut model = Model::default();
    model.update(watched.read().await);
    let mut drawn = Vec::new();
    loop {
        draw(&model, &mut drawn).map_err(broken)?;
        tokio::select! {
            // A key first, whatever else comes.
            biased;
            key = keys.recv() => {
                let Some(key) = key else { break };
                match model.key(key, Instant::now()) {
                    None => {}
                    Some(Action::Quit) => break,
                    Some(Action::Reload) => {
                        model.update(watched.read().await);
                        model.reload(Instant::now());
                    }
                    Some(Action::Decide { bottle, id, hash, choice }) => {
                        let done = decide(&bottle, &id, &hash, choice).await;
                        model.update(watched.read().await);
                        match done {
                            Ok(text) => {
                                model.leave();
                                model.say(&text);
                            }
                            Err(refused) => model.say(&failure(&refused, &[]).replace('\n', "; ")),
                        }
                    }
                }
            }
            _ = signals.next() => break,
            Some(_) = watched.news.recv() => {
                tokio::time::sleep(TOGETHER).await;
                model.update(watched.read().await);
            }
            () = tokio::time::sleep(LOOK) => {
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

async fn decide(bottle: &str, id: &str, hash: &str, choice: Choice) -> Result<String, Failure> {
    match choice {
        Choice::Reject => ask::reject(bottle, id, "").await.map(|_| format!("{id} of {bottle} is rejected")),
        Choice::Grant(grant) => grant.carry_out(bottle, id, hash).await.map(|(_, text)| text),
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
