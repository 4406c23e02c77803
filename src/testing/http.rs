//! HTTP servers on loopback that answer as a test likes, down to the last byte.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::task::Tasks;

/// A server that speaks HTTP/1.1, or what its test takes for that. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    tasks: Tasks,
}

impl Server {
    /// Serves on a port of its own. `answer` has the head of each request and the connection; it
    /// gives that back where more requests may come on it.
    pub async fn start<A, F>(answer: A) -> io::Result<Self>
    where
        A: Fn(String, TcpStream) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<Option<TcpStream>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = Self {
            address: listener.local_addr()?,
            accepted: Arc::default(),
            heads: Arc::default(),
            tasks: Tasks::new(),
        };
        let (accepted, heads) = (Arc::clone(&server.accepted), Arc::clone(&server.heads));
        let (stop, tasks) = (server.tasks.stop_token(), server.tasks.clone());
        let accept = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (answer, heads, stop) =
                    (answer.clone(), Arc::clone(&heads), tasks.stop_token());
                let serve = async move {
                    while let Ok(Some(head)) = head(&mut stream).await {
                        heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
                        match answer(head, stream).await {
                            Ok(Some(kept)) => stream = kept,
                            _ => return,
                        }
                    }
                };
                tasks.spawn(async move { stop.run_until_cancelled(serve).await });
            }
        };
        server.tasks.spawn(async move { stop.run_until_cancelled(accept).await });
        Ok(server)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections it took.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The heads of requests so far.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
    }
}

/// Reads up to the empty line; none where the connection ended before a request.
async fn head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// The path and query of a request, from its head.
#[must_use]
pub fn path(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// A well-formed answer; `headers` are lines, each with its end.
pub async fn reply(
    mut stream: TcpStream,
    status: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<Option<TcpStream>> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    Ok(Some(stream))
}
