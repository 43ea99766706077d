//! Finds the route of a path: one walk over its segments, literals before wildcards.
//!
//! Google's rule leaves open which of two matching templates wins. Here the more literal one does, and two that match
//! exactly the same paths with the same method are refused when the trie is built.

use super::template::{Segment, Template};
use http::Method;
use std::collections::BTreeMap;

/// Routes by method and path. `T` is what a route leads to.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node,
    values: Vec<T>,
}

#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    one: Option<Box<Node>>,
    /// Routes that end here.
    here: Ends,
    /// Routes that take all the rest.
    rest: Ends,
}

/// By verb, then by method: the index of the value.
type Ends = BTreeMap<Option<String>, Vec<(Method, usize)>>;

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'t, T> {
    /// A route. Its segments are those of the path, the verb cut off where the route has one.
    Route { value: &'t T, verb: bool },
    /// The path exists, but not with this method: the methods that it has, in order of name.
    WrongMethod(Vec<Method>),
    /// Nothing.
    Nothing,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::default(), values: Vec::new() }
    }
}

impl<T> Trie<T> {
    /// Adds a route.
    ///
    /// # Errors
    ///
    /// The route that is there already.
    pub(crate) fn insert(&mut self, method: Method, template: &Template, value: T) -> Result<(), &T> {
        let mut node = &mut self.root;
        let mut all = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::One => node = node.one.get_or_insert_default(),
                Segment::Rest => all = true,
            }
        }
        let ends = if all { &mut node.rest } else { &mut node.here };
        let methods = ends.entry(template.verb.clone()).or_default();
        if let Some((_, there)) = methods.iter().find(|(m, _)| *m == method) {
            // It was put there by us, with this index.
            return self.values.get(*there).map_or(Ok(()), Err);
        }
        methods.push((method, self.values.len()));
        self.values.push(value);
        Ok(())
    }

    /// Looks a path up, given as its decoded segments. A colon in the last one may begin a verb or belong to a value:
    /// a route with that verb is preferred.
    pub(crate) fn find(&self, method: &Method, segments: &[&str]) -> Found<'_, T> {
        let mut search = Search { method, found: None, others: Vec::new() };
        if let Some((stem, verb)) = segments.last().and_then(|last| last.rsplit_once(':')) {
            let mut cut = segments.to_vec();
            if let Some(last) = cut.last_mut() {
                *last = stem;
            }
            search.walk(&self.root, &cut, Some(verb));
            if let Some(value) = search.found.and_then(|at| self.values.get(at)) {
                return Found::Route { value, verb: true };
            }
        }
        search.walk(&self.root, segments, None);
        if let Some(value) = search.found.and_then(|at| self.values.get(at)) {
            return Found::Route { value, verb: false };
        }
        let mut others = search.others;
        others.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        others.dedup();
        if others.is_empty() { Found::Nothing } else { Found::WrongMethod(others) }
    }
}

struct Search<'a> {
    method: &'a Method,
    found: Option<usize>,
    others: Vec<Method>,
}

impl Search<'_> {
    /// Depth first. It visits a node of the trie at most once per depth, so a path cannot make it expensive.
    fn walk(&mut self, node: &Node, segments: &[&str], verb: Option<&str>) {
        match segments.split_first() {
            None => self.end(&node.here, verb),
            Some((first, others)) => {
                if let Some(next) = node.literals.get(*first) {
                    self.walk(next, others, verb);
                }
                if self.found.is_none()
                    && !first.is_empty()
                    && let Some(next) = &node.one
                {
                    self.walk(next, others, verb);
                }
            }
        }
        if self.found.is_none() && !segments.iter().any(|s| s.is_empty()) {
            self.end(&node.rest, verb);
        }
    }

    fn end(&mut self, ends: &Ends, verb: Option<&str>) {
        let methods = ends.iter().find(|(v, _)| v.as_deref() == verb).map(|(_, methods)| methods);
        for (method, at) in methods.into_iter().flatten() {
            if method == self.method {
                self.found = Some(*at);
                return;
            }
            self.others.push(method.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trie(routes: &[(&str, &'static str)]) -> Trie<&'static str> {
        let mut trie = Trie::default();
        for (method, template) in routes {
            let parsed = Template::parse(template).expect("valid");
            trie.insert(method.parse().expect("method"), &parsed, *template).expect("no conflict");
        }
        trie
    }

    fn find<'t>(trie: &'t Trie<&'static str>, method: &str, path: &str) -> Found<'t, &'static str> {
        let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
        trie.find(&method.parse().expect("method"), &segments)
    }

    #[test]
    fn the_more_literal_route_wins_and_verbs_are_told_from_values() {
        let trie = trie(&[
            ("GET", "/a/{x}"),
            ("GET", "/a/b"),
            ("POST", "/a/{x}:stop"),
            ("GET", "/{rest=**}"),
            ("DELETE", "/a/{x}/c"),
            ("GET", "/a/{x}/{y}"),
        ]);
        let route = |method, path| match find(&trie, method, path) {
            Found::Route { value, verb } => (*value, verb),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(route("GET", "/a/b"), ("/a/b", false));
        assert_eq!(route("GET", "/a/z"), ("/a/{x}", false));
        assert_eq!(route("POST", "/a/z:stop"), ("/a/{x}:stop", true));
        assert_eq!(route("GET", "/a/z:stop"), ("/a/{x}", false));
        assert_eq!(route("GET", "/a/z:other"), ("/a/{x}", false));
        assert_eq!(route("GET", "/a/z/c"), ("/a/{x}/{y}", false));
        assert_eq!(route("GET", "/q/r/s/t"), ("/{rest=**}", false));
        assert_eq!(find(&trie, "PUT", "/a/b"), Found::WrongMethod(vec![Method::GET]));
        assert_eq!(find(&trie, "PUT", "/a/z/c"), Found::WrongMethod(vec![Method::DELETE, Method::GET]));
        assert_eq!(find(&trie, "GET", "/a//c"), Found::Nothing);
        assert_eq!(find(&trie, "GET", "/a/"), Found::Nothing);
    }

    #[test]
    fn two_routes_for_the_same_paths_are_a_conflict() {
        let mut trie = trie(&[("GET", "/a/{x}")]);
        let same = Template::parse("/a/{y=*}").expect("valid");
        assert_eq!(trie.insert(Method::GET, &same, "second"), Err(&"/a/{x}"));
        assert_eq!(trie.insert(Method::PUT, &same, "third"), Ok(()));
    }

    /// What the trie must agree with: each template tried on its own.
    fn matches(template: &Template, segments: &[&str]) -> bool {
        let mut segments = segments.to_vec();
        if let Some(verb) = &template.verb {
            let Some((stem, v)) = segments.last().and_then(|l| l.rsplit_once(':')) else { return false };
            if v != verb {
                return false;
            }
            *segments.last_mut().expect("not empty") = stem;
        }
        for (i, want) in template.segments.iter().enumerate() {
            match (want, segments.get(i)) {
                (Segment::Rest, _) => return segments[i.min(segments.len())..].iter().all(|s| !s.is_empty()),
                (Segment::One, Some(s)) if !s.is_empty() => {}
                (Segment::Literal(l), Some(s)) if l == s => {}
                _ => return false,
            }
        }
        segments.len() == template.segments.len()
    }

    proptest! {
        #[test]
        fn the_trie_finds_a_route_exactly_where_a_template_matches(
            templates in prop::collection::vec("(/(a|b|\\*|\\{x\\})){1,3}(/\\*\\*)?(:v)?", 1..6),
            path in "(/(a|b|c|a:v|b:w)?){1,4}",
        ) {
            let mut trie = Trie::default();
            let mut all = Vec::new();
            for text in &templates {
                let Ok(template) = Template::parse(text) else { continue };
                if trie.insert(Method::GET, &template, text.clone()).is_ok() {
                    all.push(template);
                }
            }
            let segments: Vec<_> = path[1..].split('/').collect();
            let expected = all.iter().any(|t| matches(t, &segments));
            let found = matches!(trie.find(&Method::GET, &segments), Found::Route { .. });
            prop_assert_eq!(found, expected, "{:?} {}", templates, path);
        }
    }
}
