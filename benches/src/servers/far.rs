//! A proxy that delays: every byte arrives a fixed time after it was sent, in both directions.
//!
//! It models a long line without loss, a window as large as the server's speed needs, and no slow
//! start. The kernel's handshake over loopback takes no time, so the proxy adds it: what a client
//! sends first is held back for a whole round trip more, as if its SYN and the answer had
//! travelled. A client therefore gets its first byte two round trips after it began to connect.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// What can be on the line at a time, as portions; bounds memory when a client does not read.
const PORTIONS: usize = 64;
const PORTION_BYTES: usize = 64 * 1024;

/// When what is sent at `now` arrives on a line of `one_way`, opened at zero.
fn arrives(now: Duration, one_way: Duration, handshake: bool) -> Duration {
    let opened = if handshake { one_way * 2 } else { Duration::ZERO };
    now.max(opened) + one_way
}

/// Relays one connection to its end over a line of `one_way` each way.
pub(super) fn relay(client: &TcpStream, server: &TcpStream, one_way: Duration) {
    let opened = Instant::now();
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    std::thread::scope(|scope| {
        scope.spawn(|| line(scope, client, server, opened, one_way, true));
        scope.spawn(|| line(scope, server, client, opened, one_way, false));
    });
}

fn line<'scope, 'env>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    from: &'env TcpStream,
    to: &'env TcpStream,
    opened: Instant,
    one_way: Duration,
    handshake: bool,
) {
    let (sender, receiver) = sync_channel(PORTIONS);
    scope.spawn(move || deliver(&receiver, to, opened));
    collect(&sender, from, opened, one_way, handshake);
}

fn collect(
    sender: &SyncSender<(Duration, Vec<u8>)>,
    mut from: &TcpStream,
    opened: Instant,
    one_way: Duration,
    handshake: bool,
) {
    let mut buffer = vec![0; PORTION_BYTES];
    loop {
        // An empty portion carries the end, which travels as long as a byte.
        let length = from.read(&mut buffer).unwrap_or(0);
        let at = arrives(opened.elapsed(), one_way, handshake);
        if sender.send((at, buffer[..length].to_vec())).is_err() || length == 0 {
            return;
        }
    }
}

fn deliver(receiver: &Receiver<(Duration, Vec<u8>)>, mut to: &TcpStream, opened: Instant) {
    for (at, portion) in receiver {
        std::thread::sleep(at.saturating_sub(opened.elapsed()));
        if portion.is_empty() || to.write_all(&portion).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_pays_for_the_handshake_and_the_next_ones_do_not() {
        let ms = Duration::from_millis;
        assert_eq!(arrives(ms(0), ms(50), true), ms(150));
        assert_eq!(arrives(ms(100), ms(50), true), ms(150));
        assert_eq!(arrives(ms(400), ms(50), true), ms(450));
        assert_eq!(arrives(ms(150), ms(50), false), ms(200), "the first byte of the answer");
    }
}
