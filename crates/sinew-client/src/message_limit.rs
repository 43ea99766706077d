//! Enforces the largest message that a service config allows.
//!
//! gRPC messages carry their length in a five-byte prefix: an oversized one is refused as soon as its prefix is seen,
//! before anybody buffers it. DATA frames may split messages and prefixes anywhere.

/// What lies before each message: a compression flag and its length.
pub(crate) const PREFIX: usize = 5;

/// Follows the messages of one direction of one call.
#[derive(Debug)]
pub(crate) struct MessageLimit {
    most: u32,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix seen.
    seen: usize,
    /// Bytes of the message still to come.
    left: usize,
}

impl MessageLimit {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, prefix: [0; PREFIX], seen: 0, left: 0 }
    }

    /// The limit, in bytes.
    pub(crate) fn most(&self) -> u32 {
        self.most
    }

    /// Follows more data; the size of the first message that is too large.
    pub(crate) fn follow(&mut self, mut data: &[u8]) -> Result<(), usize> {
        while !data.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(data.len());
                self.left -= skipped;
                data = data.get(skipped..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = data.split_first() else { break };
            if let Some(place) = self.prefix.get_mut(self.seen) {
                *place = *byte;
            }
            (self.seen, data) = (self.seen + 1, rest);
            if self.seen == PREFIX {
                let [_, a, b, c, d] = self.prefix;
                let size = u32::from_be_bytes([a, b, c, d]);
                if size > self.most {
                    return Err(size as usize);
                }
                (self.seen, self.left) = (0, size as usize);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MessageLimit;

    fn message(size: u32) -> Vec<u8> {
        [&[0][..], &size.to_be_bytes(), &vec![7; size as usize]].concat()
    }

    #[test]
    fn messages_are_measured_however_they_are_split() {
        let fine = [message(0), message(10), message(3), message(10)].concat();
        let large = [fine.clone(), message(11)].concat();
        for split in 1..=large.len() {
            let mut limit = MessageLimit::new(10);
            assert_eq!(fine.chunks(split).try_for_each(|chunk| limit.follow(chunk)), Ok(()), "{split}");
            let mut limit = MessageLimit::new(10);
            assert_eq!(large.chunks(split).try_for_each(|chunk| limit.follow(chunk)), Err(11), "{split}");
        }
    }
}
