//! Frames that cost us work and the peer nothing: how many of them a connection may send.
//!
//! h2 answers PING and SETTINGS before anybody above sees them, and takes PRIORITY, WINDOW_UPDATE and empty DATA for nothing
//! at all, so a peer can keep a core busy without ever making a call (CVE-2019-9512, -9515, -9518). Calls that are reset as
//! soon as they are made cost more still (CVE-2023-44487). A token bucket per connection bounds both. What a connection is
//! for earns tokens, as in gRPC, where PINGs are forgiven when data is sent (gRFC A8): so none is taken from a peer that
//! calls much and measures its bandwidth on the way.
//!
//! <https://www.kb.cert.org/vuls/id/605641>, <https://www.cve.org/CVERecord?id=CVE-2023-44487>,
//! <https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md>
//!
//! Limits: sizes of header blocks (CVE-2024-27316) and streams that were reset before they were looked at are h2's to bound,
//! [`header_list`](Limits::header_list) and [`pending_resets`](Limits::pending_resets); calls themselves are admission's.

use crate::{
    FrameBudget, Limits,
    frames::{DATA, HEADERS},
};
use sinew_core::stats::Registry;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

const RST_STREAM: u8 = 0x3;
const PING: u8 = 0x6;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;

/// What a call earns: its peer may update two windows, measure once and change its mind.
const CALL_EARNS: u32 = 4;
/// What a frame of data from the peer earns.
const DATA_EARNS: u32 = 1;
/// Bytes sent that earn a token: a small message in its frame. The answers to PING and SETTINGS are far smaller.
const BYTES_EARN: usize = 64;

/// Names of the frame types that are counted, by their number. <https://www.rfc-editor.org/rfc/rfc9113#section-6>
const NAMES: [&str; 10] =
    ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"];

/// One frame too many, of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flood(u8);

impl Flood {
    fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("other")
    }

    /// A GOAWAY frame with ENHANCE_YOUR_CALM. gRPC's clients know one reason by name and send fewer PINGs then.
    pub(crate) fn goaway(self, last_stream: u32) -> Vec<u8> {
        let reason = if self.0 == PING { "too_many_pings".to_owned() } else { format!("too many frames: {}", self.name()) };
        let length = (8 + reason.len()) as u8;
        let mut frame = vec![0, 0, length, 0x7, 0, 0, 0, 0, 0];
        frame.extend(last_stream.to_be_bytes());
        frame.extend(0xb_u32.to_be_bytes());
        frame.extend(reason.bytes());
        frame
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer sends too many frames: {}", self.name())
    }
}

impl std::error::Error for Flood {}

/// Connections of one server that were ended for it, by type of frame.
#[derive(Debug)]
pub(crate) struct Floods(Vec<Arc<AtomicU64>>);

impl Floods {
    pub(crate) fn new(service: &str) -> Self {
        let names = NAMES.iter().chain(&["other"]);
        let labels = |name: &str| vec![("service", service.to_owned()), ("frames", name.to_owned())];
        Self(names.map(|name| Registry::global().counter("server_floods_total", labels(name))).collect())
    }

    pub(crate) fn count(&self, flood: Flood) {
        if let Some(count) = self.0.get(usize::from(flood.0)).or(self.0.last()) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// Counts the frames of one connection.
#[derive(Debug)]
pub(crate) struct Meter {
    control: Bucket,
    resets: Bucket,
    /// Bytes sent that have not earned a token yet.
    sent: usize,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { control: Bucket::new(limits.control_frames), resets: Bucket::new(limits.resets), sent: 0 }
    }

    /// The peer sends a frame; an error if it is one too many.
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, length: usize) -> Result<(), Flood> {
        let within = match kind {
            HEADERS => {
                self.control.earn(CALL_EARNS);
                true
            }
            // gRPC pads nothing: such a frame may be all padding, which nobody reads and h2 gives back by itself.
            DATA if flags & PADDED != 0 => self.control.take(),
            DATA if length > 0 => {
                self.control.earn(DATA_EARNS);
                true
            }
            // How gRPC ends a request.
            DATA if flags & END_STREAM != 0 => true,
            RST_STREAM => self.resets.take(),
            _ => self.control.take(),
        };
        if within { Ok(()) } else { Err(Flood(kind)) }
    }

    /// Something was sent to the peer.
    pub(crate) fn sent(&mut self, bytes: usize) {
        let sent = self.sent + bytes;
        self.sent = sent % BYTES_EARN;
        self.control.earn(u32::try_from(sent / BYTES_EARN).unwrap_or(u32::MAX));
    }
}

/// Tokens for frames. Filled again only when it is empty: a peer that behaves costs no look at the clock.
#[derive(Debug)]
struct Bucket {
    budget: FrameBudget,
    tokens: u32,
    filled: Instant,
}

impl Bucket {
    fn new(budget: FrameBudget) -> Self {
        Self { budget, tokens: budget.burst, filled: Instant::now() }
    }

    fn earn(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.budget.burst);
    }

    fn take(&mut self) -> bool {
        if self.tokens == 0 {
            self.fill();
        }
        let within = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        within
    }

    #[cold]
    fn fill(&mut self) {
        let now = Instant::now();
        let due = now.saturating_duration_since(self.filled).as_secs_f64() * f64::from(self.budget.per_second);
        // What is no whole token yet stays due.
        if due >= f64::from(self.budget.burst) {
            (self.tokens, self.filled) = (self.budget.burst, now);
        } else if due >= 1.0 {
            self.tokens = due as u32;
            self.filled += Duration::from_secs_f64(due.floor() / f64::from(self.budget.per_second));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DATA, Flood, HEADERS, Meter, PING, RST_STREAM};
    use crate::Limits;
    use std::time::Duration;
    use tokio::time::advance;

    /// How many of a kind pass.
    fn pass(meter: &mut Meter, kind: u8) -> usize {
        (0..100_000).take_while(|_| meter.frame(kind, 0, 0).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_so_many_a_second() {
        let mut meter = Meter::new(&Limits::default());
        assert_eq!(pass(&mut meter, PING), 1_000);
        assert_eq!(meter.frame(PING, 0, 8), Err(Flood(PING)));
        advance(Duration::from_secs(2)).await;
        assert_eq!(pass(&mut meter, PING), 200);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(pass(&mut meter, PING), 1_000);
        for _ in 0..10 {
            advance(Duration::from_millis(15)).await;
            pass(&mut meter, PING);
        }
        advance(Duration::from_millis(1)).await;
        assert_eq!(pass(&mut meter, PING), 0, "151 ms are 15 frames, not 16");
        advance(Duration::from_millis(9)).await;
        assert_eq!(pass(&mut meter, PING), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn resets_have_a_budget_of_their_own() {
        let mut meter = Meter::new(&Limits::default());
        assert_eq!((pass(&mut meter, RST_STREAM), pass(&mut meter, PING)), (2_000, 1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_and_data_either_way_earn_what_they_need() {
        let mut meter = Meter::new(&Limits::default());
        for _ in 0..100_000 {
            // A call, two windows and a PING, its end.
            for (kind, flags, length) in [(HEADERS, 4, 100), (8, 0, 4), (8, 0, 4), (PING, 0, 8), (DATA, 1, 0)] {
                assert_eq!(meter.frame(kind, flags, length), Ok(()));
            }
        }
        assert_eq!(pass(&mut meter, PING), 997, "all but what the last call used");
        for _ in 0..100_000 {
            // A stream of small messages, each followed by a PING.
            meter.sent(70);
            assert_eq!(meter.frame(PING, 0, 8), Ok(()));
        }
        // The answer to a PING earns a quarter of another.
        let passed = (0..10_000).filter(|_| {
            meter.sent(17);
            meter.frame(PING, 0, 8).is_ok()
        });
        assert_eq!(passed.count(), 3_655);
    }

    #[test]
    fn the_goaway_says_calm_down_and_why() {
        let frame = Flood(PING).goaway(7);
        assert_eq!(frame, *b"\0\0\x16\x07\0\0\0\0\0\0\0\0\x07\0\0\0\x0btoo_many_pings");
        assert!(Flood(99).goaway(1).ends_with(b"too many frames: other"));
    }
}
