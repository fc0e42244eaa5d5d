//! The fate of a connection that this end has dialled, for whoever dials the next one.

use tokio::sync::watch;

/// Goes with the connection: when it is dropped, the connection has ended.
#[derive(Debug)]
pub struct Line {
    tell: watch::Sender<bool>,
    is_trial: bool,
}

/// Hears of a connection's fate.
#[derive(Debug)]
pub struct LineEnd(watch::Receiver<bool>);

/// Both ends of a line. The connection of a trial is of no use any more once nobody asks for its fate.
pub fn line(is_trial: bool) -> (Line, LineEnd) {
    let (tell, told) = watch::channel(false);
    (Line { tell, is_trial }, LineEnd(told))
}

impl Line {
    /// Nothing is heard of the peer, or something again.
    pub fn set_silent(&self, is_silent: bool) {
        self.tell.send_replace(is_silent);
    }

    /// Waits until the connection is of no use any more; for ever where it is no trial's.
    pub async fn abandoned(&self) {
        if self.is_trial {
            self.tell.closed().await;
        } else {
            std::future::pending::<()>().await;
        }
    }
}

impl LineEnd {
    /// Waits until the connection has ended.
    pub async fn ended(&mut self) {
        while self.0.changed().await.is_ok() {}
    }

    /// Waits until the peer is silent; for ever if the connection ends before.
    pub async fn silent(&mut self) {
        if self.0.wait_for(|is_silent| *is_silent).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Clone for LineEnd {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
