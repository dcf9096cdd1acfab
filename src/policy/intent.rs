//! What a request wants, whatever its form.

use std::borrow::Cow;

use serde::Serialize;
use url::form_urlencoded;

use crate::net::Host;

/// How a request reached egress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `CONNECT host:port` (RFC 9110, section 9.3.6).
    Connect,
    /// `GET http://host/path` (absolute form; RFC 9112, section 3.2.2).
    Absolute,
    /// A request inside TLS that egress intercepts.
    Inside,
    /// Plain TCP, to a destination with a socket of its own.
    Tcp,
}

/// What a request wants, whatever its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its form.
    pub form: Form,
    /// Its method.
    pub method: String,
    /// The destination host.
    pub host: Host,
    /// The destination port.
    pub port: u16,
    /// The canonical path with its query; unknown for a `CONNECT`.
    pub path: Option<String>,
}

/// The parameter by which servers take another method.
const METHOD: &str = "_method";

impl Intent {
    /// The method that a parameter of the query names.
    pub(super) fn method_of_query(&self) -> Option<String> {
        self.query().find(|(name, _)| name == METHOD).map(|(_, method)| method.into_owned())
    }

    /// The parameters of the query. Some servers split it at semicolons as well.
    pub(super) fn query(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let query = self.path.as_deref().and_then(|whole| whole.split_once('?')).map_or("", |(_, query)| query);
        query.split(['&', ';']).flat_map(|pair| form_urlencoded::parse(pair.as_bytes()))
    }

    /// The method, and the path without its query, if they are known.
    pub(super) fn request(&self) -> Option<(&str, &str)> {
        let path = self.path.as_deref()?;
        Some((&self.method, path.split_once('?').map_or(path, |(path, _)| path)))
    }
}
