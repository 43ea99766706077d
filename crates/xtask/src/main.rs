//! Repository chores: test, bench, tidy.
fn main() {}
