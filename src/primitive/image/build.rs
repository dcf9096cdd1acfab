//! `build_image`: the image made of the running executable; or one that the engine has, pulls or builds, with the
//! executable on top.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::account::Account;
use super::base;
use super::self_image::{Base, On, SelfImage};
use crate::engine::labels::CACHE;
use crate::engine::{Engine, ImageBuild, ImageFound};
use crate::layout::agent::{DEFAULT_HOME, DEFAULT_USER};
pub use crate::plan::ImagePlan as ImageOptions;
use crate::plan::{BuildNetwork, BuildSection};
use crate::primitive::{Bottle, Event};
use crate::session::{Class, Failure, Pending, ScriptLocation};
use crate::sync::lock;
use crate::workspace::context;

/// The source that means the running executable.
const SELF: &str = "self";
/// What stands for every image of ours where nothing is made.
const REHEARSED: &str = "bottler:rehearsal";
/// Hexadecimal digits of a build's digest in its tag.
const DIGITS: usize = 16;

/// An image that the engine has, with this executable in it.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub struct Built {
    /// Its reference.
    pub tag: String,
    /// What it runs where nobody says otherwise.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub user: String,
    /// The directory that it starts in.
    pub workdir: String,
    /// Whom the plan's agent runs as in it.
    #[serde(skip)]
    pub(in crate::primitive) account: Option<Account>,
    /// Where that one lives.
    #[serde(skip)]
    pub(in crate::primitive) home: String,
    /// Its variables.
    #[serde(skip)]
    pub(in crate::primitive) env: BTreeMap<String, String>,
}

/// An image.
pub struct Image {
    pub(in crate::primitive) built: Pending<Arc<Built>>,
}

impl Image {
    /// Waits until the engine has it; returns its reference.
    ///
    /// # Errors
    /// It could not be built, or is not there.
    pub async fn ready(&self) -> Result<String, Failure> {
        Ok(self.built.get().await?.tag.clone())
    }

    /// Waits until the engine has it; what is known of it.
    ///
    /// # Errors
    /// It could not be built, or is not there.
    pub async fn inspect(&self) -> Result<Arc<Built>, Failure> {
        self.built.get().await
    }
}

/// Images that one bottle may ask for.
const MAX_IMAGES: usize = 500;

/// Makes sure that the engine has an image. Built once per bottle; cached on the engine by content.
///
/// # Errors
/// Neither or both of a source and a build are given; or a project's hooks want to build.
pub fn build_image(
    bottle: &Arc<Bottle>,
    options: &ImageOptions,
    at: Option<&ScriptLocation>,
) -> Result<Image, Failure> {
    let bad = |why: &str| Failure::new(Class::Input, format!("build_image: {why}")).at(at);
    match (&options.build, options.source.trim()) {
        (None, "") => return Err(bad("source is empty")),
        (Some(_), source) if !source.is_empty() => return Err(bad("takes a source or a build, not both")),
        (Some(build), _) if bottle.setting.bounded && bottle.plan.image.build.as_ref() != Some(build) => {
            let hint =
                "a build reads folders of the host, and may reach the network: it belongs in a bottle of your own";
            return Err(bad("a project's hooks build nothing that the plan does not").hint(hint));
        }
        _ => {}
    }
    if lock(&bottle.images).len() >= MAX_IMAGES {
        return Err(bad(&format!("there are {MAX_IMAGES} images already")));
    }
    Ok(Image { built: built(bottle, options, at) })
}

/// The image of the built-in sidecars and of the agent `probe`.
pub(in crate::primitive) fn self_image(bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<Arc<Built>> {
    built(bottle, &ImageOptions::of(SELF), at)
}

/// An image: one effect however often it is asked for.
fn built(bottle: &Arc<Bottle>, options: &ImageOptions, at: Option<&ScriptLocation>) -> Pending<Arc<Built>> {
    let key = serde_json::to_string(options).unwrap_or_default();
    let mut known = lock(&bottle.images);
    if let Some(built) = known.get(&key) {
        return built.clone();
    }
    let (context, wanted) = (bottle.clone(), options.clone());
    let name = match (wanted.source.as_str(), &wanted.build) {
        (SELF, _) => "image bottler".to_owned(),
        (source, None) => format!("image {source}"),
        (_, Some(_)) => "build image".to_owned(),
    };
    let built = bottle.effect(name, at, async move {
        if wanted.source == SELF {
            let account = Account::numbers(&context.plan.agent.user);
            let tag = if context.setting.rehearsal {
                REHEARSED.to_owned()
            } else {
                scratch(&context.session.engine, &context.setting.building, context.plan.gvisor).await?
            };
            return Ok(Arc::new(Built {
                tag,
                command: Vec::new(),
                user: String::new(),
                workdir: String::new(),
                account,
                home: DEFAULT_HOME.to_owned(),
                env: BTreeMap::new(),
            }));
        }
        let source = match &wanted.build {
            Some(build) => build_own(&context, build, wanted.rebuild).await?,
            None => wanted.source.clone(),
        };
        let found = find(&context, &source, wanted.pull && wanted.build.is_none()).await?;
        on_top(&context, &source, found).await
    });
    known.insert(key, built.clone());
    built
}

/// An image of the engine's; pulled where it has none, or where that is asked for.
async fn find(bottle: &Bottle, source: &str, pull: bool) -> Result<ImageFound, Failure> {
    let engine = &bottle.session.engine;
    if !pull && let Some(found) = engine.image_find(source).await? {
        return Ok(found);
    }
    let told = |line: &str| bottle.events.tell(Event::Progress(format!("pull {source}: {line}")));
    if let Err(error) = engine.image_pull(source, &told).await {
        let message = format!("pull image {source}, which the engine does not have: {}", error.message);
        return Err(
            Failure::new(Class::Operation, message).hint("check the name, and that its registry can be reached")
        );
    }
    let found = engine.image_find(source).await?;
    found.ok_or_else(|| {
        Failure::new(Class::Operation, format!("pull image {source}: the engine does not have it afterwards"))
    })
}

/// Builds a user's image; its reference. The same context, Dockerfile and arguments are built once.
async fn build_own(bottle: &Bottle, build: &BuildSection, rebuild: bool) -> Result<String, Failure> {
    if bottle.setting.rehearsal {
        return Ok("bottler:build-rehearsal".to_owned());
    }
    let (wanted, network) = (build.clone(), build.network == BuildNetwork::Default);
    let packed = tokio::task::spawn_blocking(move || pack(&wanted)).await;
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
    let engine = &bottle.session.engine;
    let _building = bottle.setting.building.lock().await;
    if rebuild || engine.image_find(&tag).await?.is_none() {
        let wanted = ImageBuild {
            tag: tag.clone(),
            context: Bytes::from(context),
            dockerfile: name,
            args: build.args.clone(),
            target: build.target.clone(),
            network,
            no_cache: rebuild,
            labels: [(CACHE.to_owned(), "build".to_owned())].into(),
        };
        let told = |line: &str| bottle.events.tell(Event::Log(line.to_owned()));
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

/// A user's image, with this executable on top.
async fn on_top(bottle: &Bottle, source: &str, found: ImageFound) -> Result<Arc<Built>, Failure> {
    if !found.triggers.is_empty() {
        let message = format!("image {source} has ONBUILD commands: {:?}", found.triggers);
        return Err(Failure::new(Class::Input, message)
            .hint("they would run unseen when the image is prepared; use an image without them"));
    }
    let user = bottle.plan.agent.user.clone();
    let (tag, account, home) = layered(bottle, &found, &user).await?;
    let ImageFound { command, user, workdir, env, .. } = found;
    Ok(Arc::new(Built { tag, command, user, workdir, account: Some(account), home, env }))
}

fn internal(error: &anyhow::Error) -> Failure {
    Failure::new(Class::Internal, format!("make an image of the running executable: {error:#}"))
}

/// The image with this executable, a home and an entry in `/etc/passwd` for a user on top; built where the engine does
/// not have it yet.
async fn layered(bottle: &Bottle, found: &ImageFound, user: &str) -> Result<(String, Account, String), Failure> {
    let engine = &bottle.session.engine;
    if bottle.setting.rehearsal {
        let account = Account::numbers(user).or_else(|| Account::numbers(DEFAULT_USER));
        let account = account.ok_or_else(|| Failure::new(Class::Internal, "the default user is not a number"))?;
        return Ok((REHEARSED.to_owned(), account, DEFAULT_HOME.to_owned()));
    }
    let image = read(engine, Base::Image { id: found.id.clone(), user: user.to_owned() }, bottle.plan.gvisor).await?;
    if let Some(layered) = engine.image_find(&image.tag).await?
        && let Some(account) = layered.labels.get(base::ACCOUNT).and_then(|text| Account::numbers(text))
        && let Some(home) = layered.labels.get(base::HOME)
    {
        return Ok((image.tag, account, home.clone()));
    }
    let _building = bottle.setting.building.lock().await;
    let seen = base::look(bottle, &found.id).await?;
    let account = Account::find(user, &seen.passwd, &seen.groups)
        .map_err(|why| Failure::new(Class::Input, format!("user: {why}")).hint("user: \"1000:1000\""))?;
    let home = account.home(found.env.get("HOME").map(String::as_str), &seen.passwd);
    // Another bottle may have built it meanwhile.
    if engine.image_find(&image.tag).await?.is_none() {
        let on = On { account, home: &home, seen: &seen };
        engine.image_layer(&image.layer(Some(on)).map_err(|error| internal(&error))?).await?;
    }
    Ok((image.tag, account, home))
}

async fn read(engine: &Arc<dyn Engine>, base: Base, gvisor: bool) -> Result<SelfImage, Failure> {
    let info = engine.info().await?;
    let image = tokio::task::spawn_blocking(move || SelfImage::read(&info, base, gvisor)).await;
    image.map_err(|error| internal(&error.into()))?.map_err(|error| internal(&error))
}

/// The image with this executable and nothing else; built where the engine does not have it yet.
async fn scratch(engine: &Arc<dyn Engine>, building: &tokio::sync::Mutex<()>, gvisor: bool) -> Result<String, Failure> {
    let image = read(engine, Base::Scratch, gvisor).await?;
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

/// The image of the running executable outside of a bottle; built where the engine does not have it.
///
/// # Errors
/// The engine refuses.
pub async fn own_image(engine: &Arc<dyn Engine>) -> Result<String, Failure> {
    scratch(engine, &tokio::sync::Mutex::default(), false).await
}
