//! From a listener to its service.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
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
    client: &Client,
) -> impl Stacked<gateway::Body> + use<> {
    let peer =
        gateway::Peer { address: client.peer().map(|peer| peer.ip()), secure: client.is_secure() };
    service_fn(move |request: Request<Incoming>| {
        let gateway = Arc::clone(&gateway);
        // Boxed, since each layer above would move it.
        Box::pin(async move {
            let response = gateway.respond(request.map(drop), peer).await;
            Ok::<_, Infallible>(response.map(Body::service))
        })
    })
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
