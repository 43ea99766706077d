//! A registration whose registry is away, in trouble or unwilling: what is waited out and what is not.

#![allow(clippy::unwrap_used)]

use sinew_consul::{Consul, Settings};
use sinew_core::{Register, Registered, Registration, ServiceName, Standing};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch::Receiver,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const LIMIT: Duration = Duration::from_secs(15);

/// An agent that answers a registration as it is told to, and writes down what it is asked.
struct Agent {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    /// Status and words for a registration; 200 where there is none.
    answer: Option<(u16, &'static str)>,
    asked: Vec<String>,
    registered: bool,
}

impl Agent {
    /// Its address, at which nobody listens yet.
    async fn away() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self { address, state: Arc::default(), tasks: JoinSet::new() }
    }

    async fn answering(status: u16, words: &'static str) -> Self {
        let mut agent = Self::away().await;
        agent.answer(status, words);
        agent.listen().await;
        agent
    }

    async fn listen(&mut self) {
        let (listener, state) = (TcpListener::bind(self.address).await.unwrap(), self.state.clone());
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, state.clone()));
            }
        });
    }

    fn answer(&self, status: u16, words: &'static str) {
        self.state.lock().unwrap().answer = (status != 200).then_some((status, words));
    }

    fn asked(&self, what: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|line| line.starts_with(what)).count()
    }

    fn register(&self, id: &str) -> (Box<dyn Registered>, Receiver<Standing>) {
        let settings = Settings { address: format!("http://{}", self.address), ..Settings::default() };
        let registered = Consul::new(settings).unwrap().register(registration(id));
        let standing = registered.standing();
        (registered, standing)
    }
}

/// One request, answered and closed.
async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    let (mut asked, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if asked.is_empty() {
            asked = line.trim_end().to_owned();
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        } else if line == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    let (status, words) = state.lock().unwrap().take(&asked);
    let length = words.len();
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{words}");
    stream.write_all(answer.as_bytes()).await.unwrap();
}

impl State {
    fn take(&mut self, asked: &str) -> (u16, &'static str) {
        self.asked.push(asked.to_owned());
        if asked.starts_with("PUT /v1/agent/service/register") {
            let answer = self.answer.unwrap_or((200, ""));
            self.registered = answer.0 == 200;
            return answer;
        }
        self.registered &= !asked.starts_with("PUT /v1/agent/service/deregister");
        let known = self.registered || !asked.starts_with("GET /v1/agent/service/");
        if known { (200, "{}") } else { (404, "unknown service ID") }
    }
}

fn registration(id: &str) -> Registration {
    Registration {
        service: ServiceName::new("order").unwrap(),
        id: id.into(),
        host: "127.0.0.1".into(),
        port: 4000,
        check: None,
        tags: Vec::new(),
        meta: [].into(),
    }
}

async fn until(standing: &mut Receiver<Standing>, what: &str, mut ok: impl FnMut(&Standing) -> bool) {
    let waited = timeout(LIMIT, standing.wait_for(|s| ok(s))).await.map(|seen| seen.is_ok());
    assert_eq!(waited, Ok(true), "{what}; last seen: {:?}", standing.borrow());
}

fn waits_for(standing: &Standing, words: &str) -> bool {
    matches!(standing, Standing::Waiting(why) if why.contains(words))
}

#[tokio::test]
async fn a_registry_that_is_away_is_told_when_it_is_there() {
    let mut agent = Agent::away().await;
    let (registered, mut standing) = agent.register("order-0");
    let address = agent.address.to_string();
    until(&mut standing, "away", |s| waits_for(s, &address) && waits_for(s, "cannot be reached")).await;
    agent.listen().await;
    until(&mut standing, "registered", |s| *s == Standing::Registered).await;
    registered.withdraw().await;
    assert!(!agent.state.lock().unwrap().registered, "nothing is left");
}

#[tokio::test]
async fn one_that_is_busy_or_in_trouble_is_asked_again() {
    for (status, words) in [(500, "No cluster leader"), (503, ""), (429, "too many connections"), (408, "")] {
        let agent = Agent::answering(status, words).await;
        let (_registered, mut standing) = agent.register("order-0");
        until(&mut standing, "in trouble", |s| waits_for(s, &format!("cannot be reached: {status}: {words}"))).await;
        agent.answer(200, "");
        until(&mut standing, "registered", |s| *s == Standing::Registered).await;
    }
}

#[tokio::test]
async fn a_refusal_as_the_first_word_is_final() {
    for (status, words) in [(400, "Invalid service address"), (403, "Permission denied")] {
        let agent = Agent::answering(status, words).await;
        let (registered, mut standing) = agent.register("order-0");
        until(&mut standing, "refused", |s| matches!(s, Standing::Refused(_))).await;
        let refusal = standing.borrow().clone();
        let Standing::Refused(refusal) = refusal else { panic!("{refusal:?}") };
        let address = agent.address;
        assert_eq!(refusal.to_string(), format!("the registry at http://{address} refused the registration of order-0: {words}"));
        registered.withdraw().await;
        assert_eq!(agent.asked("PUT /v1/agent/service/register"), 1);
    }
    let agent = Agent::answering(200, "").await;
    let (_registered, mut standing) = agent.register("order/0");
    until(&mut standing, "an id that is none", |s| matches!(s, Standing::Refused(_))).await;
    assert_eq!(agent.asked(""), 0);
}

#[tokio::test]
async fn a_later_refusal_is_shown_and_asked_about_again() {
    let mut agent = Agent::away().await;
    let (_registered, mut standing) = agent.register("order-0");
    until(&mut standing, "away", |s| waits_for(s, "cannot be reached")).await;
    agent.answer(403, "Permission denied");
    agent.listen().await;
    until(&mut standing, "refused", |s| waits_for(s, "refuses the registration: 403: Permission denied")).await;
    agent.answer(200, "");
    until(&mut standing, "registered", |s| *s == Standing::Registered).await;

    // It forgets, and refuses from then on.
    agent.answer(403, "Permission denied");
    agent.state.lock().unwrap().registered = false;
    until(&mut standing, "refused again", |s| matches!(s, Standing::Stale(why) if why.contains("Permission denied"))).await;
    agent.answer(200, "");
    until(&mut standing, "registered again", |s| *s == Standing::Registered).await;
}

#[tokio::test]
async fn whoever_leaves_unregistered_waits_for_nobody_and_leaves_nothing() {
    // Accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = Agent { address: silent.local_addr().unwrap(), state: Arc::default(), tasks: JoinSet::new() };
    let (registered, standing) = agent.register("order-0");
    let (_asked, _) = timeout(LIMIT, silent.accept()).await.unwrap().unwrap();
    // A registration that others know of takes 3 s for each.
    let start = Instant::now();
    registered.drain().await;
    let drained = start.elapsed();
    registered.withdraw().await;
    let withdrawn = start.elapsed() - drained;
    assert!(drained < Duration::from_millis(1_500) && withdrawn < Duration::from_millis(2_500), "{drained:?}, {withdrawn:?}");
    assert_eq!(*standing.borrow(), Standing::Unknown);

    // Took it, but its word to say so was lost: a registration may be there that nobody knows of.
    let mut lost = Agent::away().await;
    let (registered, mut standing) = lost.register("order-0");
    until(&mut standing, "away", |s| waits_for(s, "")).await;
    registered.drain().await;
    lost.state.lock().unwrap().registered = true;
    lost.listen().await;
    // sleeps: nothing is to happen, where the next attempt would have come within 0.2 s.
    sleep(Duration::from_millis(600)).await;
    registered.withdraw().await;
    assert!(!lost.state.lock().unwrap().registered, "what may be there is taken away");
    assert_eq!(lost.asked("PUT /v1/agent/service/register"), 0, "one that leaves is announced no more");
}
