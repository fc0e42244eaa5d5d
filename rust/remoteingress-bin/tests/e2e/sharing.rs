//! An edge's sessions carry equal numbers of clients, however the kernel has spread them over the workers.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::proxy_header::Proxy;
use crate::harness::target::{Target, echoed};
use crate::harness::transport::Transport;
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::{SOON, run};

const CLIENTS: usize = 16;
const BYTES: usize = 20_000;

#[test]
fn clients_that_come_at_once_are_shared_by_halves() {
    run(60, async {
        let target = Target::echo().await;
        let workers = json!({"workers": 2});
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .relayed()
            .edge(workers.clone())
            .hub(workers);
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        // By chance the kernel's own spreading is even, too: not five times in a row.
        for _ in 0..5 {
            let mut connecting = JoinSet::new();
            for _ in 0..CLIENTS {
                connecting.spawn(async move {
                    let mut client = TcpStream::connect(entry).await.unwrap();
                    echoed(&mut client, 1).await;
                    client
                });
            }
            let mut clients = connecting.join_all().await;
            tunnel.relay().record();
            for client in &mut clients {
                echoed(client, BYTES).await;
            }
            let mut sent = BTreeMap::<u64, usize>::new();
            for read in tunnel.relay().recorded() {
                if read.is_from_edge {
                    *sent.entry(read.connection).or_default() += read.bytes.len();
                }
            }
            let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
            // 9 and 7 of 16 would be 0.78.
            assert!(sent.len() == 2 && least * 10 > most * 9, "{sent:?}");
            drop(clients);
            tunnel.wait_idle(SOON).await;
        }
    });
}
