//! The next thing that a task of an uplink does, as one of its machines has decided.

use remoteingress_core::uplink::action::{Action, Dial, News};
use std::time::Instant;

/// The next thing that a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Go on as before.
    Stay,
    /// Tell the machine when this time has come.
    Wait(Instant),
    /// Tell the machine when some worker has a session that takes streams.
    WaitForOthers,
    /// Tell the machine what became of this attempt.
    Dial(Dial),
    /// Nothing more.
    End,
}

impl Step {
    /// Tells the news among `actions`, and gives the step that they end with.
    pub(crate) fn of(actions: Vec<Action>, mut tell: impl FnMut(News)) -> Self {
        let mut step = Self::Stay;
        for action in actions {
            step = match action {
                Action::Tell(news) => {
                    tell(news);
                    continue;
                }
                Action::Wait { until } => Self::Wait(until),
                Action::WaitForOthers => Self::WaitForOthers,
                Action::Dial(dial) => Self::Dial(dial),
                Action::GiveUp(why) => {
                    tracing::debug!(?why, "the session is given up");
                    Self::End
                }
                Action::Close => Self::End,
            };
        }
        step
    }
}
