//! One address of the gateway: takes requests, applies faults, keeps a record.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    net::SocketAddr,
    ptr,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use futures_util::stream;
use tokio::time::sleep;
use tokio_rustls::rustls::ServerConfig;

use super::{
    Call, Fault, Received,
    call::Route,
    exchange::Exchange,
    reply::Reply,
    state::{GatewayState, UnderWay},
    v3,
};
use crate::mock::{
    identity::Api,
    listener::{Break, BreakableListener, Breaker, Connections, Server, ThisConnection},
    lock,
    signed_xml::{Fields, read_xml},
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
    faults: Arc<Mutex<HashMap<Call, Fault>>>,
    behind: Arc<Mutex<Vec<Behind>>>,
}

/// A connection that is a reply behind, and that reply.
#[derive(Debug)]
struct Behind {
    connection: Weak<Breaker>,
    due: Reply,
}

impl Endpoint {
    pub(super) async fn start(
        index: usize,
        address: SocketAddr,
        state: Arc<Mutex<GatewayState>>,
        tls: Option<Arc<ServerConfig>>,
    ) -> anyhow::Result<Self> {
        let shared = Shared { index, state, faults: Arc::default(), behind: Arc::default() };
        let connections = Connections::default();
        let listener = BreakableListener::bind(address, connections.clone(), tls.clone()).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let endpoint = Self { address, connections, tls, shared, server: Mutex::new(None) };
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

    /// Makes every call that comes here go wrong, or none.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut faults = lock(&self.shared.faults);
        faults.clear();
        if let Some(fault) = fault {
            faults.extend(Call::ALL.map(|call| (call, fault.clone())));
        }
    }

    /// Makes one call go wrong if it comes here, or lets it pass.
    pub fn set_call_fault(&self, call: Call, fault: Option<Fault>) {
        let mut faults = lock(&self.shared.faults);
        match fault {
            Some(fault) => faults.insert(call, fault),
            None => faults.remove(&call),
        };
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
    let route = Route::of(parts.method.as_str(), path);
    let fields = match route {
        Some(Route { api: Api::V3, number, .. }) => v3::fields(number, query, &body),
        _ => read_xml(&body).unwrap_or_default(),
    };
    let fault = route.and_then(|route| shared.next_fault(route.call, &fields));
    let received = Received {
        endpoint: shared.index,
        api: route.map(|route| route.api),
        call: route.map(|route| route.call),
        method: parts.method.to_string(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers(&parts.headers),
        body,
        fields,
        fault: fault.clone(),
        reply: None,
        status: None,
        reply_headers: BTreeMap::new(),
        at: Instant::now(),
    };
    let mut exchange = Exchange::begin(&shared.state, received.clone());
    let number = exchange.number();
    let Some(Route { call, .. }) = route else {
        return respond(StatusCode::NOT_FOUND, number, Body::empty());
    };
    match &fault {
        Some(Fault::Delay(delay)) => sleep(*delay).await,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::ResetIfReused) if !is_reused => {}
        Some(Fault::Reset | Fault::ResetIfReused) => {
            breaker.trip(Break::Reset);
            return Response::new(Body::empty());
        }
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(*status).unwrap_or_default();
            return respond(status, number, Body::from("<html>error</html>"));
        }
        Some(Fault::Body(body)) => return respond(StatusCode::OK, number, Body::from(body.clone())),
        Some(Fault::Flood(bytes)) => return respond(StatusCode::OK, number, flood(*bytes)),
        _ => {}
    }
    let out_trade_no = received.fields.get("out_trade_no").map(String::as_str).unwrap_or_default();
    let under_way = if call == Call::CloseOrder { shared.wait_for_close(out_trade_no).await } else { None };
    let fault = fault.or(under_way);
    let (reply, surplus) = lock(&shared.state).reply(&received, fault.as_ref());
    let mut reply = shared.in_step(&breaker, reply, surplus);
    exchange.reply(&reply);
    match fault {
        Some(Fault::HangAfter) => std::future::pending().await,
        Some(Fault::ResetAfter) => breaker.trip(Break::Reset),
        Some(Fault::CloseAfter) => breaker.trip(Break::Close),
        Some(Fault::Truncate) => reply.truncate(),
        _ => {}
    }
    let mut response = respond(StatusCode::from_u16(reply.status).unwrap_or_default(), number, Body::from(reply.body));
    response.headers_mut().remove(CONTENT_TYPE);
    for (name, value) in reply.headers {
        response
            .headers_mut()
            .extend(HeaderValue::from_str(&value).ok().map(|value| (HeaderName::from_static(name), value)));
    }
    response
}

/// The headers by name; the values of one that is there more than once stand behind each other.
fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        all.entry(name.as_str().to_owned())
            .and_modify(|all| *all = format!("{all}, {value}"))
            .or_insert(value.into_owned());
    }
    all
}

impl Shared {
    /// The fault of this endpoint, else of the call or the order.
    fn next_fault(&self, call: Call, fields: &Fields) -> Option<Fault> {
        let mut state = lock(&self.state);
        let out_trade_no = fields.get("out_trade_no").map(String::as_str).unwrap_or_default();
        if !out_trade_no.is_empty() {
            state.meet(out_trade_no);
        }
        let fault = lock(&self.faults).get(&call).cloned();
        fault.or_else(|| state.next_fault(call, fields))
    }

    /// The reply that goes out: on a connection that is a reply behind, that one. A surplus one makes it so.
    fn in_step(&self, connection: &Arc<Breaker>, reply: Reply, surplus: Option<Reply>) -> Reply {
        let mut behind = lock(&self.behind);
        behind.retain(|behind| behind.connection.strong_count() > 0);
        let is_this = |behind: &&mut Behind| ptr::eq(behind.connection.as_ptr(), Arc::as_ptr(connection));
        if let Some(behind) = behind.iter_mut().find(is_this) {
            return mem::replace(&mut behind.due, reply);
        }
        let Some(surplus) = surplus else { return reply };
        behind.push(Behind { connection: Arc::downgrade(connection), due: reply });
        surplus
    }

    /// Takes the time that a close of this order takes; the fault of a close that comes while another one takes it.
    async fn wait_for_close(&self, out_trade_no: &str) -> Option<Fault> {
        let begun = lock(&self.state).begin_close(out_trade_no);
        match begun {
            Ok(time) => {
                // Tokio's shortest sleep is a millisecond.
                if !time.is_zero() {
                    sleep(time).await;
                }
                None
            }
            Err(UnderWay) => Some(Fault::Error(lock(&self.state).limit(out_trade_no))),
        }
    }
}

fn respond(status: StatusCode, number: u64, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Ok(request_id) = HeaderValue::from_str(&format!("SANDBOX-{number:016X}-0")) {
        headers.insert(HeaderName::from_static("request-id"), request_id);
    }
    response
}

/// So many bytes of a document that seems to come to an end some time.
fn flood(bytes: u64) -> Body {
    const CHUNK: &[u8] = &[b'x'; 16 * 1024];
    let start = Bytes::from_static(b"<xml><return_code>SUCCESS</return_code><return_msg>");
    let chunks = (0..bytes / CHUNK.len() as u64).map(|_| Bytes::from_static(CHUNK));
    Body::from_stream(stream::iter(std::iter::once(start).chain(chunks).map(Ok::<_, std::convert::Infallible>)))
}
