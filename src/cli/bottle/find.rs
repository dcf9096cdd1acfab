//! Finds a bottle of this user by its id, running or not.

use std::sync::Arc;

use super::client::{Client, ClientOptions};
use crate::cli::failure::input;
use crate::cli::open::{find_engine, state};
use crate::engine::choice::connect;
use crate::engine::labels::Kind;
use crate::engine::{Engine, Filter, Object};
use crate::holder::reach;
use crate::plan::LaunchPlan;
use crate::session::{Class, Failure, PLAN_FILE, Record, StateDir, exit_record};

/// A bottle of this user, running or not.
pub(in crate::cli) struct FoundBottle {
    pub(in crate::cli) id: String,
    pub(in crate::cli) state: StateDir,
    pub(in crate::cli) record: Record,
    pub(in crate::cli) engine: Arc<dyn Engine>,
}

impl FoundBottle {
    /// Finds a bottle by its id.
    pub(in crate::cli) fn find(id: &str) -> Result<Self, Failure> {
        let state = state()?;
        let unreadable = |error: std::io::Error| {
            let failure = Failure::new(Class::Internal, format!("{id}: {error}"));
            match error.kind() {
                std::io::ErrorKind::InvalidData => failure.hint(format!(
                    "`bottler rm --force --discard {id}` removes everything of it, including its workspace"
                )),
                std::io::ErrorKind::PermissionDenied => {
                    let (user, path) = (nix::unistd::geteuid(), crate::host::shell_word(state.path()));
                    failure.hint(format!("give its files back to this user: `sudo chown -R {user} {path}`"))
                }
                _ => failure,
            }
        };
        let found = if crate::session::valid_name(id) { state.read_record(id).map_err(unreadable)? } else { None };
        let record = found.ok_or_else(|| {
            let all = state.bottles().unwrap_or_default();
            if crate::session::valid_name(id) && exit_record::read(&state, id).is_some() {
                return input(format!("{id} has ended, and nothing of its work is kept"))
                    .hint(format!("`bottler logs {id}` and `bottler inspect {id}` still work"));
            }
            let near = crate::suggest::nearest(id, all.iter().map(String::as_str));
            let hint =
                near.map_or_else(|| "`bottler ps --all` lists them".to_owned(), |near| format!("did you mean {near}?"));
            input(format!("there is no bottle {id}")).hint(hint)
        })?;
        let engine = connect(&record.endpoint)?;
        Ok(Self { id: id.to_owned(), state, record, engine })
    }

    /// A bottle whose record cannot be read; assumes the current engine.
    pub(in crate::cli) fn find_broken(id: &str) -> Result<Self, Failure> {
        let (state, endpoint) = (state()?, find_engine()?);
        let engine = connect(&endpoint)?;
        let record = Record {
            id: id.to_owned(),
            endpoint,
            owner: None,
            agent: "?".to_owned(),
            launched: 0,
            keeps: None,
            keeps_home: None,
            invocation: None,
        };
        Ok(Self { id: id.to_owned(), state, record, engine })
    }

    /// Finds a running bottle.
    pub(in crate::cli) async fn living(id: &str) -> Result<Self, Failure> {
        let found = Self::find(id)?;
        if !found.state.is_alive(id) {
            return Err(input(format!("{id} is not running")).hint("`bottler ps --all` lists kept bottles"));
        }
        found.engine.info().await?;
        Ok(found)
    }

    /// The owner label of its objects.
    pub(in crate::cli) fn owner(&self) -> &str {
        self.record.owner.as_deref().unwrap_or(&self.state.owner)
    }

    pub(in crate::cli) fn plan(&self) -> Result<LaunchPlan, Failure> {
        let path = self.state.bottle(&self.id).join(PLAN_FILE);
        let failed = |why: String| Failure::new(Class::Internal, format!("read the plan of {}: {why}", self.id));
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
    }

    pub(in crate::cli) async fn objects(&self) -> Result<Vec<Object>, Failure> {
        let mut objects = self.engine.list(&Filter::Session(self.id.clone())).await?;
        objects.retain(|object| object.identity.owner == self.owner());
        Ok(objects)
    }

    /// The id of its agent's or a sidecar's container.
    pub(in crate::cli) async fn container(&self, sidecar: Option<&str>) -> Result<String, Failure> {
        let wanted = sidecar.map(|name| format!("{}-{name}", self.id));
        let objects = self.objects().await?;
        let found = objects.iter().find(|object| match &wanted {
            None => object.identity.kind == Kind::Agent,
            Some(name) => object.identity.kind == Kind::Sidecar && object.name == *name,
        });
        found.map(|object| object.id.clone()).ok_or_else(|| {
            let of = format!("{}-", self.id);
            let sidecars = objects.iter().filter(|object| object.identity.kind == Kind::Sidecar);
            let names: Vec<&str> = sidecars.filter_map(|object| object.name.strip_prefix(&of)).collect();
            input(format!("{} has no {}", self.id, sidecar.unwrap_or("agent yet")))
                .hint(format!("its sidecars: {}", names.join(", ")))
        })
    }

    pub(in crate::cli) async fn reach(&self, show: ClientOptions) -> Result<Client, Failure> {
        let socket = reach(&self.state.bottle(&self.id)).await;
        let socket = socket.map_err(|error| {
            Failure::new(Class::Internal, format!("reach the holder of {}: {error}", self.id))
                .hint("a recipe launched this bottle; attach to the bottle of that recipe")
        })?;
        Ok(Client::new(self.id.clone(), socket, self.engine.clone(), show))
    }
}
