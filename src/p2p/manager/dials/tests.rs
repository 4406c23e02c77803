use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;

use super::*;

/// A transport that counts what it dials; `answers` says what comes of it.
struct Counting {
    dialled: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    takes: Duration,
    answers: bool,
}

impl Transport for Counting {
    type Output = ();
    type Error = std::io::Error;
    type ListenerUpgrade = std::future::Ready<Result<(), Self::Error>>;
    type Dial = Pin<Box<dyn Future<Output = Result<(), Self::Error>> + Send>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        _: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let (now, most) = (Arc::clone(&self.dialled), Arc::clone(&self.most));
        let (takes, answers) = (self.takes, self.answers);
        Ok(Box::pin(async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(takes).await;
            now.fetch_sub(1, Ordering::SeqCst);
            if answers { Ok(()) } else { Err(std::io::Error::other("refused")) }
        }))
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Poll::Pending
    }
}

const OPTIONS: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };

fn paced(answers: bool) -> (Paced<Counting>, Arc<AtomicUsize>) {
    let most = Arc::new(AtomicUsize::new(0));
    let takes = Duration::from_secs(5);
    let inner = Counting { dialled: Arc::default(), most: Arc::clone(&most), takes, answers };
    (Paced::new(inner, Dials::new(Tags::default())), most)
}

fn victim(peer: PeerId) -> Multiaddr {
    format!("/ip4/203.0.113.7/tcp/80/p2p/{peer}").parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_door_named_by_a_thousand_providers_is_knocked_at_once_in_10_s() {
    for answers in [false, true] {
        let (mut transport, most) = paced(answers);
        let dials: Vec<_> =
            (0..1000).map(|_| transport.dial(victim(PeerId::random()), OPTIONS).unwrap()).collect();
        let outcomes = futures_util::future::join_all(dials).await;
        let paced = outcomes.iter().filter(|o| matches!(o, Err(PacedError::Refused(_)))).count();
        assert_eq!((paced, most.load(Ordering::SeqCst)), (999, 1), "{answers}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_64_sockets_are_being_connected() {
    let (mut transport, most) = paced(false);
    let to = |n: usize| format!("/ip4/203.0.{}.{}/tcp/80", n / 256, n % 256).parse().unwrap();
    let dials: Vec<_> = (0..300).map(|n| transport.dial(to(n), OPTIONS).unwrap()).collect();
    futures_util::future::join_all(dials).await;
    assert_eq!(most.load(Ordering::SeqCst), IN_FLIGHT_MAX);
}

#[tokio::test(start_paused = true)]
async fn protected_peers_and_punched_holes_do_not_wait() {
    let (mut transport, _) = paced(false);
    let peer = PeerId::random();
    transport.dials.tags.protect(&peer, "peering");
    for role in [Endpoint::Listener, Endpoint::Dialer, Endpoint::Dialer] {
        let outcome = transport.dial(victim(peer), OPTIONS).unwrap().await;
        assert!(matches!(outcome, Err(PacedError::Inner(_))));
        let at = victim(PeerId::random());
        transport.dials.punch(std::slice::from_ref(&at), Instant::now());
        let outcome = transport.dial(at, DialOpts { role, ..OPTIONS }).unwrap().await;
        assert!(matches!(outcome, Err(PacedError::Inner(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_door_named_by_a_thousand_peers_behind_relays_is_knocked_at_a_few_times_a_minute() {
    let (mut transport, _) = paced(false);
    let mut knocks = 0;
    for n in 0..1000 {
        let at = victim(PeerId::random());
        transport.dials.punch(std::slice::from_ref(&at), Instant::now());
        let role = if n % 2 == 0 { Endpoint::Listener } else { Endpoint::Dialer };
        let punched = transport.dial(at, DialOpts { role, ..OPTIONS }).unwrap();
        let now = tokio::time::timeout(Duration::from_millis(50), punched).await;
        knocks += u32::from(!matches!(now, Ok(Err(PacedError::Refused(_)))));
    }
    assert!((HOLES_MAX..HOLES_MAX + 9).contains(&knocks), "{knocks}");
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_is_given_up_while_it_waits_knocks_at_no_door() {
    let (mut transport, _) = paced(false);
    drop(transport.dial(victim(PeerId::random()), OPTIONS).unwrap());
    let outcome = transport.dial(victim(PeerId::random()), OPTIONS).unwrap().await;
    assert!(matches!(outcome, Err(PacedError::Inner(_))));
}

#[test]
fn our_own_pacing_is_told_from_failures() {
    let refused = PacedError::<std::io::Error>::Refused(Refusal::BackOff(3));
    let wrapped = std::io::Error::other(std::io::Error::other(refused));
    assert!(is_paced(&wrapped));
    let failed = PacedError::Inner(std::io::Error::other("refused"));
    assert!(!is_paced(&std::io::Error::other(failed)));
}

#[test]
fn a_door_is_where_the_first_hop_goes() {
    let check = |text: &str| Door::of(&text.parse().unwrap());
    assert_eq!(check("/ip4/1.2.3.4/tcp/5/ws"), check("/ip4/1.2.3.4/tcp/5/p2p-circuit"));
    assert_eq!(check("/ip6/::ffff:1.2.3.4/tcp/5"), check("/ip4/1.2.3.4/tcp/5"));
    assert_ne!(check("/ip4/1.2.3.4/udp/5/quic-v1"), check("/ip4/1.2.3.4/tcp/5"));
    assert_eq!(check("/dns4/example.com/tcp/5"), None);
}
