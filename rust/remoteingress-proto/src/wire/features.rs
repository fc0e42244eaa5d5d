//! Feature bits: what each end requires and offers, and what both then agree on.

use std::fmt;

use thiserror::Error;

/// A set of features, one bit each. Bits without a name belong to later versions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(u64);

impl Features {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// A session outlives its connection and can be resumed on another one.
    pub const RESUME: Self = Self(1 << 0);
    /// Datagrams carry UDP flows (see [`crate::flow`]).
    pub const DATAGRAM: Self = Self(1 << 1);
    /// Up to 65,535 ports per protocol, and all that a report of so many needs (see [`crate::control`]).
    pub const MANY_PORTS: Self = Self(1 << 2);
    /// One port may be there on several addresses of the edge.
    pub const PORT_ADDRESSES: Self = Self(1 << 3);
    /// The hub may ask for a stream that tests the tunnel (see [`crate::control`]).
    pub const SELF_TEST: Self = Self(1 << 4);
    /// No version has it: who requires it learns from the refusal that the proof was right, and begins no session.
    pub const NEVER: Self = Self(1 << 63);

    /// As on the wire; bits of later versions are kept.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As on the wire.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// True if the set has no feature, known or not.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if it has all of the other's features.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The features of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The features of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The features that the other set hasn't.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({:#b})", self.0)
    }
}

/// The features that one end brings: it ends the handshake without a `required` feature, and lives without an `optional` one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeatureOffer {
    /// The handshake fails where the other end hasn't all of these.
    pub required: Features,
    /// Used where the other end has them too.
    pub optional: Features,
}

impl FeatureOffer {
    /// All that this end can do.
    pub const fn supported(self) -> Features {
        self.required.union(self.optional)
    }
}

/// One end requires a feature that the other doesn't have; the number of its bit, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("feature bit {0} is required by one end and not supported by the other")]
pub struct UnsupportedFeature(pub u32);

/// The features both ends have, unless one of them lacks what the other requires. Symmetric.
pub fn negotiate(ours: FeatureOffer, theirs: FeatureOffer) -> Result<Features, UnsupportedFeature> {
    let agreed = ours.supported().intersection(theirs.supported());
    let missing = ours.required.union(theirs.required).difference(agreed);
    if missing.is_empty() {
        Ok(agreed)
    } else {
        Err(UnsupportedFeature(missing.bits().trailing_zeros()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn features_of_both_ends_are_agreed() {
        let ours = offer(Features::RESUME, Features::DATAGRAM);
        let theirs = offer(Features::NONE, Features::from_bits(0b1001));
        assert_eq!(negotiate(ours, theirs), Ok(Features::RESUME));
    }

    #[test]
    fn missing_required_feature_is_named_by_its_lowest_bit() {
        let ours = offer(Features::NONE, Features::RESUME);
        let theirs = offer(Features::from_bits(0b1_0000_0110), Features::NONE);
        assert_eq!(negotiate(ours, theirs), Err(UnsupportedFeature(1)));
        assert_eq!(negotiate(theirs, ours), Err(UnsupportedFeature(1)));
    }

    proptest! {
        #[test]
        fn negotiation_is_symmetric_and_keeps_every_required_bit(bits in any::<[u64; 4]>()) {
            let [a, b, c, d] = bits.map(Features::from_bits);
            let (ours, theirs) = (offer(a, b), offer(c, d));
            let agreed = negotiate(ours, theirs);
            prop_assert_eq!(agreed, negotiate(theirs, ours));
            if let Ok(agreed) = agreed {
                prop_assert!(agreed.contains(ours.required) && agreed.contains(theirs.required));
                prop_assert!(ours.supported().contains(agreed) && theirs.supported().contains(agreed));
            }
        }
    }

    fn offer(required: Features, optional: Features) -> FeatureOffer {
        FeatureOffer { required, optional }
    }
}
