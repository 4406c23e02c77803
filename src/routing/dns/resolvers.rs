//! Whom to ask about a domain: the system's resolver, or others by the domain's end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData};
use http::Uri;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::routing::name::Domain;

/// Most TXT records of one answer.
const TXT_MAX: usize = 64;
/// Longest TXT record, in bytes.
const TXT_BYTES_MAX: usize = 4 << 10;
/// How long a resolver may take before it is asked once more, in milliseconds.
const TRY_MS: u64 = 2_000;
/// How often it is asked again.
const RETRIES: usize = 1;
/// Addresses of a DNS-over-HTTPS server that are tried.
const ADDRESSES_MAX: usize = 4;
/// How long the addresses of such a server are used before they are looked up again, in seconds.
const ADDRESSES_TTL_S: u64 = 600;
/// Path of a DNS-over-HTTPS server whose URL has none (RFC 8484).
const HTTPS_PATH: &str = "/dns-query";

/// TXT records of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Txt {
    pub(super) texts: Vec<String>,
    /// The shortest TTL on the way to them.
    pub(super) ttl: Duration,
}

/// A resolver for the domains with one end, as the configuration names it: `eth.:https://host/path`,
/// or `.:192.0.2.1:53` for all domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The end, without dots around it; empty for all domains.
    end: String,
    server: Server,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Server {
    /// Over UDP and TCP.
    Plain(SocketAddr),
    /// Over HTTPS.
    Https { host: String, port: u16, path: String },
}

impl Rule {
    /// Reads a rule; what is wrong is told as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str =
            "a resolver is `eth.:https://host/dns-query` or, for all domains, `.:192.0.2.1:53`";
        let (end, server) = text.split_once(':').ok_or(FORM)?;
        let end = end.trim().strip_suffix('.').ok_or("the end of a domain has a dot behind it")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !end.bytes().all(plain) || end.starts_with('.') {
            return Err(FORM);
        }
        let server = server.trim();
        let server = match server.strip_prefix("https://") {
            None => Server::Plain(server.parse().map_err(|_| FORM)?),
            Some(_) => {
                let uri: Uri = server.parse().map_err(|_| FORM)?;
                let host = uri.host().filter(|host| !host.is_empty()).ok_or(FORM)?;
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let path = match uri.path() {
                    "/" => HTTPS_PATH.to_owned(),
                    path => path.to_owned(),
                };
                Server::Https { host, port: uri.port_u16().unwrap_or(443), path }
            }
        };
        Ok(Self { end: end.to_ascii_lowercase(), server })
    }

    fn fits(&self, domain: &str) -> bool {
        let Some(rest) = domain.strip_suffix(self.end.as_str()) else { return false };
        self.end.is_empty() || rest.is_empty() || rest.ends_with('.')
    }
}

/// Resolvers, by the ends of domains.
#[derive(Debug)]
pub(crate) struct Resolvers {
    /// The longest ends first.
    rules: Vec<(Rule, Upstream)>,
    /// For all other domains; what is wrong where there is none.
    system: Result<TokioResolver, Arc<str>>,
}

/// A resolver of a rule.
enum Upstream {
    Plain(TokioResolver),
    /// It is named by a host, so its addresses are looked up when it is needed.
    Https(Mutex<Option<(Instant, TokioResolver)>>),
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Https(_) => "Https",
        })
    }
}

impl Resolvers {
    /// Resolvers by these rules, and the system's. Nobody is asked anything yet.
    pub(crate) fn new(rules: Vec<Rule>) -> Result<Self, Arc<str>> {
        let mut with: Vec<_> = rules
            .into_iter()
            .map(|rule| {
                let upstream = match &rule.server {
                    Server::Plain(address) => Upstream::Plain(build(vec![plain(*address)])?),
                    Server::Https { .. } => Upstream::Https(Mutex::default()),
                };
                Ok((rule, upstream))
            })
            .collect::<Result<_, Arc<str>>>()?;
        with.sort_by_key(|(rule, _)| std::cmp::Reverse(rule.end.len()));
        Ok(Self { rules: with, system: system() })
    }

    /// The TXT records of `name`, which belongs to `domain`. None where there are none; an error
    /// says why that cannot be told.
    pub(super) async fn txt(&self, domain: &Domain, name: &str) -> Result<Option<Txt>, Arc<str>> {
        let resolver = self.of(domain).await?;
        let name = Name::from_ascii(name).map_err(|error| text(&error))?;
        let lookup = match resolver.txt_lookup(name).await {
            Ok(lookup) => lookup,
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => return Ok(None),
            Err(error) => return Err(text(&error)),
        };
        let mut found = Txt { texts: Vec::new(), ttl: Duration::MAX };
        for record in lookup.answers() {
            // Aliases on the way count too.
            found.ttl = found.ttl.min(Duration::from_secs(record.ttl.into()));
            let RData::TXT(txt) = &record.data else { continue };
            let bytes = txt.txt_data.concat();
            if found.texts.len() == TXT_MAX {
                return Err("the answer has more than 64 TXT records".into());
            }
            if bytes.len() > TXT_BYTES_MAX {
                return Err("the answer has a TXT record of more than 4 KiB".into());
            }
            found.texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        Ok((!found.texts.is_empty()).then_some(found))
    }

    async fn of(&self, domain: &Domain) -> Result<TokioResolver, Arc<str>> {
        match self.rules.iter().find(|(rule, _)| rule.fits(domain.as_str())) {
            None => self.system.clone(),
            Some((_, Upstream::Plain(resolver))) => Ok(resolver.clone()),
            Some((rule, Upstream::Https(built))) => {
                let Server::Https { host, port, path } = &rule.server else {
                    return Err("its resolver has no host".into());
                };
                let mut built = built.lock().await;
                let ttl = Duration::from_secs(ADDRESSES_TTL_S);
                match &*built {
                    Some((since, resolver)) if since.elapsed() < ttl => Ok(resolver.clone()),
                    _ => {
                        let addresses = self.addresses(host).await?;
                        let servers = addresses.into_iter().map(|ip| https(ip, *port, host, path));
                        let resolver = build(servers.collect())?;
                        *built = Some((Instant::now(), resolver.clone()));
                        Ok(resolver)
                    }
                }
            }
        }
    }

    /// The addresses of a server that is itself a resolver: by a plain one for all domains, or the
    /// system's.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Arc<str>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let root = self.rules.iter().find_map(|(rule, upstream)| match upstream {
            Upstream::Plain(resolver) if rule.end.is_empty() => Some(resolver.clone()),
            _ => None,
        });
        let resolver = root.map_or_else(|| self.system.clone(), Ok)?;
        let found = resolver.lookup_ip(format!("{host}.")).await;
        let found = found.map_err(|error| -> Arc<str> {
            format!("its resolver {host} has no address: {error}").into()
        })?;
        Ok(found.iter().take(ADDRESSES_MAX).collect())
    }
}

fn plain(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}

fn https(ip: IpAddr, port: u16, host: &str, path: &str) -> NameServerConfig {
    let mut connection = ConnectionConfig::new(ProtocolConfig::Https {
        server_name: host.into(),
        path: path.into(),
    });
    connection.port = port;
    NameServerConfig::new(ip, true, vec![connection])
}

fn build(servers: Vec<NameServerConfig>) -> Result<TokioResolver, Arc<str>> {
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options(ResolverOpts::default());
    builder.build().map_err(|error| text(&error))
}

fn system() -> Result<TokioResolver, Arc<str>> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| text(&error))?;
    let set = std::mem::take(builder.options_mut());
    *builder.options_mut() = options(set);
    builder.build().map_err(|error| text(&error))
}

/// What was answered is kept by whoever asked, who also bounds how long asking takes.
fn options(set: ResolverOpts) -> ResolverOpts {
    let mut options = set;
    options.cache_size = 0;
    options.timeout = Duration::from_millis(TRY_MS);
    options.attempts = RETRIES;
    options.use_hosts_file = ResolveHosts::Never;
    options
}

fn text(error: &impl std::fmt::Display) -> Arc<str> {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_the_longest_end_that_fits_counts() {
        let check = |text: &str, domain: &str, fits: bool| {
            assert_eq!(Rule::parse(text).unwrap().fits(domain), fits, "{text} {domain}");
        };
        check("eth.:https://dns.eth.limo/dns-query", "vitalik.eth", true);
        check("ETH.:https://dns.eth.limo/dns-query", "a.vitalik.eth", true);
        check("eth.:https://dns.eth.limo/dns-query", "example.beth", false);
        check(".:127.0.0.1:53", "example.org", true);
        check(".: [::1]:5353", "example.org", true);
        let rules = [".:127.0.0.1:1", "b.eth.:127.0.0.1:2", "eth.:https://127.0.0.1/"];
        let rules = rules.map(|rule| Rule::parse(rule).unwrap()).to_vec();
        let https =
            Server::Https { host: "127.0.0.1".into(), port: 443, path: "/dns-query".into() };
        assert_eq!(rules[2].server, https);
        let resolvers = Resolvers::new(rules).unwrap();
        let end = |domain: &str| {
            resolvers.rules.iter().find(|(rule, _)| rule.fits(domain)).unwrap().0.end.clone()
        };
        assert_eq!(
            (end("a.b.eth"), end("a.eth"), end("a.org")),
            ("b.eth".into(), "eth".into(), String::new())
        );
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        let texts = [
            "",
            "eth",
            "eth:1.2.3.4:53",
            "eth.:",
            "eth.:1.2.3.4",
            "eth.:http://a/",
            "a b.:1.2.3.4:5",
            "eth.:https://",
            "..:1.2.3.4:5",
        ];
        for text in texts {
            assert!(Rule::parse(text).is_err(), "{text}");
        }
    }
}
