//! What peers may do to a server: open, be silent, stop halfway, stay.

use crate::harness::{FakeRegistry, LIMIT, Running, config, launch, start};
use sinew_core::{BoxFuture, BoxIo};
use sinew_proto::admin::v1::{GetInfoRequest, admin_service_client::AdminServiceClient};
use sinew_server::{Listener, PeerAddr};
use std::{io, net::SocketAddr, sync::atomic::Ordering::SeqCst, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Preface and an empty SETTINGS.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The head of a HEADERS frame of 100 bytes, and some of them.
const HALF_A_REQUEST: &[u8] = b"\0\0\x64\x01\x04\0\0\0\x01abc";

/// Reads to the end, which must come.
async fn closed(stream: &mut TcpStream) {
    let end = timeout(LIMIT, stream.read_to_end(&mut Vec::new())).await.expect("closed in time");
    assert!(end.is_ok() || end.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
}

async fn serves(server: &Running) {
    AdminServiceClient::new(server.channel().await).get_info(GetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn connections_that_stop_halfway_are_closed_and_others_served() {
    let mut config = config();
    config.limits.preface = Duration::from_millis(50);
    let server = start(config).await;
    let mut halves = Vec::new();
    for sent in [b"".to_vec(), OPENING[..20].to_vec(), OPENING[..30].to_vec(), [OPENING, HALF_A_REQUEST].concat()] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        halves.push(stream);
    }
    serves(&server).await;
    for stream in &mut halves {
        closed(stream).await;
    }
    serves(&server).await;
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_at_once_and_places_come_free() {
    let mut config = config();
    config.limits.connections = 2;
    let server = start(config).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let _second = TcpStream::connect(server.address).await.unwrap();
    closed(&mut TcpStream::connect(server.address).await.unwrap()).await;
    drop(first);
    let served = async {
        loop {
            let Ok(channel) =
                tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect().await
            else {
                continue;
            };
            if AdminServiceClient::new(channel).get_info(GetInfoRequest {}).await.is_ok() {
                return;
            }
        }
    };
    timeout(LIMIT, served).await.expect("a place came free");
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_and_its_call_finishes() {
    let mut config = config();
    config.limits.connection_age = Some(Duration::from_millis(50));
    let server = start(config).await;
    let call = server.bare(&[("do", "wait")]).await;
    server.eventually("the call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    let told = async {
        while call.send.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, told).await.expect("told to go");
    server.handlers.let_go.notify_one();
    assert_eq!(call.headers().await["content-type"], "application/grpc");
}

#[tokio::test]
async fn a_call_that_outlives_an_old_connections_grace_is_cut() {
    let mut config = config();
    config.limits.connection_age = Some(Duration::from_millis(50));
    config.limits.connection_age_grace = Some(Duration::from_millis(50));
    let server = start(config).await;
    let call = server.bare(&[("do", "wait")]).await;
    assert!(timeout(LIMIT, call.answer).await.expect("cut in time").is_err());
    server.eventually("the handler is dropped", || server.handlers.dropped.load(SeqCst) == 1).await;
    serves(&server).await;
}

#[tokio::test]
async fn a_bound_that_cannot_be_honoured_is_refused_by_name() {
    let mut config = config();
    config.limits.calls = 0;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = launch(config, FakeRegistry::default(), listener, &[]);
    assert_eq!(server.ended().await.unwrap_err().to_string(), "limits.calls must be at least 1");
}

/// Fails first, as a process without file descriptors does.
#[derive(Debug)]
struct Exhausted(TcpListener, usize);

impl Listener for Exhausted {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, PeerAddr)>> {
        if self.1 > 0 {
            self.1 -= 1;
            return Box::pin(async { Err(io::Error::from_raw_os_error(24)) });
        }
        Listener::accept(&mut self.0)
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test]
async fn accepting_goes_on_after_it_failed() {
    let listener = Exhausted(TcpListener::bind("127.0.0.1:0").await.unwrap(), 3);
    serves(&launch(config(), FakeRegistry::default(), listener, &[])).await;
}
