//! Cold starts with WeChat Pay and Secrets Manager at a distance: a stretch of wire in front of each mock, on which
//! everything takes half a round trip, and the first of it one more: that of TCP's handshake, which loopback has done
//! already.
//!
//! Threads and not tasks, since tokio's clock ticks in whole milliseconds.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{Measured, cold, program::Kind, test_bed::TestBed};

/// Round trips from the function: from one continent to another, and within a region.
pub(super) const TO_WECHAT_PAY: Duration = Duration::from_millis(40);
pub(super) const TO_AWS: Duration = Duration::from_millis(1);

/// The baseline calls nobody.
pub(super) async fn measure(bed: &TestBed, measured: &mut [Measured], starts: usize) -> anyhow::Result<()> {
    let endpoint = bed.gateway().endpoints().first().map(crate::mock::gateway::Endpoint::address);
    let gateway = endpoint.map(|address| stretch(address, TO_WECHAT_PAY)).transpose()?;
    let gateway = gateway.map(|address| format!("https://{address}")).unwrap_or_default();
    let secrets = format!("https://{}", stretch(bed.sandbox.secrets.address(), TO_AWS)?);
    for _ in 0..starts {
        for Measured { program, figures } in measured.iter_mut().filter(|it| it.program.kind != Kind::Baseline) {
            let function = bed.function(program).env("WECHAT_PAY_ENDPOINTS", &gateway);
            let function = function.env("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets);
            let (function, start) = cold::start(bed, program, function).await?;
            function.stop().await;
            figures.far_first_answer_ms.push_time(start.first_answer);
        }
    }
    Ok(())
}

/// Lays the wire in front of an address, for as long as this program runs.
fn stretch(to: SocketAddr, round_trip: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((to.ip(), 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for near in listener.incoming().filter_map(Result::ok) {
            // A connection that can't go on is dropped, as on any wire.
            let _ = connect(&near, to, round_trip);
        }
    });
    Ok(address)
}

fn connect(near: &TcpStream, to: SocketAddr, round_trip: Duration) -> io::Result<()> {
    let far = TcpStream::connect(to)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let opened = Instant::now() + round_trip;
    carry(near.try_clone()?, far.try_clone()?, opened, round_trip / 2);
    carry(far, near.try_clone()?, opened, round_trip / 2);
    Ok(())
}

/// Carries bytes one way: what comes leaves so much later, in a thread of its own, lest it delay what comes next.
fn carry(mut from: TcpStream, mut to: TcpStream, opened: Instant, delay: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            if sender.send((Instant::now().max(opened) + delay, bytes)).is_err() {
                break;
            }
        }
    });
}
