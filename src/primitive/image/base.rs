//! Reads what bottler's layer needs to know about the image below it: its users and certificates. This process reads
//! the files from a container that never starts.

use std::io::Read;
use std::time::Duration;

use futures_util::StreamExt;

use crate::engine::ErrorKind;
use crate::engine::labels::Kind;
use crate::layout::agent::{BUNDLES, GROUP_FILE, MAX_IMAGE_FILE, OWN_BUNDLE, PASSWD_FILE};
use crate::primitive::unstarted::unstarted;
use crate::session::{Class, Failure, Session};

/// The label of bottler's layer with the agent's account.
pub(in crate::primitive) const ACCOUNT: &str = "dev.bottler.account";
/// The label with the agent's home.
pub(in crate::primitive) const HOME: &str = "dev.bottler.home";
/// How long reading may take. An engine that is asked for a pipe waits for its other end.
const PATIENCE: Duration = Duration::from_mins(1);

/// Files of an image.
#[derive(Default)]
pub(in crate::primitive) struct BaseFiles {
    pub(in crate::primitive) passwd: String,
    pub(in crate::primitive) groups: String,
    /// The path of its certificate bundle, and the content; Debian's path if it has none.
    pub(in crate::primitive) bundle: (&'static str, String),
}

/// Reads an image's files.
pub(in crate::primitive) async fn look(session: &Session, id: &str) -> Result<BaseFiles, Failure> {
    let engine = &session.engine;
    let name = format!("{}-image-reader", session.id);
    // Not announced, because no script asked for it. It is found by its label.
    let identity = session.identity(Kind::Sidecar);
    let container = engine.container_create(&unstarted(name, id.to_owned(), identity)).await?;
    let read = async {
        let mut seen = BaseFiles {
            passwd: file(session, &container, PASSWD_FILE).await?.unwrap_or_default(),
            groups: file(session, &container, GROUP_FILE).await?.unwrap_or_default(),
            bundle: (BUNDLES[0], String::new()),
        };
        for path in BUNDLES {
            if let Some(bundle) = file(session, &container, path).await? {
                seen.bundle = (path, bundle);
                break;
            }
        }
        // In an image that was built on ours, the bundle is a link, and its content was put aside.
        if seen.bundle.1.is_empty()
            && let Some(own) = file(session, &container, OWN_BUNDLE).await?
        {
            seen.bundle.1 = own;
        }
        Ok(seen)
    };
    let read = tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| {
        let why = format!(
            "read the users and certificates of the image {id}: the engine has not answered in {} s",
            PATIENCE.as_secs()
        );
        Err(Failure::new(Class::Operation, why)
            .hint("in the image, /etc/passwd, /etc/group and the certificates must be regular files"))
    });
    engine.container_remove(&container).await?;
    read
}

/// The text of a regular file; `None` if it does not exist. The engine follows links within the container.
async fn file(session: &Session, container: &str, path: &str) -> Result<Option<String>, Failure> {
    let mut pieces = session.engine.container_download(container, path).await?;
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => archive.extend_from_slice(&piece),
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if archive.len() > MAX_IMAGE_FILE {
            let message = format!("read {path} of the image: it is larger than {MAX_IMAGE_FILE} bytes");
            return Err(Failure::new(Class::Input, message));
        }
    }
    let text = || -> std::io::Result<Option<String>> {
        for entry in tar::Archive::new(archive.as_slice()).entries()? {
            let mut entry = entry?;
            if entry.header().entry_type().is_file() {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        Ok(None)
    };
    text().map_err(|error| Failure::new(Class::Input, format!("read {path} of the image: {error}")))
}
