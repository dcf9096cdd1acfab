//! A credential as data: its value, its placeholder, and the places of requests where it stands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where in a request a credential stands; as text `bearer`, `token`, `basic:USER`, `header:NAME`, `query:NAME`, `path`,
/// `websocket`, `aws-key-id`, `aws-secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
pub enum Slot {
    /// `Authorization: Bearer VALUE` (RFC 6750, section 2.1).
    Bearer,
    /// `Authorization: token VALUE`, as GitHub and Gitea have it.
    Token,
    /// The password of `Authorization: Basic` (RFC 7617), for this user name; `*` for any.
    Basic(String),
    /// The value of a header of this name: whole, or what follows a word for a scheme, as in `Bot VALUE`.
    Header(String),
    /// The value of a query parameter of this name.
    Query(String),
    /// A segment of the path, whole or its end, as in `/botVALUE/getMe`. Every request for which it is declared has it.
    Path,
    /// `Sec-WebSocket-Protocol` of a WebSocket handshake, whole or as the end of one of its values.
    WebSocket,
    /// The key id in a signature of AWS' Signature Version 4. The request is signed anew, with the host's [`Self::AwsSecret`].
    AwsKeyId,
    /// The secret that requests to AWS are signed with. It is in no request.
    AwsSecret,
}

/// A host that a credential is for, and where it stands in requests to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The host, as in `egress.allow`.
    pub host: String,
    /// The slot.
    pub slot: Slot,
    /// The only methods; all where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The only paths, as in `egress.allow`; all where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// A credential as egress receives it, on its standard input only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Its name, for the audit and in refusals.
    pub name: String,
    /// What the agent holds instead.
    pub placeholder: String,
    /// The value.
    pub value: String,
    /// Where it may go.
    pub places: Vec<Place>,
}
