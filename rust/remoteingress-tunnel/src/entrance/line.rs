//! The fate of a connection that this end has dialled, for whoever dials the next one.

use tokio::sync::watch;

/// The state of a connection that hasn't ended, as far as this end knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Heard,
    Silent,
    Leaving,
}

/// Goes with the connection: when it is dropped, the connection has ended.
#[derive(Debug)]
pub struct Line {
    tell: watch::Sender<Fate>,
    is_trial: bool,
}

/// Hears of a connection's fate.
#[derive(Debug)]
pub struct LineEnd(watch::Receiver<Fate>);

/// Both ends of a line. The connection of a trial is of no use any more once nobody asks for its fate.
pub fn line(is_trial: bool) -> (Line, LineEnd) {
    let (tell, told) = watch::channel(Fate::Heard);
    (Line { tell, is_trial }, LineEnd(told))
}

impl Line {
    /// Nothing is heard of the peer, or something again.
    pub fn set_silent(&self, is_silent: bool) {
        let fate = if is_silent { Fate::Silent } else { Fate::Heard };
        self.tell.send_if_modified(|told| {
            let is_news = *told != Fate::Leaving && *told != fate;
            if is_news {
                *told = fate;
            }
            is_news
        });
    }

    /// The peer takes no new streams in the connection's session.
    pub fn set_leaving(&self) {
        self.tell.send_replace(Fate::Leaving);
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
        self.reach(Fate::Silent).await;
    }

    /// Waits until the peer takes no new streams; for ever if the connection ends before.
    pub async fn leaving(&mut self) {
        self.reach(Fate::Leaving).await;
    }

    async fn reach(&mut self, fate: Fate) {
        if self.0.wait_for(|told| *told == fate).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Clone for LineEnd {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
