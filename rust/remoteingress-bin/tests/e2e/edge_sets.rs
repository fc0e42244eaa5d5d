//! Sets of allowed edges that are longer than a line, and changes of single edges.

use serde_json::{Value, json};

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::{SOON, new_secret, run, run_heavy, until};

const EDGES: usize = 20_000;

#[test]
fn twenty_thousand_edges_come_in_parts_and_count_at_the_commit() {
    run_heavy(120, async {
        let target = Target::echo().await;
        let mut builder = TunnelBuilder::new(Transport::TcpTls);
        builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let hub = &tunnel.hub;
        let secret = new_secret();
        let others = |range: std::ops::Range<usize>| -> Vec<Value> {
            let edge = |n| json!({"id": format!("edge-{n}"), "secret": secret, "listenPorts": [443, 8080, {"port": 22, "proxyProtocol": "none"}]});
            range.map(edge).collect()
        };

        let mark = hub.mark();
        let set = hub.call("beginAllowedEdges", json!({})).await["set"].clone();
        let first = json!({"set": set, "edges": [tunnel.entry()]});
        hub.call("addAllowedEdges", first).await;
        for begin in (0..EDGES).step_by(1_000) {
            let part = json!({"set": set, "edges": others(begin..begin + 1_000)});
            hub.call("addAllowedEdges", part).await;
        }
        let token = json!({"edgeId": "edge-0", "hubHost": "hub.example"});
        let early = hub
            .request("createConnectionToken", token.clone())
            .await
            .unwrap_err();
        assert_eq!(early.code, "E_UNKNOWN_EDGE", "a part counted by itself");
        let change = hub.call("commitAllowedEdges", json!({"set": set})).await;
        assert_eq!(change["added"].as_array().unwrap().len(), EDGES);
        assert_eq!(change["unchanged"], json!([EDGE_ID]));
        hub.call("createConnectionToken", token).await;

        let changed = json!({"edges": [{"id": "edge-7", "secret": new_secret()}, {"id": "one-more", "secret": secret}]});
        let change = hub.call("upsertEdges", changed).await;
        let expected =
            json!({"added": ["one-more"], "removed": [], "changed": ["edge-7"], "unchanged": []});
        assert_eq!(change, expected);
        let gone = json!({"edgeIds": ["edge-8", "nobody"]});
        let change = hub.call("removeEdges", gone).await;
        assert_eq!(
            change,
            json!({"removed": ["edge-8"], "unknown": ["nobody"]})
        );
        assert!(
            !hub.has_event_since(mark, "edgeDisconnected"),
            "an edge that stayed was touched"
        );

        let set = hub.call("beginAllowedEdges", json!({})).await["set"].clone();
        let change = hub.call("commitAllowedEdges", json!({"set": set})).await;
        assert_eq!(change["removed"].as_array().unwrap().len(), EDGES + 1);
        hub.wait_event_since(mark, "edgeDisconnected", SOON, |_| true)
            .await;
    });
}

#[test]
fn a_set_that_is_not_committed_changes_nothing() {
    run(90, async {
        let hub = Process::management("hub").await;
        let config = json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 1});
        let early = hub
            .request("beginAllowedEdges", json!({}))
            .await
            .unwrap_err();
        assert_eq!(early.code, "E_NOT_RUNNING");
        hub.call("startHub", config).await;
        let part = |set: &Value, id: &str| json!({"set": set, "edges": [{"id": id, "secret": new_secret()}]});
        let set = hub.call("beginAllowedEdges", json!({})).await["set"].clone();
        hub.call("addAllowedEdges", part(&set, "a")).await;
        let twice = hub
            .request("addAllowedEdges", part(&set, "a"))
            .await
            .unwrap_err();
        assert_eq!(twice.code, "E_INVALID_CONFIG");
        assert!(twice.message.starts_with("edges[1].id"), "{twice:?}");
        let dropped = hub
            .request("commitAllowedEdges", json!({"set": set}))
            .await
            .unwrap_err();
        assert_eq!(dropped.code, "E_EDGE_SET_CLOSED");

        let set = hub.call("beginAllowedEdges", json!({})).await["set"].clone();
        hub.call("addAllowedEdges", part(&set, "a")).await;
        let before = hub.log().len();
        until(SOON * 4, "the drop of the set in the log", async || {
            let log = hub.log();
            let text = String::from_utf8_lossy(&log[before..]).into_owned();
            text.contains("begun and not committed").then_some(())
        })
        .await;
        let late = hub
            .request("commitAllowedEdges", json!({"set": set}))
            .await
            .unwrap_err();
        assert_eq!(late.code, "E_EDGE_SET_CLOSED");
        let token = json!({"edgeId": "a", "hubHost": "hub.example"});
        let unknown = hub.request("createConnectionToken", token).await;
        assert_eq!(unknown.unwrap_err().code, "E_UNKNOWN_EDGE");
    });
}
