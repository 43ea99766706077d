//! The whole system as its users run it: real processes of the built program, over the embedded registry and over a real
//! Consul. Each module is named by what it proves.

mod administrator;
mod availability;
mod bad_input;
mod collect;
mod engines;
mod events;
mod faults;
mod load;
mod operator;
mod orders;
mod registry_away;
mod registry_loss;
mod rest;
mod shop;
mod start;
mod world;

/// Makes each `async fn name(kind: Kind) -> anyhow::Result<()>` two tests: on the embedded registry, on a real Consul.
macro_rules! on_both_registries {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn embedded() -> anyhow::Result<()> {
                super::$name(crate::world::Kind::Embedded).await
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn consul() -> anyhow::Result<()> {
                super::$name(crate::world::Kind::Consul).await
            }
        }
    )*};
}
pub(crate) use on_both_registries;
