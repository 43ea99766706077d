//! The channel of the `grpc` crate.
//!
//! To one endpoint: its round robin is asked for by a service config, and in 0.9 no resolver that a caller can name gives one,
//! nor can a caller give one or register a resolver. Neither HTTP/2 windows nor NODELAY can be set.

use crate::{
    drive::Caller,
    echo::{Message, SAY},
};
use anyhow::{anyhow, bail};
use bytes::{Buf, Bytes};
use grpc::{
    client::{
        CallOptions, Channel, ChannelOptions, Invoke, RecvStream, ResponseStreamItem, SendOptions, SendStream,
        stream_util::RecvStreamValidator,
    },
    core::{RecvMessage, RequestHeaders, SendMessage},
    credentials::LocalChannelCredentials,
};
use prost::Message as _;
use std::net::SocketAddr;

/// The generated client's place.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    pub(crate) fn new(endpoint: SocketAddr) -> Self {
        let target = format!("dns:///{endpoint}");
        Self { channel: Channel::new(target, LocalChannelCredentials::new_arc(), ChannelOptions::default()) }
    }
}

impl Caller for Client {
    /// As the code does that its makers generate, except that prost encodes the message.
    async fn call(&mut self, message: Message) -> anyhow::Result<Message> {
        let headers = RequestHeaders::new().with_method_name(SAY);
        let (mut sender, receiver) = self.channel.invoke(headers, CallOptions::new()).await;
        let mut receiver = RecvStreamValidator::new(receiver, true);
        // When it cannot be sent, the trailers say why.
        let _ = sender.send(&Request(message), SendOptions::new().with_final_msg(true)).await;
        let mut answer = Answer(Message::default());
        loop {
            match receiver.recv(&mut answer).await {
                ResponseStreamItem::Headers(_) | ResponseStreamItem::Message => {}
                ResponseStreamItem::Trailers(trailers) => {
                    trailers.into_status().map_err(|status| anyhow!("{:?}: {}", status.code(), status.message()))?;
                    return Ok(answer.0);
                }
                ResponseStreamItem::StreamClosed => bail!("the stream ended without trailers"),
            }
        }
    }
}

struct Request(Message);

impl SendMessage for Request {
    fn encode(&self) -> Result<Box<dyn Buf + Send + Sync>, String> {
        Ok(Box::new(Bytes::from(self.0.encode_to_vec())))
    }
}

struct Answer(Message);

impl RecvMessage for Answer {
    fn decode(&mut self, data: &mut dyn Buf) -> Result<(), String> {
        self.0 = Message::decode(data).map_err(|error| error.to_string())?;
        Ok(())
    }
}
