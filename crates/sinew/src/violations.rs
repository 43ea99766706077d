//! Collects what is wrong with a request, so that its caller hears of all of it at once.
//!
//! The fields that every contract has in common (ids, idempotency keys, pages) are checked alike everywhere.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use uuid::Uuid;

/// The longest idempotency key: room for any id, and an index entry of bounded size.
const MAX_KEY: usize = 64;

/// What contracts promise for page_size 0, and at most.
const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// Violations by field, as `google.rpc.BadRequest` carries them.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// This field is wrong in this way: "must be …".
    pub fn add(&mut self, field: impl Into<String>, description: impl ToString) {
        self.0.push(FieldViolation::new(field, description.to_string()));
    }

    /// An id; nil after a violation, which [`check`](Self::check) then reports.
    pub fn id(&mut self, field: impl Into<String>, text: &str) -> Uuid {
        let id = Uuid::try_parse(text).unwrap_or_default();
        if id.is_nil() {
            self.add(field, "must be a UUID");
        }
        id
    }

    /// The value; none after a violation.
    pub fn valid<T, E: ToString>(&mut self, field: &str, value: Result<T, E>) -> Option<T> {
        value.inspect_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Text of so many characters (not bytes), none of them a control character.
    pub fn text(&mut self, field: &str, text: &str, length: std::ops::RangeInclusive<usize>) {
        if !length.contains(&text.chars().count()) || text.contains(char::is_control) {
            self.add(field, format!("must be {} to {} characters, none a control character", length.start(), length.end()));
        }
    }

    /// The `idempotency_key` field.
    pub fn idempotency_key(&mut self, text: &str) {
        self.text("idempotency_key", text, 1..=MAX_KEY);
    }

    /// How many to list: one more is read, to see whether another page follows.
    pub fn page_size(&mut self, asked: i32) -> usize {
        match usize::try_from(asked) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) if size <= MAX_PAGE => size,
            _ => {
                self.add("page_size", format!("must be 0 to {MAX_PAGE}"));
                DEFAULT_PAGE
            }
        }
    }

    /// The last id of the page before; none for the first page.
    pub fn page_token(&mut self, token: &str) -> Option<Uuid> {
        let after = Uuid::try_parse(token).ok();
        if after.is_none() && !token.is_empty() {
            self.add("page_token", "must come from the page before");
        }
        after
    }

    /// # Errors
    ///
    /// INVALID_ARGUMENT with a `google.rpc.BadRequest` if there was any violation.
    pub fn check(self) -> Result<(), Status> {
        match self.0.first() {
            None => Ok(()),
            Some(first) => {
                let message = format!("{}: {}", first.field, first.description);
                let details = ErrorDetails::with_bad_request(self.0);
                Err(Status::with_error_details(Code::InvalidArgument, message, details))
            }
        }
    }
}
