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

use super::test_bed::TestBed;

/// Round trips from the function: from one continent to another, and within a region.
const TO_WECHAT_PAY: Duration = Duration::from_millis(40);
const TO_AWS: Duration = Duration::from_millis(1);

/// The variables by which a function finds the mocks at a distance.
pub(super) fn environment(bed: &TestBed) -> io::Result<[(&'static str, String); 2]> {
    let gateway = stretch(bed.endpoint().address(), TO_WECHAT_PAY)?;
    let secrets = stretch(bed.sandbox.secrets.address(), TO_AWS)?;
    Ok([
        ("WECHAT_PAY_ENDPOINTS", format!("https://{gateway}")),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", format!("https://{secrets}")),
    ])
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
