//! The way to a node: its unix socket, or the same service in this process.

use std::io;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tower::ServiceExt;

use super::Error;
use crate::task::Tasks;

/// Longest answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest line of an answer that is read by lines.
const LINE_BYTES_MAX: usize = 1 << 20;
/// What hyper may hold of a body before the socket takes it.
const WRITE_BYTES: usize = 2 << 20;

/// A node that commands can be put to.
#[derive(Debug)]
pub struct Node {
    data_dir: PathBuf,
    reach: Reach,
    tasks: Tasks,
}

#[derive(Debug)]
enum Reach {
    Socket(PathBuf),
    Local(Local),
}

/// The operator's service over a store that this process has open.
pub type Local = Router;

impl Node {
    /// The node that listens on `socket`, if one does.
    pub async fn running(data_dir: &Path, socket: &Path) -> Result<Option<Self>, Error> {
        match connect(socket).await {
            Ok(_) => Ok(Some(Self::new(data_dir, Reach::Socket(socket.to_owned())))),
            // A socket that nobody listens on was left by a node that was killed.
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(Error::file(socket, error)),
            },
        }
    }

    /// No node: the store is open in this process.
    #[must_use]
    pub fn local(data_dir: &Path, service: Local) -> Self {
        Self::new(data_dir, Reach::Local(service))
    }

    fn new(data_dir: &Path, reach: Reach) -> Self {
        Self { data_dir: data_dir.to_owned(), reach, tasks: Tasks::new() }
    }

    /// Where its data is.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Whether it is a process of its own.
    pub(super) fn runs(&self) -> bool {
        matches!(self.reach, Reach::Socket(_))
    }

    /// Puts a request and returns the answer, unless it is a refusal.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let response = match &self.reach {
            Reach::Socket(socket) => self.send_over(socket, request).await?,
            Reach::Local(service) => match service.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = read_whole(response).await.unwrap_or_default();
        Err(Error::Refused { status, message: message(status, &body) })
    }

    async fn send_over(
        &self,
        socket: &Path,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let stream = connect(socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NoNode(self.data_dir.clone())
            }
            _ => Error::file(socket, error),
        })?;
        let broken = |error: hyper::Error| Error::Answer(error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(WRITE_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        self.tasks.spawn(connection);
        let host = header::HeaderValue::from_static("localhost");
        request.headers_mut().insert(header::HOST, host);
        Ok(sender.send_request(request).await.map_err(broken)?.map(Body::new))
    }

    /// Asks without a body.
    pub(super) async fn ask(&self, method: Method, uri: &str) -> Result<Response<Body>, Error> {
        self.send(request(method, uri, Body::empty())?).await
    }

    /// Asks, perhaps with JSON, and reads an answer in JSON.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        uri: &str,
        body: Option<serde_json::Value>,
    ) -> Result<T, Error> {
        let (kind, body) = match body {
            Some(value) => (Some("application/json"), Body::from(value.to_string())),
            None => (None, Body::empty()),
        };
        let mut request = request(method, uri, body)?;
        if let Some(kind) = kind {
            request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().map_err(unsendable)?);
        }
        self.json_of(request).await
    }

    /// Puts a request and reads an answer in JSON.
    pub(super) async fn json_of<T: DeserializeOwned>(
        &self,
        request: Request<Body>,
    ) -> Result<T, Error> {
        parse(&read_whole(self.send(request).await?).await?)
    }
}

/// Connects to a node of this user's. In a directory that others may write to, one of them could
/// listen in its name, and take what is added.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket).await?;
    let listens = stream.peer_cred()?.uid();
    if is_trusted(listens, rustix::process::geteuid().as_raw()) {
        return Ok(stream);
    }
    let text = format!("user {listens} listens there, who is neither you nor root");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Whether this user may rely on what that one listens to. Root goes where it likes.
fn is_trusted(listens: u32, own: u32) -> bool {
    own == 0 || listens == 0 || listens == own
}

/// A request; `uri` is a path with its query, already escaped.
pub(super) fn request(method: Method, uri: &str, body: Body) -> Result<Request<Body>, Error> {
    Request::builder().method(method).uri(uri).body(body).map_err(unsendable)
}

fn unsendable(error: impl std::fmt::Display) -> Error {
    Error::Usage(format!("this cannot be asked of a node: {error}"))
}

/// A part of a path, or a value in a query, escaped.
pub(super) fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The path under which the node serves what a person named by CID, `/ipfs/…` path or `ipfs://`.
pub(super) fn content_uri(path: &str) -> String {
    let path = path.strip_prefix("ipfs://").or(path.strip_prefix("/ipfs/")).unwrap_or(path);
    let names: Vec<_> = path.split('/').map(escaped).collect();
    format!("/ipfs/{}", names.join("/").trim_end_matches('/'))
}

/// The pieces of a body.
pub(super) fn pieces(body: Body) -> impl Stream<Item = Result<Bytes, Error>> + Unpin {
    body.into_data_stream().map(|piece| piece.map_err(|error| Error::Answer(error.to_string())))
}

/// An answer's body, which is short.
pub(super) async fn read_whole(response: Response<Body>) -> Result<Bytes, Error> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| Error::Answer(error.to_string()))?.to_bytes())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Answer(error.to_string()))
}

/// What an error answer says, whichever service of the node gave it.
fn message(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let field = |value: &serde_json::Value| {
        let error = value.get("error")?;
        let details = error.get("details").or(error.get("reason")).unwrap_or(error);
        details.as_str().map(str::to_owned)
    };
    let said = json.as_ref().and_then(field).unwrap_or_else(|| text.trim().to_owned());
    if said.is_empty() { format!("the node answered {status}") } else { said }
}

/// Lines of JSON, as they come.
#[derive(Debug)]
pub(super) struct Lines<S> {
    pieces: S,
    begun: Vec<u8>,
}

impl<S: Stream<Item = Result<Bytes, Error>> + Unpin> Lines<S> {
    pub(super) fn new(pieces: S) -> Self {
        Self { pieces, begun: Vec::new() }
    }

    /// The next line; `None` at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                let line = std::mem::replace(&mut self.begun, rest);
                return parse(&line).map(Some);
            }
            if self.begun.len() > LINE_BYTES_MAX {
                return Err(Error::Answer("a line is too long".into()));
            }
            match self.pieces.next().await {
                Some(piece) => self.begun.extend_from_slice(&piece?),
                None if self.begun.is_empty() => return Ok(None),
                None => return Err(Error::Answer("it ends within a line".into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_named_by_cid_path_or_url() {
        for path in ["bafy/a b/ü", "/ipfs/bafy/a b/ü", "ipfs://bafy/a b/ü/"] {
            assert_eq!(content_uri(path), "/ipfs/bafy/a%20b/%C3%BC");
        }
        // A percent sign that somebody typed is part of a name.
        assert_eq!(content_uri("bafy/100%25"), "/ipfs/bafy/100%2525");
    }

    #[test]
    fn only_a_node_of_ones_own_is_spoken_to() {
        for (listens, own, trusted) in [(7, 7, true), (7, 0, true), (0, 7, true), (8, 7, false)] {
            assert_eq!(is_trusted(listens, own), trusted, "{listens} {own}");
        }
    }

    #[test]
    fn errors_of_either_service_are_understood() {
        let check = |body: &str| message(StatusCode::NOT_FOUND, body.as_bytes());
        assert_eq!(check(r#"{"error":{"code":404,"reason":"ERR","details":"gone"}}"#), "gone");
        assert_eq!(check(r#"{"error":"gone"}"#), "gone");
        assert_eq!(check("gone\n"), "gone");
        assert_eq!(check(""), "the node answered 404 Not Found");
    }

    #[tokio::test]
    async fn lines_do_not_depend_on_the_pieces() {
        let text = b"1\n22\n333\n";
        for size in 1..text.len() {
            let pieces = text.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece)));
            let mut lines = Lines::new(futures_util::stream::iter(pieces));
            let mut found = Vec::new();
            while let Some(number) = lines.next::<u32>().await.unwrap() {
                found.push(number);
            }
            assert_eq!(found, [1, 22, 333], "{size}");
        }
    }
}
