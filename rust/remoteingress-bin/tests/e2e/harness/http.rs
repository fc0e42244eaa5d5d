//! A caller of the admin server that reads text.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{SOON, within};

/// The answer to a request for text.
pub(crate) struct Page {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Gets a path over a unix socket; `headers` are whole lines.
pub(crate) async fn get(socket: &Path, path: &str, headers: &str) -> Page {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: admin\r\n{headers}Connection: close\r\n\r\n");
    let exchanged = within(SOON, "an answer", async {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    });
    let answer = exchanged.await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    Page {
        status: status.parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: dechunked(head, body),
    }
}

/// The body without the frames of chunks, if it has them.
fn dechunked(head: &str, body: &str) -> String {
    if !head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        return body.to_owned();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some((chunk, next)) = more.split_at_checked(size) else {
            break;
        };
        whole.push_str(chunk);
        rest = next.trim_start_matches("\r\n");
    }
    whole
}
