//! Makes Cargo see new migration files, which `sqlx::migrate!` alone does not.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
