//! A certificate in files, which changes while the hub runs.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::process::Process;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::{SOON, new_directory, new_secret, run, until};

on_both_transports! {
    a_certificate_in_files_changes_while_the_hub_runs,
}

fn a_certificate_in_files_changes_while_the_hub_runs(transport: Transport) {
    run(120, async {
        let directory = new_directory("certificate");
        write_new(&directory);
        let hub = Process::management("hub").await;
        let config = json!({
            "tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 1,
            "tls": {"certFile": directory.join("tls.crt"), "keyFile": directory.join("tls.key"), "pin": true},
            "edges": [{"id": "old", "secret": new_secret()}, {"id": "new", "secret": new_secret()}],
        });
        let first = hub.call("startHub", config).await["hubPin"].clone();
        assert!(first.is_string());
        let old = edge(&hub, "old", transport).await;

        write_new(&directory);
        let second = until(SOON, "pin of the new key", async || {
            let pin = hub.status().await["hubPin"].clone();
            (pin != first).then_some(pin)
        })
        .await;
        // Its token carries the new pin, so it has seen the new key.
        let _new = edge(&hub, "new", transport).await;
        assert_eq!(
            old.status().await["connected"],
            true,
            "the old edge was cut"
        );

        // A key without its certificate: the old pair stays, and the log says why.
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
        until(SOON, "line about the bad files", async || {
            let log = String::from_utf8_lossy(&hub.log()).into_owned();
            log.contains("failed to read the changed certificate")
                .then_some(())
        })
        .await;
        assert_eq!(hub.status().await["hubPin"], second);
    });
}

/// An edge that has reached the hub with a token of now.
async fn edge(hub: &Process, id: &str, transport: Transport) -> Process {
    let target = json!({"edgeId": id, "hubHost": "127.0.0.1"});
    let token: Value = hub.call("createConnectionToken", target).await["token"].clone();
    let process = Process::management("edge").await;
    let config = json!({
        "token": token, "transportMode": transport.word(), "workers": 1, "stunServers": [],
    });
    process.call("startEdge", config).await;
    process.wait_event("tunnelConnected", SOON, |_| true).await;
    process
}

/// A new key and its certificate, each at one moment.
fn write_new(directory: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["hub.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    for (name, text) in [
        ("tls.key", key.serialize_pem()),
        ("tls.crt", certificate.pem()),
    ] {
        let draft = directory.join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, directory.join(name)).unwrap();
    }
}
