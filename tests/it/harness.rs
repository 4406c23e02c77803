//! What the stories need: a node in this process or in one of its own, and ways to speak to it.

#![allow(dead_code, reason = "each chapter uses its part")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use estuary::app::{self, Node};
use estuary::block::{Block, Cid, codec};
use estuary::config::Config;
use estuary::http::api::NodeInfo;
use estuary::ipld::unixfs::import::{FileBuilder, Profile};
use estuary::task::Tasks;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// How long a story waits for what must come, in real time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A node in this process, on free ports and a directory of its own.
pub(crate) struct Estuary {
    node: Node,
    pub(crate) config: Config,
    pub(crate) dir: Arc<TempDir>,
}

impl Estuary {
    /// A node as it comes.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A node that is configured otherwise.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), config).await
    }

    /// A node on this directory.
    pub(crate) async fn start_in(dir: Arc<TempDir>, config: Config) -> Self {
        let node = Node::start(&config, dir.path()).unwrap();
        Self { node, config, dir }
    }

    /// Stops it; whether all that was under way came to its end.
    pub(crate) async fn stop(self) -> bool {
        self.node.stop().await.unwrap()
    }

    /// Stops it and starts another on the same directory.
    pub(crate) async fn restart(self) -> Self {
        self.node.stop().await.unwrap();
        Self::start_in(self.dir, self.config).await
    }

    pub(crate) fn info(&self) -> &NodeInfo {
        self.node.info()
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn gateway(&self) -> SocketAddr {
        address(&self.info().gateway_url)
    }

    pub(crate) fn api(&self) -> SocketAddr {
        address(&self.info().api_url)
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        address(&self.info().admin_url)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        app::socket_path(self.dir.path())
    }

    /// Gets from the gateway.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        get(self.gateway(), path).await
    }

    /// Asks the API.
    pub(crate) async fn ask_api<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        send(self.api(), request).await
    }

    /// Asks as the operator does, over the unix socket.
    pub(crate) async fn ask_operator<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        exchange(stream, request).await.unwrap()
    }

    /// The metrics page.
    pub(crate) async fn metrics(&self) -> String {
        get(self.admin(), "/metrics").await.text()
    }

    /// One number of the metrics page, by its name with labels; 0 where it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        metric(&self.metrics().await, name)
    }

    /// Pins a raw block of these bytes, past the API.
    pub(crate) async fn add_block(&self, data: impl Into<Bytes>) -> Cid {
        let block = Block::sha2_256(codec::RAW, data.into()).unwrap();
        let cid = *block.cid();
        self.pin(cid, vec![block]).await;
        cid
    }

    /// Pins a file of these bytes, in chunks of so many, past the API.
    pub(crate) async fn add_file(&self, data: &[u8], chunk_bytes: usize) -> Cid {
        let profile = Profile::V1_2025;
        let mut builder = FileBuilder::new(profile, profile.links_max());
        let mut blocks = Vec::new();
        for chunk in data.chunks(chunk_bytes) {
            let leaf = profile.leaf(Bytes::copy_from_slice(chunk)).unwrap();
            blocks.extend(builder.push(&leaf).unwrap());
            blocks.push(leaf.block);
        }
        let built = builder.finish().unwrap();
        blocks.extend(built.blocks);
        self.pin(built.root, blocks).await;
        built.root
    }

    async fn pin(&self, root: Cid, blocks: Vec<Block>) {
        let mut writing = self.node.app().store().begin().await.unwrap();
        writing.put(blocks).await.unwrap();
        writing.pin(root, |_| Ok::<_, estuary::db::Error>(())).await.unwrap();
    }
}

/// A configuration that takes free ports.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    let free = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    (config.gateway.listen, config.api.listen, config.admin.listen) = (free, free, free);
    // No resolver but one that a story starts is asked about names.
    config.offline = true;
    config
}

/// Bytes that look random and are the same each time.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// The address in a URL.
pub(crate) fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap()
}

/// One number of a metrics page.
pub(crate) fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A request without a body.
pub(crate) fn request(method: Method, path: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).body(Full::default()).unwrap()
}

/// Gets a path from an address.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, request(Method::GET, path)).await
}

/// Sends a request to an address, on a connection of its own.
pub(crate) async fn send<B>(address: SocketAddr, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    try_send(address, request).await.unwrap()
}

/// The same, where the answer may break off.
pub(crate) async fn try_send<B>(
    address: SocketAddr,
    mut request: Request<B>,
) -> Result<Answer, hyper::Error>
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let host = address.to_string().parse().unwrap();
    request.headers_mut().entry(header::HOST).or_insert(host);
    exchange(TcpStream::connect(address).await.unwrap(), request).await
}

async fn exchange<S, B>(stream: S, mut request: Request<B>) -> Result<Answer, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let localhost = header::HeaderValue::from_static("localhost");
    request.headers_mut().entry(header::HOST).or_insert(localhost);
    let body = request.map(BodyExt::boxed_unsync);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    Tasks::new().spawn(connection);
    let (head, body) = sender.send_request(body).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// What sends requests over HTTP/2, several at once, on a connection of their own.
pub(crate) async fn http2<S>(stream: S) -> SendRequest<Empty<Bytes>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    Tasks::new().spawn(connection);
    sender
}

/// Sends bytes and reads all that comes until the connection ends.
pub(crate) async fn raw(address: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be cut while we write.
    let _ = stream.write_all(sent).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("the connection stays open");
    answer
}

/// A node in a process of its own, killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) dir: Arc<TempDir>,
    pub(crate) gateway: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
    said: Arc<Mutex<String>>,
}

/// The program, with nothing of this process' environment but a home of its own.
pub(crate) fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_estuary"));
    command.env_clear().env("HOME", home);
    command.env("ESTUARY_OFFLINE", "1");
    for listener in ["GATEWAY", "API", "ADMIN"] {
        command.env(format!("ESTUARY_{listener}__LISTEN"), "127.0.0.1:0");
    }
    command
}

impl Process {
    /// A node as it comes.
    pub(crate) fn spawn() -> Self {
        Self::spawn_with(Arc::new(tempfile::tempdir().unwrap()), |_| {})
    }

    /// A node on this home, started otherwise.
    pub(crate) fn spawn_with(dir: Arc<TempDir>, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = program(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let mut urls = Vec::new();
        while urls.len() < 3 {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {said}")).unwrap();
            let url = line.split_whitespace().find(|word| word.starts_with("http://"));
            urls.extend(url.map(str::to_owned));
            said.push_str(&line);
            said.push('\n');
        }
        let at = |url: &String| {
            address(url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/").as_str())
        };
        let said = Arc::new(Mutex::new(said));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let (gateway, api, admin) = (at(&urls[0]), at(&urls[1]), at(&urls[2]));
        Self { child, dir, gateway, api, admin, said }
    }

    /// What it said on standard error so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> i32 {
        rustix::process::Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
