//! The task of one flow.

use super::FlowTable;
use super::connected::{Watch, address_fault};
use super::flow::Flow;
use remoteingress_config::reasons::StreamCloseReason;
use remoteingress_core::udp_counters::UdpDrop;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, ready};
use std::time::Instant;

/// Reads the target's answers until the flow is gone, which ends this task.
pub(super) async fn serve(table: Rc<FlowTable>, flow: Weak<Flow>) {
    let Some(id) = flow.upgrade().map(|flow| flow.id) else {
        return;
    };
    let counters = &table.session.counters.udp;
    if let Err(reason) = table.resolve(&flow).await {
        if let Some(flow) = flow.upgrade() {
            flow.failed(reason);
        }
        let waited = flow.upgrade().map_or(0, |flow| flow.backlog.take().len());
        counters.drop_many(reason, waited as u64);
        if let Some(flow) = flow.upgrade() {
            flow.ends(StreamCloseReason::TargetUnreachable);
        }
        table.flows.borrow_mut().remove(id);
        return;
    }
    let mut watch = Watch::default();
    loop {
        let received = poll_fn(|cx| {
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
            let mut batch = table.worker.received.borrow_mut();
            let received = ready!(socket.io.poll_receive(cx, &mut batch));
            Poll::Ready(Some((flow, socket, received.map_err(Some))))
        });
        match received.await {
            Some((_, _, Ok(()))) => table.to_edge(id),
            Some((flow, socket, Err(error))) => {
                // Without an error here, one has come while something was sent.
                if let Some(error) = error {
                    tracing::debug!(%error, "a flow's socket has failed");
                    let reason = address_fault(&error).unwrap_or(UdpDrop::TargetUnreachable);
                    flow.handle_failure(&socket, reason);
                }
                if flow.is_to_move() && table.move_on(Instant::now(), &flow) {
                    // Its task ends with it: this one.
                    return;
                }
                flow.stay();
            }
            None => return,
        }
        // The session gets its turn before more is read: its queue is short.
        tokio::task::yield_now().await;
    }
}
