//! `swarm` and `ping`: the peers of a node.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Error;
use super::args::{Ping, Swarm};
use super::client::Node;
use super::output::{Output, printable};

/// From one ping to the next.
const PING_EACH: Duration = Duration::from_secs(1);

/// A peer, as the node tells of it.
#[derive(Debug, Deserialize)]
struct Peer {
    peer: String,
    connections: Vec<Connection>,
    agent: String,
    protocols: Vec<String>,
    latency_ms: Option<f64>,
    tags: serde_json::Map<String, Value>,
    protected: Vec<String>,
    busy: u32,
}

#[derive(Debug, Deserialize)]
struct Connection {
    address: String,
    direction: String,
    age_s: u64,
}

pub(super) async fn swarm(node: &Node, command: Swarm, out: Output) -> Result<(), Error> {
    running(node)?;
    match command {
        Swarm::Peers { verbose } => peers(node, verbose, out).await,
        Swarm::Connect { address } => {
            let asked = Some(json!({ "peer": address }));
            let peer: Value = node.json(Method::POST, "/swarm/connect", asked).await?;
            let Peer { peer: id, connections, .. } = read(&peer)?;
            let at = connections.last().map(|each| each.address.as_str()).unwrap_or_default();
            out.result(&peer, format!("connected with {id} at {}", printable(at)))
        }
        Swarm::Disconnect { peer } => {
            let asked = Some(json!({ "peer": peer }));
            let gone: Value = node.json(Method::POST, "/swarm/disconnect", asked).await?;
            let id = gone.get("peer").and_then(Value::as_str).unwrap_or_default();
            out.result(&gone, format!("disconnected from {id}"))
        }
    }
}

async fn peers(node: &Node, verbose: bool, out: Output) -> Result<(), Error> {
    let peers: Vec<Value> = node.json(Method::GET, "/swarm/peers", None).await?;
    if out.is_json() {
        return peers.iter().try_for_each(|peer| out.result(peer, ""));
    }
    if peers.is_empty() {
        return out.result(&(), "no peers");
    }
    let peers: Vec<Peer> = peers.iter().map(read).collect::<Result<_, _>>()?;
    out.result(&(), table(&peers, verbose))
}

fn read(peer: &Value) -> Result<Peer, Error> {
    Peer::deserialize(peer).map_err(|error| Error::Answer(error.to_string()))
}

/// Peers as lines, a line a connection; below each what it speaks, where that is wanted.
fn table(peers: &[Peer], verbose: bool) -> String {
    let head = ["PEER", "WAY", "FOR", "PING", "AGENT", "TAGS", "KEPT FOR", "ADDRESS"];
    let mut rows = vec![head.map(str::to_owned)];
    let mut below = vec![Vec::new()];
    for peer in peers {
        for (number, connection) in peer.connections.iter().enumerate() {
            let [way, age, at] = [
                connection.direction.clone(),
                age(connection.age_s),
                printable(&connection.address),
            ];
            let whose = |text: String| if number == 0 { text } else { String::new() };
            let ping = peer.latency_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
            rows.push([
                whose(peer.peer.clone()),
                way,
                age,
                whose(ping),
                whose(if peer.agent.is_empty() { "-".to_owned() } else { printable(&peer.agent) }),
                whose(tags(&peer.tags)),
                whose(kept(peer)),
                at,
            ]);
            below.push(Vec::new());
        }
        if let Some(lines) = below.last_mut().filter(|_| verbose) {
            lines.extend(peer.protocols.iter().map(|protocol| printable(protocol)));
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut lines = Vec::new();
    for (row, below) in rows.iter().zip(below) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        lines.push(cells.collect::<Vec<_>>().join("  ").trim_end().to_owned());
        lines.extend(below.iter().map(|protocol| format!("  {protocol}")));
    }
    lines.join("\n")
}

fn tags(tags: &serde_json::Map<String, Value>) -> String {
    let all: Vec<_> = tags.iter().map(|(tag, weight)| format!("{tag}={weight}")).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

/// Why a peer is kept.
fn kept(peer: &Peer) -> String {
    let mut reasons = peer.protected.clone();
    if peer.busy > 0 {
        reasons.push(format!("work ({})", peer.busy));
    }
    if reasons.is_empty() { "-".to_owned() } else { reasons.join(", ") }
}

/// Seconds for people.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

pub(super) async fn ping(node: &Node, asked: &Ping, out: Output) -> Result<(), Error> {
    running(node)?;
    let mut times = Vec::new();
    for number in 1..=asked.count {
        if number > 1 {
            tokio::time::sleep(PING_EACH).await;
        }
        let body = Some(json!({ "peer": asked.peer }));
        let ponged: Result<Value, Error> = node.json(Method::POST, "/ping", body).await;
        match ponged {
            Ok(pong) => {
                let Some(ms) = pong.get("latency_ms").and_then(Value::as_f64) else {
                    return Err(Error::Answer("it does not say how long it took".to_owned()));
                };
                times.push(ms);
                out.result(&pong, format!("{number}: {ms:.3} ms"))?;
            }
            // What makes no sense makes none the next time; who was never there is not there.
            Err(error) if !is_lost(&error) || number == 1 => return Err(error),
            Err(error) => {
                let said = json!({ "error": error.to_string() });
                out.result(&said, format!("{number}: {}", printable(&error.to_string())))?;
            }
        }
    }
    let (report, text) = summary(&times, asked.count);
    out.result(&report, text)?;
    if times.len() < asked.count as usize {
        return Err(Error::Found("some pings did not come back".to_owned()));
    }
    Ok(())
}

/// Whether a peer did not answer, and may the next time.
fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Refused { status, .. } if status.is_server_error())
}

fn summary(times: &[f64], sent: u32) -> (Value, String) {
    let back = times.len() as u32;
    let lost = f64::from(sent.saturating_sub(back)) * 100.0 / f64::from(sent.max(1));
    let least = times.iter().copied().reduce(f64::min);
    let most = times.iter().copied().reduce(f64::max);
    let mean = least.map(|_| times.iter().sum::<f64>() / f64::from(back));
    let report = json!({
        "sent": sent, "received": back, "loss_percent": lost,
        "min_ms": least, "mean_ms": mean, "max_ms": most,
    });
    let mut text = format!("{sent} sent, {back} came back, {lost:.0} % lost");
    if let (Some(least), Some(mean), Some(most)) = (least, mean, most) {
        text += &format!("; min {least:.3} mean {mean:.3} max {most:.3} ms");
    }
    (report, text)
}

fn running(node: &Node) -> Result<(), Error> {
    if node.runs() { Ok(()) } else { Err(Error::NoNode(node.data_dir().to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(peer: &str, agent: &str) -> Peer {
        let connection = |direction: &str, age_s| Connection {
            address: "/ip4/192.0.2.1/tcp/4001".to_owned(),
            direction: direction.to_owned(),
            age_s,
        };
        Peer {
            peer: peer.to_owned(),
            connections: vec![connection("out", 5), connection("in", 3700)],
            agent: agent.to_owned(),
            protocols: vec!["/ipfs/bitswap/1.2.0".to_owned()],
            latency_ms: Some(12.34),
            tags: json!({ "blocks": 8, "dht": 5 }).as_object().unwrap().clone(),
            protected: vec!["peering".to_owned()],
            busy: 2,
        }
    }

    #[test]
    fn peers_are_shown_in_columns_a_line_a_connection() {
        let mut poor = peer("12D3KooWB", "");
        (poor.tags, poor.protected, poor.busy) = (serde_json::Map::new(), Vec::new(), 0);
        poor.connections.truncate(1);
        let peers = [peer("12D3KooWA", "kubo/0.1\u{1b}[2J"), poor];
        let shown = table(&peers, true);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 6, "{shown}");
        let column = lines[0].find("ADDRESS").unwrap();
        let row = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(lines[1].chars().skip(column).collect::<String>(), "/ip4/192.0.2.1/tcp/4001");
        assert!(row(1).starts_with("12D3KooWA out 5s 12.3 ms kubo/0.1"), "{shown}");
        assert!(row(1).contains("blocks=8 dht=5 peering, work (2)") && !shown.contains('\u{1b}'));
        assert_eq!(row(2), "in 1h01m /ip4/192.0.2.1/tcp/4001");
        assert_eq!(lines[3], "  /ipfs/bitswap/1.2.0");
        assert_eq!(row(4), "12D3KooWB out 5s 12.3 ms - - - /ip4/192.0.2.1/tcp/4001");
        assert_eq!(table(&peers, false).lines().count(), 4);
    }

    #[test]
    fn pings_are_summed_up() {
        let (report, text) = summary(&[1.0, 3.0], 4);
        assert_eq!(text, "4 sent, 2 came back, 50 % lost; min 1.000 mean 2.000 max 3.000 ms");
        assert_eq!(report["loss_percent"], 50.0);
        assert_eq!(summary(&[], 3).1, "3 sent, 0 came back, 100 % lost");
    }
}
