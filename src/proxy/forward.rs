//! Heads on their way to the other side, and answers of our own.

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::framing::Length;
use super::head::Head;

/// True where the request asks for an upgrade that the upstream may grant. One to HTTP/2 would be
/// agreed with us, not with the upstream.
pub(super) fn asks_upgrade(head: &Head) -> bool {
    head.has_token("connection", "upgrade")
        && head.all("upgrade").next().is_some()
        && !head.has_token("upgrade", "h2c")
}

/// Appends the request's head as the upstream gets it.
pub(super) fn forward_request(head: &Head, out: &mut Vec<u8>) {
    if asks_upgrade(head) {
        head.forward(out, &["http2-settings"], b"Connection: Upgrade\r\n");
    } else {
        head.forward(out, &["upgrade", "http2-settings"], b"");
    }
}

/// Appends the answer's head as the client gets it; `keep` says whether its connection stays.
pub(super) fn forward_response(
    head: &Head,
    request: &Head,
    length: Length,
    status: u16,
    keep: bool,
    out: &mut Vec<u8>,
) {
    let add: &[u8] = if status == 101 {
        b"Connection: Upgrade\r\n"
    } else if !keep {
        b"Connection: close\r\n"
    } else if request.minor_version == 0 {
        b"Connection: keep-alive\r\n"
    } else {
        b""
    };
    // RFC 9112 §6.3: beside chunks a length is a lie, and the client must not see two.
    let leave_out: &[&str] = if length == Length::Chunked {
        &["content-length"]
    } else {
        &[]
    };
    head.forward(out, leave_out, add);
}

/// An answer of our own, after which the connection closes.
pub(super) async fn answer(client: &mut (impl AsyncWrite + Unpin), status: &str, why: &str) {
    let body = format!("inferdiff: {why}\n");
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    // A client that is gone needs no answer.
    let _ = client.write_all(text.as_bytes()).await;
    let _ = client.shutdown().await;
}
