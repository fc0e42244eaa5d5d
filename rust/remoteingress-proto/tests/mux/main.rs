//! Every test of the multiplexer from outside, in one binary: it is linked once, and the modules run side by side.
//!
//! - [`frames`]: the wire format, and a session that is fed with anything (P1 to P3).
//! - [`properties`]: two sessions against the model under random operations (P2, P4 to P11, P13 to P16).
//! - [`fairness`]: everything moves however little memory there is, and streams share by bytes (P9, P11, P12).
//! - [`carriers`]: owners of streams can't tell the carriers apart (P18).
//! - [`hostile`], [`hostile_lanes`]: peers that break the rules, or keep to them at our cost (P3, P6, P8 to P10, P13 to P17).
//! - [`lost`]: the edge begins its session anew because the hub has lost it (D4).
//! - [`session`], [`crossings`], [`datagrams`], [`urgency`]: one behaviour per test.
//!
//! A test that both carriers must pass is written once (`on_each_carrier`).

/// Makes two tests, `on_ordered` and `on_lanes`, in a module with the name of each function; the function is their body
/// and takes the carrier. A function that is missing in the list is dead code, and so an error.
macro_rules! on_each_carrier {
    ($($body:ident),+ $(,)?) => {$(
        mod $body {
            use remoteingress_proto::mux::Carrier;

            #[test]
            fn on_ordered() {
                super::$body(Carrier::Ordered);
            }

            #[test]
            fn on_lanes() {
                super::$body(Carrier::Lanes);
            }
        }
    )+};
}

mod carriers;
mod crossings;
mod datagrams;
mod fairness;
mod frames;
mod hostile;
mod hostile_lanes;
mod lost;
mod properties;
mod session;
mod urgency;
