//! Transports that look before they dial: names are resolved here, so that what is looked at is
//! what is dialled.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, MapErr, select_ok};
use futures_util::{FutureExt as _, TryFutureExt as _};
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

use crate::p2p::gate::{Carrier, Gate, Host, Target};
use crate::p2p::names::{Names, is_dnsaddr};

/// A transport that two may use, the one that listens and the dials under way.
struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T>
where
    T: Transport,
    T::Error: Send + Sync + 'static,
{
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dial(&self, address: Multiaddr, options: DialOpts) -> io::Result<T::Dial> {
        self.lock().dial(address, options).map_err(|error| match error {
            TransportError::MultiaddrNotSupported(address) => io::Error::new(
                io::ErrorKind::Unsupported,
                format!("no transport leads to {address}"),
            ),
            TransportError::Other(error) => io::Error::other(error),
        })
    }
}

type Mapped<F, E> = MapErr<F, fn(E) -> io::Error>;

/// A transport to IP addresses, with the gate before it.
pub(super) struct Guarded<T> {
    inner: Shared<T>,
    carrier: Carrier,
    gate: Gate,
    names: Names,
}

impl<T> Guarded<T> {
    pub(super) fn new(inner: T, carrier: Carrier, gate: Gate, names: Names) -> Self {
        Self { inner: Shared(Arc::new(Mutex::new(inner))), carrier, gate, names }
    }
}

/// Whether an address is for a carrier alone, with at most a peer's identity behind it.
fn is_bare(address: &Multiaddr, carrier: Carrier) -> bool {
    let mut rest = address.iter().skip(2);
    let known = match carrier {
        Carrier::Tcp => true,
        Carrier::Quic => matches!(rest.next(), Some(Protocol::QuicV1)),
    };
    known && matches!(rest.next(), None | Some(Protocol::P2p(_))) && rest.next().is_none()
}

impl<T> Transport for Guarded<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = Mapped<T::ListenerUpgrade, T::Error>;
    type Dial = BoxFuture<'static, Result<T::Output, io::Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.lock().listen_on(id, address).map_err(|error| error.map(io::Error::other))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.lock().remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let target = Target::of(&address).filter(|target| target.carrier == self.carrier);
        let Some(target) = target.filter(|_| is_bare(&address, self.carrier)) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (inner, gate, names) = (self.inner.clone(), self.gate.clone(), self.names.clone());
        let dial = move |ip: IpAddr, target: &Target| {
            gate.admits(target, ip)?;
            let resolved =
                address.replace(0, |_| Some(ip.into())).unwrap_or_else(|| address.clone());
            Ok(inner.dial(resolved, options)?.map_err(io::Error::other).boxed())
        };
        Ok(async move {
            let (name, family) = match &target.host {
                Host::Ip(ip) => return dial(*ip, &target)?.await,
                Host::Name(name, family) => (name, *family),
            };
            let ips = names.addresses(name).await?;
            let (mut dials, mut refused) = (Vec::new(), None);
            for ip in ips.into_iter().filter(|ip| family.has(*ip)) {
                match dial(ip, &target) {
                    Ok(dial) => dials.push(dial),
                    Err(error) => refused = Some(error),
                }
            }
            first(dials, refused, name).await
        }
        .boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.inner.lock()).poll(cx).map(mapped)
    }
}

/// A transport that follows `/dnsaddr` to where it leads before it dials.
pub(super) struct Followed<T> {
    inner: Shared<T>,
    names: Names,
}

impl<T> Followed<T> {
    pub(super) fn new(inner: T, names: Names) -> Self {
        Self { inner: Shared(Arc::new(Mutex::new(inner))), names }
    }
}

impl<T> Transport for Followed<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = Mapped<T::ListenerUpgrade, T::Error>;
    type Dial = BoxFuture<'static, Result<T::Output, io::Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.lock().listen_on(id, address).map_err(|error| error.map(io::Error::other))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.lock().remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        if !is_dnsaddr(&address) {
            let dial = self.inner.lock().dial(address, options);
            let dial = dial.map_err(|error| error.map(io::Error::other))?;
            return Ok(dial.map_err(io::Error::other).boxed());
        }
        let (inner, names) = (self.inner.clone(), self.names.clone());
        Ok(async move {
            let (mut dials, mut refused) = (Vec::new(), None);
            for led_to in names.follow(&address).await? {
                match inner.dial(led_to, options) {
                    Ok(dial) => dials.push(dial.map_err(io::Error::other).boxed()),
                    Err(error) => refused = Some(error),
                }
            }
            first(dials, refused, &address).await
        }
        .boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.inner.lock()).poll(cx).map(mapped)
    }
}

/// The first of these dials that succeeds.
async fn first<O>(
    dials: Vec<BoxFuture<'static, io::Result<O>>>,
    refused: Option<io::Error>,
    name: impl std::fmt::Display,
) -> io::Result<O> {
    if dials.is_empty() {
        let nowhere = || io::Error::new(io::ErrorKind::NotFound, format!("{name} leads nowhere"));
        return Err(refused.unwrap_or_else(nowhere));
    }
    select_ok(dials).await.map(|(connection, _)| connection)
}

fn mapped<U, O, E>(event: TransportEvent<U, E>) -> TransportEvent<Mapped<U, E>, io::Error>
where
    U: Future<Output = Result<O, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    event
        .map_upgrade(|upgrade| upgrade.map_err(io::Error::other as fn(E) -> io::Error))
        .map_err(io::Error::other)
}
