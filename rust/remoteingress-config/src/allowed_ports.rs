//! The ports that an edge's operator lets the hub bind.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ports::PortSpan;
#[cfg(feature = "schema")]
use super::ports::PortText;

/// Ports that an edge may open, as numbers or ranges. A protocol that is left out has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AllowedPorts {
    /// TCP ports. An absent list allows none.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<PortText>"))]
    pub tcp: PortSet,
    /// UDP ports. An absent list allows none.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<PortText>"))]
    pub udp: PortSet,
}

impl AllowedPorts {
    /// Every port, which holds where the user gives no `allowedPorts`.
    pub fn every_port() -> Self {
        let all = PortSet(vec![PortSpan::ALL]);
        Self {
            tcp: all.clone(),
            udp: all,
        }
    }
}

/// Fields left out of a given object.
impl Default for AllowedPorts {
    fn default() -> Self {
        Self {
            tcp: PortSet(Vec::new()),
            udp: PortSet(Vec::new()),
        }
    }
}

/// Sorted, without overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet(Vec<PortSpan>);

impl PortSet {
    /// Tells if the operator allows this port.
    pub fn contains(&self, port: u16) -> bool {
        let next = self.0.partition_point(|span| span.first <= port);
        self.0[..next].last().is_some_and(|span| port <= span.last)
    }
}

impl Serialize for PortSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for PortSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut spans = Vec::<PortSpan>::deserialize(deserializer)?;
        spans.sort_unstable();
        spans.dedup_by(|next, kept| {
            let touches = u32::from(next.first) <= u32::from(kept.last) + 1;
            if touches {
                kept.last = kept.last.max(next.last);
            }
            touches
        });
        Ok(Self(spans))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode;

    #[test]
    fn lists_may_overlap_and_give_their_union() {
        let allowed: AllowedPorts =
            decode(&json!({"tcp": ["65000-65535", 443, "80-90", "85-100", 101]})).unwrap();
        for (port, expected) in [
            (0, false),
            (1, false),
            (79, false),
            (80, true),
            (95, true),
            (101, true),
            (102, false),
            (442, false),
            (443, true),
            (444, false),
            (64999, false),
            (65000, true),
            (65535, true),
        ] {
            assert_eq!(allowed.tcp.contains(port), expected, "{port}");
        }
        assert_eq!(allowed.tcp.0.len(), 3);
    }

    #[test]
    fn a_protocol_left_out_has_no_port() {
        let allowed: AllowedPorts = decode(&json!({"tcp": [443]})).unwrap();
        assert!((0..=u16::MAX).all(|port| !allowed.udp.contains(port)));
        let every = AllowedPorts::every_port();
        assert!((1..=u16::MAX).all(|port| every.tcp.contains(port) && every.udp.contains(port)));
    }

    #[test]
    fn a_fault_has_its_path() {
        for (value, expected) in [
            (json!({"tcp": [443, 0]}), "tcp[1]: port 0"),
            (json!({"udp": ["9-8"]}), "udp[0]: the range 9-8 is reversed"),
            (json!({"tcp": 443}), "tcp: must be a list"),
            (json!({"sctp": []}), "sctp: is not a known field"),
        ] {
            let error = decode::<AllowedPorts>(&value).unwrap_err();
            assert!(error.message.starts_with(expected), "{error}");
        }
    }
}
