//! The life of the process: parse, then one command, or load, start, and serve until told to stop.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use estuary::app::{self, App, Node};
use estuary::cli::args::{Args, Command};
use estuary::cli::{self, Asked, Error};
use estuary::config::{self, Loaded, LogFormat, Overrides};
use estuary::http::api::NodeInfo;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The system's allocator keeps what freed blocks of a MiB leave behind; this one gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match cli::parse(std::env::args_os()) {
        Asked::Done(code) => return code,
        Asked::CheckConfig(args) => check_config(&args),
        Asked::Serve(args) => on_runtime(serve(*args)).and_then(|outcome| outcome),
        Asked::Command(args) => match on_runtime(command(*args)) {
            Ok(Ok(code)) => return code,
            Ok(Err(error)) | Err(error) => Err(error),
        },
    };
    cli::exit(&outcome)
}

fn on_runtime<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A read of standard input that nobody waits for any more must not be waited for here.
    runtime.shutdown_background();
    Ok(outcome)
}

fn load(args: &Args) -> Result<Loaded, Error> {
    let (data_dir, config) = (args.data_dir.clone(), args.config.clone());
    let overrides = Overrides { data_dir, config, offline: args.offline };
    config::load(&overrides, &std::env::vars_os().collect())
        .map_err(|error| Error::Config(error.to_string()))
}

fn check_config(args: &Args) -> Result<(), Error> {
    let loaded = load(args)?;
    say(&format!("the configuration is good; data is in {}", loaded.data_dir.display()));
    Ok(())
}

/// Runs one command, on the node that runs or else on the store itself.
async fn command(args: Args) -> Result<ExitCode, Error> {
    let Loaded { config, data_dir } = load(&args)?;
    if let Some(code) = cli::run_alone(&args, &config) {
        return Ok(code);
    }
    let socket = app::socket_path(&data_dir);
    if let Some(node) = cli::Node::running(&data_dir, &socket).await? {
        return Ok(cli::run(args, node).await);
    }
    if matches!(args.command, Some(Command::Status | Command::Find { .. })) {
        return Err(Error::NoNode(data_dir));
    }
    let fetches = !config.offline && args.command.as_ref().is_some_and(Command::fetches);
    let makes_store = fetches || args.command.as_ref().is_some_and(Command::makes_store);
    if !makes_store && !app::has_store(&data_dir) {
        return Err(Error::NoStore(data_dir));
    }
    let opened = match fetches {
        true => App::open_to_fetch(&config, &data_dir).await,
        false => App::open(&config, &data_dir),
    };
    let app = opened.map_err(failed)?;
    let code = cli::run(args, cli::Node::local(&data_dir, app.operator())).await;
    app.close().await.map_err(failed)?;
    Ok(code)
}

/// Serves until SIGTERM or ctrl-c; a second one ends the process at once.
async fn serve(args: Args) -> Result<(), Error> {
    let Loaded { config, data_dir } = load(&args)?;
    config.log.install();
    raise_file_limit();
    let mut stops = Stops {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    let node = Node::start(&config, &data_dir).map_err(failed)?;
    match config.log.format {
        LogFormat::Human => greet(node.info()),
        LogFormat::Json => {
            let NodeInfo { gateway_url, gateway_tls_url, api_url, admin_url, data_dir, .. } =
                node.info();
            tracing::info!(gateway_url, gateway_tls_url, api_url, admin_url, data_dir = %data_dir.display(), "runs");
        }
    }
    stops.next().await;
    tracing::info!(grace_ms = config.http.grace_ms, "stopping; once more to end at once");
    let whole = tokio::select! {
        stopped = node.stop() => stopped.map_err(failed)?,
        () = stops.next() => std::process::exit(1),
    };
    if !whole {
        tracing::warn!("some requests took longer than the grace and were cut");
    }
    Ok(())
}

struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Connections are files too, and the usual limit was chosen for programs without any.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, accepting waits when files run out.
    let _ =
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}

fn greet(node: &NodeInfo) {
    let NodeInfo { gateway_url, gateway_tls_url, api_url, admin_url, data_dir, .. } = node;
    let version = env!("CARGO_PKG_VERSION");
    let add = add_line(data_dir);
    let over_tls = gateway_tls_url.iter().map(|url| format!("\n            {url}/ipfs/<cid>"));
    let over_tls: String = over_tls.collect();
    say(&format!(
        "estuary {version} runs; ctrl-c stops it\n\
         \n  content   {gateway_url}/ipfs/<cid>{over_tls}\
         \n  upload    {api_url}/  or  {add}\
         \n  metrics   {admin_url}/metrics\
         \n  data      {}\n",
        data_dir.display(),
    ));
}

/// The command that uploads to the node here; it finds the usual directory by itself.
fn add_line(data_dir: &Path) -> String {
    let usual = config::load(&Overrides::default(), &std::env::vars_os().collect());
    if usual.is_ok_and(|usual| usual.data_dir == data_dir) {
        return "estuary add FILE".into();
    }
    format!("estuary --data-dir {} add FILE", data_dir.display())
}

/// Says something to whoever started the process; results alone go to standard output.
fn say(text: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn failed(error: app::Error) -> Error {
    match error {
        app::Error::InUse { .. } => Error::InUse(error.to_string()),
        app::Error::Certificate { .. } => Error::Config(error.to_string()),
        other => Error::Store(other.to_string()),
    }
}
