//! Builds images on the engine, which caches them by content.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::base;
use super::self_image::{AGENT, AgentLayer, Base, SelfImage};
use crate::engine::labels::CACHE;
use crate::engine::{Engine, ImageBuild, ImageFound};
use crate::plan::{BuildNetwork, BuildSection};
use crate::primitive::account::Account;
use crate::primitive::bottle::{ImageSource, Images, Layered};
use crate::primitive::event::{Event, Events};
use crate::session::{Class, Failure, Session};
use crate::workspace::context;

/// Hexadecimal digits of a build's digest in its tag.
const DIGITS: usize = 16;

/// Builds images on the engine.
struct OnEngine {
    /// The state directory, where there is one.
    state: Option<PathBuf>,
    /// Held during a build, so that bottles that launch together do not build the same image twice.
    building: Mutex<()>,
}

/// Images that are built on the engine. `state` is the state directory, which remembers the executable's digest.
pub fn images_on_engine(state: Option<PathBuf>) -> Images {
    Images::new(Arc::new(OnEngine { state, building: Mutex::default() }))
}

#[async_trait]
impl ImageSource for OnEngine {
    async fn own(&self, session: &Session, agent: Option<Account>, gvisor: bool) -> Result<String, Failure> {
        let base = Base::Scratch { agent: agent.unwrap_or(AGENT) };
        scratch(&session.engine, &self.building, base, gvisor, self.state.clone()).await
    }

    async fn sidecar(&self, session: &Session, found: &ImageFound, gvisor: bool) -> Result<String, Failure> {
        let base = Base::Image { id: found.id.clone(), user: String::new() };
        let made = scratch(&session.engine, &self.building, base, gvisor, self.state.clone()).await;
        made.map_err(|failure| Failure {
            message: format!("make the image of a sidecar on {}: {}", found.id, failure.message),
            ..failure
        })
    }

    async fn git(&self, session: &Session, gvisor: bool) -> Result<String, Failure> {
        let made = scratch(&session.engine, &self.building, Base::Programs, gvisor, self.state.clone()).await;
        made.map_err(|failure| {
            Failure::new(Class::Operation, format!("make the image of the git gate: {}", failure.message)).hint(
                "install git and openssh-client on this machine, or name an image that has them: git_gate: {image: …}",
            )
        })
    }

    async fn build(
        &self,
        session: &Session,
        events: &Events,
        build: &BuildSection,
        rebuild: bool,
    ) -> Result<String, Failure> {
        build_own(session, events, &self.building, build, rebuild).await
    }

    async fn layer(&self, session: &Session, found: &ImageFound, user: &str, gvisor: bool) -> Result<Layered, Failure> {
        let base = Base::Image { id: found.id.clone(), user: user.to_owned() };
        let image = find(&session.engine, base, gvisor, self.state.clone()).await?;
        layered(session, &self.building, image, found, user).await
    }
}

/// What a build needs.
struct Packed {
    tag: String,
    dockerfile: String,
    context: Vec<u8>,
}

/// The reference that a user's image is built as, if it is built now.
///
/// # Errors
/// The context cannot be read, or the build would reach the network unseen.
pub async fn build_reference(build: &BuildSection) -> Result<String, Failure> {
    packed(build).await.map(|packed| packed.tag)
}

/// Reads a build's context. Its reference is derived from the context, the Dockerfile and the arguments.
async fn packed(build: &BuildSection) -> Result<Packed, Failure> {
    let (wanted, network) = (build.clone(), build.network == BuildNetwork::Default);
    let packed = crate::task::blocking(move || pack(&wanted)).await;
    let packed = packed.map_err(|error| Failure::new(Class::Internal, format!("read the context: {error}")))?;
    let (name, dockerfile, context) = packed?;
    if !network && let Some(line) = context::fetches(&dockerfile) {
        let message =
            format!("build image: {line:?} would be fetched by the engine itself, although the build has no network");
        return Err(Failure::new(Class::Input, message)
            .hint("copy the file into the context; or, if you trust the Dockerfile, build: {network: default}"));
    }
    let mut digest = Sha256::new();
    for part in [context.as_slice(), name.as_bytes(), &serde_json::to_vec(&build.args).unwrap_or_default()] {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.update(build.target.as_deref().unwrap_or_default());
    digest.update([u8::from(network)]);
    let tag = format!("bottler:build-{}", &HEXLOWER.encode(&digest.finalize())[..DIGITS]);
    Ok(Packed { tag, dockerfile: name, context })
}

/// Builds a user's image; returns its reference. Equal contexts, Dockerfiles and arguments are built once.
async fn build_own(
    session: &Session,
    events: &Events,
    building: &Mutex<()>,
    build: &BuildSection,
    rebuild: bool,
) -> Result<String, Failure> {
    let Packed { tag, dockerfile, context } = packed(build).await?;
    let network = build.network == BuildNetwork::Default;
    let engine = &session.engine;
    let _building = building.lock().await;
    if rebuild || engine.image_find(&tag).await?.is_none() {
        let wanted = ImageBuild {
            tag: tag.clone(),
            context: Bytes::from(context),
            dockerfile,
            args: build.args.clone(),
            target: build.target.clone(),
            network,
            no_cache: rebuild,
            labels: [(CACHE.to_owned(), "build".to_owned())].into(),
        };
        let told = |line: &str| events.tell(Event::Log(line.to_owned()));
        engine.image_build(&wanted, &told).await.map_err(|error| {
            let failure = Failure::from(error);
            if network { failure } else { failure.hint("its commands have no network; if they need one, and you trust the Dockerfile: build: {network: default}") }
        })?;
    }
    Ok(tag)
}

/// The Dockerfile's name and text, and the context.
fn pack(build: &BuildSection) -> Result<(String, String, Vec<u8>), Failure> {
    let failed = |error: std::io::Error| {
        let folder = build.context.as_deref().unwrap_or(Path::new(""));
        Failure::new(Class::Input, format!("build image: read {}: {error}", folder.display()))
    };
    let inline = ".bottler.Dockerfile".to_owned();
    match (&build.context, &build.dockerfile_inline) {
        (None, Some(text)) => {
            let context = context::alone(&inline, text).map_err(failed)?;
            Ok((inline, text.clone(), context))
        }
        (Some(folder), Some(text)) => {
            let context = context::pack(folder, Some((&inline, text))).map_err(failed)?;
            Ok((inline, text.clone(), context))
        }
        (Some(folder), None) => {
            let name = build.dockerfile.as_deref().unwrap_or(Path::new("Dockerfile")).to_string_lossy().into_owned();
            let text = context::dockerfile(folder, &name).map_err(failed)?;
            let context = context::pack(folder, Some((&name, &text))).map_err(failed)?;
            Ok((name, text, context))
        }
        (None, None) => Err(Failure::new(Class::Input, "build: it has neither a context nor a dockerfile_inline")),
    }
}

fn internal(error: &anyhow::Error) -> Failure {
    Failure::new(Class::Internal, format!("make an image of the running executable: {error:#}"))
}

/// Adds a layer with the executable, a home, and an entry in `/etc/passwd` for a user. Built only if the engine does
/// not have it.
async fn layered(
    session: &Session,
    building: &Mutex<()>,
    image: SelfImage,
    found: &ImageFound,
    user: &str,
) -> Result<Layered, Failure> {
    let engine = &session.engine;
    if let Some(layered) = engine.image_find(&image.tag).await?
        && let Some(account) = layered.labels.get(base::ACCOUNT).and_then(|text| Account::numbers(text))
        && let Some(home) = layered.labels.get(base::HOME)
    {
        return Ok(Layered { tag: image.tag, account, home: home.clone() });
    }
    let _building = building.lock().await;
    let seen = base::look(session, &found.id).await?;
    let account = Account::find(user, &seen.passwd, &seen.groups)
        .map_err(|why| Failure::new(Class::Input, format!("user: {why}")).hint("user: \"1000:1000\""))?;
    let home = account.home(found.env.get("HOME").map(String::as_str), &seen.passwd);
    // Another bottle may have built it meanwhile.
    if engine.image_find(&image.tag).await?.is_none() {
        let on = AgentLayer { account, home: &home, seen: &seen };
        engine.image_layer(&image.layer(Some(on)).map_err(|error| internal(&error))?).await?;
    }
    Ok(Layered { tag: image.tag, account, home })
}

async fn find(
    engine: &Arc<dyn Engine>,
    base: Base,
    gvisor: bool,
    state: Option<PathBuf>,
) -> Result<SelfImage, Failure> {
    let info = engine.info().await?;
    let digest = engine.executable_digest();
    let image = crate::task::blocking(move || SelfImage::find(&info, base, gvisor, digest, state.as_deref())).await;
    image.map_err(|error| internal(&error.into()))?.map_err(|error| internal(&error))
}

/// The image of a sidecar. Built only if the engine does not have it.
async fn scratch(
    engine: &Arc<dyn Engine>,
    building: &Mutex<()>,
    base: Base,
    gvisor: bool,
    state: Option<PathBuf>,
) -> Result<String, Failure> {
    let image = find(engine, base, gvisor, state).await?;
    if engine.image_find(&image.tag).await?.is_some() {
        return Ok(image.tag);
    }
    let _building = building.lock().await;
    // Another bottle may have built it meanwhile.
    if engine.image_find(&image.tag).await?.is_none() {
        engine.image_layer(&image.layer(None).map_err(|error| internal(&error))?).await?;
    }
    Ok(image.tag)
}

/// The image of the running executable, for use outside of a bottle. Built only if the engine does not have it.
///
/// # Errors
/// The engine refuses.
pub async fn own_image(engine: &Arc<dyn Engine>) -> Result<String, Failure> {
    scratch(engine, &Mutex::default(), Base::Scratch { agent: AGENT }, false, None).await
}
