//! How much a call matters when a server has to choose.
//!
//! The four classes of Google's *Site Reliability Engineering*, "Handling Overload":
//! <https://sre.google/sre-book/handling-overload/>. A call's class travels with it in the header
//! [`sinew-criticality`](HEADER), and calls made on its behalf inherit it by [`Context`](crate::Context): what was begun by a
//! batch job stays a batch job's, however deep. Limits: the header is believed, as everything is that a mesh peer says of
//! itself; the gateway lets none in from outside.

/// Name of the header.
pub const HEADER: &str = "sinew-criticality";

/// Whose calls are refused first: the later in this list, the earlier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// Users are hurt badly, and at once, when it fails.
    CriticalPlus,
    /// Users notice when it fails. The default.
    #[default]
    Critical,
    /// May fail for minutes: batch work that is repeated.
    SheddablePlus,
    /// May fail for hours, or for good.
    Sheddable,
}

impl Criticality {
    /// Every class, by rising readiness to be refused.
    pub const ALL: [Self; 4] = [Self::CriticalPlus, Self::Critical, Self::SheddablePlus, Self::Sheddable];

    /// As the header spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CriticalPlus => "CRITICAL_PLUS",
            Self::Critical => "CRITICAL",
            Self::SheddablePlus => "SHEDDABLE_PLUS",
            Self::Sheddable => "SHEDDABLE",
        }
    }

    /// Reads the header's value. What it does not know is as good as absent: a class that a newer peer invents must not cost
    /// the call.
    pub fn parse(value: &[u8]) -> Self {
        Self::ALL.into_iter().find(|class| class.as_str().as_bytes() == value).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Criticality;

    #[test]
    fn classes_are_read_as_they_are_written_and_the_rest_is_the_default() {
        for class in Criticality::ALL {
            assert_eq!(Criticality::parse(class.as_str().as_bytes()), class);
        }
        for other in ["", "critical_plus", "SHEDDABLE ", "URGENT"] {
            assert_eq!(Criticality::parse(other.as_bytes()), Criticality::Critical, "{other:?}");
        }
        assert!(Criticality::ALL.is_sorted());
    }
}
