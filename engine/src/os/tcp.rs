//! What the system knows of a TCP connection, seen from the receiving end.

use std::time::Duration;

use tokio::net::TcpStream;

/// Facts of one connection at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TcpFacts {
    /// Packets that came out of order since the connection was made: most likely they followed a
    /// loss, whose retransmission the receiver cannot see.
    pub(crate) out_of_order_packets: u32,
    /// The time from an acknowledgement to the data that it lets through, queues on the way
    /// included. Zero where the system does not know.
    pub(crate) round_trip: Duration,
    /// The least round trip of the last minutes; zero where the system does not know.
    pub(crate) least_round_trip: Duration,
}

/// The facts of `stream`; `None` where the system has none to tell.
#[cfg(any(target_os = "android", target_os = "linux"))]
#[expect(unsafe_code, reason = "no safe wrapper asks for TCP_INFO")]
pub(crate) fn facts(stream: &TcpStream) -> Option<TcpFacts> {
    use std::os::fd::AsRawFd as _;

    /// Offsets in the kernel's `struct tcp_info`, which has only ever grown at its end
    /// (include/uapi/linux/tcp.h). `RCV_OOOPACK` exists since Linux 5.4.
    const RTT: usize = 68;
    const RCV_RTT: usize = 92;
    const MIN_RTT: usize = 148;
    const RCV_OOOPACK: usize = 224;
    const BYTES: usize = RCV_OOOPACK + 4;

    let mut info = [0u8; BYTES];
    let mut len = BYTES as libc::socklen_t;
    // SAFETY: the descriptor is open, since `stream` is borrowed. The kernel writes at most
    // `len` bytes to `info`, which has that many and for which any bytes are a value; it
    // changes `len`, a local of the type that it expects, to the number that it wrote.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 || (len as usize) < BYTES {
        return None;
    }
    let field = |at: usize| info[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let time = |at: usize| Duration::from_micros(field(at).into());
    // The round trip of what is sent is known from the handshake on, but hardly measured again
    // later: a client sends little.
    let as_receiver = time(RCV_RTT);
    let round_trip = if as_receiver.is_zero() { time(RTT) } else { as_receiver };
    // The kernel sets all bits where it has measured no round trip yet.
    let least = Some(field(MIN_RTT)).filter(|least| *least != u32::MAX).map(|_| time(MIN_RTT));
    Some(TcpFacts {
        out_of_order_packets: field(RCV_OOOPACK),
        round_trip,
        least_round_trip: least.unwrap_or_default(),
    })
}

/// See above: other systems have no facts to tell.
#[cfg(not(any(target_os = "android", target_os = "linux")))]
pub(crate) fn facts(_: &TcpStream) -> Option<TcpFacts> {
    None
}

#[cfg(all(test, any(target_os = "android", target_os = "linux")))]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_over_loopback_has_a_round_trip_and_lost_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"ask").await.unwrap();
        server.write_all(&[0; 1000]).await.unwrap();
        client.read_exact(&mut [0; 1000]).await.unwrap();
        let facts = facts(&client).expect("this kernel tells");
        assert_eq!(facts.out_of_order_packets, 0);
        assert!(!facts.round_trip.is_zero(), "{facts:?}");
        assert!(facts.round_trip < Duration::from_secs(1), "{facts:?}");
        assert!(facts.least_round_trip < Duration::from_secs(1), "{facts:?}");
    }
}
