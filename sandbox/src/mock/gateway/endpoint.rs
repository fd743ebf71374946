//! One address of the gateway: takes requests, applies faults, keeps a record.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    iter,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::HeaderMap,
    response::Response,
};
use futures_util::stream;
use tokio::time::sleep;
use tokio_rustls::rustls::ServerConfig;

use super::{Call, Fault, Received, state::GatewayState, v3};
use crate::mock::{
    identity::Api,
    listener::{Break, BreakableListener, Connections, Server, ThisConnection},
    lock,
    signed_xml::read_xml,
    tls,
};

/// Largest request that is read, in bytes.
const MAX_REQUEST: usize = 1024 * 1024;

/// One address of the gateway.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    connections: Connections,
    tls: Option<Arc<ServerConfig>>,
    shared: Shared,
    server: Mutex<Option<Server>>,
}

#[derive(Clone, Debug)]
struct Shared {
    index: usize,
    state: Arc<Mutex<GatewayState>>,
}

impl Endpoint {
    pub(super) async fn start(
        index: usize,
        address: SocketAddr,
        state: Arc<Mutex<GatewayState>>,
        tls: Option<Arc<ServerConfig>>,
    ) -> anyhow::Result<Self> {
        let connections = Connections::default();
        let listener = BreakableListener::bind(address, connections.clone(), tls.clone()).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let endpoint = Self { address, connections, tls, shared: Shared { index, state }, server: Mutex::default() };
        endpoint.serve(listener);
        Ok(endpoint)
    }

    fn serve(&self, listener: BreakableListener) {
        let router = Router::new().fallback(handle).with_state(self.shared.clone());
        *lock(&self.server) = Some(Server::start(listener, router));
    }

    /// The base address.
    #[must_use]
    pub fn url(&self) -> String {
        tls::url(self.tls.as_ref(), self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made to it so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.accepted()
    }

    /// How long the function waited for the last reply: the gateway's own time.
    #[must_use]
    pub fn turnaround(&self) -> Duration {
        self.connections.turnaround()
    }

    /// Closes every connection that is open, as a gateway does with idle ones.
    pub fn close_connections(&self, how: Break) {
        self.connections.break_all(how);
    }

    /// Goes down: connections are reset, new ones refused.
    pub async fn go_down(&self) {
        let server = lock(&self.server).take();
        if let Some(server) = server {
            server.stop().await;
        }
        self.connections.break_all(Break::Reset);
    }

    /// Comes up again, at the same address.
    ///
    /// # Errors
    /// When something else took the address meanwhile.
    pub async fn come_up(&self) -> anyhow::Result<()> {
        let is_down = lock(&self.server).is_none();
        if is_down {
            self.serve(BreakableListener::bind(self.address, self.connections.clone(), self.tls.clone()).await?);
        }
        Ok(())
    }
}

async fn handle(
    State(shared): State<Shared>,
    ConnectInfo(ThisConnection(breaker)): ConnectInfo<ThisConnection>,
    request: Request,
) -> Response {
    let is_reused = breaker.begin_request() > 1;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let route = route(parts.method.as_str(), path);
    let fields = match route {
        Some((Api::V3, _, number)) => v3::fields(number, query, &body),
        _ => read_xml(&body).unwrap_or_default(),
    };
    let (number, exchange) = lock(&shared.state).begin(Received {
        endpoint: shared.index,
        api: route.map(|(api, ..)| api),
        call: route.map(|(_, call, _)| call),
        method: parts.method.to_string(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers(&parts.headers),
        body,
        fields,
        fault: None,
        reply: None,
        status: None,
        reply_headers: BTreeMap::new(),
        at: Instant::now(),
    });
    if route.is_none() {
        return respond(404, number, Vec::new(), Body::empty());
    }
    let received = exchange.received();
    match &received.fault {
        Some(Fault::Delay(delay)) => sleep(*delay).await,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::ResetIfReused) if !is_reused => {}
        Some(Fault::Reset | Fault::ResetIfReused) => {
            breaker.trip(Break::Reset);
            return Response::new(Body::empty());
        }
        Some(Fault::Status(status)) => return respond(*status, number, Vec::new(), Body::from("<html>error</html>")),
        Some(Fault::Body(body)) => return respond(200, number, Vec::new(), Body::from(body.clone())),
        Some(Fault::Flood(bytes)) => return respond(200, number, Vec::new(), flood(*bytes)),
        _ => {}
    }
    let mut reply = lock(&shared.state).reply(&received);
    exchange.add_reply(&reply);
    match received.fault {
        Some(Fault::HangAfter) => std::future::pending().await,
        Some(Fault::ResetAfter) => breaker.trip(Break::Reset),
        Some(Fault::CloseAfter) => breaker.trip(Break::Close),
        Some(Fault::Truncate) => reply.truncate(),
        _ => {}
    }
    respond(reply.status, number, reply.headers, Body::from(reply.body))
}

/// Where a request leads: the interface, the call, and with API v3 the order number as the path has it.
fn route<'a>(method: &str, path: &'a str) -> Option<(Api, Call, &'a str)> {
    match path {
        "/pay/closeorder" => return Some((Api::V2, Call::CloseOrder, "")),
        "/pay/orderquery" => return Some((Api::V2, Call::OrderQuery, "")),
        _ => {}
    }
    let rest = path.strip_prefix("/v3/pay/")?;
    let rest = rest.strip_prefix("partner/").unwrap_or(rest).strip_prefix("transactions/out-trade-no/")?;
    match (method, rest.split_once('/')) {
        ("POST", Some((number, "close"))) => Some((Api::V3, Call::CloseOrder, number)),
        ("GET", None) => Some((Api::V3, Call::OrderQuery, rest)),
        _ => None,
    }
}

/// The headers by name; the values of one that is there more than once stand behind each other.
fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let value = |name| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<_>>().join(", ")
    };
    headers.keys().map(|name| (name.to_string(), value(name))).collect()
}

fn respond(status: u16, number: u64, headers: Vec<(&'static str, String)>, body: Body) -> Response {
    let request_id = ("request-id", format!("SANDBOX-{number:016X}-0"));
    let response = Response::builder().status(status);
    let headers = headers.into_iter().chain([request_id]);
    headers.fold(response, |response, (name, value)| response.header(name, value)).body(body).unwrap_or_default()
}

/// So many bytes of a document that seems to come to an end some time.
fn flood(bytes: u64) -> Body {
    const CHUNK: &[u8] = &[b'x'; 16 * 1024];
    let start = Bytes::from_static(b"<xml><return_code>SUCCESS</return_code><return_msg>");
    let chunks = (0..bytes / CHUNK.len() as u64).map(|_| Bytes::from_static(CHUNK));
    Body::from_stream(stream::iter(iter::once(start).chain(chunks).map(Ok::<_, Infallible>)))
}
