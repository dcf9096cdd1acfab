//! The process of a sidecar: reads the configuration, reports ready, and serves commands until the container is
//! stopped.

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};

use super::message::{Message, Resume};
use super::role::{CommandOf, MessageOf, Role, carry_out};
use super::{ctl, stdio};

/// How the process of a role runs.
#[derive(Clone, Copy)]
pub struct Process {
    /// Whether it runs on more than one processor.
    pub parallel: bool,
    /// Runs before there are threads.
    pub prepare: fn() -> anyhow::Result<()>,
    /// The process itself.
    pub run: fn(Option<String>) -> BoxFuture<'static, anyhow::Result<()>>,
}

impl Process {
    /// The process of a role.
    pub const fn of<R: Role>() -> Self {
        Self { parallel: R::PARALLEL, prepare: R::prepare, run: |at| run::<R>(at).boxed() }
    }
}

/// Serves until the container is stopped.
///
/// # Errors
/// The configuration is bad, or the role cannot serve.
async fn run<R: Role>(at: Option<String>) -> anyhow::Result<()> {
    let mut input = stdio::Input::new();
    let config = config::<R>(&mut input).await.context("read the configuration")?;
    let mut stopped = signal(SignalKind::terminate())?;
    let (role, ready) = R::start(config, at.as_deref()).await?;
    ctl::serve(&role)?;
    role.serving()?;
    stdio::write(&MessageOf::<R>::Ready(ready));
    let commands = async {
        while let Ok(Some(command)) = input.next::<CommandOf<R>>().await {
            stdio::write(&MessageOf::<R>::Acknowledged(carry_out(role.as_ref(), command).await));
        }
        if !R::ENDS_WITH_INPUT {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = stopped.recv() => role.end().await,
        () = commands => {}
        error = role.broken() => {
            role.flush();
            return Err(error);
        }
    }
    role.flush();
    Ok(())
}

async fn config<R: Role>(input: &mut stdio::Input) -> anyhow::Result<R::Config> {
    let mut line: serde_json::Value = input.next().await?.context("there is none")?;
    if let Ok(Resume { last_line }) = serde_json::from_value(line.clone()) {
        stdio::continue_after(last_line);
        line = input.next().await?.context("there is none")?;
    }
    Ok(serde_json::from_value(line)?)
}

/// Sends a notice.
pub(super) fn notify<R: Role>(notice: R::Notice) {
    stdio::write(&Message::<R::Ready, R::Answer, R::Notice>::Notice(notice));
}
