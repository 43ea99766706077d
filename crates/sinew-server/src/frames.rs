//! Follows the frames that a peer sends, only so far as to know whether it owes us the rest of something, and how many of
//! each type there are ([`flood`](crate::flood)).
//!
//! A peer that begins what it does not finish holds a connection, and h2 the memory of it, for as long as it likes: the
//! preface, its SETTINGS, a frame's head, the headers of a request. Whether the bytes make sense is h2's to judge.

use crate::flood::{Flood, Meter};

/// Length of the client's connection preface. <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>
const PREFACE: usize = 24;
/// Length of a frame's head: three bytes of length, type, flags, four of the stream.
const HEAD: usize = 9;
pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// Where in the frames of a connection we are.
#[derive(Debug)]
pub(crate) struct Frames {
    at: At,
    /// Whether the preface and the first frame, which must be SETTINGS, have come whole.
    opened: bool,
    /// Whether headers were begun that further frames must end.
    headers: bool,
    meter: Meter,
    /// The latest stream that the peer has begun.
    last_stream: u32,
}

#[derive(Debug)]
enum At {
    Preface { missing: usize },
    Head { bytes: [u8; HEAD], have: usize },
    Payload { kind: u8, missing: usize },
}

const NEXT: At = At::Head { bytes: [0; HEAD], have: 0 };

impl Frames {
    /// A connection from which nothing has come.
    pub(crate) fn new(meter: Meter) -> Self {
        Self { at: At::Preface { missing: PREFACE }, opened: false, headers: false, meter, last_stream: 0 }
    }

    /// Whether the peer has begun something that it must finish. A message may take its time, headers may not.
    pub(crate) fn owed(&self) -> bool {
        let begun = match self.at {
            At::Preface { .. } => true,
            At::Head { have, .. } => have > 0,
            At::Payload { kind, .. } => kind != DATA,
        };
        begun || self.headers || !self.opened
    }

    /// The latest stream that the peer has begun.
    pub(crate) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// So many bytes were sent to the peer.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.meter.sent(bytes);
    }

    /// The bytes that have come next; an error with a frame that is one too many.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let used = match &mut self.at {
                At::Preface { missing } => {
                    let used = bytes.len().min(*missing);
                    *missing -= used;
                    if *missing == 0 {
                        self.at = NEXT;
                    }
                    used
                }
                At::Head { bytes: head, have } => {
                    let used = bytes.len().min(HEAD - *have);
                    if let (Some(to), Some(from)) = (head.get_mut(*have..*have + used), bytes.get(..used)) {
                        to.copy_from_slice(from);
                    }
                    *have += used;
                    if *have == HEAD {
                        let head = *head;
                        self.begin(head)?;
                    }
                    used
                }
                At::Payload { missing, .. } => {
                    let used = bytes.len().min(*missing);
                    *missing -= used;
                    if *missing == 0 {
                        self.end();
                    }
                    used
                }
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    fn begin(&mut self, head: [u8; HEAD]) -> Result<(), Flood> {
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.meter.frame(kind, flags, length)?;
        if kind == HEADERS {
            // Without the reserved bit.
            self.last_stream = self.last_stream.max(u32::from_be_bytes(stream) & (u32::MAX >> 1));
        }
        if kind == HEADERS || kind == CONTINUATION {
            self.headers = flags & END_HEADERS == 0;
        }
        self.at = At::Payload { kind, missing: length };
        if length == 0 {
            self.end();
        }
        Ok(())
    }

    fn end(&mut self) {
        self.opened = true;
        self.at = NEXT;
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;
    use crate::{Limits, flood::Meter};

    fn frames() -> Frames {
        Frames::new(Meter::new(&Limits::default()))
    }

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("small").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0xff; payload]].concat()
    }

    /// Whether something is owed after each byte, as ranges in which it is not.
    fn settled(bytes: &[u8]) -> Vec<usize> {
        let mut frames = frames();
        let mut settled = Vec::new();
        for (i, byte) in bytes.iter().enumerate() {
            assert_eq!(frames.feed(&[*byte]), Ok(()));
            if !frames.owed() {
                settled.push(i + 1);
            }
        }
        settled
    }

    #[test]
    fn what_was_begun_is_owed_until_it_is_whole() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut expected = Vec::new();
        for (part, settles) in [
            (frame(4, 0, 12), true),
            (frame(4, 1, 0), true),
            // Headers in three frames.
            (frame(1, 1, 40), false),
            (frame(9, 0, 40), false),
            (frame(9, 4, 1), true),
            (frame(1, 4, 300), true),
        ] {
            bytes.extend(part);
            if settles {
                expected.push(bytes.len());
            }
        }
        assert_eq!(settled(&bytes), expected);
    }

    #[test]
    fn half_a_message_is_not_owed() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0));
        let (opened, data) = (bytes.len(), frame(0, 0, 5));
        bytes.extend(data);
        // Not while its head is incomplete, but from there on.
        assert_eq!(settled(&bytes), [opened, opened + 9, opened + 10, opened + 11, opened + 12, opened + 13, opened + 14]);
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut() {
        let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 18), frame(1, 0, 7), frame(9, 4, 70_000)].concat();
        for size in [1, 2, 3, 7, 10, 24, 100, 1 << 20] {
            let mut frames = frames();
            assert!(bytes.chunks(size).all(|part| frames.feed(part).is_ok()));
            assert!(!frames.owed(), "cut to {size}");
            assert_eq!(frames.last_stream(), 1);
        }
    }
}
