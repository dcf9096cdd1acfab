//! Requests as text. Pure. The agent's words come last and labelled, and every text goes through the same escaper.

use crate::policy::{AllowSpec, Scope};
use crate::primitive::{Decider, Offered, RequestState, ShownRequest, Wish};
use crate::report::escaped;

/// Longest texts, in characters.
const SHORT: usize = 60;
const LONG: usize = 1100;

/// One line for each request.
pub(super) fn table(all: &[ShownRequest], now: u64) -> String {
    let mut text = format!("{:<16} {:<6} {:<10} {:>6} {:>5}  {}\n", "BOTTLE", "ID", "STATE", "AGE", "TIMES", "REQUEST");
    for one in all {
        text.push_str(&format!(
            "{:<16} {:<6} {:<10} {:>6} {:>5}  {}\n",
            escaped(&one.bottle, 40),
            escaped(&one.request.id, 12),
            state_word(one),
            age(one.request.asked, now),
            one.request.times,
            summary(one),
        ));
    }
    text
}

/// What is asked, in a few words.
pub(super) fn summary(one: &ShownRequest) -> String {
    let what = match &one.request.wish {
        Wish::Egress(wanted) => {
            let methods = if wanted.methods.is_empty() { "every method".to_owned() } else { wanted.methods.join(",") };
            let paths = match &wanted.paths[..] {
                [] => "every path".to_owned(),
                [path] => path.clone(),
                [path, rest @ ..] => format!("{path} and {} more", rest.len()),
            };
            format!("{}  {methods}  {paths}", wanted.host)
        }
        Wish::Credential { name, host } => format!("credential {name} for {host}"),
        Wish::Git { repository, reference, .. } => format!("git push to {repository}  {reference}"),
        Wish::Capability { packages, dockerfile } if packages.is_empty() => {
            format!("image  {}", dockerfile.lines().next().unwrap_or_default())
        }
        Wish::Capability { packages, .. } => format!("packages {}", packages.join(" ")),
    };
    let warned = match &one.candidate {
        Some(Offered::Entry(candidate)) => !candidate.warnings.is_empty() || !candidate.credentials.is_empty(),
        // What was found is what the gate is there for; steps run as root.
        Some(Offered::Push(_) | Offered::Image(_)) => true,
        None => false,
    };
    format!("{}{}", if warned { "! " } else { "" }, escaped(&what, SHORT))
}

/// Everything that is known of a request, line by line.
pub(super) fn detail(one: &ShownRequest, now: u64) -> Vec<String> {
    let request = &one.request;
    let times = if request.times > 1 { format!(", {} times", request.times) } else { String::new() };
    let mut lines = vec![format!(
        "request {} of {}: {}, asked {} ago{times}",
        escaped(&request.id, 12),
        escaped(&one.bottle, 40),
        request.wish.kind(),
        age(request.asked, now)
    )];
    let mut say = |label: &str, text: String| lines.push(format!("  {label:<12}{text}"));
    match &request.wish {
        Wish::Egress(_) => {}
        Wish::Credential { name, host } => {
            say("credential", format!("{} for {}", escaped(name, LONG), escaped(host, LONG)));
        }
        Wish::Git { repository, reference, operation } => {
            let refs = match &one.candidate {
                Some(Offered::Push(offer)) => offer.refs.join(", "),
                _ => reference.clone(),
            };
            say("push to", format!("{}, {}", escaped(repository, LONG), escaped(&refs, usize::MAX)));
            say("push id", escaped(operation, LONG));
        }
        Wish::Capability { packages, dockerfile } => {
            if !packages.is_empty() {
                say("packages", escaped(&packages.join(" "), LONG));
            }
            for line in dockerfile.lines() {
                say("Dockerfile", escaped(line, LONG));
            }
        }
    }
    match (&one.candidate, &request.state) {
        (Some(Offered::Entry(candidate)), _) => {
            say("adds", escaped(&entry(&candidate.entry), LONG));
            for reach in &candidate.reaches {
                say("reaches", escaped(reach, LONG));
            }
            for warning in &candidate.warnings {
                say("WARNING", escaped(warning, LONG));
            }
            let credentials = match &candidate.credentials[..] {
                [] => "none go there".to_owned(),
                names => format!("{} GO THERE, by their placeholders", names.join(", ")),
            };
            say("credentials", escaped(&credentials, LONG));
            let single = if candidate.exact { "once, " } else { "" };
            say("grant for", format!("{single}a time, this bottle, always"));
        }
        (Some(Offered::Image(offer)), _) => {
            say("builds on", escaped(&offer.base, LONG));
            // Nothing is left out of what is run.
            for step in &offer.steps {
                say("step", escaped(&step.to_string(), usize::MAX));
            }
            say("runs", "as root in a container of the bottle, with its policy and without its credentials".to_owned());
            say("grant for", "this bottle, from its next launch on".to_owned());
        }
        (Some(Offered::Push(offer)), _) => {
            // Nothing is left out of what is released.
            for reason in &offer.reasons {
                say("RELEASES", escaped(reason, usize::MAX));
            }
            say("grant for", "one push, this bottle".to_owned());
        }
        (None, RequestState::Pending) => {
            let why = one.obstacle.as_deref().unwrap_or("it cannot be granted now");
            say("state", escaped(why, LONG));
        }
        (None, state) => {
            let ended = if one.has_ended { "; that has ended" } else { "" };
            say("state", decided(&request.wish, state) + ended);
        }
    }
    for line in &one.remedy {
        say("to grant it", escaped(line, LONG));
    }
    if one.alike > 0 {
        say(
            "alike",
            format!(
                "{} more wait for the same domain; `bottler policy learn {}` proposes an allowlist",
                one.alike,
                escaped(&one.bottle, 40)
            ),
        );
    }
    for cause in &one.causes {
        let text = format!("{} {}: {}", cause.id, cause.request, cause.code);
        say("refused", escaped(&text, LONG));
    }
    if let Some(hash) = &one.hash {
        say("hash", format!("{} under policy {}", escaped(hash, 64), one.generation));
    }
    say("the agent", format!("says, and it may be wrong or misled: \"{}\"", escaped(&request.reason, LONG)));
    lines
}

/// The commands that decide about a request.
pub(super) fn commands(one: &ShownRequest) -> String {
    let (bottle, id) = (escaped(&one.bottle, 40), escaped(&one.request.id, 12));
    match &one.hash {
        Some(hash) => {
            let scopes = match &one.candidate {
                Some(Offered::Image(_)) => "--restart",
                Some(offered) if !offered.fits_time() => "--once | --bottle",
                Some(offered) if !offered.fits_once() => "--for 10m | --bottle | --always",
                _ => "--once | --for 10m | --bottle | --always",
            };
            format!(
                "\nbottler requests approve {bottle} {id} --hash {} [{scopes}]\n\
                 bottler requests reject {bottle} {id} --reason WHY\n",
                escaped(hash, 64)
            )
        }
        None if one.request.is_pending() => format!("\nbottler requests reject {bottle} {id} --reason WHY\n"),
        None => String::new(),
    }
}

/// An entry as it stands in `egress.allow`.
fn entry(entry: &AllowSpec) -> String {
    match entry {
        AllowSpec::Host(host) => format!("allow: {host:?}"),
        AllowSpec::Table(_) => format!("allow: {}", serde_json::to_string(entry).unwrap_or_default()),
    }
}

fn state_word(one: &ShownRequest) -> &'static str {
    match &one.request.state {
        _ if one.request.is_noted() => "noted",
        _ if one.has_ended => "expired",
        RequestState::Pending => "waits",
        RequestState::Approved { .. } => "granted",
        RequestState::Rejected { .. } => "rejected",
    }
}

fn decided(wish: &Wish, state: &RequestState) -> String {
    match state {
        RequestState::Pending => "waits".to_owned(),
        RequestState::Approved { .. } if matches!(wish, Wish::Capability { .. }) => {
            "granted: the image was built, for this bottle's next launches".to_owned()
        }
        RequestState::Approved { scope, generation, .. } => {
            let how = match scope {
                Scope::Once => "for one request",
                Scope::Until(_) => "for a time",
                Scope::Bottle => "until the bottle ends",
                Scope::Always => "for later launches, too",
            };
            format!("granted {how}, in policy {generation}")
        }
        RequestState::Rejected { reason, by, .. } => {
            let who = match by {
                Decider::Operator => "rejected by the operator",
                Decider::Rule => "rejected by a rule",
                Decider::Deadline => "it ended",
            };
            format!("{who}: {}", escaped(reason, LONG))
        }
    }
}

/// A time that has passed.
pub(super) fn age(from: u64, now: u64) -> String {
    match now.saturating_sub(from) {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policy::{Candidate, Wanted};
    use crate::primitive::{BuildStep, ImageOffer, Request};

    pub(in crate::cli::requests) fn shown(id: &str, host: &str, reason: &str) -> ShownRequest {
        ShownRequest {
            bottle: "demo".into(),
            request: Request {
                id: id.into(),
                wish: Wish::Egress(Wanted { host: host.into(), methods: vec!["GET".into()], paths: vec!["/x".into()] }),
                reason: reason.into(),
                asked: 100,
                times: 1,
                state: RequestState::Pending,
            },
            candidate: Some(Offered::Entry(Candidate {
                entry: AllowSpec::Host(host.into()),
                reaches: vec![format!("GET for /x at {host}")],
                credentials: Vec::new(),
                warnings: Vec::new(),
                exact: true,
            })),
            obstacle: None,
            remedy: Vec::new(),
            hash: Some("00ff00ff00ff00ff".into()),
            generation: 3,
            alike: 0,
            has_ended: false,
            causes: Vec::new(),
        }
    }

    /// The entry of one that is shown.
    pub(in crate::cli::requests) fn entry_of(one: &mut ShownRequest) -> &mut Candidate {
        match &mut one.candidate {
            Some(Offered::Entry(candidate)) => candidate,
            other => panic!("{other:?}"),
        }
    }

    /// A push that the gate has refused.
    pub(in crate::cli::requests) fn pushed(id: &str, reasons: &[&str]) -> ShownRequest {
        let offer = serde_json::json!({
            "id": "0f", "repository": "lib", "refs": ["refs/heads/agent/x"], "reasons": reasons, "keys": []
        });
        let mut one = shown(id, "x.com", "an example key");
        one.request.wish =
            Wish::Git { repository: "lib".into(), reference: "refs/heads/agent/x".into(), operation: "0f".into() };
        one.candidate = Some(Offered::Push(serde_json::from_value(offer).unwrap()));
        one
    }

    #[test]
    fn a_push_is_shown_with_all_that_it_releases() {
        let reasons: Vec<String> =
            (0..50).map(|n| format!("a secret (github-token:{n}) in {} line 7", "d/".repeat(700))).collect();
        let one = pushed("r1", &reasons.iter().map(String::as_str).collect::<Vec<_>>());
        let text = detail(&one, 130).join("\n");
        for reason in &reasons {
            assert!(text.contains(reason.as_str()), "{reason}");
        }
        assert!(text.contains("lib, refs/heads/agent/x") && text.contains("one push, this bottle"), "{text}");
        assert!(commands(&one).contains("[--once | --bottle]"), "{}", commands(&one));
        assert!(summary(&one).starts_with("! git push to lib"), "{}", summary(&one));
    }

    #[test]
    fn an_image_is_shown_with_every_step_of_its_build() {
        let mut one = shown("r1", "x.com", "");
        let packages: Vec<String> = (0..300).map(|n| format!("package-{n}")).collect();
        one.request.wish = Wish::Capability { packages: packages.clone(), dockerfile: String::new() };
        let steps = (0..50).map(|n| BuildStep::Run(format!("step-{n} {}", packages.join(" ")))).collect();
        one.candidate = Some(Offered::Image(ImageOffer { base: "sha256:abc".into(), steps }));
        let text = detail(&one, 130).join("\n");
        assert!(text.contains("builds on   sha256:abc"), "{text}");
        assert_eq!(text.matches("package-299\n").count(), 50, "nothing is cut");
        assert!(commands(&one).contains("--hash 00ff00ff00ff00ff [--restart]"), "{}", commands(&one));
        assert!(summary(&one).starts_with("! packages package-0"), "{}", summary(&one));
    }

    #[test]
    fn no_view_draws_what_an_agent_wrote() {
        let hostile = "\x1b[2Jok\u{202e}\n  hash        aaaa\u{200b}";
        let mut one = shown("r1", &format!("evil.com{hostile}"), hostile);
        one.causes.push(crate::sidecar::supervise::DeniedRequest {
            id: "d1".into(),
            time: 1,
            sidecar: "egress".into(),
            code: hostile.into(),
            reason: hostile.into(),
            request: hostile.into(),
            next_call: None,
        });
        let mut all = vec![one.clone()];
        for wish in [
            Wish::Credential { name: hostile.into(), host: hostile.into() },
            Wish::Git { repository: hostile.into(), reference: hostile.into(), operation: hostile.into() },
            Wish::Capability { packages: vec![hostile.into()], dockerfile: hostile.into() },
        ] {
            let mut other = one.clone();
            other.request.wish = wish;
            other.candidate = None;
            other.request.state = RequestState::Rejected { reason: hostile.into(), by: Decider::Operator, at: 1 };
            all.push(other);
        }
        all.push(pushed("r9", &[hostile]));
        let mut built = one.clone();
        built.request.wish = Wish::Capability { packages: vec![], dockerfile: format!("RUN {hostile}") };
        let steps = vec![BuildStep::Run(hostile.into()), BuildStep::Env { name: "A".into(), value: hostile.into() }];
        built.candidate = Some(Offered::Image(ImageOffer { base: hostile.into(), steps }));
        all.push(built);
        all[1].remedy = vec![hostile.into()];
        all[1].obstacle = Some(hostile.into());
        let mut views = vec![table(&all, 200)];
        views.extend(all.iter().flat_map(|one| detail(one, 200).into_iter().chain([commands(one)])));
        for view in &views {
            let drawn = view.chars().any(|c| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}'));
            assert!(!drawn, "{view:?}");
        }
        // No line of ours can be forged.
        let lines = detail(&one, 200);
        assert_eq!(lines.iter().filter(|line| line.starts_with("  hash ")).count(), 1);
        assert!(lines.iter().all(|line| !line.contains('\n')));
        assert!(lines.last().unwrap().starts_with("  the agent"));
    }

    #[test]
    fn a_request_is_shown_with_what_it_means() {
        let mut one = shown("r1", "x.com", "to build");
        entry_of(&mut one).credentials = vec!["key".into()];
        entry_of(&mut one).warnings = vec!["the agent can send data to x.com".into()];
        let text = detail(&one, 130).join("\n");
        for words in [
            "asked 30 s ago",
            "adds        allow: \"x.com\"",
            "WARNING",
            "key GO THERE",
            "once, a time",
            "\"to build\"",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(summary(&one).starts_with("! x.com"));
        assert!(commands(&one).contains("--hash 00ff00ff00ff00ff"));
    }
}
