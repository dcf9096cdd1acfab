//! Reads a question of the agent as a wish in one spelling, so that what is the same is asked once.

use super::capability::{look, offer};
use super::declared::{declared, place};
use super::judge::audited;
use crate::net::RepositoryUrl;
use crate::plan::RepositoryPlan;
use crate::policy::Rule;
use crate::primitive::bottle::{Bottle, Wish};
use crate::sidecar::git_gate::Offer;
use crate::sidecar::supervise::{Reply, Status};

/// The wish in one spelling.
///
/// # Errors
/// The answer to what no operator needs to see: it is malformed, or nothing of the kind was refused.
pub(super) async fn read(bottle: &Bottle, wish: Wish) -> Result<Wish, Reply> {
    let invalid = |why: String| Reply::new(Status::Invalid, why, "Correct the request.");
    match wish {
        // The sidecar has checked this; it is beside the agent, and this is not.
        Wish::Egress(wanted) => wanted.normal().map(Wish::Egress).map_err(invalid),
        Wish::Credential { name, host } => {
            let host = host.trim().trim_end_matches('.').to_ascii_lowercase();
            if let Err(error) = host.parse::<Rule>() {
                return Err(invalid(format!("host: {error}")));
            }
            let Some(known) = declared(&bottle.plan, &name, &host) else { return Ok(Wish::Credential { name, host }) };
            if known.env.is_none() && known.file.is_none() && place(known, &host).is_some() {
                return Err(used_by_ours(&known.name, &host));
            }
            Ok(Wish::Credential { name: known.name.clone(), host })
        }
        Wish::Git { .. } if bottle.plan.git.is_none() => {
            let next = "Go on without it, or say in your final answer what you could not do.";
            Err(Reply::new(Status::Refused, "this bottle has no git gate whose decisions could be changed", next))
        }
        Wish::Git { repository, reference, operation } => {
            let repositories = bottle.plan.git.iter().flat_map(|git| &git.repositories);
            let own: Vec<&RepositoryPlan> = repositories.filter(|plan| is_named(plan, &repository)).collect();
            let offers = bottle
                .refused_pushes()
                .await
                .map_err(|why| Reply::new(Status::Refused, why, "Go on with other work, and ask again later."))?;
            let Some(offer) = offered(&offers, &own, &reference, &operation) else {
                let why = "the git gate has refused no such push that an operator can release";
                let wish = Wish::Git { repository, reference, operation };
                audited(bottle, &wish, "refuse", "request_refused", why);
                let next = "Push first; if the refusal names a call of this tool, make exactly that one. A refusal that names none \
                    stays: change the commits, the branch or the tag as it says.";
                return Err(Reply::new(Status::Refused, why, next));
            };
            let Offer { id, repository, refs, .. } = offer.clone();
            Ok(Wish::Git { repository, reference: refs.join(", "), operation: id })
        }
        Wish::Capability { packages, dockerfile } => {
            // Where nothing can be built, the operator reads what was asked for as it is.
            if look(bottle).await.is_ok() {
                offer(bottle, &packages, &dockerfile).map_err(invalid)?;
            }
            Ok(Wish::Capability { packages, dockerfile })
        }
    }
}

/// The answer where the agent has no placeholder: the git gate, or a route of the cred-proxy, uses the credential.
fn used_by_ours(name: &str, host: &str) -> Reply {
    let why = format!(
        "the credential {name} is used for you at {host}: by the git gate, or by a route in \
         /run/bottler-policy/routes.json"
    );
    Reply::new(Status::AlreadyAllowed, why, "Go that way, without a credential.")
}

/// Whether an agent means a repository: by its name at the gate, or by its URL in the forms that people use.
fn is_named(plan: &RepositoryPlan, name: &str) -> bool {
    let place = |text: &str| {
        let read = RepositoryUrl::parse(text).or_else(|_| RepositoryUrl::parse(&format!("https://{text}")));
        read.ok().map(|url| (url.place().0.to_ascii_lowercase(), url.place().1.to_ascii_lowercase()))
    };
    let name = name.trim();
    name.trim_end_matches(".git") == plan.name || place(name).is_some_and(|named| Some(named) == place(&plan.url))
}

/// The refused push that an agent means: by its id, or the latest one to a repository and, if it names one, to a ref.
fn offered<'a>(
    offers: &'a [Offer],
    repositories: &[&RepositoryPlan],
    reference: &str,
    operation: &str,
) -> Option<&'a Offer> {
    if let Some(offer) = offers.iter().find(|offer| offer.id == operation.trim()) {
        return Some(offer);
    }
    let is_there = |offer: &&Offer| repositories.iter().any(|plan| plan.name == offer.repository);
    let has = |offer: &&Offer| {
        let is_it =
            |full: &String| full == reference || full.rsplit_once("refs/heads/").is_some_and(|it| it.1 == reference);
        reference.is_empty() || offer.refs.iter().any(is_it)
    };
    offers.iter().rev().filter(|_| operation.trim() == "push").find(|offer| is_there(offer) && has(offer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(id: &str, repository: &str, reference: &str) -> Offer {
        let text =
            serde_json::json!({ "id": id, "repository": repository, "refs": [reference], "reasons": [], "keys": [] });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_push_is_found_by_its_id_or_by_what_it_was_to() {
        let plan: RepositoryPlan = serde_json::from_value(serde_json::json!({
            "name": "lib", "url": "https://Git.example.com/acme/lib.git", "terms": {}
        }))
        .unwrap();
        for (name, expected) in [
            ("lib", true),
            ("lib.git", true),
            ("git.example.com/acme/lib", true),
            ("https://git.example.com/acme/lib.git", true),
            ("git@git.example.com:acme/lib.git", true),
            ("git.example.com/acme/other", false),
            ("li", false),
            ("", false),
        ] {
            assert_eq!(is_named(&plan, name), expected, "{name}");
        }
        let offers = [
            offer("a1", "lib", "refs/heads/agent/x"),
            offer("b2", "lib", "refs/heads/agent/y"),
            offer("c3", "app", "r"),
        ];
        let found = |repositories: &[&RepositoryPlan], reference: &str, operation: &str| {
            offered(&offers, repositories, reference, operation).map(|offer| offer.id.clone())
        };
        assert_eq!(found(&[], "", "a1").as_deref(), Some("a1"));
        assert_eq!(found(&[&plan], "", "push").as_deref(), Some("b2"), "the latest");
        assert_eq!(found(&[&plan], "refs/heads/agent/x", "push").as_deref(), Some("a1"));
        assert_eq!(found(&[&plan], "agent/x", "push").as_deref(), Some("a1"));
        assert_eq!(found(&[&plan], "agent/z", "push"), None);
        assert_eq!(found(&[&plan], "", "fetch"), None);
        assert_eq!(found(&[], "", "push"), None, "another repository's");
        assert_eq!(found(&[&plan], "", "a"), None, "an id is whole");
    }
}
