//! One address of the gateway: takes requests, applies faults, keeps record.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use futures_util::stream;
use tokio::{task::JoinHandle, time::sleep};
use tokio_rustls::rustls::ServerConfig;

use super::{Books, Fault, Received, Times, Unknown, rules};
use crate::{
    mock::listener::{Break, BreakableListener, Connections, ThisConnection},
    mock::signed_xml::{Fields, read_xml, xml},
    mock::tls,
};

/// Where orders are closed; nothing else is here.
const CLOSEORDER: &str = "/pay/closeorder";

/// Largest request that is read, in bytes.
const MAX_REQUEST: usize = 1024 * 1024;

/// One address of the gateway.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    connections: Connections,
    tls: Option<Arc<ServerConfig>>,
    shared: Shared,
    server: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone, Debug)]
struct Shared {
    index: usize,
    books: Arc<Mutex<Books>>,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl Endpoint {
    pub(super) async fn start(
        index: usize,
        address: SocketAddr,
        books: Arc<Mutex<Books>>,
        tls: Option<Arc<ServerConfig>>,
    ) -> anyhow::Result<Self> {
        let shared = Shared { index, books, fault: Arc::default() };
        let connections = Connections::default();
        let listener = BreakableListener::bind(address, connections.clone(), tls.clone()).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let endpoint = Self { address, connections, tls, shared, server: Mutex::new(None) };
        endpoint.serve(listener);
        Ok(endpoint)
    }

    fn serve(&self, listener: BreakableListener) {
        let router = Router::new().fallback(handle).with_state(self.shared.clone());
        let service = router.into_make_service_with_connect_info::<ThisConnection>();
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, service).await;
        });
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
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
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Closes every connection that is open, as a gateway does with idle ones.
    pub fn close_connections(&self, how: Break) {
        self.connections.break_all(how);
    }

    /// Goes down: connections are reset, new ones refused.
    pub async fn go_down(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.abort();
            let _ = server.await;
        }
        self.connections.break_all(Break::Reset);
    }

    /// Comes up again, at the same address.
    ///
    /// # Errors
    /// When something else took the address meanwhile.
    pub async fn come_up(&self) -> anyhow::Result<()> {
        let is_down = self.server.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if is_down {
            self.serve(BreakableListener::bind(self.address, self.connections.clone(), self.tls.clone()).await?);
        }
        Ok(())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            server.abort();
        }
    }
}

async fn handle(
    State(shared): State<Shared>,
    ConnectInfo(ThisConnection(breaker)): ConnectInfo<ThisConnection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let fields = read_xml(&body);
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let received = Received {
        endpoint: shared.index,
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        headers: parts.headers.iter().map(header).collect(),
        body,
        fields: fields.clone().unwrap_or_default(),
        reply: None,
        at: Instant::now(),
    };
    let method = received.method.clone();
    let is_closeorder = received.path == CLOSEORDER;
    let call = shared.record(received);
    if !is_closeorder {
        return respond(StatusCode::NOT_FOUND, call, Body::empty());
    }
    let fault = shared.next_fault(fields.as_ref());
    match &fault {
        Some(Fault::Delay(delay)) => sleep(*delay).await,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Reset) => {
            breaker.trip(Break::Reset);
            return Response::new(Body::empty());
        }
        Some(Fault::Status(status)) => {
            return respond(StatusCode::from_u16(*status).unwrap_or_default(), call, Body::from("<html>error</html>"));
        }
        Some(Fault::Body(body)) => return respond(StatusCode::OK, call, Body::from(body.clone())),
        Some(Fault::Flood(bytes)) => return respond(StatusCode::OK, call, flood(*bytes)),
        _ => {}
    }
    let mut document = shared.answer(&method, fields.as_ref(), fault.as_ref());
    shared.replied(call, &document);
    match fault {
        Some(Fault::ResetAfter) => breaker.trip(Break::Reset),
        Some(Fault::CloseAfter) => breaker.trip(Break::Close),
        Some(Fault::Truncate) => document = document.chars().take(document.chars().count() / 2).collect(),
        _ => {}
    }
    respond(StatusCode::OK, call, Body::from(document))
}

impl Shared {
    /// Keeps a request on record and gives it its number.
    fn record(&self, received: Received) -> u64 {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.calls += 1;
        let call = books.calls;
        books.received.push((call, received));
        call
    }

    /// Adds the reply to its request, by its number: the record may have been cleared since.
    fn replied(&self, call: u64, document: &str) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, received)) = books.received.iter_mut().rfind(|(number, _)| *number == call) {
            received.reply = Some(document.to_owned());
        }
    }

    /// The fault of this endpoint, else of this call, else of this order; an order that is met for the first time
    /// starts as the rule for unknown ones says.
    fn next_fault(&self, fields: Option<&Fields>) -> Option<Fault> {
        if let Some(fault) = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Some(fault);
        }
        let mut guard = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let books = &mut *guard;
        let out_trade_no = fields.and_then(|fields| fields.get("out_trade_no"));
        if let (Some(rule), Some(out_trade_no)) = (books.unknown, out_trade_no)
            && !books.orders.contains_key(out_trade_no)
            && !books.faults_by_order.contains_key(out_trade_no)
        {
            let Unknown { state, fault } = rule(out_trade_no);
            books.orders.extend(state.map(|state| (out_trade_no.clone(), state)));
            let faults = fault.map(|fault| (Times::Always, fault)).into_iter().collect();
            books.faults_by_order.insert(out_trade_no.clone(), faults);
        }
        let by_order = out_trade_no.and_then(|out_trade_no| books.faults_by_order.get_mut(out_trade_no));
        take(&mut books.faults_by_call).or_else(|| by_order.and_then(take))
    }

    fn answer(&self, method: &str, request: Option<&Fields>, fault: Option<&Fault>) -> String {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let none = Fields::new();
        let mut draft = match (books.complaint(method, request), fault) {
            (Some(complaint), _) => complaint,
            (None, Some(Fault::Error(code))) => {
                books.reply(request.unwrap_or(&none), Some((code, rules::description(code))))
            }
            (None, Some(Fault::Forge)) => books.reply(request.unwrap_or(&none), None),
            (None, _) => books.close(request.unwrap_or(&none)),
        };
        match fault {
            Some(Fault::Edit(edits)) => draft.edit(edits),
            Some(Fault::Forge) => draft.signed_with = Some(("0".repeat(32), String::new())),
            _ => {}
        }
        let mut fields = draft.sign();
        if let Some(Fault::Tamper(edits)) = fault {
            rules::edit(&mut fields, edits);
        }
        xml(&fields)
    }
}

fn take(faults: &mut VecDeque<(Times, Fault)>) -> Option<Fault> {
    let (times, fault) = faults.front_mut()?;
    let fault = fault.clone();
    match times {
        Times::Always => {}
        Times::Next(left) if *left > 1 => *left -= 1,
        Times::Next(_) => {
            faults.pop_front();
        }
    }
    Some(fault)
}

fn respond(status: StatusCode, call: u64, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Ok(request_id) = HeaderValue::from_str(&format!("SANDBOX-{call:016X}-0")) {
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
