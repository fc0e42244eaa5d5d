//! The scheduler: choosing among few and many streams of both tiers, and a stream that was silent beside busy ones.

use crate::workload::Workload;
use remoteingress_proto::mux::scheduler::{Scheduler, Slot, Slots};
use remoteingress_proto::mux::tier::Tier;
use remoteingress_proto::wire::frame::MAX_FRAME_LEN;
use remoteingress_testkit::any_instant;
use std::time::{Duration, Instant};

/// Choices per run.
const CHOICES: usize = 1_000;
/// Silent streams that come back in turn, enough of them that each is forgotten before it does.
const NEWCOMERS: usize = 400;
/// Bytes of a newcomer's frame.
const SMALL: usize = 100;
/// Time of a full frame on a link of 160 MB/s.
const FRAME_TIME: Duration = Duration::from_micros(100);

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "scheduler_1_stream",
        operations: CHOICES as u64,
        new: || busy(1),
    },
    Workload {
        name: "scheduler_100_streams",
        operations: CHOICES as u64,
        new: || busy(100),
    },
    Workload {
        name: "scheduler_10000_streams",
        operations: CHOICES as u64,
        new: || busy(10_000),
    },
    Workload {
        name: "scheduler_newcomer_beside_100",
        operations: CHOICES as u64,
        new: || {
            let mut link = Link::new(100);
            let mut newcomers = (0..NEWCOMERS).cycle();
            Box::new(move || {
                for newcomer in newcomers.by_ref().take(CHOICES) {
                    link.serve_newcomer(newcomer);
                }
            })
        },
    },
];

fn busy(streams: usize) -> Box<dyn crate::workload::Work> {
    let mut link = Link::new(streams);
    Box::new(move || {
        for _ in 0..CHOICES {
            link.send();
        }
    })
}

/// Streams and whether each has something to send.
struct Table(Vec<(Slot, bool)>);

impl Slots for Table {
    fn slot(&mut self, index: usize) -> Option<&mut Slot> {
        self.0.get_mut(index).map(|(slot, _)| slot)
    }

    fn has_frame(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|(_, ready)| *ready)
    }
}

struct Link {
    now: Instant,
    scheduler: Scheduler,
    table: Table,
    /// This many streams, the first ones, always have something to send.
    busy: usize,
}

impl Link {
    /// `busy` streams always have something to send, the others are silent.
    fn new(busy: usize) -> Self {
        let now = any_instant();
        let mut scheduler = Scheduler::new(now);
        let mut table = Table(vec![(Slot::default(), true); busy]);
        table.0.resize(busy + NEWCOMERS, (Slot::default(), false));
        for index in 0..busy {
            scheduler.activate(index, tier(index, busy), &mut table);
        }
        Self {
            now,
            scheduler,
            table,
            busy,
        }
    }

    /// Sends a frame of the stream whose turn it is.
    fn send(&mut self) -> usize {
        self.now += FRAME_TIME;
        let next = self.scheduler.next(self.now, &mut self.table);
        let index = next.expect("some have frames");
        let bytes = if index < self.busy {
            MAX_FRAME_LEN
        } else {
            SMALL
        };
        self.scheduler
            .sent(index, bytes, tier(index, self.busy), &mut self.table);
        index
    }

    /// A silent stream has one small frame; then one of the busy ones has its turn.
    fn serve_newcomer(&mut self, newcomer: usize) {
        let index = self.busy + newcomer;
        self.table.0[index].1 = true;
        self.scheduler
            .activate(index, tier(index, self.busy), &mut self.table);
        while self.send() != index {}
        self.table.0[index].1 = false;
        self.send();
    }
}

/// One in ten of the busy streams has moved much for long.
fn tier(index: usize, busy: usize) -> Tier {
    if index < busy && index % 10 == 9 {
        Tier::Sustained
    } else {
        Tier::Data
    }
}
