//! Streams: limits, flow control, independence of both directions.

use crate::support::{CHAT, GET, PUT, Server, WATCH, World, answer, finish, read, wait_for};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use sinew_client::Config;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tonic::Code;
use tower_service::Service;

fn limited(streams: u32) -> Server {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams);
    let silent = Arc::new(|request, respond| -> sinew_core::BoxFuture<'static, ()> {
        Box::pin(async move {
            let _held: (Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) = (request, respond);
            std::future::pending().await
        })
    });
    Server::configured(silent, builder)
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_of_streams_another_connection_is_opened_and_then_calls_fail() {
    let server = limited(2);
    let mut config = Config::default();
    config.connection.max_per_endpoint = 2;
    let world = Arc::new(World::with(&[&server], config, "{}"));
    world.ready(1).await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let world = world.clone();
        calls.spawn(async move { world.call(PUT, b"x").await });
    }
    wait_for(|| server.calls() == 4, || format!("{} calls taken", server.calls())).await;
    assert_eq!(world.endpoints()[0].connections, 2);
    let error = world.call(PUT, b"x").await.expect_err("every stream is taken");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("1 with every stream taken"), "{error}");
    assert_eq!(server.calls(), 4, "nothing is queued unseen");
    // A place that becomes free is used.
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    wait_for(|| world.endpoints()[0].in_flight == 0, || "all ended".into()).await;
    let fifth = timeout(Duration::from_secs(1), world.call(PUT, b"x")).await;
    assert!(fifth.is_err(), "it is under way, unanswered");
    assert_eq!(server.calls(), 5);
}

/// What the server saw of the request's framing: bytes, and whether the end came with the first frame.
async fn framing(request: Request<h2::RecvStream>) -> (usize, bool) {
    let mut body = request.into_body();
    let first = body.data().await.and_then(Result::ok).unwrap_or_default();
    // With END_STREAM on the DATA itself the stream has ended before anything else was read.
    (first.len(), body.is_end_stream())
}

#[tokio::test(start_paused = true)]
async fn a_unary_request_is_headers_and_one_final_data() {
    let server = Server::new(|request, respond| async move {
        let (bytes, last) = framing(request).await;
        answer(respond, Bytes::from(format!("{bytes} {last}"))).await;
    });
    let world = World::of(&[&server]);
    for _ in 0..20 {
        assert_eq!(world.call(GET, b"hello").await.expect("answer"), "5 true");
    }
}

/// A body fed from outside.
fn fed() -> (mpsc::Sender<Bytes>, impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|b| b.map(|b| Ok(Frame::data(b)))));
    (sender, StreamBody::new(stream))
}

fn echo_frames() -> Server {
    Server::new(|request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(Response::new(()), false).expect("open");
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            let mut data = data;
            while !data.is_empty() {
                stream.reserve_capacity(data.len());
                let Some(Ok(n)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                let _ = stream.send_data(data.split_to(n.min(data.len())), false);
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let _ = stream.send_trailers(trailers);
    })
}

#[tokio::test(start_paused = true)]
async fn a_bidirectional_stream_may_send_much_before_it_reads_anything() {
    let world = World::of(&[&echo_frames()]);
    let (sender, body) = fed();
    // Headers come before the first message is sent.
    let response = world.channel.clone().call(Request::post(CHAT).body(body).expect("valid")).await.expect("headers");
    let chunk = Bytes::from(vec![1; 64 << 10]);
    // 1 MiB each way, unread: fits the windows, not the buffers of the connection.
    for _ in 0..16 {
        timeout(Duration::from_secs(5), sender.send(chunk.clone())).await.expect("no deadlock").expect("open");
    }
    drop(sender);
    let all = timeout(Duration::from_secs(5), finish(response)).await.expect("no deadlock").expect("OK");
    assert_eq!(all.len(), 16 * chunk.len());
}

#[tokio::test(start_paused = true)]
async fn one_message_of_a_stream_is_answered_before_the_next_is_sent() {
    let world = World::of(&[&echo_frames()]);
    let (sender, body) = fed();
    let mut answer = world.channel.clone().call(Request::post(CHAT).body(body).expect("valid")).await.expect("headers").into_body();
    for n in 0..100u8 {
        sender.send(Bytes::from(vec![n])).await.expect("open");
        let frame = answer.frame().await.expect("a frame").expect("OK");
        assert_eq!(frame.into_data().expect("data"), vec![n]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_message_goes_through_small_windows() {
    let world = World::of(&[&Server::echo()]);
    let big: &'static [u8] = vec![3; 5 << 20].leak();
    let sent = world.channel.clone().call(Request::post(PUT).body(Full::new(Bytes::from_static(big))).expect("valid"));
    // The echo server answers in one piece, beyond the client's stream window.
    assert_eq!(finish(sent.await.expect("headers")).await.expect("echo").len(), big.len());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_unread_small_messages_leave_other_calls_alone() {
    let server = Server::new(|request, mut respond| async move {
        if request.uri().path() != WATCH {
            let message = read(request.into_body()).await;
            return answer(respond, message).await;
        }
        let mut stream = respond.send_response(Response::new(()), false).expect("open");
        let message = Bytes::from_static(&[9; 20]);
        for _ in 0..100_000 {
            stream.reserve_capacity(message.len());
            let Some(Ok(_)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            if stream.send_data(message.clone(), false).is_err() {
                return;
            }
        }
        std::future::pending().await
    });
    let world = World::of(&[&server]);
    let slow = world.channel.clone().call(Request::post(WATCH).body(Empty::<Bytes>::new()).expect("valid"));
    let unread = slow.await.expect("headers");
    for _ in 0..200 {
        assert_eq!(world.call(PUT, b"other").await.expect("left alone"), "other");
    }
    // And the slow one gets what was sent to it.
    let (mut body, mut got) = (unread.into_body(), 0);
    while got < 100_000 * 20 {
        got += body.frame().await.expect("a frame").expect("OK").into_data().expect("data").len();
    }
    assert_eq!(world.network.dials.load(std::sync::atomic::Ordering::Relaxed), 1, "on the first connection");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_resets_its_stream() {
    let (told, mut cancelled) = mpsc::unbounded_channel();
    let server = Server::new(move |request, mut respond| {
        let told = told.clone();
        async move {
            let _held = request;
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            let _ = told.send(reset.expect("a reset"));
        }
    });
    let world = World::of(&[&server]);
    let call = timeout(Duration::from_millis(100), world.call(PUT, b"x")).await;
    assert!(call.is_err());
    assert_eq!(cancelled.recv().await, Some(h2::Reason::CANCEL));
    wait_for(|| world.endpoints()[0].in_flight == 0, || "nothing in flight".into()).await;
}

#[tokio::test(start_paused = true)]
async fn messages_beyond_the_service_configs_limits_are_refused() {
    let limits = r#"{"methodConfig":[{"name":[{}],"maxRequestMessageBytes":10,"maxResponseMessageBytes":12}]}"#;
    // A flag and four bytes of length before each message.
    let server = Server::new(|request, respond| async move {
        let asked = read(request.into_body()).await;
        let size = asked.get(5).copied().unwrap_or_default();
        answer(respond, Bytes::from([&[0, 0, 0, 0, size][..], &vec![1; size.into()]].concat())).await;
    });
    let world = World::with(&[&server], Config::default(), limits);
    assert_eq!(world.call(PUT, &[0, 0, 0, 0, 1, 12]).await.expect("just fits").len(), 17);
    let error = world.call(PUT, &[0, 0, 0, 0, 1, 13]).await.expect_err("too large an answer");
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("a response of 13 bytes exceeds the 12"), "{error}");
    let error = world.call(PUT, &[0; 5 + 11]).await.expect_err("too large a request");
    assert_eq!((error.code(), server.calls()), (Code::ResourceExhausted, 2));
}
