//! `traffic`: how many bytes went which way.

use http::Method;
use serde_json::Value;

use super::Error;
use super::client::Node;
use super::output::Output;

/// The ways, as reports and people name them.
const WAYS: [(&str, &str); 4] = [
    ("http_out", "HTTP OUT"),
    ("bitswap_out", "BITSWAP OUT"),
    ("bitswap_in", "BITSWAP IN"),
    ("http_in", "HTTP IN"),
];

pub(super) async fn traffic(
    node: &Node,
    days: u32,
    limit: usize,
    out: Output,
) -> Result<(), Error> {
    let uri = format!("/traffic?days={days}&limit={limit}");
    let report: Value = node.json(Method::GET, &uri, None).await?;
    out.result(&report, table(&report))
}

/// A line of totals, and one for each root.
fn table(report: &Value) -> String {
    let line = |bytes: &Value, of: &str| {
        let of_way = |(way, _): &(&str, &str)| bytes.get(way).and_then(Value::as_u64).unwrap_or(0);
        let cells: Vec<_> = WAYS.iter().map(|way| format!("{:>14}", of_way(way))).collect();
        format!("{}  {of}", cells.join(" "))
    };
    let heads: Vec<_> = WAYS.iter().map(|(_, head)| format!("{head:>14}")).collect();
    let mut lines = vec![format!("{}  ROOT", heads.join(" "))];
    lines.push(line(report.get("bytes").unwrap_or(&Value::Null), "all"));
    for root in report.get("roots").and_then(Value::as_array).into_iter().flatten() {
        let cid = root.get("cid").and_then(Value::as_str).unwrap_or_default();
        lines.push(line(root.get("bytes").unwrap_or(&Value::Null), cid));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_readable() {
        let report = serde_json::json!({
            "bytes": { "http_out": 7, "bitswap_in": 5 },
            "roots": [{ "cid": "bafy", "bytes": { "http_out": 7 } }],
        });
        let text = table(&report);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().nth(1).unwrap().ends_with("0  all"), "{text}");
        assert!(text.lines().nth(2).unwrap().ends_with("0  bafy"), "{text}");
    }
}
