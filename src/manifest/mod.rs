//! The manifest: bottles, agents and templates in YAML, parsed and merged, with every file that they name. Defaults are the
//! plan's business.

mod catalogue;
mod combine;
mod cred_proxy;
mod credential;
mod egress;
mod env;
mod git;
mod grants;
mod merge;
mod problem;
mod read;
mod resolve;
mod schema;
mod section;
mod size;
mod supervise;
mod template;

pub use catalogue::{Agent, Catalogue, ProjectFiles, user_file};
pub use combine::{Origin, ResolvedCredential, WrittenAt};
pub use cred_proxy::{CredProxySection, RouteRole, RouteSection, Upstream};
pub use credential::{CredentialFile, CredentialSection, PLACEHOLDER, PlaceSection, PlaceTable, ShapeSection};
pub use egress::{DlpSection, Egress, EgressSection, ProxySection, ProxyTable};
pub use env::{Value, ValuePart, read_file as read_env_file};
pub use git::{GitGateSection, GitSection};
pub use grants::{SavedGrant, add_grants, grants_file, read_grants, saved_grants};
pub use problem::Problem;
pub use read::{expand, text};
pub use resolve::{ResolvedAgent, SkillFile, choose};
pub use schema::schema;
pub use section::*;
pub use size::Size;
pub use supervise::{OnRequest, SuperviseSection, SuperviseTable};
pub use template::{AgentTemplate, McpFormat, TemplateError};
