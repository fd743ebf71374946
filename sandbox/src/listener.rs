//! Connections that can be broken from within: what a flaky gateway does to its callers.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use futures_util::task::AtomicWaker;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

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
    waker: AtomicWaker,
}

impl Breaker {
    /// Breaks the connection at its next read or write; an idle one at once.
    pub fn trip(&self, how: Break) {
        self.state.store(if how == Break::Reset { 1 } else { 2 }, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// All the connections of a listener, past and present.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    accepted: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<Weak<Breaker>>>>,
}

impl Connections {
    /// How many were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Breaks all that are open.
    pub fn break_all(&self, how: Break) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        open.iter().filter_map(Weak::upgrade).for_each(|breaker| breaker.trip(how));
    }
}

/// A listener whose connections can be broken.
#[derive(Debug)]
pub struct BreakableListener {
    listener: TcpListener,
    connections: Connections,
}

impl BreakableListener {
    /// Listens on an address; port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn bind(address: SocketAddr, connections: Connections) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, connections })
    }
}

impl Listener for BreakableListener {
    type Io = BreakableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BreakableStream, SocketAddr) {
        loop {
            if let Ok((stream, address)) = self.listener.accept().await {
                let _ = stream.set_nodelay(true);
                let breaker = Arc::<Breaker>::default();
                self.connections.accepted.fetch_add(1, Ordering::SeqCst);
                let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.retain(|breaker| breaker.strong_count() > 0);
                open.push(Arc::downgrade(&breaker));
                return (BreakableStream { stream, breaker }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that can be broken.
#[derive(Debug)]
pub struct BreakableStream {
    stream: TcpStream,
    breaker: Arc<Breaker>,
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BreakableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
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
        Self(Arc::clone(&stream.io().breaker))
    }
}
