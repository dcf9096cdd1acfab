//! MCP over streamable HTTP, by `rmcp`: revisions 2026-07-28, 2025-11-25 and 2025-06-18, without sessions.
//!
//! A call that waits for the operator reports progress: clients give up silent calls (Claude after 300 s), and comments of an event
//! stream do not count.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};

use super::desk::Desk;
use super::protocol::{Ask, Reply, Status};
use super::tools::{self, Question};

/// Maximum size of a request's body, in bytes.
const MAX_BODY: usize = 64 << 10;
/// How long a new request waits for its decision.
const WAIT: Duration = Duration::from_secs(45);
/// How often a waiting call reports progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// What the model reads before it sees the tools.
const INSTRUCTIONS: &str = "This bottle refuses what its operator has not allowed: a policy, not an outage. When a request is refused, \
    do not retry it and do not look for a way around: ask with the tool that the refusal names, and say why you need it. The operator \
    decides. If a call returns status `pending`, go on with other work and call request_status later. Ask only when something was \
    refused, and for as little as you need.";

/// The HTTP side of the server.
#[derive(Clone)]
pub(super) struct Http(StreamableHttpService<Server, NeverSessionManager>);

/// Serves the names of `hosts`.
pub(super) fn http(desk: &Arc<Desk>, hosts: &[String]) -> Http {
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(hosts)
        .enforce_origin_validation()
        .with_max_request_body_bytes(MAX_BODY)
        .with_legacy_session_mode(false);
    let desk = desk.clone();
    let make = move || Ok(Server { desk: desk.clone() });
    Http(StreamableHttpService::new(make, Arc::new(NeverSessionManager::default()), config))
}

impl Http {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        if request.uri().path() == "/mcp" {
            return self.0.handle(request).await;
        }
        let mut response = Response::new(Full::from("supervise: an MCP server is at /mcp, and nothing else\n").boxed());
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    }
}

/// The tools.
#[derive(Clone)]
pub(super) struct Server {
    desk: Arc<Desk>,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("bottler-supervise", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    fn get_tool(&self, name: &str) -> Option<rmcp::model::Tool> {
        tools::all().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let question = match tools::read(&request.name, arguments) {
            Ok(question) => question,
            Err(tools::Mistake::Unknown) => {
                return Err(ErrorData::invalid_params(format!("there is no tool {:?}", request.name), None));
            }
            Err(tools::Mistake::Arguments(why)) => {
                return Ok(shown(&Reply::new(Status::Invalid, why, "Correct the arguments.")));
            }
        };
        let Some(_place) = self.desk.place() else {
            let why = "too many calls wait at the same time";
            return Ok(shown(&Reply::new(Status::Refused, why, "Wait for the other calls to return.")));
        };
        let reply = match question {
            Question::Policy => return Ok(success(serde_json::to_value(self.desk.view()).unwrap_or_default())),
            Question::Ask(ask, wait) => {
                let cancelled = context.ct.clone();
                tokio::select! {
                    reply = self.settle(ask, wait.unwrap_or(WAIT), &context) => reply,
                    () = cancelled.cancelled() => Reply::new(Status::Refused, "the call was cancelled", "A request stays with the operator."),
                }
            }
        };
        Ok(shown(&reply))
    }
}

impl Server {
    /// Asks, and waits for the decision for a while.
    async fn settle(&self, ask: Ask, wait: Duration, context: &RequestContext<RoleServer>) -> Reply {
        let asked = self.desk.ask(ask).await;
        let (Status::Pending, Some(id)) = (asked.status, &asked.id) else { return asked };
        let decided = tokio::select! {
            decided = self.desk.decision(id, wait) => decided,
            never = report(context) => match never {},
        };
        decided.unwrap_or(asked)
    }
}

/// Reports progress, if the client wants to hear of it. Never returns.
async fn report(context: &RequestContext<RoleServer>) -> Infallible {
    let mut passed = 0.0;
    loop {
        tokio::time::sleep(PROGRESS).await;
        passed += PROGRESS.as_secs_f64();
        if let Some(token) = context.meta.get_progress_token() {
            let progress =
                ProgressNotificationParam::new(token, passed).with_message("waiting for the operator's decision");
            let _ = context.peer.notify_progress(progress).await;
        }
    }
}

/// An answer as a tool's result: the same as text, for clients that show nothing else, and as a structure.
fn shown(reply: &Reply) -> CallToolResponse {
    let value = serde_json::to_value(reply).unwrap_or_default();
    let mut result = if reply.status.is_error() {
        CallToolResult::error(text(&value))
    } else {
        CallToolResult::success(text(&value))
    };
    result.structured_content = Some(value);
    result.into()
}

fn success(value: serde_json::Value) -> CallToolResponse {
    let mut result = CallToolResult::success(text(&value));
    result.structured_content = Some(value);
    result.into()
}

fn text(value: &serde_json::Value) -> Vec<ContentBlock> {
    vec![ContentBlock::text(serde_json::to_string_pretty(value).unwrap_or_default())]
}
