//! A port that answers nothing at all.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// How long a connection on loopback may take before it is one that is never made.
const CONNECT_TIME: Duration = Duration::from_millis(100);

/// An address where no connection is ever made or refused: what a firewall does that drops packets. It is a listener
/// that accepts nothing, with as many connections waiting as it takes.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens one, on loopback and a port of the system's choosing.
    pub async fn open() -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(0)?;
        let (address, mut waiting) = (listener.local_addr()?, Vec::new());
        while let Ok(connected) = timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            waiting.push(connected?);
        }
        Ok(Self { address, _listener: listener, _waiting: waiting })
    }

    /// The base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
