//! An uplink that leaves, without a peer.

use super::dialler::{Dialler, Wanted};
use super::reach::Reach;
use super::session::{Flows, UplinkSession};
use super::sessions::Sessions;
use super::{Settings, Uplink, Way};
use crate::session::local_session::LocalSession;
use crate::transport::quic::config::ClientQuic;
use crate::transport::tls::ClientTls;
use bytes::Bytes;
use remoteingress_config::{CongestionController, DialRoute, TransportMode};
use remoteingress_core::uplink::action::Dial;
use remoteingress_core::uplink::association::{Ending, Input};
use remoteingress_core::uplink::failure::Ends;
use remoteingress_proto::handshake::{InstanceId, ProofKeys, SessionId, SessionOutcome, Transport};
use remoteingress_proto::mux::budget::{Budget, BudgetPool};
use remoteingress_proto::mux::{Carrier, Role};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::secret::Secret;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

struct NoFlows;

impl Flows for NoFlows {
    fn begin(&self) {}
    fn handle(&self, _: &Bytes) {}
    fn settle(&self) {}
    fn count_drops(&self, _: &LocalSession) {}
}

/// The first worker's way in an uplink that pushes other instances out.
fn dialler() -> Rc<Dialler> {
    let tls = ClientTls::new("127.0.0.1", &[], None).expect("no roots are read");
    let keepalive = Duration::from_secs(45);
    let quic = ClientQuic::new(&tls, Role::Edge, CongestionController::Cubic, keepalive)
        .expect("a legal configuration");
    let proof = ProofKeys::derive(&Secret::new("a secret of a test".to_owned()));
    let way = Way::Dial(Box::new(Reach {
        peer: "hub",
        host: Host::new("127.0.0.1").expect("an address"),
        port: 1,
        route: DialRoute::default(),
        tls,
        quic,
    }));
    let settings = Settings {
        ends: Ends {
            own: "edge",
            peer: "hub",
        },
        mode: TransportMode::TcpTls,
        id: EdgeId::new("edge-1").expect("an id"),
        instance: InstanceId([1; 16]),
        replaces_instance: true,
        resume_timeout: Duration::from_secs(30),
        keepalive,
        patience: Duration::from_secs(5),
        version: "1",
    };
    let (reports, _) = mpsc::channel(1);
    let uplink = Uplink::new(settings, way, proof, 1, reports);
    Dialler::new(uplink, 0, Budget::new(BudgetPool::new(16 << 20)))
}

#[test]
fn an_uplink_that_leaves_asks_the_peer_to_push_nobody_out() {
    let dialler = dialler();
    let resume = Wanted::fresh(Dial::Resume {
        session: SessionId([7; 16]),
        attempt: 1,
    });
    assert!(dialler.hello(&resume, 0).replaces_instance);
    dialler.uplink().drain();
    assert!(!dialler.hello(&resume, 0).replaces_instance);
}

#[test]
fn a_session_that_is_resumed_while_its_uplink_leaves_is_not_live() {
    let dialler = dialler();
    let sessions = Sessions::new(dialler.clone());
    let (transport, carrier) = (Transport::TcpTls, Carrier::Ordered);
    let session = UplinkSession::over(&dialler, transport, carrier, 0, NoFlows);
    sessions.attach(&session);
    let welcome = |outcome| Input::Welcome {
        transport,
        session: SessionId([7; 16]),
        outcome,
    };
    let live = || *dialler.uplink().live().borrow();
    session.decide(welcome(SessionOutcome::New));
    assert_eq!(live(), 1);
    dialler.uplink().drain();
    sessions.go_away();
    assert_eq!(live(), 0);
    session.decide(Input::Ended {
        ending: Ending::Lost {
            message: "cut".to_owned(),
            is_violation: false,
            is_reset: false,
        },
        streams: 1,
        deadline: Some(Instant::now() + Duration::from_secs(30)),
    });
    session.decide(Input::Due);
    session.decide(welcome(SessionOutcome::Resumed { received: 0 }));
    assert_eq!(live(), 0);
}

#[tokio::test]
async fn the_next_trial_ends_the_one_before() {
    let sessions = Sessions::<NoFlows>::new(dialler());
    let begin = || {
        let (lives, ended) = oneshot::channel::<()>();
        sessions.own_trial(spawn_local(async move {
            let _lives = lives;
            std::future::pending::<()>().await;
        }));
        ended
    };
    let tasks = async {
        let (first, mut second) = (begin(), begin());
        assert!(first.await.is_err());
        tokio::task::yield_now().await;
        assert!(
            second
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
        );
        sessions.go_away();
        assert!(second.await.is_err());
    };
    LocalSet::new().run_until(tasks).await;
}
