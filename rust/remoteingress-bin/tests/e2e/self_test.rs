//! The test of an edge over its live tunnel: what it tells, and that it hurts nobody.

use std::net::SocketAddr;

use remoteingress_config::doctor::{Check, CheckName, CheckState, SelfTestReport};
use serde_json::json;

use crate::harness::ports::free_port;
use crate::harness::proxy_header::Proxy;
use crate::harness::run;
use crate::harness::target::Target;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder};

#[test]
fn a_report_tells_of_session_ports_and_targets() {
    run(60, async {
        let target = Target::echo().await;
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap().port();
        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut builder = TunnelBuilder::new(Transport::TcpTls);
        builder.forward(Proxy::None, target.address());
        builder.forward(Proxy::None, nobody);
        builder.listen(json!({"port": taken, "targetPort": 80}));
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;

        let report = test(&tunnel).await;
        assert_eq!(report.edge_id.as_str(), EDGE_ID);
        let session = only(&report, CheckName::Session);
        assert_eq!(session.state, CheckState::Ok);
        assert!(session.seen.contains("over tcpTls"), "{}", session.seen);
        let ports = only(&report, CheckName::Ports);
        assert_eq!(ports.state, CheckState::Failure);
        assert!(
            ports.seen.contains(&format!("tcp {taken}: ")),
            "{}",
            ports.seen
        );
        let targets = report.checks.iter();
        let targets = targets.filter(|check| check.name == CheckName::Target);
        let bad = targets.filter(|check| check.state == CheckState::Failure);
        assert!(
            bad.clone()
                .any(|check| check.seen.contains(&nobody.to_string()))
        );
        assert!(
            !bad.clone()
                .any(|check| check.seen.contains(&target.address().to_string()))
        );
    });
}

#[test]
fn an_edge_that_is_unknown_or_away() {
    run(60, async {
        let mut builder = TunnelBuilder::new(Transport::TcpTls);
        builder.forward(Proxy::None, Target::echo().await.address());
        let tunnel = builder.start().await;
        let refusal = tunnel
            .hub
            .request("selfTest", json!({"edgeId": "nobody"}))
            .await
            .unwrap_err();
        assert_eq!(refusal.code, "E_UNKNOWN_EDGE");
        let away = json!({"id": "away", "secret": crate::harness::new_secret()});
        tunnel
            .hub
            .call("upsertEdges", json!({"edges": [away]}))
            .await;
        let report = tunnel.hub.call("selfTest", json!({"edgeId": "away"})).await;
        let report: SelfTestReport = serde_json::from_value(report).unwrap();
        let session = only(&report, CheckName::Session);
        assert_eq!(session.state, CheckState::Failure);
    });
}

async fn test(tunnel: &Tunnel) -> SelfTestReport {
    let report = tunnel
        .hub
        .call("selfTest", json!({"edgeId": EDGE_ID}))
        .await;
    serde_json::from_value(report).unwrap()
}

/// The one check of this name.
fn only(report: &SelfTestReport, name: CheckName) -> &Check {
    let mut checks = report.checks.iter().filter(|check| check.name == name);
    let check = checks.next();
    assert!(checks.next().is_none(), "{report:?}");
    check.unwrap_or_else(|| panic!("no {name:?} in {report:?}"))
}
