//! gRPC health checks, really asked: `grpc.health.v1.Health/Check` over plaintext HTTP/2.
//!
//! The request is one string field and the answer one enum, so both are read and written here by hand.

use crate::{agent::Shared, definition::Kind, state::Status};
use bytes::{Bytes, BytesMut};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

/// The running checks, by service and check.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probes {
    tasks: Arc<Mutex<BTreeMap<(String, String), Probe>>>,
}

#[derive(Debug)]
struct Probe {
    kind: Kind,
    task: AbortHandle,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    /// Runs the checks that the service has now; those that stay the same go on undisturbed.
    pub(crate) fn sync(&self, shared: &Shared, service: &str) {
        let wanted: Vec<_> = shared.read(|state| {
            let checks = state.service(service).into_iter().flat_map(|s| s.checks.values());
            checks.filter(|c| matches!(c.kind, Kind::Grpc { .. })).map(|c| (c.id.clone(), c.kind.clone())).collect()
        });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|(of, check), probe| of != service || wanted.iter().any(|(id, kind)| id == check && *kind == probe.kind));
        for (check, kind) in wanted {
            let shared = shared.clone();
            tasks.entry((service.to_owned(), check.clone())).or_insert_with(|| {
                let task = tokio::spawn(run(shared, check, kind.clone())).abort_handle();
                Probe { kind, task }
            });
        }
    }

    /// Ends the checks of a service.
    pub(crate) fn stop(&self, service: &str) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| of != service);
    }
}

async fn run(shared: Shared, check: String, kind: Kind) {
    let Kind::Grpc { target, interval, timeout: limit } = kind else { return };
    // Not all at once: Consul begins anywhere within the first interval.
    sleep(interval.mul_f64(rand::random())).await;
    loop {
        let result = timeout(limit, ask(&target)).await.unwrap_or_else(|_| Err("rpc error: code = DeadlineExceeded".into()));
        let (status, output) = match result {
            Ok(()) => (Status::Passing, format!("gRPC check {target}: success")),
            Err(reason) => (Status::Critical, format!("gRPC check {target}: {reason}")),
        };
        shared.write(|state| state.update(&check, status, output, Instant::now()));
        sleep(interval.max(Duration::from_millis(10))).await;
    }
}

/// One question; the error is what a person reads.
async fn ask(target: &str) -> Result<(), String> {
    let (authority, service) = target.split_once('/').unwrap_or((target, ""));
    let unavailable = |e: &dyn std::fmt::Display| format!("rpc error: code = Unavailable desc = {e}");
    let stream = TcpStream::connect(authority).await.map_err(|e| unavailable(&e))?;
    let (mut send, connection) = h2::client::handshake(stream).await.map_err(|e| unavailable(&e))?;
    let talk = async {
        let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "Consul Health Check")
            .body(())
            .map_err(|e| unavailable(&e))?;
        let (answer, mut body) = send.send_request(request, false).map_err(|e| unavailable(&e))?;
        body.send_data(question(service), true).map_err(|e| unavailable(&e))?;
        let answer = answer.await.map_err(|e| unavailable(&e))?;
        let mut code = answer.headers().get("grpc-status").cloned();
        let (mut message, mut body) = (BytesMut::new(), answer.into_body());
        while let Some(data) = body.data().await {
            let data = data.map_err(|e| unavailable(&e))?;
            let _ = body.flow_control().release_capacity(data.len());
            message.extend_from_slice(&data);
        }
        if let Some(trailers) = body.trailers().await.map_err(|e| unavailable(&e))? {
            code = trailers.get("grpc-status").cloned().or(code);
        }
        match code.as_ref().and_then(|c| c.to_str().ok()) {
            // Five bytes of frame, then field 1, SERVING.
            Some("0") if message.get(5..) == Some(&[0x08, 0x01]) => Ok(()),
            Some("0") => Err("application didn't report service healthy".into()),
            Some("5") => Err("rpc error: code = NotFound desc = unknown service".into()),
            other => Err(format!("rpc error: code = {}", other.unwrap_or("none"))),
        }
    };
    tokio::select! {
        biased;
        answer = talk => answer,
        ended = connection => Err(unavailable(&ended.err().map_or("the connection ended".to_owned(), |e| e.to_string()))),
    }
}

/// A HealthCheckRequest for the service, in its frame.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}
