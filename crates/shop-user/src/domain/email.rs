//! E-mail addresses as log-in names.

use std::fmt;

/// An address, in lower case: two that differ in case only are one account.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

/// Not an address we can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an e-mail address of at most {} bytes, such as ada@example.org", Email::MAX)]
pub struct EmailError;

impl Email {
    /// The longest address SMTP can carry (RFC 5321, 4.5.3.1.3 less its angle brackets).
    pub const MAX: usize = 254;

    /// Checks the shape: one `@`, something before it, a host with a dot after it, no blanks or controls. Whether the
    /// address exists only a mail to it can tell.
    pub fn new(text: &str) -> Result<Self, EmailError> {
        let (local, host) = text.rsplit_once('@').ok_or(EmailError)?;
        let odd = |c: char| c.is_whitespace() || c.is_control();
        let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-');
        let host_ok = host.contains('.') && host.split('.').all(label);
        // 64: RFC 5321, 4.5.3.1.1.
        if text.len() > Self::MAX || local.is_empty() || local.len() > 64 || local.contains('@') || text.contains(odd) || !host_ok {
            return Err(EmailError);
        }
        Ok(Self(text.to_lowercase()))
    }

    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    /// Personal data stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Email;

    #[test]
    fn only_the_shape_of_an_address_passes() {
        for good in ["ada@example.org", "A.da+shop@mail.example.org", "ä@bücher.example"] {
            assert!(Email::new(good).is_ok(), "{good}");
        }
        let long = format!("{}@example.org", "x".repeat(65));
        for bad in
            ["", "ada", "@example.org", "ada@", "ada@host", "a b@example.org", "a@b@example.org", "a@-b.org", "a@b..org", &long]
        {
            assert!(Email::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Email::new("ADA@Example.ORG").unwrap().as_str(), "ada@example.org");
    }
}
