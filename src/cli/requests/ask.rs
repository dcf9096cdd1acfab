//! Asks holders for requests, and for decisions about them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::bottle::find::FoundBottle;
use crate::cli::failure::input;
use crate::cli::open::state;
use crate::cli::policy::{save_grant, saved_place};
use crate::cli::print::print_message;
use crate::holder::{RequestAction, ask_requests, ask_to_build};
use crate::policy::Scope;
use crate::primitive::{Offered, REQUESTS_FILE, Request, RequestState, ShownRequest, Wish, closed, read_requests};
use crate::report::printable;
use crate::session::{Class, Failure};

/// For how long an operator grants a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    Once,
    For(Duration),
    Bottle,
    Always,
}

/// How long a grant of an entry lasts where nothing is said.
pub(super) const USUAL: Duration = Duration::from_mins(10);

impl Grant {
    /// What is granted where nothing is said: ten minutes, one push, or an image for the bottle.
    pub(super) fn usual(offered: &Offered) -> Self {
        match offered {
            Offered::Image(_) => Self::Bottle,
            offered if offered.fits_time() => Self::For(USUAL),
            _ => Self::Once,
        }
    }

    /// Approves a request; returns it, and what was done in words. Without a grant, the usual one.
    pub(super) async fn carry_out(
        grant: Option<Self>,
        bottle: &str,
        id: &str,
        hash: &str,
    ) -> Result<(ShownRequest, String), Failure> {
        // What is saved, and what is usual, is that of what was shown. Without it, the holder says why it cannot be granted.
        let was_shown = |one: &ShownRequest| one.request.id == id && one.hash.as_deref() == Some(hash);
        let offered = of_bottle(bottle).await?.into_iter().find(was_shown).and_then(|one| one.candidate);
        let grant = grant.unwrap_or_else(|| offered.as_ref().map_or(Self::For(USUAL), Self::usual));
        let place = if grant == Self::Always { Some(saved_place(bottle)?) } else { None };
        let scope = match grant {
            Self::Once => Scope::Once,
            Self::For(time) if time.as_secs() == 0 => return Err(input("--for: the time must be at least a second")),
            Self::For(time) => Scope::Until(now().saturating_add(time.as_secs())),
            Self::Bottle => Scope::Bottle,
            Self::Always => Scope::Always,
        };
        let action = RequestAction::Approve { id: id.to_owned(), hash: hash.to_owned(), scope };
        let shown = match &offered {
            Some(Offered::Image(_)) => built(bottle, id, action).await?,
            _ => decided(bottle, action).await?,
        };
        if matches!(shown.request.wish, Wish::Capability { .. }) {
            return Ok((
                shown,
                format!("{id} of {bottle} is granted: its image is built, for the next launch of the bottle"),
            ));
        }
        let is_push = matches!(shown.request.wish, Wish::Git { .. });
        let holds = match (grant, place, offered) {
            (Self::Always, Some((path, folder)), Some(Offered::Entry(candidate))) => {
                save_grant(&path, &folder, &[candidate.entry])?;
                format!("for this bottle and later launches in {}; saved in {}", folder.display(), path.display())
            }
            (Self::Once, ..) if is_push => "for one push; the agent can push again".to_owned(),
            (Self::Once, ..) => "for one request".to_owned(),
            (Self::For(time), ..) => format!("for {}", humantime::format_duration(time)),
            _ => "until the bottle ends".to_owned(),
        };
        let under = if is_push { String::new() } else { format!(" (policy {})", shown.generation) };
        Ok((shown, format!("{id} of {bottle} is granted {holds}{under}")))
    }
}

/// Rejects a request.
pub(super) async fn reject(bottle: &str, id: &str, reason: &str) -> Result<ShownRequest, Failure> {
    decided(bottle, RequestAction::Reject { id: id.to_owned(), reason: reason.to_owned() }).await
}

/// Approves the request for an image, and shows the progress of its build.
async fn built(bottle: &str, id: &str, action: RequestAction) -> Result<ShownRequest, Failure> {
    print_message(&format!("building; `bottler requests reject {bottle} {id}` ends it, Ctrl-C does not"));
    let known = FoundBottle::find(bottle)?;
    let directory = known.state.bottle(bottle);
    let shown = ask_to_build(bottle, &directory, action, |line| print_message(&printable(line))).await?.pop();
    shown.ok_or_else(|| Failure::new(Class::Internal, format!("approve a request of {bottle}: no answer")))
}

async fn decided(bottle: &str, action: RequestAction) -> Result<ShownRequest, Failure> {
    let known = FoundBottle::find(bottle)?;
    if !known.state.is_alive(bottle) {
        return Err(input(format!("{bottle} is not running")).hint("`bottler ps` lists running bottles"));
    }
    let mut shown = ask_requests(bottle, &known.state.bottle(bottle), action).await?;
    shown.pop().ok_or_else(|| Failure::new(Class::Internal, format!("decide about a request of {bottle}: no answer")))
}

/// The requests of a bottle; of one that does not run, what its file says.
pub(super) async fn of_bottle(bottle: &str) -> Result<Vec<ShownRequest>, Failure> {
    let known = FoundBottle::find(bottle)?;
    let directory = known.state.bottle(bottle);
    if known.state.is_alive(bottle) {
        return ask_requests(bottle, &directory, RequestAction::List).await;
    }
    let path = directory.join(REQUESTS_FILE);
    let read = read_requests(&path);
    let read = read.map_err(|error| Failure::new(Class::Internal, format!("read {}: {error}", path.display())))?;
    let shown = |request: Request| ShownRequest {
        bottle: bottle.to_owned(),
        // An image stays with the bottle.
        has_ended: !matches!(request.wish, Wish::Capability { .. })
            && matches!(&request.state, RequestState::Approved { scope, .. } if *scope != Scope::Always),
        request,
        candidate: None,
        obstacle: Some("the bottle has ended".to_owned()),
        remedy: Vec::new(),
        hash: None,
        generation: 0,
        alike: 0,
        causes: Vec::new(),
    };
    Ok(closed(read).into_iter().map(shown).collect())
}

/// The requests of all running bottles whose agents may ask.
pub(super) async fn of_all() -> Result<Vec<ShownRequest>, Failure> {
    let state = state()?;
    let mut all = Vec::new();
    for bottle in state.bottles().unwrap_or_default() {
        if state.is_alive(&bottle) {
            // Others have no requests, or are just ending.
            all.extend(ask_requests(&bottle, &state.bottle(&bottle), RequestAction::List).await.unwrap_or_default());
        }
    }
    Ok(all)
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
