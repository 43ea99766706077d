//! A server on h2 that does as it is told.

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use sinew_core::{BoxFuture, BoxIo};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{io::DuplexStream, sync::watch, task::JoinSet};

/// What a server does with a call.
pub(crate) type Handler = Arc<dyn Fn(Request<RecvStream>, SendResponse<Bytes>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a server does with its connections.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Serving,
    /// Reads and writes nothing.
    Frozen,
    /// GOAWAY on every connection, streams finish.
    Leaving,
    /// Connections are cut.
    Dead,
}

/// Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub(crate) struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    handler: Handler,
    builder: h2::server::Builder,
    mood: watch::Sender<(Mood, u64)>,
    seen: Mutex<Vec<http::request::Parts>>,
    tasks: Mutex<JoinSet<()>>,
    open: AtomicUsize,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Answers every call with its own message.
    pub(crate) fn echo() -> Self {
        Self::new(|request, respond| async move {
            let message = read(request.into_body()).await;
            answer(respond, message).await;
        })
    }

    /// Answers every call with this status and no message.
    pub(crate) fn failing(code: &'static str) -> Self {
        Self::new(move |_, respond| async move { status(respond, code, &[]) })
    }

    /// Takes calls and never answers.
    pub(crate) fn silent() -> Self {
        Self::new(|request, respond| async move {
            let _held = (request, respond);
            std::future::pending().await
        })
    }

    pub(crate) fn new<F>(handler: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request, respond| Box::pin(handler(request, respond)));
        Self::configured(handler, h2::server::Builder::new())
    }

    pub(crate) fn configured(handler: Handler, builder: h2::server::Builder) -> Self {
        let mood = watch::Sender::new((Mood::Serving, 0));
        Self {
            inner: Arc::new(Inner {
                handler,
                builder,
                mood,
                seen: Mutex::default(),
                tasks: Mutex::default(),
                open: AtomicUsize::new(0),
            }),
        }
    }

    /// Heads of the calls it has taken.
    pub(crate) fn seen(&self) -> Vec<http::request::Parts> {
        self.inner.seen.lock().expect("unpoisoned").clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen().len()
    }

    /// Connections open now.
    pub(crate) fn connections(&self) -> usize {
        self.inner.open.load(Relaxed)
    }

    pub(crate) fn freeze(&self) {
        self.feel(Mood::Frozen);
    }

    pub(crate) fn thaw(&self) {
        self.feel(Mood::Serving);
    }

    /// GOAWAY on the connections of now; new ones are served.
    pub(crate) fn go_away(&self) {
        self.feel(Mood::Leaving);
        self.feel(Mood::Serving);
    }

    /// Cuts the connections of now; new ones are served.
    pub(crate) fn cut(&self) {
        self.feel(Mood::Dead);
        self.feel(Mood::Serving);
    }

    fn feel(&self, mood: Mood) {
        // The number tells connections of an event even if the mood has passed when they look.
        self.inner.mood.send_modify(|(now, events)| {
            *now = mood;
            if matches!(mood, Mood::Leaving | Mood::Dead) {
                *events += if mood == Mood::Leaving { 1 } else { 1_000_000 };
            }
        });
    }

    /// The client's end of a new connection.
    pub(crate) fn accept(&self) -> BoxIo {
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        let server = self.clone();
        self.inner.tasks.lock().expect("unpoisoned").spawn(async move {
            server.inner.open.fetch_add(1, Relaxed);
            server.clone().serve(ours).await;
            server.inner.open.fetch_sub(1, Relaxed);
        });
        Box::new(theirs)
    }

    async fn serve(self, io: DuplexStream) {
        let mut mood = self.inner.mood.subscribe();
        let born = mood.borrow_and_update().1;
        let mut handlers = JoinSet::new();
        while mood.borrow().0 == Mood::Frozen {
            if mood.changed().await.is_err() {
                return;
            }
        }
        let Ok(mut connection) = self.inner.builder.handshake::<_, Bytes>(io).await else { return };
        let mut leaving = false;
        loop {
            let (now, events) = *mood.borrow_and_update();
            if (events - born) / 1_000_000 > 0 {
                return;
            }
            if events > born && !leaving {
                leaving = true;
                connection.graceful_shutdown();
            }
            if now == Mood::Frozen {
                let _ = mood.changed().await;
                continue;
            }
            tokio::select! { biased;
                changed = mood.changed() => if changed.is_err() { return },
                next = connection.accept() => match next {
                    Some(Ok((request, respond))) => {
                        let (parts, body) = request.into_parts();
                        self.inner.seen.lock().expect("unpoisoned").push(parts.clone());
                        handlers.spawn((self.inner.handler)(Request::from_parts(parts, body), respond));
                    }
                    Some(Err(_)) | None => return,
                },
            }
        }
    }
}

/// The whole request.
pub(crate) async fn read(mut body: RecvStream) -> Bytes {
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    all.into()
}

/// One message and OK.
pub(crate) async fn answer(mut respond: SendResponse<Bytes>, message: Bytes) {
    let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
    let _ = stream.send_data(message, false);
    let _ =
        stream.send_trailers(HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]));
}

/// A status without message, in headers, as servers answer when they fail at once.
pub(crate) fn status(mut respond: SendResponse<Bytes>, code: &'static str, more: &[(&'static str, &'static str)]) {
    let mut response = Response::new(());
    response.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
    for (name, value) in more {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    let _ = respond.send_response(response, true);
}

/// Pauses a handler, in virtual time.
pub(crate) async fn pause(ms: u64) {
    // sleeps: a slow server is what is played
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
