//! Docker Engine, through its API. The only module that names bollard.

mod call;
pub mod endpoint;
mod list;
mod request;
mod transport;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use ipnet::Ipv4Net;

use self::call::{call, failure, removal};
use self::endpoint::Endpoint;
use super::labels;
use super::{
    Archive, Bounds, ContainerSpec, ContainerState, Engine, EngineDetails, EngineError, EngineInfo, ErrorKind,
    ExecSpec, Filter, ImageBuild, ImageCommit, ImageFound, ImageLayer, NetworkSpec, Object, Output, Product, Progress,
    Removal, Result, Streams, TerminalSize, VolumeSpec,
};

/// The oldest API bottler works with: Docker 20.10.
const OLDEST_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// Deadlines by class of call: look-ups, creations, starts, uploads, image builds and pulls, removals.
const LOOK: Duration = Duration::from_secs(10);
const CREATE: Duration = Duration::from_secs(30);
const START: Duration = Duration::from_mins(1);
const UPLOAD: Duration = Duration::from_mins(5);
const BUILD: Duration = Duration::from_mins(30);
const REMOVE: Duration = Duration::from_secs(20);

/// bollard's own limit, which covers every call alike; ours, by class, come first. In seconds.
const BOLLARD_LIMIT: u64 = 24 * 60 * 60;

/// How often a network with leftover endpoints is disconnected and removed again.
const NETWORK_TRIES: u32 = 5;

/// A Docker Engine.
#[derive(Clone)]
pub struct DockerEngine {
    docker: Docker,
    /// Known from the first answer on.
    product: Arc<OnceLock<Product>>,
}

impl DockerEngine {
    /// An engine at an address, as [`endpoint::Endpoint`] writes it. Nothing is sent until the first call.
    ///
    /// # Errors
    /// The socket is not there, the certificates cannot be read, or the address has another form.
    pub fn connect(endpoint: &str) -> Result<Self> {
        let operation = "connect to engine";
        let parsed: Endpoint = endpoint.parse().map_err(|message| EngineError {
            operation,
            object: endpoint.to_owned(),
            kind: ErrorKind::Unavailable,
            message,
        })?;
        let opened = match &parsed {
            Endpoint::Unix(_) => Docker::connect_with_unix(endpoint, BOLLARD_LIMIT, API_DEFAULT_VERSION),
            Endpoint::Tcp(_) => Docker::connect_with_http(&parsed.to_string(), BOLLARD_LIMIT, API_DEFAULT_VERSION),
            Endpoint::Tls { .. } | Endpoint::Ssh(_) => transport::connect(&parsed, BOLLARD_LIMIT),
        };
        let docker = opened.map_err(|error| failure(operation, endpoint, error))?;
        Ok(Self { docker, product: Arc::default() })
    }
}

fn output(piece: bollard::container::LogOutput) -> Output {
    use bollard::container::LogOutput;
    match piece {
        LogOutput::StdErr { message } => Output::Stderr(message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            Output::Stdout(message)
        }
    }
}

#[async_trait]
impl Engine for DockerEngine {
    async fn info(&self) -> Result<EngineInfo> {
        let operation = "ask engine version";
        let version = call(operation, "engine", LOOK, self.docker.version()).await?;
        let api = version.api_version.unwrap_or_default();
        let newest = parse_version(&api);
        if newest.is_none_or(|newest| newest < OLDEST_API) {
            return Err(EngineError {
                operation,
                object: "engine".into(),
                kind: ErrorKind::TooOld,
                message: format!(
                    "it speaks API {api:?}, older than {}.{}",
                    OLDEST_API.major_version, OLDEST_API.minor_version
                ),
            });
        }
        call(operation, "engine", LOOK, self.docker.clone().negotiate_version()).await?;
        let _ = self.product.set(list::product(version.components.as_deref().unwrap_or_default()));
        Ok(EngineInfo {
            version: version.version.unwrap_or_default(),
            api,
            arch: version.arch.unwrap_or_default(),
            os: version.os.unwrap_or_default(),
        })
    }

    async fn details(&self) -> Result<EngineDetails> {
        let operation = "ask engine what it runs on";
        let info = call(operation, "engine", LOOK, self.docker.info()).await?;
        Ok(list::details(info, self.product()))
    }

    async fn image_find(&self, reference: &str) -> Result<Option<ImageFound>> {
        match call("look up image", reference, LOOK, self.docker.inspect_image(reference)).await {
            Ok(image) => Ok(Some(found(image))),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn image_layer(&self, layer: &ImageLayer) -> Result<()> {
        let build = request::layer(layer).map_err(|error| EngineError {
            operation: "build image",
            object: layer.tag.clone(),
            kind: ErrorKind::Other,
            message: error.to_string(),
        })?;
        self.image_build(&build, &|_| ()).await
    }

    async fn image_build(&self, build: &ImageBuild, progress: &Progress<'_>) -> Result<()> {
        // Under a name of its own at first: two that build the same at once would leave one of the images without any.
        let own = format!("{}-building-{}", build.tag, std::process::id());
        let before = self.image_find(&build.tag).await?;
        let options = query::BuildImageOptionsBuilder::new()
            .t(&own)
            .dockerfile(&build.dockerfile)
            .buildargs(&request::map(&build.args))
            .target(build.target.as_deref().unwrap_or_default())
            .nocache(build.no_cache)
            .rm(true)
            .forcerm(true)
            .networkmode(if build.network { "default" } else { "none" })
            .labels(&request::map(&build.labels))
            .build();
        let body = bollard::body_full(build.context.clone());
        let mut lines = self.docker.build_image(options, None, Some(body));
        let read = async {
            while let Some(line) = lines.try_next().await? {
                if let Some(why) = line.error_detail.and_then(|detail| detail.message) {
                    return Err(Error::DockerStreamError { error: why });
                }
                let text = line.stream.or(line.status).unwrap_or_default();
                if !text.trim().is_empty() {
                    progress(text.trim());
                }
            }
            Ok(())
        };
        call("build image", &build.tag, BUILD, read).await?;
        let now = self.image_find(&build.tag).await?;
        let overtaken = now.is_some_and(|now| before.as_ref().is_none_or(|before| before.id != now.id));
        if !overtaken {
            let (repository, tag) = build.tag.split_once(':').unwrap_or((&build.tag, "latest"));
            let options = query::TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
            call("name image", &build.tag, LOOK, self.docker.tag_image(&own, Some(options))).await?;
            let named = self.image_find(&build.tag).await?.map(|named| named.id);
            if let Some(before) = before.filter(|before| named.as_ref() != Some(&before.id)) {
                // It has no name any more. A bottle that uses it keeps it.
                let _ = self.image_remove(&before.id).await;
            }
        }
        self.image_remove(&own).await.map(drop)
    }

    async fn image_pull(&self, reference: &str, progress: &Progress<'_>) -> Result<()> {
        let options = query::CreateImageOptionsBuilder::new().from_image(reference).build();
        let mut lines = self.docker.create_image(Some(options), None, None);
        let read = async {
            let mut layers = list::Layers::default();
            while let Some(line) = lines.try_next().await? {
                if let Some(why) = line.error_detail.and_then(|detail| detail.message) {
                    return Err(Error::DockerStreamError { error: why });
                }
                let (done, of) = line.progress_detail.map_or((None, None), |detail| (detail.current, detail.total));
                if let Some(said) = layers.note(line.id.as_deref(), line.status.as_deref(), done, of) {
                    progress(&said);
                }
            }
            Ok(())
        };
        call("pull image", reference, BUILD, read).await
    }

    fn commits(&self) -> bool {
        self.product() == Product::Docker
    }

    async fn image_commit(&self, commit: &ImageCommit) -> Result<String> {
        let operation = "make an image of";
        let base = call(operation, &commit.container, LOOK, self.docker.inspect_image(&commit.config_of)).await?;
        let (repository, tag) = commit.reference.split_once(':').unwrap_or((&commit.reference, "latest"));
        let options = query::CommitContainerOptionsBuilder::new();
        let options = options.container(&commit.container).repo(repository).tag(tag).pause(true).build();
        let config = request::committed(base.config.unwrap_or_default(), commit);
        Ok(call(operation, &commit.container, BUILD, self.docker.commit_container(options, config)).await?.id)
    }

    async fn image_cache(&self) -> Result<Vec<String>> {
        let filters = HashMap::from([("label".to_owned(), vec![labels::CACHE.to_owned()])]);
        let options = query::ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = call("list images", labels::CACHE, LOOK, self.docker.list_images(Some(options))).await?;
        let ours = |tag: &String| tag.starts_with(concat!(env!("CARGO_PKG_NAME"), ":"));
        Ok(images.into_iter().flat_map(|image| image.repo_tags).filter(ours).collect())
    }

    async fn image_remove(&self, tag: &str) -> Result<Removal> {
        removal(
            call("remove image", tag, REMOVE, self.docker.remove_image(tag, None::<query::RemoveImageOptions>, None))
                .await
                .map(drop),
        )
    }

    async fn network_create(&self, spec: &NetworkSpec) -> Result<String> {
        let body = request::network(spec, self.docker.client_version());
        Ok(call("create network", &spec.name, CREATE, self.docker.create_network(body)).await?.id)
    }

    async fn network_remove(&self, id: &str) -> Result<Removal> {
        let mut pause = Duration::from_millis(50);
        for tries_left in (0..NETWORK_TRIES).rev() {
            let answer = call("remove network", id, REMOVE, self.docker.remove_network(id)).await;
            match answer {
                Err(error) if error.kind == ErrorKind::InUse && tries_left > 0 => self.disconnect_all(id).await?,
                answer => return removal(answer),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the last try returns")
    }

    async fn subnets(&self) -> Result<Vec<Ipv4Net>> {
        let networks = call("list networks", "engine", LOOK, self.docker.list_networks(None)).await?;
        let ranges = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
        Ok(ranges.filter_map(|range| range.subnet?.parse().ok()).collect())
    }

    async fn volume_create(&self, spec: &VolumeSpec) -> Result<()> {
        let body = bollard::models::VolumeCreateRequest {
            name: Some(spec.name.clone()),
            labels: Some(request::map(&spec.identity.to_labels())),
            driver_opts: spec.owner.filter(|_| self.product() == Product::Podman).map(request::owned),
            ..Default::default()
        };
        let operation = "create volume";
        let made = call(operation, &spec.name, CREATE, self.docker.create_volume(body)).await?;
        // An engine gives a volume that is there already, whoever made it, as if it had just been made.
        let ours = spec.identity.to_labels().into_iter().all(|(label, value)| made.labels.get(&label) == Some(&value));
        if ours {
            return Ok(());
        }
        Err(EngineError {
            operation,
            object: spec.name.clone(),
            kind: ErrorKind::NameTaken,
            message: "a volume of this name exists and belongs to somebody else".into(),
        })
    }

    async fn volume_remove(&self, name: &str) -> Result<Removal> {
        removal(
            call("remove volume", name, REMOVE, self.docker.remove_volume(name, None::<query::RemoveVolumeOptions>))
                .await,
        )
    }

    async fn container_create(&self, spec: &ContainerSpec) -> Result<String> {
        let options = query::CreateContainerOptionsBuilder::new().name(&spec.name).build();
        let body = request::container(spec, self.product());
        let id =
            call("create container", &spec.name, CREATE, self.docker.create_container(Some(options), body)).await?.id;
        // Before API 1.44 a container is created on one network and connected to the others.
        for place in spec.networks.iter().skip(1) {
            let body = request::connection(&id, place);
            let work = self.docker.connect_network(&place.network, body);
            call("connect container", &spec.name, CREATE, work).await?;
        }
        Ok(id)
    }

    async fn container_attach(&self, id: &str) -> Result<Streams> {
        let options = query::AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true);
        let options = options.detach_keys(request::NO_DETACH_KEYS).build();
        let opened = call("attach to container", id, LOOK, self.docker.attach_container(id, Some(options))).await?;
        Ok(streams("read from container", id, opened.output, opened.input))
    }

    async fn container_start(&self, id: &str) -> Result<()> {
        call("start container", id, START, self.docker.start_container(id, None)).await
    }

    async fn container_wait(&self, id: &str, started: bool) -> Result<i64> {
        let condition = if started { "not-running" } else { "next-exit" };
        let options = query::WaitContainerOptionsBuilder::new().condition(condition).build();
        let answer = self.docker.wait_container(id, Some(options)).next().await;
        match answer {
            Some(Ok(end)) => Ok(end.status_code),
            // bollard turns an exit code other than 0 into this error.
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(failure("wait for container", id, error)),
            None => Err(EngineError {
                operation: "wait for container",
                object: id.to_owned(),
                kind: ErrorKind::Unavailable,
                message: "the engine closed the connection".into(),
            }),
        }
    }

    async fn container_upload(&self, id: &str, tar: Archive) -> Result<()> {
        let options = query::UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_try_stream(tar);
        call("copy files into container", id, UPLOAD, self.docker.upload_to_container(id, Some(options), body)).await
    }

    async fn container_resize(&self, id: &str, size: TerminalSize) -> Result<()> {
        let (width, height) = (i32::from(size.width), i32::from(size.height));
        let options = query::ResizeContainerTTYOptionsBuilder::new().w(width).h(height).build();
        call("resize terminal of", id, LOOK, self.docker.resize_container_tty(id, options)).await
    }

    async fn container_inspect(&self, id: &str) -> Result<ContainerState> {
        let seen = call("inspect container", id, LOOK, self.docker.inspect_container(id, None)).await?;
        let state = seen.state.unwrap_or_default();
        let status = state.status.map(|status| status.to_string()).unwrap_or_default();
        let ended = matches!(status.as_str(), "exited" | "dead");
        let out_of_memory = ended && state.oom_killed.unwrap_or_default();
        Ok(ContainerState { status, exit_code: state.exit_code.filter(|_| ended), out_of_memory })
    }

    async fn container_bounds(&self, id: &str) -> Result<Bounds> {
        let options = query::StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let operation = "read bounds of container";
        let seen = call(operation, id, LOOK, async {
            self.docker
                .stats(id, Some(options))
                .next()
                .await
                .unwrap_or_else(|| Ok(bollard::models::ContainerStatsResponse::default()))
        })
        .await?;
        let memory = seen.memory_stats.and_then(|memory| memory.limit);
        let pids = seen.pids_stats.and_then(|pids| pids.limit);
        // None is as good as none enforced.
        Ok(Bounds { memory: memory.unwrap_or(u64::MAX), pids: pids.unwrap_or(u64::MAX) })
    }

    async fn container_logs(
        &self,
        id: &str,
        lines: Option<usize>,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Output>>> {
        let lines = lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let builder = query::LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines);
        let options = builder.follow(follow).build();
        let (id, pieces) = (id.to_owned(), self.docker.logs(id, Some(options)));
        Ok(pieces.map(move |piece| piece.map(output).map_err(|error| failure("read log of", &id, error))).boxed())
    }

    async fn container_stop(&self, id: &str, patience: Duration) -> Result<()> {
        let seconds = i32::try_from(patience.as_secs()).unwrap_or(i32::MAX);
        let options = query::StopContainerOptionsBuilder::new().t(seconds).build();
        call("stop container", id, patience + REMOVE, self.docker.stop_container(id, Some(options))).await
    }

    async fn container_pause(&self, id: &str, paused: bool) -> Result<()> {
        if paused {
            call("pause container", id, LOOK, self.docker.pause_container(id)).await
        } else {
            call("unpause container", id, LOOK, self.docker.unpause_container(id)).await
        }
    }

    async fn container_download(&self, id: &str, path: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let options = query::DownloadFromContainerOptionsBuilder::new().path(path).build();
        let (id, pieces) = (id.to_owned(), self.docker.download_from_container(id, Some(options)));
        Ok(pieces.map(move |piece| piece.map_err(|error| failure("copy files out of", &id, error))).boxed())
    }

    async fn container_remove(&self, id: &str) -> Result<Removal> {
        let options = query::RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let answer = call("remove container", id, REMOVE, self.docker.remove_container(id, Some(options))).await;
        match answer {
            Err(error) if error.kind == ErrorKind::RemovalInProgress => {
                let options = query::WaitContainerOptionsBuilder::new().condition("removed").build();
                let gone = async { self.docker.wait_container(id, Some(options)).next().await.transpose() };
                match call("wait for removal of container", id, REMOVE, gone).await {
                    Err(error) if error.kind == ErrorKind::Deadline => Err(error),
                    _ => Ok(Removal::Removed),
                }
            }
            answer => removal(answer),
        }
    }

    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<(String, Streams)> {
        let body = bollard::exec::CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(spec.command.clone()),
            env: Some(spec.env.clone()),
            user: spec.user.clone(),
            working_dir: spec.workdir.clone(),
            tty: Some(spec.tty),
            detach_keys: Some(request::NO_DETACH_KEYS.to_owned()),
            ..Default::default()
        };
        let operation = "run command in container";
        let exec = call(operation, id, CREATE, self.docker.create_exec(id, body)).await?.id;
        match call(operation, id, START, self.docker.start_exec(&exec, None)).await? {
            bollard::exec::StartExecResults::Attached { output, input } => {
                Ok((exec, streams("read from command", id, output, input)))
            }
            bollard::exec::StartExecResults::Detached => unreachable!("not asked for"),
        }
    }

    async fn exec_resize(&self, exec: &str, size: TerminalSize) -> Result<()> {
        let options = query::ResizeExecOptionsBuilder::new().w(size.width.into()).h(size.height.into()).build();
        call("resize terminal of", exec, LOOK, self.docker.resize_exec(exec, options)).await
    }

    async fn exec_exit_code(&self, exec: &str) -> Result<i64> {
        let end = call("inspect command", exec, LOOK, self.docker.inspect_exec(exec)).await?;
        Ok(end.exit_code.unwrap_or(-1))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Object>> {
        let filters = list::filter(filter);
        let containers = query::ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let networks = query::ListNetworksOptionsBuilder::new().filters(&filters).build();
        let volumes = query::ListVolumesOptionsBuilder::new().filters(&filters).build();
        let name = format!("{filter:?}");
        let (containers, networks, volumes) = tokio::try_join!(
            call("list containers", &name, LOOK, self.docker.list_containers(Some(containers))),
            call("list networks", &name, LOOK, self.docker.list_networks(Some(networks))),
            call("list volumes", &name, LOOK, self.docker.list_volumes(Some(volumes))),
        )?;
        Ok(list::objects(&containers, &networks, volumes.volumes.as_deref().unwrap_or_default()))
    }
}

impl DockerEngine {
    /// Whose it is, which its first answer has said.
    fn product(&self) -> Product {
        self.product.get().copied().unwrap_or_default()
    }

    async fn disconnect_all(&self, network: &str) -> Result<()> {
        let seen = match call("inspect network", network, LOOK, self.docker.inspect_network(network, None)).await {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            answer => answer?,
        };
        for container in seen.containers.unwrap_or_default().into_keys() {
            let body = bollard::models::NetworkDisconnectRequest { container: container.clone(), force: Some(true) };
            let work = self.docker.disconnect_network(network, body);
            // The endpoint may vanish meanwhile; the removal that follows tells what is left.
            let _ = call("disconnect container", &container, REMOVE, work).await;
        }
        Ok(())
    }
}

fn found(image: bollard::models::ImageInspect) -> ImageFound {
    let config = image.config.unwrap_or_default();
    let command = config.entrypoint.unwrap_or_default().into_iter().chain(config.cmd.unwrap_or_default());
    ImageFound {
        id: image.id.unwrap_or_default(),
        size: image.size.unwrap_or_default(),
        triggers: config.on_build.unwrap_or_default(),
        command: command.collect(),
        user: config.user.unwrap_or_default(),
        workdir: config.working_dir.unwrap_or_default(),
        env: request::variables(&config.env.unwrap_or_default()),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
    }
}

fn streams(
    operation: &'static str,
    id: &str,
    pieces: impl futures_util::Stream<Item = std::result::Result<bollard::container::LogOutput, Error>> + Send + 'static,
    input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
) -> Streams {
    let id = id.to_owned();
    let output = pieces.map(move |piece| piece.map(output).map_err(|error| failure(operation, &id, error)));
    Streams { output: output.boxed(), input }
}

fn parse_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}
