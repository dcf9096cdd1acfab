//! The policy: pure functions from a request's intent to a decision. No sockets, no clock, no state.

mod allow;
mod authorize;
mod credential;
mod git;
mod git_terms;
mod host_service;
mod intent;
mod limits;
mod live;
mod named_rules;
mod preset;
mod preset_name;
mod proposal;
mod reason;
mod rule;
mod sibling;
mod spec;
mod terms;

pub use allow::{Allow, AllowSpec, AllowTable, Deny, DenySpec, DenyTable, EntryError, Tls};
pub use authorize::{Decision, Destination, Policy, authorize, check_addresses, check_proxy, check_server_name};
pub use credential::{Credentials, CredentialsError};
pub use git::{GitAccess, GitEntry, GitError, GitRepository, GitRequest};
pub use git_terms::{GitDelete, GitLfs, GitTerms, PROTECTED};
pub use host_service::HostService;
pub use intent::{Form, Intent};
pub use limits::RequestLimits;
pub use live::{Change, ChangeError, Denial, EnforcedPolicy, Grant, LivePolicy, Scope};
pub use preset::{Preset, PresetError, allow_list, expanded};
pub use preset_name::{PresetTag, UnknownPreset, is_preset};
pub use proposal::{Candidate, CredentialReach, Verdict, Wanted, examine, hash_of, next_call, suggested_call};
pub use reason::Reason;
pub use rule::{Rule, RuleError};
pub use sibling::{Endpoint, Sibling};
pub use spec::{Connect, EgressEngine, EgressSpec, Reach, SpecError, UpstreamProxy};
pub use terms::{CANARY, FORBIDDEN, Mode, TcpTarget, is_probe_host};

#[cfg(test)]
mod tests;
