//! Domain names in addresses: `/dns4`, `/dns6`, `/dns` by their IP addresses, `/dnsaddr` by TXT
//! records that hold addresses (libp2p addressing, "dnsaddr").

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// How far `/dnsaddr` records may lead from one to the next.
const DEPTH_MAX: usize = 4;
/// Addresses that are taken of one answer, and of all that a `/dnsaddr` leads to.
const ANSWERS_MAX: usize = 16;

/// Looks names up.
pub(super) trait Lookup: Send + Sync {
    /// The IP addresses of a name.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
    /// The TXT records of a name.
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>>;
}

/// The names that addresses hold. Cheap to clone.
#[derive(Clone)]
pub(super) struct Names(Arc<dyn Lookup>);

impl Names {
    /// By the system's resolver. Where there is none, only addresses without names can be dialled.
    pub(super) fn system() -> Self {
        let builder = TokioResolver::builder_tokio();
        let resolver = builder.and_then(|builder| builder.build());
        Self(Arc::new(System(resolver.map_err(|error| error.to_string().into()))))
    }

    #[cfg(test)]
    pub(super) fn of(lookup: impl Lookup + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    pub(super) async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut found = self.0.addresses(name).await?;
        found.truncate(ANSWERS_MAX);
        Ok(found)
    }

    /// The addresses that a `/dnsaddr` leads to. Only those count that end as it does behind the
    /// name.
    pub(super) async fn follow(&self, address: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
        let (mut found, mut level) = (Vec::new(), vec![address.clone()]);
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            for address in level {
                let mut parts = address.iter();
                let Some(Protocol::Dnsaddr(name)) = parts.next() else {
                    found.push(address);
                    continue;
                };
                let end: Multiaddr = parts.collect();
                let texts = self.0.texts(&format!("_dnsaddr.{name}")).await?;
                let named = texts.iter().filter_map(|text| text.strip_prefix("dnsaddr="));
                let named = named.filter_map(|text| text.parse::<Multiaddr>().ok());
                next.extend(named.filter(|named| named.ends_with(&end)).take(ANSWERS_MAX));
            }
            next.truncate(ANSWERS_MAX);
            level = next;
        }
        found.extend(level.into_iter().filter(|address| !is_dnsaddr(address)));
        found.truncate(ANSWERS_MAX);
        Ok(found)
    }
}

/// Whether an address must be followed before it can be dialled.
pub(super) fn is_dnsaddr(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Dnsaddr(_)))
}

/// The system's resolver; what is wrong where there is none.
struct System(Result<TokioResolver, Arc<str>>);

impl System {
    fn resolver(&self) -> io::Result<&TokioResolver> {
        self.0.as_ref().map_err(|why| {
            io::Error::other(format!("names cannot be resolved on this machine: {why}"))
        })
    }
}

impl Lookup for System {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = self.resolver()?.lookup_ip(name).await.map_err(io::Error::other)?;
            Ok(found.iter().collect())
        })
    }

    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        Box::pin(async move {
            let found = self.resolver()?.txt_lookup(name).await.map_err(io::Error::other)?;
            let text = |data: &RData| match data {
                RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
                _ => None,
            };
            Ok(found.answers().iter().filter_map(|record| text(&record.data)).collect())
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A resolver that says what it is told to, and counts how often it is asked.
    #[derive(Default)]
    pub(in crate::p2p) struct Told {
        pub(in crate::p2p) texts: HashMap<String, Vec<String>>,
        /// One answer after the other, from the first again.
        pub(in crate::p2p) addresses: Vec<Vec<IpAddr>>,
        pub(in crate::p2p) asked: Arc<AtomicUsize>,
    }

    impl Lookup for Told {
        fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            let turn = self.asked.fetch_add(1, Ordering::Relaxed);
            let answer = self.addresses[turn % self.addresses.len()].clone();
            Box::pin(async move { Ok(answer) })
        }

        fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let found = self.texts.get(name).cloned().unwrap_or_default();
            Box::pin(async move { Ok(found) })
        }
    }

    const PEER: &str = "12D3KooWCSPUidZSmCbjaRJ5qRLzCid7jpjre3F8diq8RwkJQLhu";
    const OTHER: &str = "12D3KooWAwzSGGVsVxi8rAui5no2uUkdML5ap9LzwMENnHpr5iuU";

    fn told(records: &[(&str, &[String])]) -> (Names, Arc<AtomicUsize>) {
        let texts = records.iter().map(|(name, texts)| ((*name).to_owned(), texts.to_vec()));
        let told = Told { texts: texts.collect(), ..Told::default() };
        let asked = told.asked.clone();
        (Names::of(told), asked)
    }

    #[tokio::test]
    async fn a_dnsaddr_leads_to_the_addresses_that_end_as_it_does() {
        let (names, _) = told(&[
            (
                "_dnsaddr.a.example",
                &[
                    format!("dnsaddr=/ip4/8.8.8.8/tcp/4001/p2p/{PEER}"),
                    format!("dnsaddr=/ip4/8.8.4.4/tcp/4001/p2p/{OTHER}"),
                    format!("dnsaddr=/dnsaddr/b.example/p2p/{PEER}"),
                    "dnsaddr=nonsense".to_owned(),
                    "other=/ip4/1.1.1.1/tcp/1".to_owned(),
                ],
            ),
            ("_dnsaddr.b.example", &[format!("dnsaddr=/ip6/2606::1/udp/4001/quic-v1/p2p/{PEER}")]),
        ]);
        let address = format!("/dnsaddr/a.example/p2p/{PEER}").parse().unwrap();
        let found = names.follow(&address).await.unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                format!("/ip4/8.8.8.8/tcp/4001/p2p/{PEER}"),
                format!("/ip6/2606::1/udp/4001/quic-v1/p2p/{PEER}")
            ]
        );
    }

    #[tokio::test]
    async fn dnsaddr_loops_end_and_answers_are_capped() {
        let turn = |to: &str| format!("dnsaddr=/dnsaddr/{to}/p2p/{PEER}");
        let many: Vec<_> =
            (0..100).map(|n| format!("dnsaddr=/ip4/8.8.8.8/tcp/{}/p2p/{PEER}", 4000 + n)).collect();
        let (names, asked) = told(&[
            ("_dnsaddr.a.example", &[turn("b.example"), turn("a.example")]),
            ("_dnsaddr.b.example", &[turn("a.example"), turn("b.example")]),
            ("_dnsaddr.many.example", &many),
        ]);
        let follow = |name: &str| format!("/dnsaddr/{name}/p2p/{PEER}").parse().unwrap();
        assert_eq!(names.follow(&follow("a.example")).await.unwrap(), []);
        assert!(asked.load(Ordering::Relaxed) <= 1 + 2 + 4 + 8);
        assert_eq!(names.follow(&follow("many.example")).await.unwrap().len(), ANSWERS_MAX);
    }
}
