//! What the task of a flow waits for.

use super::connected::{Connected, Watch};
use super::flow::Flow;
use remoteingress_os::udp::ReceiveBatch;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Poll, ready};

/// A flow, the socket that it had, and what has come: datagrams, or an error of the socket. The error is none where that
/// has come already, while something was sent.
pub(super) type Come = (Rc<Flow>, Rc<Connected>, Result<(), Option<io::Error>>);

/// Waits for datagrams of the flow's target, which `batch` gets, or for an error; none if the flow is gone.
pub(super) async fn wait(
    flow: &Weak<Flow>,
    watch: &mut Watch,
    batch: &RefCell<ReceiveBatch>,
) -> Option<Come> {
    poll_fn(|cx| {
        let flow = flow.upgrade();
        let Some((flow, socket)) = flow.and_then(|flow| Some((flow.clone(), flow.socket()?)))
        else {
            return Poll::Ready(None);
        };
        if flow.wait(cx.waker()) {
            if let Poll::Ready(error) = watch.poll(cx, &socket) {
                return Poll::Ready(Some((flow, socket, Err(Some(error)))));
            }
            if flow.is_refused() {
                return Poll::Ready(Some((flow, socket, Err(None))));
            }
        }
        let received = ready!(socket.io.poll_receive(cx, &mut batch.borrow_mut()));
        Poll::Ready(Some((flow, socket, received.map_err(Some))))
    })
    .await
}
