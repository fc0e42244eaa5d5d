//! A test of the tunnel by one stream of it: the time of a byte there and back, and what moves each way.
//!
//! ```text
//! asks (hub)                                         answers (edge)
//! 8 bytes, four times, each after its echo  ◄──►  the same bytes
//! payload · FIN                             ───►
//!                                           ◄───  bytes that came u64 · microseconds u64 · payload · FIN
//! ```
//!
//! Each direction is measured where it arrives, and ends when its time is over or all its bytes are sent.

use remoteingress_core::doctor::tunnel::Moved;
use remoteingress_proto::control::SelfTest;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// Echoes; the fastest one counts.
const ECHOES: usize = 4;
/// Bytes of an echo.
const ECHO: usize = 8;
/// Bytes that are written or read at once.
const PIECE: usize = 16 * 1_024;
/// What was sent in time may arrive this much later.
const LATE: Duration = Duration::from_secs(1);
/// Whoever answers gives up the one who asks after a silence of this.
const PATIENCE: Duration = Duration::from_secs(3);

/// The findings so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Time of a few bytes there and back.
    pub echo: Option<Duration>,
    /// Payload to the end that answers.
    pub there: Option<Moved>,
    /// Payload from it.
    pub back: Option<Moved>,
}

/// Measures. What was found before an error, or before the caller drops this, is in `found`.
///
/// # Errors
/// The stream has ended.
pub async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    test: &SelfTest,
    found: &mut Measured,
) -> io::Result<()> {
    let mut bytes = [0; ECHO];
    for round in 0..ECHOES {
        bytes.fill(round as u8);
        let begun = Instant::now();
        stream.write_all(&bytes).await?;
        stream.read_exact(&mut bytes).await?;
        let took = begun.elapsed();
        found.echo = Some(found.echo.map_or(took, |least| least.min(took)));
    }
    let sent = send(stream, test).await?;
    stream.shutdown().await?;
    let mut told = [0; 16];
    stream.read_exact(&mut told).await?;
    let number = |part: &[u8]| {
        part.iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (moved, micros) = told.split_at(8);
    let (moved, micros) = (number(moved), number(micros));
    found.there = Some(Moved {
        // It can't have got more.
        bytes: moved.min(sent),
        time: Duration::from_micros(micros),
    });
    receive(stream, test, &mut found.back).await
}

/// Answers until the test is over.
///
/// # Errors
/// The stream has ended, or the other end is silent.
pub async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    test: &SelfTest,
) -> io::Result<()> {
    let mut bytes = [0; ECHO];
    for _ in 0..ECHOES {
        timeout(PATIENCE, stream.read_exact(&mut bytes)).await??;
        stream.write_all(&bytes).await?;
    }
    let mut came = None;
    receive(stream, test, &mut came).await?;
    let Moved { bytes, time } = came.unwrap_or_default();
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    stream.write_all(&bytes.to_be_bytes()).await?;
    stream.write_all(&micros.to_be_bytes()).await?;
    send(stream, test).await?;
    stream.shutdown().await
}

/// Sends until the time is over or all is sent; gives the number of bytes.
async fn send(stream: &mut (impl AsyncWrite + Unpin), test: &SelfTest) -> io::Result<u64> {
    let (piece, most) = ([0; PIECE], test.most());
    let deadline = Instant::now() + test.time();
    let mut sent = 0;
    while sent < most && Instant::now() < deadline {
        let room = usize::try_from(most - sent).map_or(PIECE, |room| room.min(PIECE));
        let piece = piece.get(..room).unwrap_or_default();
        match timeout_at(deadline, stream.write(piece)).await {
            Ok(written) => sent += written? as u64,
            Err(_) => break,
        }
    }
    Ok(sent)
}

/// Receives until the end, or until all that was sent in time should have come.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    test: &SelfTest,
    moved: &mut Option<Moved>,
) -> io::Result<()> {
    let mut piece = [0; PIECE];
    let mut begun = None;
    loop {
        let deadline = begun.map_or_else(
            || Instant::now() + PATIENCE,
            |begun| begun + test.time() + LATE,
        );
        let read = match timeout_at(deadline, stream.read(&mut piece)).await {
            Ok(read) => read?,
            // It was measured for long enough.
            Err(_) if begun.is_some() => return Ok(()),
            Err(silent) => return Err(silent.into()),
        };
        if read == 0 {
            return Ok(());
        }
        let begun = *begun.get_or_insert_with(Instant::now);
        let moved = moved.get_or_insert_default();
        moved.bytes += read as u64;
        moved.time = begun.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_proto::wire::header::TestNonce;
    use tokio::io::duplex;

    fn test(millis: u16, bytes: u32) -> SelfTest {
        SelfTest {
            nonce: TestNonce([7; 16]),
            millis,
            bytes,
        }
    }

    #[tokio::test]
    async fn both_ways_are_measured_up_to_the_bytes_that_are_allowed() {
        let test = test(5_000, 100_000);
        let (mut asks, mut answers) = duplex(4_096);
        let mut found = Measured::default();
        let (asked, answered) = tokio::join!(
            ask(&mut asks, &test, &mut found),
            answer(&mut answers, &test)
        );
        asked.unwrap();
        answered.unwrap();
        assert!(found.echo.is_some());
        assert_eq!(found.there.unwrap().bytes, 100_000);
        assert_eq!(found.back.unwrap().bytes, 100_000);
    }

    #[tokio::test]
    async fn whoever_answers_waits_for_nobody() {
        let (mut asks, mut answers) = duplex(4_096);
        asks.write_all(&[1; ECHO]).await.unwrap();
        let begun = Instant::now();
        let answered = answer(&mut answers, &test(1_000, 1_000)).await;
        assert_eq!(answered.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() <= PATIENCE + LATE);
    }

    #[tokio::test]
    async fn a_peer_that_sends_for_ever_is_cut_off() {
        let test = test(1_000, u32::MAX);
        let (mut asks, mut answers) = duplex(4_096);
        let flood = async {
            for _ in 0..ECHOES {
                asks.write_all(&[1; ECHO]).await.unwrap();
                asks.read_exact(&mut [0; ECHO]).await.unwrap();
            }
            while asks.write_all(&[1]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let receive = async {
            let answered = answer(&mut answers, &test).await;
            drop(answers);
            answered
        };
        let begun = Instant::now();
        let (answered, ()) = tokio::join!(receive, flood);
        assert!(answered.is_ok() || begun.elapsed() < Duration::from_secs(8));
        assert!(begun.elapsed() < Duration::from_secs(8));
    }
}
