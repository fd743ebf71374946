//! Connections that can be broken from within: what a flaky gateway does to its callers. Plain ones, or TLS on top.

mod black_hole;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use futures_util::{StreamExt, stream::FuturesUnordered, task::AtomicWaker};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};
use tokio_rustls::{Accept, TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_util::either::Either;

pub use black_hole::BlackHole;

use super::lock;

/// How long accepting pauses after an error that is not one connection's own, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// With a TCP reset.
    Reset,
    /// As if the peer were done.
    Close,
}

/// Breaks the connection it belongs to.
#[derive(Debug, Default)]
pub struct Breaker {
    state: AtomicU8,
    requests: AtomicUsize,
    waker: AtomicWaker,
}

impl Breaker {
    /// Breaks the connection at its next read or write; an idle one at once.
    pub fn trip(&self, how: Break) {
        self.state.store(if how == Break::Reset { 1 } else { 2 }, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Counts a request that came by the connection; how many that makes.
    pub(super) fn begin_request(&self) -> usize {
        self.requests.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// All the connections of a listener, past and present.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    accepted: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<Weak<Breaker>>>>,
    turnaround_ns: Arc<AtomicU64>,
}

impl Connections {
    /// How many were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How long the peer of the last exchange waited for this side: from the last of the request off the socket until
    /// the last of the answer onto it, TLS and HTTP included.
    #[must_use]
    pub fn turnaround(&self) -> Duration {
        Duration::from_nanos(self.turnaround_ns.load(Ordering::SeqCst))
    }

    /// Breaks all that are open.
    pub fn break_all(&self, how: Break) {
        let open = std::mem::take(&mut *lock(&self.open));
        open.iter().filter_map(Weak::upgrade).for_each(|breaker| breaker.trip(how));
    }
}

/// A listener whose connections can be broken.
pub struct BreakableListener {
    listener: TcpListener,
    connections: Connections,
    tls: Option<Arc<ServerConfig>>,
    handshakes: FuturesUnordered<Accept<BreakableStream>>,
}

impl BreakableListener {
    /// Listens on an address, over TLS if told how; port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn bind(
        address: SocketAddr,
        connections: Connections,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, connections, tls, handshakes: FuturesUnordered::new() })
    }

    fn breakable(&self, stream: TcpStream) -> BreakableStream {
        let _ = stream.set_nodelay(true);
        let breaker = Arc::<Breaker>::default();
        self.connections.accepted.fetch_add(1, Ordering::SeqCst);
        let mut open = lock(&self.connections.open);
        open.retain(|breaker| breaker.strong_count() > 0);
        open.push(Arc::downgrade(&breaker));
        let turnaround_ns = Arc::clone(&self.connections.turnaround_ns);
        BreakableStream { stream, breaker, turnaround_ns, asked: Instant::now() }
    }
}

impl Listener for BreakableListener {
    type Io = Either<BreakableStream, TlsStream<BreakableStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                (stream, address) = next_connection(|cx| self.listener.poll_accept(cx)) => {
                    let stream = self.breakable(stream);
                    match &self.tls {
                        None => return (Either::Left(stream), address),
                        Some(tls) => self.handshakes.push(TlsAcceptor::from(Arc::clone(tls)).accept(stream)),
                    }
                }
                // A handshake that fails is the peer's loss; no pattern here, which would switch this branch off until
                // something else happens.
                shaken = self.handshakes.next(), if !self.handshakes.is_empty() => {
                    if let Some(Ok(stream)) = shaken
                        && let Ok(address) = stream.get_ref().0.stream.peer_addr()
                    {
                        return (Either::Right(stream), address);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Accepts a connection, with a pause after an error, as axum's own listener has it: not for a connection that was gone
/// before it was accepted, but for a lack that accepting at once again would only meet again.
async fn next_connection<T>(mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> T {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match poll_fn(&mut poll_accept).await {
            Ok(accepted) => return accepted,
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {}
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// A server; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Server(JoinHandle<()>);

impl Server {
    pub(super) fn start(listener: BreakableListener, router: Router) -> Self {
        Self::spawn(async move {
            let _ = axum::serve(listener, router.into_make_service_with_connect_info::<ThisConnection>()).await;
        })
    }

    /// Anything else that goes on until it is dropped.
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Ends it, and returns when its port is free.
    pub(super) async fn stop(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that can be broken.
#[derive(Debug)]
pub struct BreakableStream {
    stream: TcpStream,
    breaker: Arc<Breaker>,
    turnaround_ns: Arc<AtomicU64>,
    /// When something last came.
    asked: Instant,
}

impl BreakableStream {
    fn check(&self) -> io::Result<()> {
        match self.breaker.state.load(Ordering::SeqCst) {
            0 => Ok(()),
            1 => {
                // A socket that lingers for no time is reset when it is closed.
                let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                Err(io::ErrorKind::ConnectionReset.into())
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl AsyncRead for BreakableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.breaker.waker.register(cx.waker());
        self.check()?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.asked = Instant::now();
        }
        read
    }
}

impl AsyncWrite for BreakableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        // Noted before the peer can have it, so that whoever has the answer finds its time here.
        let turnaround = u64::try_from(self.asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.turnaround_ns.store(turnaround, Ordering::SeqCst);
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The breaker of the connection that a request came by.
#[derive(Clone, Debug)]
pub struct ThisConnection(pub Arc<Breaker>);

impl Connected<IncomingStream<'_, BreakableListener>> for ThisConnection {
    fn connect_info(stream: IncomingStream<'_, BreakableListener>) -> Self {
        Self(Arc::clone(match stream.io() {
            Either::Left(plain) => &plain.breaker,
            Either::Right(tls) => &tls.get_ref().0.breaker,
        }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, timeout},
    };
    use tokio_rustls::{
        TlsConnector,
        rustls::{
            ClientConfig, RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, pem::PemObject},
        },
    };

    use super::*;
    use crate::mock::tls::Authority;

    #[tokio::test(start_paused = true)]
    async fn accepting_pauses_after_an_error_unless_it_was_the_connections_own() {
        let too_many_files = || io::Error::from_raw_os_error(24);
        let mut outcomes = vec![Ok("a connection"), Err(too_many_files()), Err(io::ErrorKind::ConnectionReset.into())];
        outcomes.push(Err(too_many_files()));
        let start = Instant::now();
        let accepted = next_connection(|_| Poll::Ready(outcomes.pop().unwrap())).await;
        assert_eq!((accepted, start.elapsed()), ("a connection", 2 * ACCEPT_PAUSE));
    }

    fn connector(authority: &Authority) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        TlsConnector::from(Arc::new(config.with_no_client_auth()))
    }

    #[tokio::test]
    async fn a_handshake_that_fails_does_not_stall_another_one() {
        let authority = Authority::new().unwrap();
        let (local, connections) = (SocketAddr::from(([127, 0, 0, 1], 0)), Connections::default());
        let mut listener = BreakableListener::bind(local, connections.clone(), Some(authority.server())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move { listener.accept().await.1 });
        let mut bad = TcpStream::connect(address).await.unwrap();
        let good = TcpStream::connect(address).await.unwrap();
        let good_address = good.local_addr().unwrap();
        while connections.accepted() < 2 {
            tokio::task::yield_now().await;
        }
        bad.write_all(b"no TLS at all").await.unwrap();
        // Until the listener has given it up.
        let _ = bad.read_to_end(&mut Vec::new()).await;
        let name = "127.0.0.1".try_into().unwrap();
        let both = async { tokio::join!(connector(&authority).connect(name, good), accepting) };
        let (connected, accepted) = timeout(Duration::from_secs(5), both).await.expect("the other handshake stalls");
        assert!(connected.is_ok());
        assert_eq!(accepted.unwrap(), good_address);
    }
}
