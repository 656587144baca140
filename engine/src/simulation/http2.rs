//! The simulated server over HTTP/2: the same answers, as streams.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Response, StatusCode};
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use super::answer::{Asked, End, Reply, take_up};
use super::server::{Ending, How, PIECE_BYTES};
use super::world::{Shared, lock};

/// What a stream tells its connection to do.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// GOAWAY: streams under way are served, and nothing after them.
    Leave,
    /// GOAWAY, and nothing more is served.
    LeaveAtOnce,
    End(How),
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(far: DuplexStream, world: Shared, ending: Arc<Ending>) {
    let rate = lock(&world).rate();
    let Ok(mut connection) = h2::server::handshake(far).await else { return };
    let (orders, mut ordered) = unbounded_channel();
    let mut reused = false;
    loop {
        let accepted = tokio::select! {
            biased;
            Some(order) = ordered.recv() => match order {
                Order::Leave => {
                    connection.graceful_shutdown();
                    continue;
                }
                Order::LeaveAtOnce => {
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    continue;
                }
                Order::End(how) => return ending.set(how),
            },
            accepted = connection.accept() => accepted,
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let mut asked = Asked::new(request.method().as_str(), reused);
        let uri = request.uri();
        asked.path = uri.path_and_query().expect("a path").to_string();
        asked.host = uri.authority().expect("an authority").to_string();
        for (name, value) in request.headers() {
            asked.take(name.as_str(), value.to_str().expect("haul sends ASCII"));
        }
        reused = true;
        tokio::spawn(stream(asked, respond, Arc::clone(&world), orders.clone(), rate));
    }
}

async fn stream(
    asked: Asked,
    respond: SendResponse<Bytes>,
    world: Shared,
    orders: UnboundedSender<Order>,
    rate: u64,
) {
    // The connection may be gone already, and its streams with it.
    let order = |order| {
        let _ = orders.send(order);
    };
    let Some(reply) = take_up(&asked, &world).await else { return order(Order::End(How::Reset)) };
    if let Some(last) = send(respond, &world, reply, rate, &order).await {
        order(last);
    }
    lock(&world).busy -= 1;
}

/// Sends a response. Returns what the connection does after it.
async fn send(
    mut respond: SendResponse<Bytes>,
    world: &Shared,
    reply: Reply,
    rate: u64,
    order: &impl Fn(Order),
) -> Option<Order> {
    match reply.end {
        End::Refused => {
            respond.send_reset(Reason::REFUSED_STREAM);
            return None;
        }
        End::Hangup => return Some(Order::End(How::Clean)),
        End::Leaves => order(Order::Leave),
        _ => {}
    }
    let Some(head) = head_of(&reply) else {
        match reply.end {
            End::Silence(_) => drop(poll_fn(|cx| respond.poll_reset(cx)).await),
            _ => respond.send_reset(Reason::INTERNAL_ERROR),
        }
        return None;
    };
    let empty = reply.body.is_empty() && !matches!(reply.end, End::Silence(_));
    let Ok(mut body) = respond.send_response(head, empty) else { return None };
    if empty {
        return (reply.end == End::Close).then_some(Order::Leave);
    }
    let limit = (reply.end.limit() as usize).min(reply.body.len());
    for piece in reply.body[..limit].chunks(PIECE_BYTES) {
        if !send_piece(&mut body, piece, world).await {
            return None;
        }
        sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
        if lock(world).loses() {
            return Some(Order::End(How::Reset));
        }
    }
    match reply.end {
        End::Crawl(_) => {
            for piece in reply.body[limit..].chunks(40) {
                sleep(Duration::from_secs(1)).await;
                if !send_piece(&mut body, piece, world).await {
                    return None;
                }
            }
        }
        End::Reset(_) => {
            body.send_reset(Reason::INTERNAL_ERROR);
            return None;
        }
        End::Silence(_) => {
            let _ = poll_fn(|cx| body.poll_reset(cx)).await;
            return None;
        }
        End::LeavesAtOnce(_) => return Some(Order::LeaveAtOnce),
        End::Unnotified(_) => return Some(Order::End(How::Unnotified)),
        _ => {}
    }
    // A body that was cut off ends here, short of its length.
    let _ = body.send_data(Bytes::new(), true);
    (reply.end == End::Close).then_some(Order::Leave)
}

async fn send_piece(body: &mut SendStream<Bytes>, piece: &[u8], world: &Shared) -> bool {
    let mut left = piece;
    while !left.is_empty() {
        body.reserve_capacity(left.len());
        let Some(Ok(granted)) = poll_fn(|cx| body.poll_capacity(cx)).await else { return false };
        let (now, later) = left.split_at(granted.min(left.len()));
        if body.send_data(Bytes::copy_from_slice(now), false).is_err() {
            return false;
        }
        lock(world).sent += now.len() as u64;
        left = later;
    }
    true
}

/// The final head without the fields about connections (RFC 9113 section 8.2.2);
/// `None` when there is no head.
fn head_of(reply: &Reply) -> Option<Response<()>> {
    let mut lines = reply.head.trim_end().rsplit("\r\n\r\n").next()?.lines();
    let status = lines.next()?.split(' ').nth(1).expect("a status");
    let mut response =
        Response::builder().status(status.parse::<StatusCode>().expect("a status of three digits"));
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field");
        if !matches!(name, "Connection" | "Transfer-Encoding") {
            response = response.header(name, value.trim().as_bytes());
        }
    }
    Some(response.body(()).expect("fields that are valid"))
}
