//! Single records: the example of RFC 8448, the limit of a key, headers that can't be right.

use aws_lc_rs::aead::AES_128_GCM;
use rustls::ContentType;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::cipher::Iv;

use crate::transport::tls::error::{TlsError, Violation};
use crate::transport::tls::exporter::expand_label;
use crate::transport::tls::protection::{Keys, Opener, Sealer, record_len};

/// RFC 8448, section 3, "{client} derive secret" and "{server} derive secret": the application traffic secrets.
const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";

/// The same section: what each end sends with these secrets, as complete records in order.
const CLIENT_RECORDS: [(ContentType, &str, &str); 2] = [
    (ContentType::ApplicationData, APPLICATION_DATA, CLIENT_DATA),
    (
        ContentType::Alert,
        "0100",
        "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3",
    ),
];
const SERVER_RECORDS: [(ContentType, &str, &str); 3] = [
    (ContentType::Handshake, TICKET, SERVER_TICKET),
    (ContentType::ApplicationData, APPLICATION_DATA, SERVER_DATA),
    (
        ContentType::Alert,
        "0100",
        "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9",
    ),
];
const APPLICATION_DATA: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
    202122232425262728292a2b2c2d2e2f3031";
const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b98\
    19a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30e\
    faf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
const TICKET: &str = "040000c90000001efad6aac502000000b22c035d829359ee5ff7af4ec9000000\
    00262a6494dc486d2c8a34cb33fa90bf1b0070ad3c498883c9367c09a2be785abc55cd226097a3a982117283f82a\
    03a143efd3ff5dd36d64e861be7fd61d2827db279cce145077d454a3664d4e6da4d29ee03725a6a4dafcd0fc67d2\
    aea70529513e3da2677fa5906c5b3f7d8f92f228bda40dda721470f9fbf297b5aea617646fac5c03272e970727c6\
    21a79141ef5f7de6505e5bfbc388e93343694093934ae4d3570008002a000400000400";
const SERVER_TICKET: &str = "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d4\
    1d6af8f6b580dcf3d11d63c758db289a015940252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d1\
    6d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e62972ac46f75f7b981be63439b2999ce13064615139891d5\
    e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c86519d86cbeeac87aac347d1\
    43f9605d64f650db4d023e70e952ca49fe5137121c74bc2697687e248746d6df353005f3bce18696129c8153556b\
    3b6c6779b37bf15985684f";

#[test]
fn records_of_rfc_8448_are_sealed_and_opened() {
    for (secret, records) in [
        (CLIENT_SECRET, CLIENT_RECORDS.as_slice()),
        (SERVER_SECRET, SERVER_RECORDS.as_slice()),
    ] {
        let mut sealer = Sealer::new(keys(secret), 1 << 24);
        let mut opener = Opener::new(keys(secret));
        for (kind, content, record) in records {
            let mut out = b"before".to_vec();
            seal(&mut sealer, *kind, &hex(content), &mut out).unwrap();
            assert_eq!(out[6..], hex(record), "{kind:?}");
            assert_eq!(record_len(&out[6..]), Ok(Some(out.len() - 6)));
            let (opened, place) = opener.open(&mut out[6..]).unwrap();
            assert_eq!(opened, *kind);
            assert_eq!(out[6..][place], hex(content), "{kind:?}");
        }
    }
}

#[test]
fn opener_takes_a_record_once_and_in_order() {
    for second in 0..3 {
        let mut opener = Opener::new(keys(SERVER_SECRET));
        let mut open = |at: usize| opener.open(&mut hex(SERVER_RECORDS[at].2)).is_ok();
        assert!(open(0));
        assert_eq!(open(second), second == 1, "{second}");
    }
    let mut opener = Opener::new(keys(SERVER_SECRET));
    opener.open(&mut hex(SERVER_DATA)).unwrap_err();
}

#[test]
fn key_seals_no_more_than_its_limit() {
    let mut sealer = Sealer::new(keys(CLIENT_SECRET), 6);
    let mut out = Vec::new();
    for sealed in 0..6 {
        assert_eq!(sealer.is_worn(), sealed >= 3);
        seal(&mut sealer, ContentType::ApplicationData, b"text", &mut out).unwrap();
    }
    let len = out.len();
    for _ in 0..2 {
        let error = seal(&mut sealer, ContentType::ApplicationData, b"text", &mut out);
        assert!(matches!(error, Err(TlsError::KeyUsedUp)));
        assert_eq!(out.len(), len, "no plaintext is left behind");
    }
    // From wherever the handshake has left off.
    let late = Keys::new(&AES_128_GCM, &[1; 16], Iv::from([2; 12]), u64::MAX).unwrap();
    let error = seal(
        &mut Sealer::new(late, u64::MAX),
        ContentType::Alert,
        &[1, 0],
        &mut out,
    );
    assert!(matches!(error, Err(TlsError::KeyUsedUp)));
}

#[test]
fn header_is_refused_at_the_byte_that_shows_it() {
    for kind in (0..=255).filter(|&kind| kind != 0x17) {
        assert_eq!(record_len(&[kind]), Err(Violation::UnprotectedRecord));
    }
    for version in [
        [0x17, 2].as_slice(),
        &[0x17, 4],
        &[0x17, 3, 1],
        &[0x17, 3, 4],
    ] {
        assert_eq!(record_len(version), Err(Violation::WrongVersion));
    }
    for (length, expected) in [
        (0, Err(Violation::BadRecordMac)),
        (15, Err(Violation::BadRecordMac)),
        (16, Ok(Some(5 + 16))),
        (16_384 + 256, Ok(Some(5 + 16_384 + 256))),
        (16_384 + 257, Err(Violation::RecordOverflow)),
        (65_535, Err(Violation::RecordOverflow)),
    ] {
        let [high, low] = u16::to_be_bytes(length);
        assert_eq!(record_len(&[0x17, 3, 3, high, low]), expected, "{length}");
    }
    let header = [0x17, 3, 3, 0, 20];
    for len in 0..5 {
        assert_eq!(record_len(&header[..len]), Ok(None), "nothing is wrong yet");
    }
}

#[test]
fn keys_of_another_length_are_no_keys() {
    for len in [0, 15, 17, 32] {
        let keys = Keys::new(&AES_128_GCM, &vec![1; len], Iv::from([2; 12]), 0);
        assert!(matches!(keys, Err(TlsError::Library(_))));
    }
}

#[test]
fn keys_are_not_shown() {
    let keys = Keys::new(&AES_128_GCM, &[0xab; 16], Iv::from([0xcd; 12]), 7).unwrap();
    let shown = format!("{:?}", Sealer::new(keys, 1 << 24)).to_lowercase();
    for secret in ["171", "205", "abab", "cdcd"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

fn seal(
    sealer: &mut Sealer,
    kind: ContentType,
    content: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let start = Sealer::begin(out);
    out.extend_from_slice(content);
    sealer.end(kind, start, out)
}

/// RFC 8446, section 7.3.
fn keys(secret: &str) -> Keys {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let (mut key, mut iv) = ([0; 16], [0; 12]);
    expand_label(suite, &hex(secret), b"key", &[], &mut key).unwrap();
    expand_label(suite, &hex(secret), b"iv", &[], &mut iv).unwrap();
    Keys::new(&AES_128_GCM, &key, Iv::from(iv), 0).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}
