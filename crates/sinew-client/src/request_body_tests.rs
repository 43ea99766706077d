//! Look-ahead and replay of request bodies.

use super::{Replay, RequestBody};
use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// Yields what it is given; `None` is a moment without data.
struct Script(VecDeque<Option<&'static str>>);

impl Body for Script {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(None) => Poll::Pending,
            Some(Some(data)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data.as_bytes()))))),
        }
    }
}

fn read(script: &[Option<&'static str>], limit: usize) -> RequestBody<Script> {
    RequestBody::read_ahead(Script(script.iter().copied().collect()), limit).expect("infallible")
}

fn stream(script: &[Option<&'static str>], limit: usize) -> RequestBody<Script> {
    let body = read(script, limit);
    assert!(matches!(body, RequestBody::Stream(_)), "{script:?} is a stream");
    body
}

/// What one view yields until it ends; `|` where it had to wait.
fn drain(body: &mut RequestBody<Script>) -> String {
    let RequestBody::Stream(replay) = body else { panic!("a stream") };
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = String::new();
    loop {
        match Replay::poll_data(replay, &mut cx) {
            Poll::Ready(Some(Ok(data))) => all.push_str(std::str::from_utf8(&data).expect("text")),
            Poll::Ready(Some(Err(status))) => panic!("{status}"),
            Poll::Ready(None) => return all,
            Poll::Pending => all.push('|'),
        }
    }
}

#[test]
fn one_message_at_hand_is_whole() {
    for (script, whole) in [(&[][..], ""), (&[Some("abc")], "abc"), (&[Some(""), Some("abc"), Some("")], "abc")] {
        let RequestBody::Whole(bytes) = read(script, 100) else { panic!("{script:?}") };
        assert_eq!(bytes, whole);
    }
}

#[test]
fn streams_are_read_on_and_repeated_from_the_start() {
    let mut first = stream(&[Some("a"), Some("b"), None, Some("c")], 100);
    let mut second = first.again().expect("all kept");
    assert_eq!(drain(&mut first), "", "a later view has taken over");
    assert_eq!(drain(&mut second), "ab|c");
    assert_eq!(drain(&mut second.again().expect("all kept")), "abc");
}

#[test]
fn too_much_or_a_commitment_ends_repetition_but_loses_nothing() {
    let mut long = stream(&[Some("aaaa"), Some("bbbb"), Some("c"), Some("d")], 6);
    assert_eq!(drain(&mut long), "aaaabbbbcd");
    assert!(long.again().is_none());

    let mut committed = stream(&[Some("a"), None, None, Some("b"), Some("c")], 100);
    committed.commit();
    assert_eq!(drain(&mut committed), "a|bc");
    assert!(committed.again().is_none());
}
