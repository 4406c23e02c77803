use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::Registry;

use super::*;
use crate::testing::http::{Server, reply};

async fn saying(what: &'static str) -> Server {
    Server::start(move |_, stream| reply(stream, "200 OK", "", what.as_bytes())).await.unwrap()
}

fn client(allow_private: bool, resolver: Resolver) -> (Client, Tasks) {
    let (tasks, registry) = (Tasks::new(), Registry::new());
    let guard = Guard::new(&Config { allow_private });
    let making = Making { guard, limited: true, roots: RootCertStore::empty(), resolver };
    (making.make(&tasks, &Metrics::register(&registry).unwrap()).unwrap(), tasks)
}

/// A resolver that gives one list of addresses after the other, and then the last again; it counts
/// what it is asked.
fn flipping(lists: Vec<Vec<SocketAddr>>) -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let resolver: Resolver = Arc::new(move |_, _| {
        let turn = counted.fetch_add(1, Ordering::SeqCst).min(lists.len() - 1);
        let answer: io::Result<_> = Ok(lists[turn].clone());
        Box::pin(std::future::ready(answer))
    });
    (resolver, asked)
}

async fn ask(client: &Client, url: &str) -> Result<Bytes, Error> {
    let url = HttpUrl::parse(url).unwrap();
    let question = Question { url: &url, path: "/", accept: "*/*", put: None, held_only: false };
    client.ask(question).await?.bytes(1000).await
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_connected_with() {
    let (first, second) = (saying("first").await, saying("second").await);
    let (resolver, asked) = flipping(vec![vec![first.address], vec![second.address]]);
    let (client, _tasks) = client(true, resolver);
    assert_eq!(ask(&client, "http://rebinds.example").await.unwrap(), "first");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(second.accepted(), 0);
}

#[tokio::test]
async fn names_that_lead_to_private_addresses_are_not_dialled() {
    let server = saying("secret").await;
    let port = server.address.port();
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
    let private =
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "10.0.0.1", "169.254.169.254"];
    let lists: Vec<_> =
        private.iter().map(|ip| vec![at(ip)]).chain([private.map(at).to_vec()]).collect();
    let tries = lists.len();
    let (resolver, asked) = flipping(lists);
    let (client, _tasks) = client(false, resolver);
    for _ in 0..tries {
        let outcome = ask(&client, &format!("http://rebinds.example:{port}")).await;
        assert!(matches!(outcome, Err(Error::Forbidden(_))), "{outcome:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), tries);
    let outcome = ask(&client, &format!("http://127.0.0.1:{port}")).await;
    assert!(matches!(outcome, Err(Error::Forbidden(_))), "{outcome:?}");
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn of_a_hundred_addresses_few_are_looked_at() {
    let server = saying("here").await;
    let mut answers: Vec<_> =
        (1..100).map(|last| SocketAddr::from(([127, 0, 3, last], 9))).collect();
    answers.push(server.address);
    let (resolver, _) = flipping(vec![answers]);
    let (client, _tasks) = client(true, resolver);
    assert!(ask(&client, "http://many.example").await.is_err());
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_takes_no_connection() {
    let server = saying("here").await;
    let (resolver, _) = flipping(vec![vec![SocketAddr::from(([127, 0, 0, 1], 9)), server.address]]);
    let (client, _tasks) = client(true, resolver);
    assert_eq!(ask(&client, "http://two.example").await.unwrap(), "here");
}

#[tokio::test]
async fn an_address_that_takes_no_connection_is_left_alone() {
    let (resolver, _) = flipping(vec![vec![SocketAddr::from(([127, 0, 0, 1], 9))]]);
    let (client, _tasks) = client(true, resolver);
    assert!(matches!(ask(&client, "http://gone.example").await, Err(Error::Unreachable(_))));
    assert!(matches!(ask(&client, "http://gone.example").await, Err(Error::Resting(_))));
}

#[tokio::test]
async fn a_body_is_taken_as_far_as_it_may_go() {
    let server = saying("0123456789").await;
    let (resolver, _) = flipping(vec![vec![server.address]]);
    let (client, _tasks) = client(true, resolver);
    let url = HttpUrl::parse("http://ten.example").unwrap();
    for (most, good) in [(9, false), (10, true), (11, true)] {
        let question =
            Question { url: &url, path: "/x?y", accept: "*/*", put: None, held_only: false };
        let answer = client.ask(question).await.unwrap();
        assert_eq!(answer.bytes(most).await.is_ok(), good, "{most}");
    }
}

#[test]
fn servers_are_believed_how_long_to_leave_them_alone_up_to_a_minute() {
    let check = |said: &str, seconds: Option<u64>| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, said.parse().unwrap());
        assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{said}");
    };
    check("0", Some(0));
    check(" 7", Some(7));
    check("100000", Some(60));
    check("99999999999999999999999", None);
    check("Wed, 21 Oct 2015 07:28:00 GMT", Some(60));
    check("soon", None);
    check("-1", None);
}
