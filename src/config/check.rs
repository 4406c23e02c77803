//! What the types of a configuration do not say. Pure.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use crate::gateway::signed::Signed;
use crate::gateway::{self, HostPattern};
use crate::http::ApiConfig;
use crate::p2p;
use crate::routing::{self, NameMap};

/// A value that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) why: String,
}

/// Most certificates of one listener, all of which are looked at for each handshake.
const CERTIFICATES_MAX: usize = 64;
/// Least memory that peers are let in with, in bytes.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// The first value that makes no sense, if there is one.
pub(super) fn check(config: &Config) -> Result<(), Wrong> {
    ranges(config)?;
    if let Some(address) = config.admin.listen
        && !address.ip().to_canonical().is_loopback()
    {
        let why = "the admin listener has no keys, so it is for this machine only; \
                   use 127.0.0.1 and let a proxy that asks for a password come before it";
        return Err(wrong("admin.listen", address, why));
    }
    gateway(&config.gateway)?;
    api(&config.api)?;
    routing(&config.routing)?;
    p2p(&config.p2p)?;
    config.log.check().map_err(|why| {
        let why = format!("{why}; use error, warn, info, debug or trace");
        wrong("log.level", format!("{:?}", config.log.level), why)
    })
}

fn gateway(config: &gateway::Config) -> Result<(), Wrong> {
    let no_keys = config.signing_keys.ids().next().is_none();
    if config.signed == Signed::Required && no_keys {
        let why = "without a key nothing could be signed; set gateway.signing_keys";
        return Err(wrong("gateway.signed", "\"required\"", why));
    }
    if let Some(url) = &config.url {
        let plain = url.strip_prefix("https://").or(url.strip_prefix("http://"));
        let named = plain.and_then(|name| name.parse::<http::uri::Authority>().ok());
        if named.is_none_or(|name| name.as_str().contains('@')) {
            let why =
                "a URL such as https://gateway.example is wanted, with nothing behind the name";
            return Err(wrong("gateway.url", format!("{url:?}"), why));
        }
    }
    if config.subdomain_hosts.iter().any(HostPattern::is_every) {
        let why = "redirects lead to subdomains of these hosts, so they must be known; \
                   use names such as gateway.example or *.gateway.example";
        return Err(wrong("gateway.subdomain_hosts", "\"*\"", why));
    }
    tls("gateway.tls_cert", config.tls_listen, &config.tls_cert, &config.tls_key)
}

fn api(config: &ApiConfig) -> Result<(), Wrong> {
    tls("api.tls_cert", config.tls_listen, &config.tls_cert, &config.tls_key)?;
    if let Some(name) =
        config.hosts.iter().find(|name| name.parse::<http::uri::Authority>().is_err())
    {
        let why = "names such as box.local or box.local:3004 are wanted";
        return Err(wrong("api.hosts", format!("{name:?}"), why));
    }
    Ok(())
}

fn routing(config: &routing::Config) -> Result<(), Wrong> {
    if let Err(error) = NameMap::parse(&config.names) {
        let names = format!("{:?}", config.names);
        return Err(wrong("routing.names", names, error.to_string()));
    }
    if let Err(error) = config.check_resolvers() {
        let resolvers = format!("{:?}", config.resolvers);
        return Err(wrong("routing.resolvers", resolvers, error.to_string()));
    }
    routing::Delegated::check(&config.delegated)
        .map_err(|why| wrong("routing.delegated", format!("{:?}", config.delegated), why))
}

fn p2p(config: &p2p::Config) -> Result<(), Wrong> {
    let lists = [
        ("p2p.peering", &config.peering),
        ("p2p.bootstrap", &config.bootstrap),
        ("p2p.relays", &config.relays),
    ];
    for (key, addresses) in lists {
        if let Some(nobody) = addresses.iter().find(|address| p2p::peer_of(address).is_none()) {
            let why = "it must say who is there: end it with /p2p/ and the peer's identity";
            return Err(wrong(key, nobody, why));
        }
    }
    if let Some(address) = config.announce.iter().find(|address| p2p::peer_of(address).is_some()) {
        let why = "the node adds its own identity; leave out what begins with /p2p/";
        return Err(wrong("p2p.announce", address, why));
    }
    if config.connections_low > config.connections_high {
        let why = format!("it is over p2p.connections_high, which is {}", config.connections_high);
        return Err(wrong("p2p.connections_low", config.connections_low, why));
    }
    if let Some(bytes) = config.memory_bytes_max.filter(|bytes| *bytes < MEMORY_BYTES_MIN) {
        let why =
            format!("with so little no peer was ever let in; {MEMORY_BYTES_MIN} is the least");
        return Err(wrong("p2p.memory_bytes_max", bytes, why));
    }
    Ok(())
}

/// Certificates and keys come in pairs, and with a place to show them at.
fn tls(
    key: &'static str,
    listen: Option<SocketAddr>,
    certificates: &[PathBuf],
    keys: &[PathBuf],
) -> Result<(), Wrong> {
    let why = match (listen, certificates.len(), keys.len()) {
        (_, certificates, keys) if certificates != keys => {
            "as many certificates as keys are wanted, in the same order"
        }
        (_, certificates, _) if certificates > CERTIFICATES_MAX => {
            "there are too many certificates for one listener"
        }
        (Some(_), 0, _) => {
            "tls_listen wants the files of a certificate and, as tls_key, of its key"
        }
        (None, 1.., _) => "say by tls_listen where TLS is spoken, such as 0.0.0.0:443",
        _ => return Ok(()),
    };
    Err(wrong(key, format!("{certificates:?}"), why))
}

/// Numbers and what they may be.
fn ranges(config: &Config) -> Result<(), Wrong> {
    let Config { gateway, http, denylist, retrieval, routing, p2p, upload, db, .. } = config;
    let count = |number: usize| number as u64;
    let ranges = [
        ("gateway.listing_entries_max", count(gateway.listing_entries_max), 1, 100_000),
        // What stands in one block is never over it.
        ("gateway.range_bytes_max", gateway.range_bytes_max, 2 << 20, u64::MAX),
        ("http.grace_ms", http.grace_ms, 0, DAY_MS),
        ("http.connections_max", count(http.connections_max), 1, 1_000_000),
        ("http.requests_max", count(http.requests_max), 1, 1_000_000),
        ("http.requests_per_address_max", count(http.requests_per_address_max), 1, 1_000_000),
        (
            "http.requests_per_second_per_address",
            count(http.requests_per_second_per_address),
            0,
            1_000_000,
        ),
        ("http.requests_burst_per_address", count(http.requests_burst_per_address), 1, 1_000_000),
        ("http.head_timeout_ms", http.head_timeout_ms, 10, DAY_MS),
        ("http.idle_timeout_ms", http.idle_timeout_ms, 10, DAY_MS),
        ("http.stall_timeout_ms", http.stall_timeout_ms, 10, DAY_MS),
        ("http.answer_timeout_ms", http.answer_timeout_ms, 10, DAY_MS),
        ("http.hsts_max_age_s", http.hsts_max_age_s, 0, 3_153_600_000),
        ("denylist.reload_ms", denylist.reload_ms, 100, 10_000),
        ("retrieval.block_timeout_ms", retrieval.block_timeout_ms, 10, DAY_MS),
        ("retrieval.request_timeout_ms", retrieval.request_timeout_ms, 10, DAY_MS),
        ("retrieval.absent_ttl_ms", retrieval.absent_ttl_ms, 0, 15_000),
        ("routing.provide_interval_s", routing.provide_interval_s, 1, 172_800),
        ("routing.ttl_s_max", routing.ttl_s_max, 0, 31_536_000),
        ("p2p.connections_low", count(p2p.connections_low), 1, 100_000),
        ("p2p.connections_high", count(p2p.connections_high), 1, 100_000),
        ("upload.bytes_max", upload.bytes_max, 1, u64::MAX),
        ("upload.concurrent_max", count(upload.concurrent_max), 1, 10_000),
        ("db.cache_bytes_max", db.cache_bytes_max, 1 << 20, u64::MAX),
    ];
    for (key, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            let why = match most {
                u64::MAX => format!("it must be {least} or more"),
                _ => format!("it must be from {least} to {most}"),
            };
            return Err(wrong(key, value, why));
        }
    }
    Ok(())
}

fn wrong(key: &'static str, value: impl std::fmt::Display, why: impl Into<String>) -> Wrong {
    Wrong { key, value: value.to_string(), why: why.into() }
}
