//! What users write, in YAML: bottles, agents, templates. Read into types, put together, and every file that they name
//! read; nothing is decided here.

mod catalogue;
mod chosen;
mod egress;
mod env;
mod file;
mod granted;
mod merge;
mod problem;
mod schema;
mod section;
mod size;
mod template;

pub use catalogue::{Agent, Catalogue, ProjectFiles, user_file};
pub use chosen::{Chosen, SkillFile, choose};
pub use egress::{DlpSection, Egress, EgressSection, ProxySection, ProxyTable};
pub use env::{Part, Value, read_file as read_env_file};
pub use file::{expand, text};
pub use granted::{Granted, granted, granted_file, read_granted, with_granted};
pub use problem::Problem;
pub use schema::schema;
pub use section::*;
pub use size::Size;
pub use template::{AgentTemplate, CredentialSection, McpFormat, TemplateError};
