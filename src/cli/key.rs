//! `key`: the API keys of a node.

use http::Method;
use serde_json::{Value, json};

use super::Error;
use super::args::Key;
use super::client::{Node, escaped};
use super::output::{Output, printable};

pub(super) async fn key(node: &Node, command: Key, out: Output) -> Result<(), Error> {
    match command {
        Key::Create { scope, label, days } => {
            let asked = json!({ "scope": scope, "label": label, "days": days });
            let made: Value = node.json(Method::POST, "/keys", Some(asked)).await?;
            let text = text(&made, "key");
            out.result(&made, text)
        }
        Key::Ls => {
            let keys: Vec<Value> = node.json(Method::GET, "/keys", None).await?;
            for key in keys {
                let label = printable(&text(&key, "label"));
                let line = format!("{}  {:<6}  {label}", text(&key, "id"), text(&key, "scope"));
                out.result(&key, line)?;
            }
            Ok(())
        }
        Key::Revoke { key } => {
            let uri = format!("/keys/{}", escaped(&key));
            let gone: Value = node.json(Method::DELETE, &uri, None).await?;
            let line = format!("revoked {}", text(&gone, "id"));
            out.result(&gone, line)
        }
    }
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
