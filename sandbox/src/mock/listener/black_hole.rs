//! A port that answers nothing at all.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use socket2::{Domain, Socket, Type};
use tokio::{net::TcpStream, time::timeout};

/// How long a connection on loopback may take before it is one that is never made.
const CONNECT_TIME: Duration = Duration::from_millis(100);

/// An address where no connection is ever made or refused: what a firewall does that drops packets. It is a listener
/// that accepts nothing, with as many connections waiting as it takes.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens one, on loopback and a port of the system's choosing.
    ///
    /// # Errors
    /// When loopback can't be listened on, or connections are still made when a hundred are waiting.
    pub async fn open() -> anyhow::Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        listener.listen(0)?;
        let address = listener.local_addr()?.as_socket().context("an address of IP")?;
        let mut waiting = Vec::new();
        while waiting.len() < 100 {
            match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
                Ok(connected) => waiting.push(connected?),
                Err(_) => return Ok(Self { address, _listener: listener, _waiting: waiting }),
            }
        }
        bail!("{address} takes connections without end")
    }

    /// The base address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_black_hole_neither_takes_nor_refuses_a_connection() {
        let hole = BlackHole::open().await.unwrap();
        let connecting = TcpStream::connect(hole.url().strip_prefix("http://").unwrap().to_owned());
        assert!(timeout(Duration::from_millis(300), connecting).await.is_err());
    }
}
