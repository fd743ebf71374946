//! Connections that can be broken from within: what a flaky gateway does to its callers. Plain ones, or TLS on top.

mod black_hole;

use std::{
    future::ready,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use futures_util::{StreamExt, stream::FuturesUnordered, task::AtomicWaker};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{Accept, TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_util::{either::Either, task::AbortOnDropHandle};

pub use black_hole::BlackHole;

use super::lock;

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
    broken: OnceLock<Break>,
    requests: AtomicUsize,
    waker: AtomicWaker,
}

impl Breaker {
    /// Breaks the connection at its next read or write; an idle one at once.
    pub fn trip(&self, how: Break) {
        let _ = self.broken.set(how);
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
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How long the peer of the last exchange waited for this side: from the last of the request off the socket until
    /// the last of the answer onto it, TLS and HTTP included.
    pub fn turnaround(&self) -> Duration {
        Duration::from_nanos(self.turnaround_ns.load(Ordering::SeqCst))
    }

    fn add(&self, stream: TcpStream) -> BreakableStream {
        let _ = stream.set_nodelay(true);
        let breaker = Arc::<Breaker>::default();
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let mut open = lock(&self.open);
        open.retain(|breaker| breaker.strong_count() > 0);
        open.push(Arc::downgrade(&breaker));
        BreakableStream { stream, breaker, turnaround_ns: Arc::clone(&self.turnaround_ns), asked: Instant::now() }
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
    tls: Option<TlsAcceptor>,
    handshakes: FuturesUnordered<Accept<BreakableStream>>,
}

impl BreakableListener {
    /// Listens on an address, over TLS if told how; port 0 lets the system choose.
    pub async fn bind(
        address: SocketAddr,
        connections: Connections,
        tls: Option<Arc<ServerConfig>>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("port {} can't be listened on", address.port()))?;
        Ok(Self { listener, connections, tls: tls.map(TlsAcceptor::from), handshakes: FuturesUnordered::new() })
    }
}

impl Listener for BreakableListener {
    type Io = Either<BreakableStream, TlsStream<BreakableStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            // A handshake that fails is the peer's loss.
            let mut shaken = self.handshakes.by_ref().filter_map(|shaken| ready(shaken.ok()));
            tokio::select! {
                (stream, address) = Listener::accept(&mut self.listener) => {
                    let stream = self.connections.add(stream);
                    match &self.tls {
                        None => return (Either::Left(stream), address),
                        Some(tls) => self.handshakes.push(tls.accept(stream)),
                    }
                }
                Some(stream) = shaken.next() => {
                    if let Ok(address) = stream.get_ref().0.stream.peer_addr() {
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

/// A server; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Server(AbortOnDropHandle<()>);

impl Server {
    pub(super) fn start(listener: BreakableListener, router: Router) -> Self {
        let service = router.into_make_service_with_connect_info::<ThisConnection>();
        Self(AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = axum::serve(listener, service).await;
        })))
    }

    /// Ends it, and returns when its port is free.
    pub(super) async fn stop(self) {
        self.0.abort();
        let _ = self.0.await;
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
        match self.breaker.broken.get() {
            None => Ok(()),
            Some(Break::Reset) => {
                // A socket that lingers for no time is reset when it is closed.
                let _ = self.stream.set_zero_linger();
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(Break::Close) => Err(io::ErrorKind::BrokenPipe.into()),
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
