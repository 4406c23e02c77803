//! HTTP providers: trustless gateways, and storage providers that serve HTTP, as a source of blocks.

/// The section of the configuration about HTTP providers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether content is fetched from HTTP providers.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true }
    }
}
