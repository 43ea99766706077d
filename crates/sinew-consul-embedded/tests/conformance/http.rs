//! A request on a connection of its own: nothing is shared that could make one agent's answer another's.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// The one header that carries meaning for people.
    pub reason: Option<String>,
    pub json: Option<Value>,
    pub text: String,
    /// Compared by what changes it, never by its number.
    pub index: Index,
}

/// An index that equals every other.
#[derive(Debug, Clone, Copy)]
pub struct Index(pub u64);
impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        (self.0 > 0) == (other.0 > 0)
    }
}

pub async fn request(agent: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(agent).await.unwrap();
    let head = format!("{method} /v1/{path} HTTP/1.0\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut raw = String::new();
    stream.read_to_string(&mut raw).await.unwrap();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|l| l.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned())
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let json =
        header("content-type").is_some_and(|t| t.starts_with("application/json")).then(|| serde_json::from_str(body).unwrap());
    let text = if json.is_some() { String::new() } else { body.trim().to_owned() };
    Answer {
        status,
        reason: header("x-consul-reason"),
        json,
        text,
        index: Index(header("x-consul-index").map_or(0, |i| i.parse().unwrap())),
    }
}
