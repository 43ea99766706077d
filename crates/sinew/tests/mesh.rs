//! The façade as a program uses it: two services that find each other, and starts that must fail with a clear word.

#![allow(missing_debug_implementations, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/callee.rs"]
mod callee;

use callee::{Callee, POLICIES};
use sinew::{Discover, Endpoint, Error, FixedList, Mesh, ServiceName, ServicePolicy, Settings};
use sinew_proto::admin::v1::{GetInfoRequest, admin_service_client::AdminServiceClient, admin_service_server::AdminServiceServer};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet, time::timeout};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn two_services_find_each_other_and_the_call_is_counted_on_both_sides() {
    let list = Arc::new(FixedList::new());
    let discover: Arc<dyn Discover> = list.clone();
    let callee = Mesh::builder("callee").policies(POLICIES).discover(discover.clone()).start().await.unwrap();
    let caller = Mesh::builder("caller").policies(POLICIES).discover(discover).start().await.unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    list.set(&ServiceName::new("callee").unwrap(), vec![Endpoint::new("callee-0", "127.0.0.1", port)]);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = JoinSet::new();
    serving.spawn(callee.server().add_service(AdminServiceServer::new(Callee)).run_on(listener, async { drop(stopped.await) }));

    let mut client = AdminServiceClient::new(caller.channel("callee"));
    let answer = timeout(LIMIT, client.get_info(GetInfoRequest {})).await.unwrap().unwrap();
    assert_eq!(answer.get_ref().service, "callee");
    drop(stop);
    timeout(LIMIT, serving.join_next()).await.unwrap().unwrap().unwrap().unwrap();

    let status = caller.destinations();
    assert_eq!((status.len(), status[0].service.as_str()), (1, "callee"));
    let series = r#"{service="callee",method="sinew.admin.v1.AdminService/GetInfo",code="OK"} 1"#;
    let metrics = sinew_telemetry::metrics_text();
    for side in ["client_calls", "client_attempts", "server_calls"] {
        assert!(metrics.contains(&format!("sinew_{side}_total{series}")), "{side} is missing in\n{metrics}");
    }
}

async fn refused(builder: sinew::Builder) -> (u8, String) {
    let error = timeout(LIMIT, builder.start()).await.expect("an answer in time").expect_err("must not start");
    (error.exit_code(), error.to_string())
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_exit_code() {
    let (code, text) = refused(Mesh::builder("No Name")).await;
    assert_eq!(code, 64);
    assert!(text.contains("No Name"), "{text}");

    let broken = ServicePolicy { service_config: "{", ..POLICIES[0] };
    assert_eq!(refused(Mesh::builder("callee").policies(&[broken])).await.0, 64);

    let settings = Settings { jwks: Some("/nowhere/jwks.json".into()), ..Settings::default() };
    let error = Mesh::builder("callee").settings(settings).start().await.expect_err("no keys");
    assert_eq!(error.exit_code(), 69);
    let Error::Keys(source) = error else { panic!("{error}") };
    assert!(source.to_string().contains("/nowhere/jwks.json"), "{source}");
}
