//! The routes of a plan's cred-proxy, and what the agent is set up with so that its programs use them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credentials::{CredentialPlan, slot_at};
use crate::credential::Slot;
use crate::layout::agent::DEFAULT_HOME;
use crate::layout::cred_proxy;
use crate::manifest::{CredProxySection, RouteRole, RouteSection, Upstream};
use crate::policy::{EgressSpec, Reach};

/// The cred-proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredProxyPlan {
    /// Its routes.
    pub routes: Vec<RoutePlan>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutePlan {
    /// The first segments of the path.
    pub path: String,
    /// The host that it leads to.
    pub host: String,
    /// The port there, of TLS.
    pub port: u16,
    /// The beginning of every path there, with a slash at its beginning and none at its end.
    pub base: String,
    /// The name of the credential that requests get.
    pub credential: String,
    /// Where it stands in a request.
    #[schemars(with = "String")]
    pub slot: Slot,
    /// The only methods; all where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The only paths behind the route's own; all where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// What the agent is set up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub role: Option<RouteRole>,
}

/// Plans the routes.
///
/// # Errors
/// A route has no such credential, or one that is not for its host, or the allowlist does not have the host: why, and what to do.
pub(super) fn cred_proxy(
    section: &CredProxySection,
    credentials: &[CredentialPlan],
    egress: &EgressSpec,
) -> Result<CredProxyPlan, (String, Option<String>)> {
    let plan = |route: &RouteSection| {
        let refused = |why: String, hint: String| (format!("cred_proxy: route {}: {why}", route.path), Some(hint));
        let Upstream { host, port, base } =
            route.upstream().map_err(|why| refused(why, "https://HOST[:PORT][/BASE]".to_owned()))?;
        let name = &route.credential;
        let wanted = if port == 443 { host.clone() } else { format!("{host}:{port}") };
        let fits = |slot: &Slot| !matches!(slot, Slot::Path | Slot::WebSocket | Slot::AwsKeyId | Slot::AwsSecret);
        let slot = slot_at(credentials, name, &wanted, fits).map_err(|(why, hint)| refused(why, hint))?;
        let slot = slot.ok_or_else(|| {
            let hint = format!("add {{host: {host}, slot: bearer}} to its hosts");
            refused(format!("the credential {name} has no header and no query parameter at {host}"), hint)
        })?;
        if !matches!(egress.reach(&wanted), Ok(Reach::Inspected)) {
            let hint = format!("add it to the bottle's egress.allow, without a tunnel; or --allow {wanted}");
            return Err(refused(format!("{wanted} is not on the allowlist"), hint));
        }
        Ok(RoutePlan {
            path: route.path.clone(),
            host,
            port,
            base,
            credential: name.clone(),
            slot: slot.clone(),
            methods: route.methods.iter().map(|method| method.to_ascii_uppercase()).collect(),
            paths: route.paths.clone(),
            role: route.role,
        })
    };
    Ok(CredProxyPlan { routes: section.routes.iter().map(plan).collect::<Result<_, _>>()? })
}

impl CredProxyPlan {
    /// Variables of the agent.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for route in &self.routes {
            let url = route.url();
            let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
            match route.role {
                Some(RouteRole::AnthropicBaseUrl) => set("ANTHROPIC_BASE_URL", url),
                Some(RouteRole::OpenaiBaseUrl) => set("OPENAI_BASE_URL", url),
                Some(RouteRole::PipIndex) => {
                    set("PIP_INDEX_URL", format!("{url}/"));
                    set("PIP_TRUSTED_HOST", cred_proxy::NAME.to_owned());
                }
                Some(RouteRole::TeaLogin | RouteRole::GitInsteadof) | None => {}
            }
        }
        env
    }

    /// Settings of the agent's git, as keys and values.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let routes = self.routes.iter().filter(|route| route.role == Some(RouteRole::GitInsteadof));
        routes.map(|route| (format!("url.{}/.insteadOf", route.url()), route.upstream())).collect()
    }

    /// Files of the agent: path and content.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let logins = self.routes.iter().filter(|route| route.role == Some(RouteRole::TeaLogin));
        let file = |route: &RoutePlan| {
            // The route puts the token in; tea wants one.
            let content = format!(
                "logins:\n  - name: {}\n    url: {}\n    token: by-the-route\n    default: true\n",
                route.path,
                route.url()
            );
            (format!("{DEFAULT_HOME}/.config/tea/config.yml"), content)
        };
        logins.map(file).collect()
    }
}

impl RoutePlan {
    /// Where the agent finds it, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}:{}/{}", cred_proxy::NAME, cred_proxy::PORT, self.path)
    }

    /// Where it leads, with a slash at the end.
    pub fn upstream(&self) -> String {
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        format!("https://{}{port}{}/", self.host, self.base)
    }
}
