use std::collections::HashSet;

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
    let opened = Opened::over(Box::new(TokioIo::new(near)), Lane::Bulk, false).await.unwrap();
    let mut idle = Vec::new();
    for _ in 1..Lane::Bulk.max_streams() {
        idle.push(opened.sender.clone().send_request(request()).await.unwrap());
    }
    let polled = opened.sender.clone().send_request(request()).await.unwrap();
    let all = tokio::time::timeout(Duration::from_secs(20), polled.into_body().collect());
    let all = all.await.expect("its window is its own").unwrap();
    assert_eq!(all.to_bytes().len(), BODY_BYTES);
}

fn origin() -> Origin {
    Origin { https: true, host: "origin.test".to_owned(), port: 443 }
}

/// How many connections these places are on.
fn connections(places: &[StreamPlace]) -> usize {
    let slots: HashSet<_> = places.iter().map(|place| Arc::as_ptr(&place.slot)).collect();
    slots.len()
}

#[tokio::test]
async fn places_fill_connections_and_leave_retired_ones() {
    let streams = Streams::new(HttpVersion::Http2, None);
    let place = |fresh| streams.place(&origin(), Lane::Bulk, fresh);
    let mut places: Vec<_> = (0..2 * Lane::Bulk.max_streams()).map(|_| place(false)).collect();
    assert_eq!(connections(&places), 2, "as few connections as there must be");
    // Dropped unfinished, its connection takes no more.
    let retired = places.remove(0);
    let old = Arc::as_ptr(&retired.slot);
    drop(retired);
    let next = place(false);
    assert_ne!(Arc::as_ptr(&next.slot), old);
    let fresh = place(true);
    assert_ne!(Arc::as_ptr(&fresh.slot), Arc::as_ptr(&next.slot));
    // HTTP/1.1 where it was chosen.
    assert!(streams.has(&origin(), Lane::Bulk));
    drop((places, next, fresh));
    streams.set_http1(&origin());
    assert!(!streams.has(&origin(), Lane::Bulk));
}

#[tokio::test]
async fn small_responses_share_a_few_connections_evenly_and_none_with_large_ones() {
    let streams = Streams::new(HttpVersion::Auto, None);
    assert!(streams.has(&origin(), Lane::Small) && !streams.has(&origin(), Lane::Bulk));
    let in_the_clear = Origin { https: false, ..origin() };
    assert!(!streams.has(&in_the_clear, Lane::Small), "nothing tells whether it is spoken");
    let place = |lane| streams.place(&origin(), lane, false);
    let mut places: Vec<_> = (0..4).map(|_| place(Lane::Small)).collect();
    assert_eq!(connections(&places), 4, "side by side at first");
    places.extend((0..60).map(|_| place(Lane::Small)));
    assert_eq!(connections(&places), 4);
    for one in &places {
        let beside = places.iter().filter(|it| Arc::ptr_eq(&it.slot, &one.slot)).count();
        assert_eq!(beside, 16);
    }
    let large = place(Lane::Bulk);
    assert!(places.iter().all(|it| !Arc::ptr_eq(&it.slot, &large.slot)));
    // One connection to the host is one, however many streams want a share of it.
    let bounded = Streams::new(HttpVersion::Auto, Some(1));
    let places: Vec<_> = (0..8).map(|_| bounded.place(&origin(), Lane::Small, false)).collect();
    assert_eq!(connections(&places), 1);
}
