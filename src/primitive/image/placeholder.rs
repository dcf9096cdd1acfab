//! Stand-ins for images in rehearsals, where nothing real is created: references that no engine has.

use std::sync::Arc;

use async_trait::async_trait;

use crate::engine::ImageFound;
use crate::layout::agent::{DEFAULT_HOME, DEFAULT_USER};
use crate::plan::BuildSection;
use crate::primitive::account::Account;
use crate::primitive::bottle::{ImageSource, Images, Layered};
use crate::primitive::event::Events;
use crate::session::{Class, Failure, Session};

/// The reference of all images that would contain the running executable.
const OWN: &str = "bottler:rehearsal";
/// The reference of all images that would be built from a user's Dockerfile.
const BUILT: &str = "bottler:build-rehearsal";

struct Placeholder;

/// Images that are only names.
pub fn placeholder_images() -> Images {
    Images::new(Arc::new(Placeholder))
}

#[async_trait]
impl ImageSource for Placeholder {
    async fn own(&self, _: &Session, _: Option<Account>, _: bool) -> Result<String, Failure> {
        Ok(OWN.to_owned())
    }

    async fn git(&self, _: &Session, _: bool) -> Result<String, Failure> {
        Ok(OWN.to_owned())
    }

    async fn sidecar(&self, _: &Session, _: &ImageFound, _: bool) -> Result<String, Failure> {
        Ok(OWN.to_owned())
    }

    async fn build(&self, _: &Session, _: &Events, _: &BuildSection, _: bool) -> Result<String, Failure> {
        Ok(BUILT.to_owned())
    }

    async fn layer(&self, _: &Session, _: &ImageFound, user: &str, _: bool) -> Result<Layered, Failure> {
        let account = Account::numbers(user).or_else(|| Account::numbers(DEFAULT_USER));
        let account = account.ok_or_else(|| Failure::new(Class::Internal, "the default user is not a number"))?;
        Ok(Layered { tag: OWN.to_owned(), account, home: DEFAULT_HOME.to_owned() })
    }
}
