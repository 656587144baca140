use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;

use super::*;

const BODY_BYTES: usize = 6 << 20;

/// Serves every request with [`BODY_BYTES`], as fast as the windows allow.
async fn serve(io: tokio::io::DuplexStream) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let response = http::Response::new(());
            let mut body = respond.send_response(response, false).unwrap();
            let mut left = BODY_BYTES;
            while left > 0 {
                body.reserve_capacity(left.min(64 << 10));
                let Some(Ok(granted)) = poll_fn(|cx| body.poll_capacity(cx)).await else { return };
                let bytes = granted.min(left);
                left -= bytes;
                if body.send_data(Bytes::from(vec![7; bytes]), left == 0).is_err() {
                    return;
                }
            }
        });
    }
}

fn request() -> http::Request<Empty<Bytes>> {
    http::Request::get("http://origin.test/").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn streams_that_are_not_polled_take_no_window_from_one_that_is() {
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(serve(far));
    let opened = Opened::over(Box::new(TokioIo::new(near)), false).await.unwrap();
    let mut idle = Vec::new();
    for _ in 1..MAX_STREAMS {
        idle.push(opened.sender.clone().send_request(request()).await.unwrap());
    }
    let polled = opened.sender.clone().send_request(request()).await.unwrap();
    let all = tokio::time::timeout(Duration::from_secs(20), polled.into_body().collect());
    let all = all.await.expect("its window is its own").unwrap();
    assert_eq!(all.to_bytes().len(), BODY_BYTES);
}

#[tokio::test]
async fn places_fill_connections_and_leave_retired_ones() {
    let streams = Streams::new(true);
    let origin = Origin { https: false, host: "origin.test".to_owned(), port: 80 };
    let mut places: Vec<StreamPlace> =
        (0..2 * MAX_STREAMS).map(|_| streams.place(&origin, false)).collect();
    let mut slots: Vec<_> = places.iter().map(|place| Arc::as_ptr(&place.slot)).collect();
    slots.dedup();
    assert_eq!(slots.len(), 2, "as few connections as there must be");
    // Dropped unfinished, its connection takes no more.
    let retired = places.remove(0);
    let old = Arc::as_ptr(&retired.slot);
    drop(retired);
    let next = streams.place(&origin, false);
    assert_ne!(Arc::as_ptr(&next.slot), old);
    let fresh = streams.place(&origin, true);
    assert_ne!(Arc::as_ptr(&fresh.slot), Arc::as_ptr(&next.slot));
    // HTTP/1.1 where it was chosen.
    assert!(streams.has(&origin));
    drop((places, next, fresh));
    streams.set_http1(&origin);
    assert!(!streams.has(&origin));
}
