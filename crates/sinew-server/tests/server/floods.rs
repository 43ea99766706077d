//! Peers that keep the server busy without calling it, and those that only look like it.

use crate::harness::{GET_INFO, LIMIT, Running, config, start};
use bytes::Bytes;
use sinew_core::stats::Registry;
use sinew_server::FrameBudget;
use std::{io::ErrorKind, sync::atomic::Ordering::Relaxed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// Preface and an empty SETTINGS.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `:method: POST`, `:scheme: http`, `:path: /` of HPACK's static table.
const HEADER_BLOCK: &[u8] = &[0x83, 0x86, 0x84];
/// Of the tests' servers.
const BUDGET: FrameBudget = FrameBudget { per_second: 0, burst: 100 };

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn headers(flags: u8, stream: u32) -> Vec<u8> {
    frame(0x1, flags, stream, HEADER_BLOCK)
}

/// The reason and debug data of the last GOAWAY in what a server has sent.
fn goaway(mut bytes: &[u8]) -> Option<(u32, String)> {
    let mut last = None;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let (payload, rest) = rest.split_at_checked(length)?;
        if *kind == 0x7 {
            let reason = u32::from_be_bytes(payload[4..8].try_into().unwrap());
            last = Some((reason, String::from_utf8_lossy(&payload[8..]).into_owned()));
        }
        bytes = rest;
    }
    last
}

/// Sends it all at once; what the server has said when it has closed.
async fn send(server: &Running, frames: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[OPENING, frames].concat()).await.unwrap();
    let mut answer = Vec::new();
    let end = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("closed in time");
    assert!(end.is_ok() || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    answer
}

async fn flooded_server() -> Running {
    let mut config = config();
    (config.limits.control_frames, config.limits.resets) = (BUDGET, BUDGET);
    start(config).await
}

/// Ended for this type of frame, in all tests of this process.
fn counted(name: &str) -> u64 {
    let labels = vec![("service", "test".to_owned()), ("frames", name.to_owned())];
    Registry::global().counter("server_floods_total", labels).load(Relaxed)
}

#[tokio::test]
async fn a_flood_of_frames_that_carry_no_call_ends_its_connection_and_no_other() {
    let server = flooded_server().await;
    let other = server.bare(&[("do", "wait")]).await;
    let opened = headers(0x4, 1);
    for (name, first, flood) in [
        ("PING", vec![], frame(0x6, 0, 0, &[0; 8])),
        ("PING", vec![], frame(0x6, 1, 0, &[0; 8])),
        ("SETTINGS", vec![], frame(0x4, 0, 0, &[])),
        ("SETTINGS", vec![], frame(0x4, 1, 0, &[])),
        ("PRIORITY", vec![], frame(0x2, 0, 3, &[0, 0, 0, 1, 7])),
        ("WINDOW_UPDATE", vec![], frame(0x8, 0, 0, &[0, 0, 0, 1])),
        ("DATA", opened, frame(0x0, 0, 1, &[])),
        ("other", vec![], frame(0xee, 0, 0, &[1])),
    ] {
        let before = counted(name);
        let answer = send(&server, &[first, flood.repeat(150)].concat()).await;
        let (reason, debug) = goaway(&answer).unwrap_or_else(|| panic!("{name}: no GOAWAY"));
        assert_eq!(reason, 0xb, "{name}: ENHANCE_YOUR_CALM, not {debug}");
        assert!(counted(name) > before, "{name} is counted");
    }
    server.handlers.let_go.notify_one();
    assert_eq!(other.headers().await["content-type"], "application/grpc");
}

#[tokio::test]
async fn pings_without_end_are_told_by_the_name_that_grpc_knows() {
    let answer = send(&flooded_server().await, &frame(0x6, 0, 0, &[0; 8]).repeat(150)).await;
    assert_eq!(goaway(&answer), Some((0xb, "too_many_pings".into())));
}

#[tokio::test]
async fn calls_that_are_reset_at_once_again_and_again_end_the_connection() {
    let server = flooded_server().await;
    let before = counted("RST_STREAM");
    let pairs: Vec<u8> =
        (0..150).flat_map(|i| [headers(0x5, 2 * i + 1), frame(0x3, 0, 2 * i + 1, &[0, 0, 0, 8])].concat()).collect();
    let answer = send(&server, &pairs).await;
    assert_eq!(goaway(&answer), Some((0xb, "too many frames: RST_STREAM".into())));
    assert!(counted("RST_STREAM") > before);
}

#[tokio::test]
async fn headers_that_never_end_end_the_connection() {
    let server = flooded_server().await;
    let endless = [headers(0x0, 1), frame(0x9, 0, 1, &[]).repeat(150)].concat();
    let answer = send(&server, &endless).await;
    assert_eq!(goaway(&answer).map(|(reason, _)| reason), Some(0xb));
}

#[tokio::test]
async fn who_calls_much_may_ping_much() {
    let mut config = config();
    config.limits.control_frames = FrameBudget { per_second: 0, burst: 10 };
    let server = start(config).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let (send, mut connection) = h2::client::handshake(io).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(async { connection.await.map_err(|e| e.to_string()) });
    let behave = async {
        for call in 0..300 {
            let request = http::Request::post(format!("http://test{GET_INFO}")).header("content-type", "application/grpc");
            let mut send = send.clone().ready().await.expect("goes on");
            let (answer, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
            if call % 10 == 0 {
                // Given up.
                body.send_reset(h2::Reason::CANCEL);
                continue;
            }
            body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
            let mut answer = answer.await.unwrap().into_body();
            // As gRPC's measure of bandwidth does: a PING when data comes.
            pings.ping(h2::Ping::opaque()).await.expect("answered");
            while let Some(data) = answer.data().await {
                let length = data.unwrap().len();
                answer.flow_control().release_capacity(length).unwrap();
            }
        }
    };
    timeout(LIMIT * 6, behave).await.expect("in time");
    assert!(driver.try_join_next().is_none(), "the connection is there");
}
