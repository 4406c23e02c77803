//! Authentication of TCP and WebSocket: TLS where the other side knows it, for its ciphers are the
//! faster ones, noise where not.

use futures_util::TryFutureExt as _;
use futures_util::future::{BoxFuture, Either};
use libp2p::core::upgrade::{
    InboundConnectionUpgrade, OutboundConnectionUpgrade, SelectUpgrade, UpgradeInfo,
};
use libp2p::{PeerId, noise, tls};
use libp2p_identity::Keypair;

use super::Error;

type Both = SelectUpgrade<tls::Config, noise::Config>;

/// TLS or noise, as the other side likes.
#[derive(Clone)]
pub(super) struct Secure(Both);

impl Secure {
    pub(super) fn new(identity: &Keypair) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Transport(error.to_string());
        let tls = tls::Config::new(identity).map_err(|error| failed(&error))?;
        let noise = noise::Config::new(identity).map_err(|error| failed(&error))?;
        Ok(Self(SelectUpgrade::new(tls, noise)))
    }
}

impl UpgradeInfo for Secure {
    type Info = <Both as UpgradeInfo>::Info;
    type InfoIter = <Both as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C, T, N, E> InboundConnectionUpgrade<C> for Secure
where
    Both: InboundConnectionUpgrade<C, Output = Either<(PeerId, T), (PeerId, N)>, Error = E>,
    <Both as InboundConnectionUpgrade<C>>::Future: Send + 'static,
    T: 'static,
    N: 'static,
    E: 'static,
{
    type Output = (PeerId, Either<T, N>);
    type Error = E;
    type Future = BoxFuture<'static, Result<Self::Output, E>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        Box::pin(self.0.upgrade_inbound(socket, info).map_ok(Either::factor_first))
    }
}

impl<C, T, N, E> OutboundConnectionUpgrade<C> for Secure
where
    Both: OutboundConnectionUpgrade<C, Output = Either<(PeerId, T), (PeerId, N)>, Error = E>,
    <Both as OutboundConnectionUpgrade<C>>::Future: Send + 'static,
    T: 'static,
    N: 'static,
    E: 'static,
{
    type Output = (PeerId, Either<T, N>);
    type Error = E;
    type Future = BoxFuture<'static, Result<Self::Output, E>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        Box::pin(self.0.upgrade_outbound(socket, info).map_ok(Either::factor_first))
    }
}
