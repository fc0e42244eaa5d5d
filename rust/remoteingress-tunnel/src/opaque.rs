//! `Debug` for types whose parts say nothing to a reader, or are nobody's business.

/// Implements `Debug` with nothing but the type's name.
macro_rules! opaque_debug {
    ($type:ty) => {
        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use opaque_debug;
