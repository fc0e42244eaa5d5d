//! The entrance knows a doctor by the feature that it requires.

use super::*;
use crate::any_instant;
use remoteingress_config::reasons::HubRefusalReason;

#[test]
fn a_doctor_is_told_the_same_as_an_edge_that_doesnt_fit_and_counted_apart() {
    let edge = EdgeId::new("a").unwrap();
    let mut told = Vec::new();
    for (required, reason) in [
        (Features::NEVER, Reason::Doctor),
        (
            Features::from_bits(1 << 40),
            TunnelRefusalReason::UnsupportedFeature.into(),
        ),
    ] {
        let terms = Terms {
            handshake_timeout: None,
            offer: FeatureOffer::default(),
        };
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let mut entrance = Entrance::<usize>::new(any_instant(), peer, terms);
        let theirs = FeatureOffer {
            required,
            ..FeatureOffer::default()
        };
        entrance.handle_authenticated(&edge, theirs);
        let Some(Action::Refuse(refusal)) = entrance.poll_action() else {
            panic!("{entrance:?}")
        };
        assert_eq!(refusal.reason, reason);
        let counted = HubRefusalReason::from(refusal.reason);
        assert_eq!(counted, HubRefusalReason::UnsupportedFeature);
        told.push((refusal.answer, refusal.event));
    }
    assert_eq!(told[0], told[1]);
}
