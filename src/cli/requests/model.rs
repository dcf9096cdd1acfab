//! `requests watch` as a model: keys change it, and it is drawn as lines. Pure, so that any screen can show it.
//!
//! Rules against fatigue: a request that is looked at is frozen, whatever comes meanwhile; the first choice is to reject; a grant
//! needs a key for its scope and then Enter; keys that come before anybody can have read the request do nothing; what a push releases and
//! what a build runs is granted only once its end was on the screen; no key decides about several requests.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::ask::{Grant, USUAL};
use super::view;
use crate::primitive::{Offered, ShownRequest};
use crate::report::escaped;

/// How long a request must have been seen before a key decides.
const READ: Duration = Duration::from_millis(500);

/// How far one scrolls at most, in lines of the screen for each line of a request.
const MAX_WRAPPED: usize = 300;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Up,
    Down,
}

/// What is chosen for the request that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Reject,
    Grant(Grant),
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// The latest state of the request that is looked at is needed.
    Reload,
    Decide {
        bottle: String,
        id: String,
        hash: String,
        choice: Choice,
    },
}

/// The requests, and the one that is looked at.
#[derive(Default)]
pub(super) struct Model {
    pending: Vec<ShownRequest>,
    /// The bottle and the id of the selected one.
    selected: Option<(String, String)>,
    focused: Option<Focus>,
    message: String,
}

struct Focus {
    one: ShownRequest,
    choice: Choice,
    since: Instant,
    /// How many of its lines have been scrolled away.
    above: usize,
    /// Whether its last line was on the screen.
    seen_end: Cell<bool>,
    /// Whether it was decided, or can be granted no more, since it is looked at.
    over: bool,
}

impl Model {
    /// Takes the requests that wait now.
    pub(super) fn update(&mut self, mut all: Vec<ShownRequest>) {
        all.retain(|one| one.request.is_pending());
        if let Some(focus) = &mut self.focused {
            let now = all.iter().find(|one| same(one, &focus.one));
            focus.over = now.is_none_or(|one| one.hash != focus.one.hash);
        }
        self.pending = all;
        if !self.selected.as_ref().is_some_and(|selected| self.pending.iter().any(|one| name(one) == *selected)) {
            self.selected = self.pending.first().map(name);
        }
    }

    /// Shows a message until the next key.
    pub(super) fn say(&mut self, text: &str) {
        self.message = escaped(text, 300);
    }

    /// Leaves the request that is looked at.
    pub(super) fn leave(&mut self) {
        self.focused = None;
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: Key, now: Instant) -> Option<Action> {
        self.message.clear();
        if self.focused.is_some() {
            return self.key_in_focus(key, now);
        }
        match key {
            Key::Char('q') => return Some(Action::Quit),
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::Char(digit @ '1'..='9') => {
                let place = digit as usize - '1' as usize;
                let one = self.pending.get(place)?.clone();
                self.focus(one, now);
            }
            Key::Enter => {
                let selected = self.selected.clone()?;
                let one = self.pending.iter().find(|one| name(one) == selected)?.clone();
                self.focus(one, now);
            }
            Key::Char(_) | Key::Escape => {}
        }
        None
    }

    fn focus(&mut self, one: ShownRequest, now: Instant) {
        self.selected = Some(name(&one));
        self.focused =
            Some(Focus { one, choice: Choice::Reject, since: now, above: 0, seen_end: Cell::new(false), over: false });
    }

    fn key_in_focus(&mut self, key: Key, now: Instant) -> Option<Action> {
        let focus = self.focused.as_mut()?;
        if key == Key::Escape || key == Key::Char('q') {
            self.focused = None;
            return None;
        }
        match key {
            Key::Up | Key::Char('k') => {
                focus.above = focus.above.saturating_sub(1);
                return None;
            }
            Key::Down | Key::Char('j') => {
                focus.above = focus.above.saturating_add(1).min(view::detail(&focus.one, 0).len() * MAX_WRAPPED);
                return None;
            }
            _ => {}
        }
        if focus.over {
            // What is on the screen is not what would be decided.
            return if key == Key::Enter { Some(Action::Reload) } else { None };
        }
        if now.duration_since(focus.since) < READ {
            return None;
        }
        let offered = focus.one.candidate.as_ref();
        let fits_time = offered.is_some_and(Offered::fits_time);
        if matches!(offered, Some(Offered::Push(_) | Offered::Image(_)))
            && !focus.seen_end.get()
            && matches!(key, Key::Char('o' | 'b'))
        {
            "read it to its end first: down".clone_into(&mut self.message);
            return None;
        }
        match key {
            Key::Char('r') => focus.choice = Choice::Reject,
            Key::Char('o') if offered.is_some_and(Offered::fits_once) => focus.choice = Choice::Grant(Grant::Once),
            Key::Char('t') if fits_time => focus.choice = Choice::Grant(Grant::For(USUAL)),
            Key::Char('b') if offered.is_some() => focus.choice = Choice::Grant(Grant::Bottle),
            Key::Char('a') if fits_time => focus.choice = Choice::Grant(Grant::Always),
            Key::Enter => {
                let (bottle, id) = name(&focus.one);
                let hash = focus.one.hash.clone().unwrap_or_default();
                return Some(Action::Decide { bottle, id, hash, choice: focus.choice });
            }
            _ => {}
        }
        None
    }

    fn step(&mut self, by: isize) {
        let at = self.selected.as_ref().and_then(|selected| self.pending.iter().position(|one| name(one) == *selected));
        let Some(last) = self.pending.len().checked_sub(1) else { return };
        let next = at.map_or(0, |at| at.saturating_add_signed(by).min(last));
        self.selected = self.pending.get(next).map(name);
    }

    /// Looks again at the request that was looked at; at the list if it is decided.
    pub(super) fn reload(&mut self, now: Instant) {
        let Some(focus) = self.focused.take() else { return };
        if let Some(one) = self.pending.iter().find(|one| same(one, &focus.one)).cloned() {
            self.focus(one, now);
        } else {
            self.say("it was decided elsewhere");
        }
    }

    /// The lines of the screen, at most `height` of at most `width` characters.
    pub(super) fn draw(&self, width: usize, height: usize, now: u64) -> Vec<String> {
        let mut lines = match &self.focused {
            Some(focus) => self.draw_focus(focus, (width, height), now),
            None => self.draw_list(height, now),
        };
        let foot = self.foot();
        lines.truncate(height.saturating_sub(2));
        lines.resize(height.saturating_sub(2), String::new());
        lines.extend([escaped(&self.message, width), foot]);
        lines.iter().map(|line| line.chars().take(width).collect()).collect()
    }

    fn draw_list(&self, height: usize, now: u64) -> Vec<String> {
        let count = self.pending.len();
        let mut lines =
            vec![format!("bottler requests: {count} wait{}", if count == 1 { "s" } else { "" }), String::new()];
        for (place, one) in self.pending.iter().enumerate().take(height.saturating_sub(5)) {
            let mark = if self.selected.as_ref() == Some(&name(one)) { ">" } else { " " };
            let digit = if place < 9 { (place + 1).to_string() } else { " ".to_owned() };
            let (bottle, id) = name(one);
            lines.push(format!(
                "{mark}{digit} {:<14} {:<5} {:>6}  {}",
                escaped(&bottle, 14),
                escaped(&id, 8),
                view::age(one.request.asked, now),
                view::summary(one)
            ));
        }
        lines
    }

    /// The request that is looked at. No line is cut: long ones are wrapped, and what does not fit is scrolled to.
    fn draw_focus(&self, focus: &Focus, (width, height): (usize, usize), now: u64) -> Vec<String> {
        let waits = self.pending.iter().filter(|one| !same(one, &focus.one)).count();
        let mut all = view::detail(&focus.one, now);
        all.insert(1, if waits > 0 { format!("  ({waits} more wait)") } else { String::new() });
        let all: Vec<String> = all.iter().flat_map(|line| wrapped(line, width)).collect();
        // Below are an empty line, the choice, the message and the keys.
        let room = height.saturating_sub(4).max(1);
        let above = focus.above.min(all.len().saturating_sub(room));
        let below = all.len().saturating_sub(above + room);
        focus.seen_end.set(focus.seen_end.get() || below == 0);
        let mut lines: Vec<String> = all.into_iter().skip(above).take(room).collect();
        lines.push(match (above, below) {
            (0, 0) => String::new(),
            _ => format!("  -- {above} lines above, {below} below: up and down --"),
        });
        lines.push(if focus.over {
            "  THE POLICY HAS CHANGED, or it was decided: Enter shows it again".to_owned()
        } else {
            format!("  Enter: {}", word(focus.choice))
        });
        lines
    }

    fn foot(&self) -> String {
        match &self.focused {
            None => "up down or 1-9 and Enter: look   q: quit".to_owned(),
            Some(focus) => {
                let offered = focus.one.candidate.as_ref();
                let grants: String = [
                    (offered.is_some_and(Offered::fits_once), "o once  "),
                    (offered.is_some_and(Offered::fits_time), "t 10 minutes  "),
                    (offered.is_some(), "b bottle  "),
                    (offered.is_some_and(Offered::fits_time), "a always  "),
                ]
                .into_iter()
                .filter_map(|(fits, words)| fits.then_some(words))
                .collect();
                format!("r reject  {grants}then Enter   Esc: back")
            }
        }
    }
}

/// A line in pieces that fit. Further ones stand where the text of a detail begins.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    const INDENT: usize = 14;
    let all: Vec<char> = line.chars().collect();
    let Some(room) = width.checked_sub(INDENT).filter(|room| *room > INDENT) else { return vec![line.to_owned()] };
    let (first, rest) = all.split_at(all.len().min(width));
    let rest = rest.chunks(room).map(|piece| format!("{:INDENT$}{}", "", piece.iter().collect::<String>()));
    std::iter::once(first.iter().collect()).chain(rest).collect()
}

fn name(one: &ShownRequest) -> (String, String) {
    (one.bottle.clone(), one.request.id.clone())
}

fn same(one: &ShownRequest, other: &ShownRequest) -> bool {
    name(one) == name(other)
}

fn word(choice: Choice) -> &'static str {
    match choice {
        Choice::Reject => "REJECT it",
        Choice::Grant(Grant::Once) => "grant it once",
        Choice::Grant(Grant::For(_)) => "grant it for 10 minutes",
        Choice::Grant(Grant::Bottle) => "grant it until the bottle ends",
        Choice::Grant(Grant::Always) => "grant it for later launches, too",
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::{entry_of, pushed, shown};
    use super::*;

    fn keys(model: &mut Model, keys: &str, now: Instant) -> Option<Action> {
        keys.chars().fold(None, |_, key| model.key(if key == '\n' { Key::Enter } else { Key::Char(key) }, now))
    }

    #[test]
    fn a_grant_takes_a_look_a_scope_and_enter() {
        let (mut model, start) = (Model::default(), Instant::now());
        model.update(vec![shown("r1", "a.com", ""), shown("r2", "b.com", "")]);
        assert_eq!(keys(&mut model, "2", start), None);
        // Nobody can have read it.
        assert_eq!(keys(&mut model, "t\n", start), None);
        let later = start + READ;
        let action = keys(&mut model, "\n", later);
        assert!(matches!(&action, Some(Action::Decide { id, choice: Choice::Reject, .. }) if id == "r2"), "{action:?}");
        let action = keys(&mut model, "t\n", later);
        let granted = Choice::Grant(Grant::For(USUAL));
        assert!(
            matches!(&action, Some(Action::Decide { choice, hash, .. }) if *choice == granted && hash == "00ff00ff00ff00ff")
        );
    }

    #[test]
    fn what_is_looked_at_is_frozen_and_cannot_be_granted_when_it_has_changed() {
        let (mut model, start) = (Model::default(), Instant::now());
        model.update(vec![shown("r1", "a.com", "")]);
        keys(&mut model, "1", start);
        model.update(vec![shown("r0", "first.com", ""), shown("r1", "a.com", "")]);
        assert!(model.draw(80, 24, 100).concat().contains("a.com"));
        let mut changed = shown("r1", "a.com", "");
        changed.hash = Some("1111".into());
        model.update(vec![changed]);
        assert!(model.draw(80, 24, 100).concat().contains("HAS CHANGED"));
        assert_eq!(keys(&mut model, "t\n", start + READ), Some(Action::Reload));
        model.reload(start + READ);
        assert_eq!(keys(&mut model, "\n", start + READ), None, "it must be read again");
        model.update(Vec::new());
        assert_eq!(keys(&mut model, "\n", start + 3 * READ), Some(Action::Reload));
        model.reload(start);
        assert!(model.draw(80, 24, 100).concat().contains("decided elsewhere"));
    }

    #[test]
    fn once_is_offered_only_for_one_method_and_path() {
        let (mut model, start) = (Model::default(), Instant::now());
        let mut wide = shown("r1", "a.com", "");
        entry_of(&mut wide).exact = false;
        model.update(vec![wide]);
        keys(&mut model, "1", start);
        let action = keys(&mut model, "o\n", start + READ);
        assert!(matches!(action, Some(Action::Decide { choice: Choice::Reject, .. })), "{action:?}");
    }

    #[test]
    fn a_push_is_granted_once_or_for_the_bottle_and_no_other_key_grants_it() {
        let (mut model, start) = (Model::default(), Instant::now());
        model.update(vec![pushed("r1", &["a secret in x"])]);
        keys(&mut model, "1", start);
        let screen = model.draw(80, 24, 100).concat();
        assert!(screen.contains("RELEASES") && screen.contains("r reject  o once  b bottle  then Enter"), "{screen}");
        assert!(!screen.contains("below"));
        for (pressed, expected) in
            [("ta\n", Choice::Reject), ("o\n", Choice::Grant(Grant::Once)), ("b\n", Choice::Grant(Grant::Bottle))]
        {
            let action = keys(&mut model, pressed, start + READ);
            assert!(matches!(&action, Some(Action::Decide { choice, .. }) if *choice == expected), "{action:?}");
        }
    }

    #[test]
    fn all_of_a_request_can_be_read_on_a_small_screen() {
        let (mut model, start) = (Model::default(), Instant::now());
        let reasons: Vec<String> =
            (0..30).map(|n| format!("reason-{n}-begins {} reason-{n}-ends", "x".repeat(150))).collect();
        model.update(vec![pushed("r1", &reasons.iter().map(String::as_str).collect::<Vec<_>>())]);
        keys(&mut model, "1", start);
        let mut read = String::new();
        let mut last = Vec::new();
        loop {
            let lines = model.draw(80, 24, 100);
            assert!(lines.iter().any(|line| line == "  Enter: REJECT it"), "{lines:?}");
            if lines == last {
                break;
            }
            read.extend(lines.iter().cloned());
            last = lines;
            model.key(Key::Down, start);
        }
        for n in 0..30 {
            assert!(read.contains(&format!("reason-{n}-begins")) && read.contains(&format!("reason-{n}-ends")), "{n}");
        }
        assert!(read.contains("\"an example key\"") && last.concat().contains(" 0 below"), "{last:?}");
        for _ in 0..500 {
            model.key(Key::Up, start);
        }
        assert!(model.draw(80, 24, 100)[0].starts_with("request r1"));
    }

    #[test]
    fn every_screen_fits() {
        let mut model = Model::default();
        model.update((0..60).map(|n| shown(&format!("r{n}"), &"long.".repeat(40), "\u{1b}[2J")).collect());
        for (width, height) in [(80, 24), (40, 10), (20, 4), (1, 1), (0, 0)] {
            for focus in [false, true] {
                if focus {
                    model.key(Key::Enter, Instant::now());
                } else {
                    model.leave();
                }
                let lines = model.draw(width, height, 200);
                assert!(lines.len() <= height.max(2), "{width}x{height}");
                assert!(lines.iter().all(|line| line.chars().count() <= width && !line.chars().any(char::is_control)));
            }
        }
    }
}
