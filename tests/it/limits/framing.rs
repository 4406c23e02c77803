//! Requests that two servers could read in two ways: none of them may let a second one in.

use super::status_line;
use crate::harness::{Estuary, raw};

/// What must come of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// 400, and the connection ends.
    Bad,
    /// Any answer but content, and the connection ends.
    Closed,
}

use Outcome::{Bad, Closed};

/// Heads of a POST; what follows them is the second request.
const POSTS: &[(&str, Outcome)] = &[
    // Lengths.
    ("Content-Length: +5\r\n\r\n", Bad),
    ("Content-Length: -5\r\n\r\n", Bad),
    ("Content-Length: 0x5\r\n\r\n", Bad),
    ("Content-Length: 5,5\r\n\r\n", Bad),
    ("Content-Length: 5, 6\r\n\r\n", Bad),
    ("Content-Length: 5 5\r\n\r\n", Bad),
    ("Content-Length: 5a\r\n\r\n", Bad),
    ("Content-Length: \r\n\r\n", Bad),
    ("Content-Length: 1e1\r\n\r\n", Bad),
    ("Content-Length: \u{665}\r\n\r\n", Bad),
    ("Content-Length: 18446744073709551616\r\n\r\n", Bad),
    ("Content-Length: 18446744073709551615\r\n\r\n", Closed),
    ("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Bad),
    ("Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello", Bad),
    ("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Closed),
    ("Content-Length: 5\r\n\r\nhello", Closed),
    ("Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", Closed),
    // Length and chunks.
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", Closed),
    ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello", Bad),
    // Encodings.
    ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed),
    ("Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", Closed),
    ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: chunked\u{0}\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: \r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Bad),
    (" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", Bad),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Bad),
    // Chunks.
    ("Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\n-1\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\r\n", Closed),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", Closed),
    // Lines.
    ("X: a\n\n", Bad),
    ("X: a\n\r\n", Bad),
    ("X: a\nContent-Length: 5\r\n\r\nhello", Bad),
    ("X: a\rContent-Length: 5\r\n\r\nhello", Bad),
    ("X: a\r\r\n\r\n", Bad),
    ("X: a\u{0}b\r\n\r\n", Bad),
    ("X\u{0}: a\r\n\r\n", Bad),
    ("X Y: a\r\n\r\n", Bad),
    ("X: a\r\n folded: b\r\n\r\n", Bad),
    ("X: a\r\n\tContent-Length: 5\r\n\r\nhello", Bad),
    ("no colon\r\n\r\n", Bad),
    (": no name\r\n\r\n", Bad),
    ("Host: b\r\n\r\n", Bad),
    ("Host: a\r\n\r\n", Bad),
];

/// Whole heads; what follows them is the second request.
const HEADS: &[(&str, Outcome)] = &[
    ("GET / HTTP/1.1\r\n\r\n", Bad),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", Bad),
    ("GET / HTTP/1.1\nHost: a\n\n", Bad),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Bad),
    ("GET /\u{0} HTTP/1.1\r\nHost: a\r\n\r\n", Bad),
    ("GET / / HTTP/1.1\r\nHost: a\r\n\r\n", Bad),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Bad),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", Bad),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Bad),
    ("GET / HTTP/11.1\r\nHost: a\r\n\r\n", Bad),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Bad),
    ("GET /\r\n", Bad),
    ("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", Bad),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Bad),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Bad),
    ("POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", Closed),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Closed),
    ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Closed),
    ("OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Closed),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed),
];

#[tokio::test]
async fn no_message_lets_a_second_request_in() {
    let estuary = Estuary::start().await;
    let marker = estuary.add_block(&b"the smuggled answer"[..]).await;
    let second = format!("GET /ipfs/{marker} HTTP/1.1\r\nHost: a\r\n\r\n");
    // By itself, and behind a request without a body, it is served: it does tell.
    let plain = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n{}",
        second.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    );
    let answer = raw(estuary.gateway(), plain.as_bytes()).await;
    assert!(answer.ends_with(b"the smuggled answer"));

    let posts = POSTS.iter().map(|(rest, outcome)| {
        let head = format!("POST /ipfs/{marker} HTTP/1.1\r\nHost: a\r\n{rest}");
        // That a request names its host again is told by the host it has already.
        (head, *outcome)
    });
    let heads = HEADS.iter().map(|(head, outcome)| ((*head).to_owned(), *outcome));
    let mut wrong = Vec::new();
    let messages: Vec<_> = posts.chain(heads).collect();
    assert!(messages.len() >= 80, "{}", messages.len());
    for (head, outcome) in &messages {
        let answer = raw(estuary.gateway(), format!("{head}{second}").as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        let line = status_line(&answer);
        let fits = match outcome {
            Bad => line.starts_with("HTTP/1.1 400") || line.starts_with("HTTP/1.0 400"),
            Closed => !line.contains(" 200 ") || line.is_empty() || head.starts_with("OPTIONS"),
        };
        let answers = text.matches("HTTP/1.").count();
        if text.contains("smuggled") || !fits || answers > 1 {
            wrong.push(format!("{head:?}: {answers} answers: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let served = r#"estuary_gateway_responses_total{format="default",status="200"}"#;
    assert_eq!(estuary.metric(served).await, 1.0);
    estuary.stop().await;
}

#[tokio::test]
async fn nothing_is_upgraded() {
    let estuary = Estuary::start().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let answer = raw(estuary.gateway(), format!("{request}{preface}").as_bytes()).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 404") && !text.contains(" 101 "), "{text}");
    estuary.stop().await;
}
