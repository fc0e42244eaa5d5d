//! Records that a peer with the right keys may and may not send, and that it is told; how payload shares records.

use bytes::BufMut;
use rustls::{AlertDescription, ContentType};
use tokio::io::duplex;

use super::peer::{BOTH, Ours, client_tls, server_tls, soon};
use crate::transport::tls::error::{TlsError, Violation};
use crate::transport::tls::{TlsConnection, accept, connect};

/// A KeyUpdate without and with a request.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUEST: [u8; 5] = [24, 0, 0, 1, 1];
/// A NewSessionTicket with 3 bytes of nothing: tickets aren't looked at.
const TICKET: [u8; 7] = [4, 0, 0, 3, 9, 9, 9];

/// The inner type 0: what was sealed as content then ends in a type and padding of its own.
const PADDING: ContentType = ContentType::Unknown(0);

#[tokio::test]
async fn altered_byte_is_refused_wherever_it_is() {
    use Violation::{BadRecordMac, UnprotectedRecord, WrongVersion};
    let text = [7; 50];
    let last = 5 + text.len() + 1 + 16 - 1;
    for (at, violation) in [
        (0, UnprotectedRecord),
        (1, WrongVersion),
        (2, WrongVersion),
        (5, BadRecordMac),              // first of the content
        (30, BadRecordMac),             // in the midst of it
        (5 + text.len(), BadRecordMac), // its type
        (last - 15, BadRecordMac),      // first of the tag
        (last, BadRecordMac),
    ] {
        for bit in 0..8 {
            let (victim, mut peer) = pair(BOTH[bit % 2]).await;
            let mut sent = Vec::new();
            peer.seal(&text, &mut sent).unwrap();
            assert_eq!(sent.len(), last + 1);
            sent[at] ^= 1 << bit;
            refuses(victim, peer, &sent, violation);
        }
    }
    // A length that promises less or more than there is.
    for (length, violation) in [
        (66, BadRecordMac),
        (68, BadRecordMac),
        (15, BadRecordMac),
        (16_641, Violation::RecordOverflow),
    ] {
        let (victim, mut peer) = pair(Ours::Server).await;
        let mut sent = Vec::new();
        peer.seal(&text, &mut sent).unwrap();
        sent[3..5].copy_from_slice(&u16::to_be_bytes(length));
        sent.push(0);
        refuses(victim, peer, &sent, violation);
    }
}

#[tokio::test]
async fn record_comes_once_and_in_order() {
    let (victim, mut peer) = pair(Ours::Client).await;
    let mut sent = Vec::new();
    peer.seal(b"played", &mut sent).unwrap();
    sent.extend_from_within(..);
    refuses(victim, peer, &sent, Violation::BadRecordMac);
}

#[tokio::test]
async fn unprotected_records_are_refused_at_their_first_byte() {
    for kind in [20, 21, 22, 24, 0, 255] {
        let (victim, peer) = pair(BOTH[kind as usize % 2]).await;
        refuses(victim, peer, &[kind], Violation::UnprotectedRecord);
    }
}

#[tokio::test]
async fn content_is_found_before_any_padding() {
    for padding in [0, 1, 2, 255, 16_378] {
        let (mut victim, mut peer) = pair(Ours::Client).await;
        let mut content = b"hello\x17".to_vec();
        content.resize(content.len() + padding, 0);
        let mut sent = Vec::new();
        raw(&mut peer, PADDING, &content, &mut sent);
        assert_eq!(deliver(&mut victim, &sent).unwrap(), b"hello");
    }
    // A full record, and zeros that are content.
    let (mut victim, mut peer) = pair(Ours::Server).await;
    for text in [[0; 16_384].as_slice(), &[0]] {
        let mut sent = Vec::new();
        peer.seal(text, &mut sent).unwrap();
        assert_eq!(deliver(&mut victim, &sent).unwrap(), text);
    }
}

#[tokio::test]
async fn what_a_record_must_not_hold_is_refused() {
    use ContentType::{Alert, ApplicationData, ChangeCipherSpec, Handshake, Heartbeat, Unknown};
    use Violation::{
        EmptyRecord, IllegalParameter, InterruptedMessage, OnlyPadding, RecordOverflow,
        UnalignedKeyUpdate, Undecodable, UnexpectedContent,
    };
    let long = [1; 16_385];
    let mut padded = [1; 16_385];
    padded[16_384] = 0x17;
    let two_updates = [KEY_UPDATE, KEY_UPDATE].concat();
    let update_and_more = [KEY_UPDATE.as_slice(), &[24]].concat();
    let ticket_and_update_and_more = [TICKET.as_slice(), &KEY_UPDATE, &TICKET].concat();
    type Record<'a> = (ContentType, &'a [u8]);
    let cases: [(&[Ours], &[Record<'_>], Violation); 26] = [
        (&BOTH, &[(ApplicationData, &long)], RecordOverflow),
        (&BOTH, &[(PADDING, &padded)], RecordOverflow),
        (&BOTH, &[(PADDING, &[])], OnlyPadding),
        (&BOTH, &[(PADDING, &[0; 100])], OnlyPadding),
        (&BOTH, &[(ChangeCipherSpec, &[1])], UnexpectedContent),
        (&BOTH, &[(Heartbeat, &[1])], UnexpectedContent),
        (&BOTH, &[(Unknown(255), &[1])], UnexpectedContent),
        (&BOTH, &[(Alert, &[])], EmptyRecord),
        (&BOTH, &[(Alert, &[1])], Undecodable),
        (&BOTH, &[(Alert, &[1, 0, 0])], Undecodable),
        (&BOTH, &[(Alert, &[1, 0, 1, 0])], Undecodable),
        (&BOTH, &[(Handshake, &[])], EmptyRecord),
        (&BOTH, &[(Handshake, &[24, 0, 0, 0])], Undecodable),
        (&BOTH, &[(Handshake, &[24, 0, 0, 2])], Undecodable),
        (&BOTH, &[(Handshake, &[24, 1, 0, 1])], Undecodable),
        (&BOTH, &[(Handshake, &[24, 0, 0, 1, 2])], IllegalParameter),
        (&BOTH, &[(Handshake, &two_updates)], UnalignedKeyUpdate),
        (&BOTH, &[(Handshake, &update_and_more)], UnalignedKeyUpdate),
        (
            &[Ours::Client],
            &[(Handshake, &ticket_and_update_and_more)],
            UnalignedKeyUpdate,
        ),
        // Finished, CertificateRequest, and a ticket for a hub.
        (&BOTH, &[(Handshake, &[20, 0, 0, 32])], UnexpectedContent),
        (&BOTH, &[(Handshake, &[13, 0, 0, 1])], UnexpectedContent),
        (&[Ours::Server], &[(Handshake, &TICKET)], UnexpectedContent),
        (&[Ours::Client], &[(Handshake, &[4, 1, 0, 1])], Undecodable),
        (
            &BOTH,
            &[(Handshake, &[24, 0]), (ApplicationData, b"between")],
            InterruptedMessage,
        ),
        (
            &BOTH,
            &[(Handshake, &[24, 0]), (ApplicationData, &[])],
            InterruptedMessage,
        ),
        (
            &BOTH,
            &[(Handshake, &[24]), (Alert, &[1, 0])],
            InterruptedMessage,
        ),
    ];
    for (roles, records, violation) in cases {
        for &ours in roles {
            let (victim, mut peer) = pair(ours).await;
            let mut sent = Vec::new();
            for (kind, content) in records {
                raw(&mut peer, *kind, content, &mut sent);
            }
            refuses(victim, peer, &sent, violation);
        }
    }
}

#[tokio::test]
async fn peer_that_says_nothing_is_refused_in_the_end() {
    let empty = |peer: &mut TlsConnection, out: &mut Vec<u8>| {
        raw(peer, ContentType::ApplicationData, &[], out);
    };
    let update = |peer: &mut TlsConnection, out: &mut Vec<u8>| {
        peer.records.update_sending_key(0, out).unwrap();
    };
    for idle in [&empty as &dyn Fn(&mut TlsConnection, &mut Vec<u8>), &update] {
        let (mut victim, mut peer) = pair(Ours::Client).await;
        // This many are allowed in a row, and payload begins a new one.
        for _ in 0..3 {
            let mut sent = Vec::new();
            (0..32).for_each(|_| idle(&mut peer, &mut sent));
            peer.seal(b"payload", &mut sent).unwrap();
            assert_eq!(deliver(&mut victim, &sent).unwrap(), b"payload");
        }
        let mut sent = Vec::new();
        (0..33).for_each(|_| idle(&mut peer, &mut sent));
        refuses(victim, peer, &sent, Violation::TooManyIdleRecords);
    }
    let (victim, mut hub) = pair(Ours::Client).await;
    let mut sent = Vec::new();
    (0..33).for_each(|_| raw(&mut hub, ContentType::Handshake, &TICKET, &mut sent));
    refuses(victim, hub, &sent, Violation::TooManyIdleRecords);
}

#[tokio::test]
async fn alerts_end_the_connection_and_are_named() {
    for (level, description) in [
        (2, AlertDescription::BadRecordMac),
        (1, AlertDescription::UserCanceled),
        (2, AlertDescription::InternalError),
        (7, AlertDescription::Unknown(200)),
    ] {
        let (mut victim, mut peer) = pair(Ours::Server).await;
        let mut sent = Vec::new();
        raw(
            &mut peer,
            ContentType::Alert,
            &[level, description.into()],
            &mut sent,
        );
        let error = deliver(&mut victim, &sent).unwrap_err();
        assert!(
            matches!(&error, TlsError::AlertReceived(found) if *found == description),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("{description:?}")));
        let mut out = Vec::new();
        victim.close_notify(&mut out);
        assert!(out.is_empty(), "an alert isn't answered");
    }
}

#[tokio::test]
async fn key_update_may_come_in_fragments_and_after_tickets() {
    for ours in BOTH {
        let (mut victim, mut peer) = pair(ours).await;
        let mut sent = Vec::new();
        for byte in KEY_UPDATE_REQUEST {
            raw(&mut peer, ContentType::Handshake, &[byte], &mut sent);
        }
        follow(&mut peer);
        peer.seal(b"new keys", &mut sent).unwrap();
        assert_eq!(deliver(&mut victim, &sent).unwrap(), b"new keys");
        answers(&mut victim, &mut peer);
    }

    let (mut edge, mut hub) = pair(Ours::Client).await;
    let mut sent = Vec::new();
    let messages = [&TICKET, &TICKET[..], &KEY_UPDATE_REQUEST].concat();
    for part in [&messages[..3], &messages[3..10], &messages[10..]] {
        raw(&mut hub, ContentType::Handshake, part, &mut sent);
    }
    follow(&mut hub);
    hub.seal(b"new keys", &mut sent).unwrap();
    assert_eq!(deliver(&mut edge, &sent).unwrap(), b"new keys");
    answers(&mut edge, &mut hub);
}

#[tokio::test]
async fn requests_are_answered_once_and_only_if_they_ask() {
    for ours in BOTH {
        let (mut victim, mut peer) = pair(ours).await;
        let mut sent = Vec::new();
        for _ in 0..20 {
            peer.records.update_sending_key(1, &mut sent).unwrap();
        }
        deliver(&mut victim, &sent).unwrap();
        let mut out = Vec::new();
        victim.flush(&mut out);
        assert_eq!(out.len(), 5 + 5 + 1 + 16, "one answer to all of them");
        deliver(&mut peer, &out).unwrap();
        answers_nothing(&mut peer);

        let mut sent = Vec::new();
        peer.records.update_sending_key(0, &mut sent).unwrap();
        peer.seal(b"unasked", &mut sent).unwrap();
        assert_eq!(deliver(&mut victim, &sent).unwrap(), b"unasked");
        answers_nothing(&mut victim);

        // After our end there is nothing, not even an answer.
        let mut out = Vec::new();
        victim.close_notify(&mut out);
        let len = out.len();
        let mut sent = Vec::new();
        peer.records.update_sending_key(1, &mut sent).unwrap();
        deliver(&mut victim, &sent).unwrap();
        victim.close_notify(&mut out);
        assert_eq!(out.len(), len);
    }
}

#[tokio::test]
async fn parts_share_records_and_are_not_split() {
    let (mut victim, mut peer) = pair(Ours::Client).await;
    let mut sent = b"before".to_vec();
    let mut sealing = peer.sealing(&mut sent).unwrap();
    assert_eq!(sealing.size(), 6);
    for part in [vec![1; 100], vec![2; 200], vec![3; 16_084], vec![4; 1]] {
        sealing.push(&part).unwrap();
    }
    sealing.push(&[5; 20_000]).unwrap();
    sealing.finish().unwrap();
    let records = lengths(&sent[6..]);
    assert_eq!(records, [16_384, 1, 16_384, 3_616]);
    let expected = [
        vec![1; 100],
        vec![2; 200],
        vec![3; 16_084],
        vec![4],
        vec![5; 20_000],
    ];
    assert_eq!(deliver(&mut victim, &sent[6..]).unwrap(), expected.concat());

    // A record that isn't finished doesn't go out in the clear.
    let mut sent = b"before".to_vec();
    let mut sealing = peer.sealing(&mut sent).unwrap();
    sealing.push(b"never sealed").unwrap();
    drop(sealing);
    assert_eq!(sent, b"before");
    peer.sealing(&mut sent).unwrap().finish().unwrap();
    assert_eq!(sent, b"before", "nothing has no record");
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let (mut connection, _peer) = pair(Ours::Client).await;
    let shown = format!("{connection:?}");
    let key = connection.take_exported_key().unwrap();
    assert!(!shown.contains(&format!("{:?}", &key[..4]).replace(['[', ']'], "")));
}

/// `victim` refuses what `peer` has sent because of `violation`, says so, and is over.
fn refuses(mut victim: TlsConnection, mut peer: TlsConnection, sent: &[u8], violation: Violation) {
    let error = deliver(&mut victim, sent).unwrap_err();
    assert!(
        matches!(&error, TlsError::Violation(found) if *found == violation),
        "{error}, not {violation}"
    );
    let mut out = Vec::new();
    victim.close_notify(&mut out);
    victim.seal(b"more", &mut out).unwrap_err();
    victim.open(&mut Vec::new()).unwrap_err();
    let told = deliver(&mut peer, &out).unwrap_err();
    let alert = violation.alert();
    assert!(
        matches!(&told, TlsError::AlertReceived(found) if *found == alert),
        "{told}, not {alert:?}"
    );
}

/// `victim`'s next bytes begin with an answer to a KeyUpdate, and payload after it has the new keys.
fn answers(victim: &mut TlsConnection, peer: &mut TlsConnection) {
    let mut out = Vec::new();
    victim.seal(b"answered", &mut out).unwrap();
    assert_eq!(lengths(&out), [KEY_UPDATE.len(), 8]);
    assert_eq!(deliver(peer, &out).unwrap(), b"answered");
}

fn answers_nothing(connection: &mut TlsConnection) {
    let mut out = Vec::new();
    connection.flush(&mut out);
    assert!(out.is_empty());
}

/// Gives `peer` the sending keys after a KeyUpdate that was sealed by hand.
fn follow(peer: &mut TlsConnection) {
    peer.records.update_sending_key(0, &mut Vec::new()).unwrap();
}

fn raw(peer: &mut TlsConnection, kind: ContentType, content: &[u8], out: &mut Vec<u8>) {
    peer.records.seal_control(kind, content, out).unwrap();
}

/// Gives `to` all of `sent`; returns its payload.
fn deliver(to: &mut TlsConnection, mut sent: &[u8]) -> Result<Vec<u8>, TlsError> {
    let mut payloads = Vec::new();
    while !sent.is_empty() {
        let mut buffer = to.receive_buffer();
        let (now, later) = sent.split_at(sent.len().min(buffer.remaining_mut()));
        buffer.put_slice(now);
        sent = later;
        to.open(&mut payloads)?;
    }
    Ok(payloads.concat())
}

/// Content lengths of whole records, all without padding.
fn lengths(mut records: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some((&[_, _, _, high, low], rest)) = records.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        lengths.push(length - 17);
        records = &rest[length..];
    }
    lengths
}

/// Both ends are ours: the one that is called `ours`, and its peer, whose records the test makes by hand.
async fn pair(ours: Ours) -> (TlsConnection, TlsConnection) {
    let (mut near, mut far) = duplex(1 << 16);
    let (client_tls, server_tls) = (client_tls(&[]), server_tls());
    let (edge, hub) = tokio::join!(
        connect(&mut near, &client_tls, soon()),
        accept(&mut far, &server_tls, soon())
    );
    match ours {
        Ours::Client => (edge.unwrap(), hub.unwrap()),
        Ours::Server => (hub.unwrap(), edge.unwrap()),
    }
}
