//! Targets that register themselves over REST, as at edgeProxy: they get clients while they give signs of life, and are
//! there again after the hub's restart.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::admin::{Answer, TOKEN, ask, get, socket};
use crate::harness::pooled::{Named, POOL, port_of_pool, reach, state};
use crate::harness::ports::free_port;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, new_directory, run, until};

/// A hub whose pool has no targets but those that register.
struct Registry {
    tunnel: Tunnel,
    socket: PathBuf,
    entry: SocketAddr,
}

impl Registry {
    async fn start(folder: &Path) -> Self {
        let (socket, port) = (socket("hub"), free_port());
        let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({
            "tunnelPort": free_port(), "stateDir": folder, "pools": {POOL: {}},
            "admin": {"listen": socket, "token": TOKEN},
        }));
        builder.listen(port_of_pool(port));
        Self {
            tunnel: builder.start().await,
            socket,
            entry: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers =
            format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
        ask(
            &self.socket,
            method,
            &format!("/api/v1/{path}"),
            &headers,
            body,
        )
        .await
    }

    async fn register(&self, id: &str, target: &Named, fields: Value) -> Answer {
        let mut body = json!({
            "id": id, "app": POOL, "ip": "127.0.0.1", "port": target.address().port(),
        });
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        self.ask("POST", "register", &body.to_string()).await
    }

    async fn heartbeat(&self, id: &str) -> u16 {
        let path = format!("heartbeat/{id}");
        self.ask("POST", &path, "").await.status
    }

    /// Ids of those that have registered.
    async fn registered(&self) -> Vec<String> {
        let shown = get(&self.socket, "/api/v1/backends").await;
        let backends = shown["backends"].as_array().unwrap().iter();
        backends
            .map(|backend| backend["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn a_target_that_registers_gets_clients_until_it_leaves() {
    run(60, async {
        let folder = new_directory("state");
        let hub = Registry::start(&folder).await;
        let (a, b) = (Named::start('a').await, Named::start('b').await);
        assert!(reach(hub.entry).await.is_err());
        assert_eq!(hub.heartbeat("a").await, 404);
        let answer = hub
            .register("a", &a, json!({"region": "eu", "weight": 3}))
            .await;
        assert_eq!(
            (answer.status, &answer.body["id"]),
            (201, &json!("a")),
            "{}",
            answer.body
        );
        assert_eq!(reach(hub.entry).await.unwrap().name, 'a');
        assert_eq!(hub.heartbeat("a").await, 200);

        let refused = hub
            .register("b", &b, json!({"soft_limit": 9, "hard_limit": 8}))
            .await;
        assert_eq!((refused.status, refused.code()), (400, "E_INVALID_CONFIG"));
        let unproved = ask(&hub.socket, "POST", "/api/v1/register", "", "{}").await;
        assert_eq!(unproved.status, 401);
        assert_eq!(hub.registered().await, ["a"]);

        // Registered again, it is where it says now.
        hub.register("a", &b, json!({"weight": 1})).await;
        assert_eq!(reach(hub.entry).await.unwrap().name, 'b');
        let status = hub.tunnel.hub.status().await;
        let target = state(&status, 'a');
        assert_eq!(
            (&target["source"], &target["weight"]),
            (&json!("registered"), &json!(1))
        );
        let left = hub.ask("DELETE", "backends/a", "").await;
        assert_eq!(left.body, json!({"id": "a", "deregistered": true}));
        assert_eq!(hub.ask("DELETE", "backends/a", "").await.status, 404);
        assert!(reach(hub.entry).await.is_err());
        assert_eq!(hub.heartbeat("a").await, 404);
    });
}

#[test]
fn registered_targets_are_there_again_after_a_restart() {
    run(120, async {
        let folder = new_directory("state");
        let mut hub = Registry::start(&folder).await;
        let [a, b, c] = [
            Named::start('a').await,
            Named::start('b').await,
            Named::start('c').await,
        ];
        for (id, target) in [("a", &a), ("b", &b), ("c", &c)] {
            assert_eq!(hub.register(id, target, json!({})).await.status, 201);
        }
        hub.ask("DELETE", "backends/b", "").await;
        // Twice: what was read back is kept as well.
        for _ in 0..2 {
            hub.tunnel.hub.signal(libc::SIGTERM);
            assert_eq!(hub.tunnel.hub.exit(SOON).await.code(), Some(0));
            hub.tunnel.start_hub_again().await;
            // The hub of before can't have told it.
            hub.tunnel
                .hub
                .wait_event("portsApplied", SOON, |_| true)
                .await;
            assert_eq!(hub.registered().await, ["a", "c"]);
            assert!(['a', 'c'].contains(&reach(hub.entry).await.unwrap().name));
            assert_eq!(hub.heartbeat("a").await, 200);
            assert_eq!(hub.heartbeat("b").await, 404);
        }
    });
}

#[test]
fn what_registered_before_the_first_pool_is_kept_too() {
    run(60, async {
        let folder = new_directory("state");
        let socket = socket("hub");
        let builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({
            "tunnelPort": free_port(), "stateDir": folder, "admin": {"listen": socket, "token": TOKEN},
        }));
        let mut hub = Registry {
            tunnel: builder.start().await,
            socket,
            entry: SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        assert!(!folder.join("hub.db").exists());
        let a = Named::start('a').await;
        assert_eq!(hub.register("a", &a, json!({})).await.status, 201);
        until(SOON, "hub.db", async || {
            folder.join("hub.db").exists().then_some(())
        })
        .await;
        hub.tunnel.hub.signal(libc::SIGTERM);
        assert_eq!(hub.tunnel.hub.exit(SOON).await.code(), Some(0));
        hub.tunnel.start_hub_again().await;
        assert_eq!(hub.registered().await, ["a"]);
    });
}
