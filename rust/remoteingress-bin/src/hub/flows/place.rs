//! What a flow has of the pool that its target is of.

use crate::hub::pools::selection::HeldSlot;
use std::cell::RefCell;

/// A flow's place at a target of a pool.
pub(super) struct Place {
    pub(super) held: HeldSlot,
    /// What the flow brings there. It is empty once that is sent.
    pub(super) brought: RefCell<Repeated>,
}

/// A flow's datagrams that are sent once more, to another target.
#[derive(Default)]
pub(super) struct Repeated {
    pub(super) datagrams: Vec<Box<[u8]>>,
    /// Numbers of the targets that have refused them.
    pub(super) refused_by: Vec<u32>,
}
