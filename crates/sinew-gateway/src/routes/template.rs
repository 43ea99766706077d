//! Path templates of `google.api.http`: `/api/v1/orders/{order_id}:cancel`.
//!
//! The grammar is the one that the annotation's own documentation gives:
//! `"/" segment {"/" segment} [":" verb]`, a segment being a literal, `*` (one segment), `**` (all that is left, last
//! only) or `{field.path=segments}`, where `{field}` means `{field=*}`.

use std::{fmt, ops::Range};

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) verb: Option<String>,
}

/// What one segment of a path must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Exactly this.
    Literal(String),
    /// Anything but nothing.
    One,
    /// All that is left, even nothing.
    Rest,
}

/// A request field and the segments that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Path of the field in the request: `order.id`.
    pub(crate) field: String,
    /// First segment and the one after the last; where the last is [`Segment::Rest`], the path's end counts.
    pub(crate) segments: Range<usize>,
}

/// Why a template was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path template {template:?}: {reason}")]
pub struct TemplateError {
    template: String,
    reason: &'static str,
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let refuse = |reason| TemplateError { template: text.to_owned(), reason };
        let path = text.strip_prefix('/').ok_or_else(|| refuse("must begin with '/'"))?;
        // A colon after the last brace and slash begins the verb.
        let tail = path.rfind(['/', '}']).map_or(0, |at| at + 1);
        let (path, verb) = match path.get(tail..).and_then(|t| t.find(':')) {
            Some(at) => path.split_at(tail + at),
            None => (path, ""),
        };
        let verb = verb.strip_prefix(':').map(str::to_owned);
        if verb.as_deref().is_some_and(|v| !literal(v)) {
            return Err(refuse("the verb after ':' must be a plain word"));
        }
        let mut template = Self { segments: Vec::new(), variables: Vec::new(), verb };
        let mut rest = path;
        loop {
            rest = match rest.strip_prefix('{') {
                Some(inner) => {
                    let (inside, after) = inner.split_once('}').ok_or_else(|| refuse("'{' without '}'"))?;
                    template.variable(inside).map_err(refuse)?;
                    after
                }
                None => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    let (segment, after) = rest.split_at(end);
                    template.segment(segment).map_err(refuse)?;
                    after
                }
            };
            match rest.strip_prefix('/') {
                Some(next) => rest = next,
                None if rest.is_empty() => break,
                None => return Err(refuse("a variable must be a whole segment")),
            }
        }
        let last = template.segments.len() - 1;
        if template.segments.iter().take(last).any(|s| *s == Segment::Rest) {
            return Err(refuse("'**' must be the last segment"));
        }
        let fields = &template.variables;
        if fields.iter().enumerate().any(|(i, a)| fields.iter().skip(i + 1).any(|b| a.field == b.field)) {
            return Err(refuse("a field is bound twice"));
        }
        Ok(template)
    }

    fn variable(&mut self, inside: &str) -> Result<(), &'static str> {
        let (field, pattern) = inside.split_once('=').unwrap_or((inside, "*"));
        let identifier = |s: &str| {
            s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !field.split('.').all(identifier) {
            return Err("a variable must name a field");
        }
        let start = self.segments.len();
        for segment in pattern.split('/') {
            self.segment(segment)?;
        }
        self.variables.push(Variable { field: field.to_owned(), segments: start..self.segments.len() });
        Ok(())
    }

    fn segment(&mut self, text: &str) -> Result<(), &'static str> {
        self.segments.push(match text {
            "*" => Segment::One,
            "**" => Segment::Rest,
            text if literal(text) => Segment::Literal(text.to_owned()),
            "" => return Err("a segment is empty"),
            _ => return Err("a segment holds a character that paths do not"),
        });
        Ok(())
    }
}

/// The unreserved characters of RFC 3986.
fn literal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        while at < self.segments.len() {
            f.write_str("/")?;
            let variable = self.variables.iter().find(|v| v.segments.start == at);
            let end = variable.map_or(at + 1, |v| v.segments.end);
            if let Some(variable) = variable {
                write!(f, "{{{}=", variable.field)?;
            }
            for (i, segment) in self.segments.iter().take(end).skip(at).enumerate() {
                let slash = if i > 0 { "/" } else { "" };
                match segment {
                    Segment::Literal(text) => write!(f, "{slash}{text}")?,
                    Segment::One => write!(f, "{slash}*")?,
                    Segment::Rest => write!(f, "{slash}**")?,
                }
            }
            if variable.is_some() {
                f.write_str("}")?;
            }
            at = end;
        }
        self.verb.as_ref().map_or(Ok(()), |verb| write!(f, ":{verb}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grammar_is_read() {
        let template = Template::parse("/v1/{name=shelves/*}/books/{book.id}:move").expect("valid");
        assert_eq!(template.segments.len(), 5);
        assert_eq!(template.variables[0], Variable { field: "name".into(), segments: 1..3 });
        assert_eq!(template.variables[1], Variable { field: "book.id".into(), segments: 4..5 });
        assert_eq!(template.verb.as_deref(), Some("move"));
        assert_eq!(Template::parse("/.well-known/jwks.json").expect("valid").segments.len(), 2);
        assert_eq!(Template::parse("/{rest=**}").expect("valid").segments, [Segment::Rest]);
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_text() {
        for bad in [
            "",
            "v1",
            "/",
            "//a",
            "/a/",
            "/{",
            "/{}",
            "/{a",
            "/a}",
            "/{a}b",
            "/x{a}",
            "/**/a",
            "/{a=**}/b",
            "/{a}/{a}",
            "/a:",
            "/a:b/c",
            "/{1a}",
            "/a b",
            "/{a.}",
            "/a?b",
            "/{a={b}}",
        ] {
            let error = Template::parse(bad).expect_err(bad);
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_it_writes_it_reads(text in "[/{}=*:.a-c]{0,24}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
            }
        }
    }
}
