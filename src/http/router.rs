//! From a listener to its service.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use tower::{Service, service_fn};

use super::admin::Admin;
use super::auth::Peer;
use super::body::{Body, Received};
use super::server::Client;
use super::stack::Stacked;
use crate::gateway::{self, Gateway};

/// Everything on the gateway's listener is content; what is not, the gateway refuses by name.
pub(super) fn gateway(
    gateway: Arc<Gateway>,
    client: &Arc<Client>,
) -> impl Stacked<gateway::Body> + use<> {
    let peer =
        gateway::Peer { address: client.peer().map(|peer| peer.ip()), secure: client.is_secure() };
    let client = Arc::clone(client);
    service_fn(move |mut request: Request<Incoming>| {
        let gateway = Arc::clone(&gateway);
        let tunnel = request.method() == Method::CONNECT && begins_tunnel(&client, &mut request);
        // Boxed, since each layer above would move it.
        Box::pin(async move {
            if tunnel {
                return Ok(Response::new(Body::line("")));
            }
            let response = gateway.respond(request.map(drop), peer).await;
            Ok::<_, Infallible>(response.map(Body::service))
        })
    })
}

/// Whether a CONNECT makes its connection a tunnel to ourselves. One within a tunnel does not, nor
/// one with a body, whose end another reader could see elsewhere.
fn begins_tunnel(client: &Client, request: &mut Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && client.tunnel().begin(hyper::upgrade::on(request))
}

/// Routes of the API and of the operator's socket.
pub(super) fn routes(
    mut router: axum::Router,
    client: Arc<Client>,
) -> impl Stacked<axum::body::Body> {
    service_fn(move |request: Request<Incoming>| {
        let body = |body| axum::body::Body::new(Received::new(body, Arc::clone(&client)));
        let mut request = request.map(body);
        if let Some(peer) = client.peer() {
            request.extensions_mut().insert(Peer(peer));
        }
        let answer = Service::call(&mut router, request);
        async move { Ok::<_, Infallible>(answer.await?.map(Body::service)) }
    })
}

/// The admin listener's three paths.
pub(super) fn admin(admin: Arc<Admin>) -> impl Stacked<axum::body::Body> {
    service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move {
            let response: Response<_> = match admin.respond(&request.map(drop)).await {
                Ok(response) => response.map(Body::service),
                Err(error) => error.response(),
            };
            Ok::<_, Infallible>(response)
        }
    })
}
