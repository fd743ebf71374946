//! One HTTP client for WeChat Pay and AWS: one pool, one set of roots, one TLS stack.
//!
//! TLS is rustls on ring: AWS-LC, the default, gathers CPU-jitter entropy at its first handshake, which takes longer
//! than everything else in a cold start together.

use std::{
    convert::Infallible,
    error::Error,
    io, iter,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::{Body, Client, ClientBuilder, Response, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection is kept: shorter than the minute after which load balancers commonly close theirs.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// The clients; clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpClients {
    /// Keeps connections for the next request.
    pub pooled: Client,
    /// Opens a new connection for each request.
    pub unpooled: Client,
}

/// Builds the clients.
///
/// They follow no redirect, use no proxy from the environment and ask for no compression.
///
/// # Errors
/// When rustls rejects the TLS settings, which are constants.
pub fn new(roots: RootCertStore) -> Result<HttpClients, Box<dyn Error + Send + Sync>> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = || -> ClientBuilder {
        Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent(concat!("close-order/", env!("CARGO_PKG_VERSION")))
    };
    Ok(HttpClients {
        pooled: builder().pool_idle_timeout(POOL_IDLE_TIMEOUT).build()?,
        unpooled: builder().pool_max_idle_per_host(0).build()?,
    })
}

/// Why there is no response, each in one fixed phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent: the name is unknown, or no name server answered.
    #[error("the host name does not resolve")]
    Unresolved,
    /// Nothing was sent: nobody listens on that port.
    #[error("the connection was refused")]
    Refused,
    /// Nothing was sent: a firewall, a route into nowhere, a VPC without a NAT gateway.
    #[error("connect timed out")]
    ConnectTimedOut,
    /// Nothing was sent: a company's proxy that signs for everybody, or not the host that it should be.
    #[error("the server's certificate is not trusted (SSL_CERT_FILE names the trusted root certificates)")]
    UntrustedCertificate,
    /// Nothing was sent.
    #[error("the TLS handshake failed")]
    Tls,
    /// Nothing was sent, for another reason.
    #[error("no connection")]
    NoConnection,
    /// The request was sent, at least in part.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The request was sent, at least in part.
    #[error("no answer in time")]
    TimedOut,
    /// Something answered that does not speak HTTP: a proxy, or the port of something else. The request may have been sent.
    #[error("the answer is not HTTP")]
    NotHttp,
}

impl SendError {
    /// The error of a request of which something was sent, or nothing.
    pub(crate) fn new(error: &reqwest::Error, was_sent: bool) -> Self {
        if is_not_http(error) {
            return Self::NotHttp;
        }
        // A connect timeout is a timeout, too: what was sent comes first.
        match (was_sent, error.is_timeout()) {
            (true, true) => return Self::TimedOut,
            (true, false) => return Self::ConnectionLost,
            (false, true) => return Self::ConnectTimedOut,
            (false, false) if error.is_dns() => return Self::Unresolved,
            (false, false) => {}
        }
        let mut next = error.source();
        while let Some(error) = next {
            match error.downcast_ref::<rustls::Error>() {
                Some(rustls::Error::InvalidCertificate(_)) => return Self::UntrustedCertificate,
                Some(_) => return Self::Tls,
                None => {}
            }
            let io = error.downcast_ref::<io::Error>();
            match io.map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => return Self::Refused,
                // Before a request is sent, only the handshake reads.
                Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => {
                    return Self::Tls;
                }
                _ => {}
            }
            // The source of an I/O error is that of the error that it wraps.
            next = match io.and_then(io::Error::get_ref) {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        Self::NoConnection
    }

    /// The error of a request that was given up for its time.
    pub(crate) fn timed_out(was_sent: bool) -> Self {
        if was_sent { Self::TimedOut } else { Self::ConnectTimedOut }
    }

    /// Whether it was given up for its time.
    #[must_use]
    pub(crate) fn is_timeout(self) -> bool {
        matches!(self, Self::ConnectTimedOut | Self::TimedOut)
    }

    /// Whether something may have been sent.
    #[must_use]
    pub fn was_sent(self) -> bool {
        matches!(self, Self::ConnectionLost | Self::TimedOut | Self::NotHttp)
    }
}

/// Whether bytes came that are not the beginning of an HTTP response.
fn is_not_http(error: &reqwest::Error) -> bool {
    let mut sources = iter::successors(error.source(), |&error| error.source());
    // A greeting that comes before the request is sent has no method of hyper's own that tells it.
    let is_greeting = |error: &hyper::Error| error.to_string() == "received unexpected message from connection";
    sources.any(|error| error.downcast_ref::<hyper::Error>().is_some_and(|it| it.is_parse() || is_greeting(it)))
}

/// A request's body that notes when it is first asked for, which is when there is a connection: reqwest's errors alone
/// do not tell whether a request that timed out was sent.
struct WatchedBody {
    text: Option<Bytes>,
    was_sent: Arc<AtomicBool>,
}

/// Whether a [`watched_body`] was sent, at least in part.
pub(crate) struct WasSent(Arc<AtomicBool>);

impl WasSent {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body and its witness.
pub(crate) fn watched_body(text: String) -> (Body, WasSent) {
    let was_sent = Arc::<AtomicBool>::default();
    let body = WatchedBody { text: Some(text.into()), was_sent: Arc::clone(&was_sent) };
    (Body::wrap(body), WasSent(was_sent))
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.was_sent.store(true, Ordering::Relaxed);
        Poll::Ready(self.text.take().map(|text| Ok(Frame::data(text))))
    }

    /// An empty body is never asked for its frames: this is all that is asked of it when the request is written.
    fn is_end_stream(&self) -> bool {
        let is_empty = self.text.as_ref().is_some_and(Bytes::is_empty);
        if is_empty {
            self.was_sent.store(true, Ordering::Relaxed);
        }
        is_empty || self.text.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.as_ref().map_or(0, |text| text.len() as u64))
    }
}

/// Reads a body to its end, unless it is larger than `limit` bytes: then `None`, and the rest is never read.
///
/// # Errors
/// When the connection is lost or the request's time is up.
pub(crate) async fn read_at_most(limit: usize, mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use reqwest::Method;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Where every connection is read from once and then gets these bytes, and is closed; `None` leaves it open.
    pub(crate) async fn server(response: Option<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                match &response {
                    Some(response) => {
                        let _ = stream.write_all(response).await;
                    }
                    None => open.push(stream),
                }
            }
        });
        address
    }

    /// Where every connection is greeted before it has asked for anything.
    async fn greeter(greeting: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(greeting).await;
                open.push(stream);
            }
        });
        address
    }

    pub(crate) fn response(bytes: usize) -> Vec<u8> {
        let head = format!("HTTP/1.1 418 I'm a teapot\r\nx-tea: green\r\ncontent-length: {bytes}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; bytes]].concat()
    }

    pub(crate) fn clients() -> HttpClients {
        new(RootCertStore::empty()).unwrap()
    }

    fn client() -> Client {
        clients().pooled
    }

    /// What becomes of a request, and whether its body says that something of it was sent.
    async fn send(url: String, body: &str, limit: Duration) -> (SendError, bool) {
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        let (body, was_sent) = watched_body(body.to_owned());
        let error = client().request(method, url).timeout(limit).body(body).send().await.unwrap_err();
        (SendError::new(&error, was_sent.get()), was_sent.get())
    }

    #[tokio::test]
    async fn an_error_says_what_failed_and_whether_anything_was_sent() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let [closes, hangs] = [server(Some(Vec::new())).await, server(None).await];
        let plain = server(Some(response(0))).await;
        let long = Duration::from_secs(5);
        let answering = async |bytes: &[u8]| server(Some(bytes.to_vec())).await;
        let not_http = answering(b"-ERR unknown command 'POST'\r\n").await;
        let html = answering(b"<html>Proxy</html>").await;
        // TLS's alert, and HTTP/2's first frame.
        let alert = answering(&[21, 3, 3, 0, 2, 2, 22]).await;
        let http2 = answering(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1]).await;
        let cut = answering(b"HTTP/1.1 200 OK\r\n").await;
        let banner = greeter(b"SSH-2.0-OpenSSH_9.9\r\n").await;
        for (url, limit, expected) in [
            ("http://nobody.invalid".to_owned(), long, SendError::Unresolved),
            (format!("http://{nobody}"), long, SendError::Refused),
            (format!("https://{nobody}"), long, SendError::Refused),
            (format!("https://{hangs}"), Duration::from_millis(100), SendError::ConnectTimedOut),
            (format!("https://{closes}"), long, SendError::Tls),
            (format!("https://{plain}"), long, SendError::Tls),
            (format!("http://{closes}"), long, SendError::ConnectionLost),
            (format!("http://{hangs}"), Duration::from_millis(100), SendError::TimedOut),
            (format!("http://{not_http}"), long, SendError::NotHttp),
            (format!("http://{html}"), long, SendError::NotHttp),
            (format!("http://{alert}"), long, SendError::NotHttp),
            (format!("http://{http2}"), long, SendError::NotHttp),
            (format!("http://{banner}"), long, SendError::NotHttp),
            (format!("http://{cut}"), long, SendError::ConnectionLost),
        ] {
            for body in ["body", ""] {
                let (error, was_sent) = send(url.clone(), body, limit).await;
                assert_eq!(error, expected, "{url} {body}");
                // A greeting may come before the request is sent.
                assert!(was_sent == expected.was_sent() || url.contains(&banner.to_string()), "{url} {body}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_and_no_further() {
        for (bytes, expected) in [(0, Some(0)), (10, Some(10)), (11, None), (1024 * 1024, None)] {
            let response =
                client().get(format!("http://{}", server(Some(response(bytes))).await)).send().await.unwrap();
            let body = read_at_most(10, response).await.unwrap();
            assert_eq!(body.map(|body| body.len()), expected, "{bytes}");
        }
    }
}
