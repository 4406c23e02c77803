//! When providers are looked for, and what becomes of them.

use super::*;

fn provider() -> Provider {
    Provider {
        peer: Some(libp2p_identity::PeerId::random()),
        addresses: Vec::new(),
        protocols: Protocols::UNKNOWN,
        found_by: "test",
    }
}

fn after(delay: u64, provider: &Provider) -> (Duration, Result<Provider, RouterError>) {
    (millis(delay), Ok(provider.clone()))
}

fn failing(delay: u64) -> (Duration, Result<Provider, RouterError>) {
    let error = RouterError { router: "test".into(), reason: "it is down".into() };
    (millis(delay), Err(error))
}

#[tokio::test(start_paused = true)]
async fn where_nobody_is_known_providers_are_looked_for_at_once() {
    let router = ScriptedRouter::naming(vec![after(40, &provider())]);
    let world = world_with(Some(&router));
    let block = block("found");
    world.other.on(block.cid(), Act::GiveOfProvider(block.clone(), millis(10)));
    let started = Instant::now();
    assert_eq!(world.get(&block).await.unwrap(), block);
    assert_eq!((started.elapsed(), router.asked()), (millis(50), 1));
}

#[tokio::test(start_paused = true)]
async fn where_somebody_is_asked_they_are_looked_for_after_a_second() {
    let router = ScriptedRouter::naming(vec![after(40, &provider())]);
    let world = world_with(Some(&router));
    let block = block("slow");
    world.source.on(block.cid(), Act::Stall);
    world.other.on(block.cid(), Act::GiveOfProvider(block.clone(), millis(10)));
    let started = Instant::now();
    assert_eq!(world.get(&block).await.unwrap(), block);
    assert_eq!((started.elapsed(), router.asked()), (millis(1050), 1));
    let quick = super::block("quick");
    world.source.on(quick.cid(), Act::Give(quick.clone(), millis(900)));
    world.get(&quick).await.unwrap();
    assert_eq!(router.asked(), 1, "what comes soon needs no search");
}

#[tokio::test(start_paused = true)]
async fn providers_that_come_late_are_asked() {
    let late = vec![failing(10), after(9_000, &provider())];
    let router = ScriptedRouter::naming(late);
    let world = world_with(Some(&router));
    let block = block("late");
    world.source.on(block.cid(), Act::GiveOfProvider(block.clone(), millis(10)));
    let started = Instant::now();
    assert_eq!(world.get(&block).await.unwrap(), block);
    assert_eq!(started.elapsed(), millis(9_020));
}

#[tokio::test(start_paused = true)]
async fn one_search_serves_all_who_ask_and_for_a_while_those_who_come_later() {
    let router = ScriptedRouter::naming(vec![after(40, &provider()), after(9_000, &provider())]);
    let world = world_with(Some(&router));
    let block = block("popular");
    world.source.on(block.cid(), Act::GiveOfProvider(block.clone(), millis(10)));
    let sessions: Vec<_> = (0..10).map(|_| world.retriever.session()).collect();
    let gets = sessions.iter().map(|session| world.retriever.block(block.cid(), session));
    for outcome in futures_util::future::join_all(gets).await {
        outcome.unwrap();
    }
    assert_eq!((router.asked(), router.under_way()), (1, 1), "it goes on for these sessions");
    drop(sessions);
    tokio::time::sleep(millis(1)).await;
    assert_eq!(router.under_way(), 0, "nobody is left");
}

#[tokio::test(start_paused = true)]
async fn what_a_search_found_is_known_for_some_seconds() {
    let router = ScriptedRouter::naming(vec![after(40, &provider())]);
    let world = world_with(Some(&router));
    let root = numbered(0);
    world.source.on(root.cid(), Act::GiveOfProvider(root.clone(), millis(10)));
    let first = world.retriever.session();
    world.retriever.block(root.cid(), &first).await.unwrap();
    tokio::time::sleep(millis(10)).await;
    // Another request meets the same root, which is at hand, and looks for it again all the same.
    world.retriever.shared.cache.remove(root.cid());
    world.store.remove(root.cid());
    let started = Instant::now();
    world.get(&root).await.unwrap();
    assert_eq!((started.elapsed(), router.asked()), (millis(10), 1));
}

#[tokio::test(start_paused = true)]
async fn a_block_deep_in_a_dag_that_the_known_lack_is_looked_for_too() {
    let router = ScriptedRouter::naming(vec![after(40, &provider())]);
    let world = world_with(Some(&router));
    let session = world.retriever.session();
    let (root, deep) = (numbered(0), numbered(1));
    world.source.on(root.cid(), Act::Give(root.clone(), millis(10)));
    world.other.on(deep.cid(), Act::GiveOfProvider(deep.clone(), millis(10)));
    world.retriever.block(root.cid(), &session).await.unwrap();
    assert_eq!(router.asked(), 0);
    assert_eq!(world.retriever.block(deep.cid(), &session).await.unwrap(), deep);
    assert_eq!(router.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_request_has_few_searches_under_way() {
    let router = ScriptedRouter::naming(vec![after(60_000, &provider())]);
    let world = world_with(Some(&router));
    let session = world.retriever.session();
    let blocks: Vec<Block> = (0..50).map(numbered).collect();
    let gets = blocks.iter().map(|block| world.retriever.block(block.cid(), &session));
    let all = futures_util::future::join_all(gets);
    let watch = async {
        let mut most = 0;
        for _ in 0..50 {
            tokio::time::sleep(millis(100)).await;
            most = most.max(router.under_way());
        }
        most
    };
    let (_, most) = tokio::join!(all, watch);
    assert!((1..=3).contains(&most), "{most}");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_told_of_so_many_providers_only() {
    let many = (0..100).map(|_| after(1, &provider())).collect();
    let router = ScriptedRouter::naming(many);
    let world = world_with(Some(&router));
    let block = block("everywhere");
    let outcome = world.get(&block).await;
    assert_eq!(missing(outcome).found, 20);
    assert_eq!((world.source.providers().len(), router.under_way()), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn a_provider_named_twice_counts_once() {
    let peer = provider();
    let more = Provider { addresses: vec!["/ip4/1.2.3.4/tcp/1".parse().unwrap()], ..peer.clone() };
    let named = vec![after(1, &peer), after(1, &peer), after(1, &more), after(1, &peer)];
    let router = ScriptedRouter::naming(named);
    let world = world_with(Some(&router));
    let report = missing(world.get(&block("nowhere")).await);
    assert_eq!(report.found, 1);
    assert_eq!(world.source.providers(), [peer, more], "what is new of it is told");
}

#[tokio::test(start_paused = true)]
async fn those_who_kept_failing_are_asked_only_where_there_is_nobody_else() {
    let (good, bad) = (provider(), provider());
    let router = ScriptedRouter::naming(vec![after(0, &bad), after(0, &good)]);
    let world = world_with(Some(&router));
    let who = ProviderId::Peer(bad.peer.unwrap());
    let (latency, busy) = (None, Duration::ZERO);
    world.source.does(vec![Deed { who, blocks: 0, bytes: 0, busy, latency, failures: 9 }]);
    let first = block("first");
    world.source.on(first.cid(), Act::Give(first.clone(), millis(1)));
    world.get(&first).await.unwrap();
    // What that session saw is known now.
    world.get(&block("nowhere")).await.unwrap_err();
    assert_eq!(world.source.providers(), [good]);

    let only_bad = ScriptedRouter::naming(vec![after(0, &bad)]);
    let world = world_with(Some(&only_bad));
    world.get(&block("nowhere")).await.unwrap_err();
    assert_eq!(world.source.providers(), [bad]);
}

#[tokio::test(start_paused = true)]
async fn reports_say_what_was_tried() {
    let world = world();
    world.source.meets(Met { known: 5, reached: 5, answered: 5, gave: 0 });
    let report = missing(world.get(&block("nowhere")).await);
    assert!(report.to_string().ends_with("no providers found: asked 5 connected peers"));
    assert!(!report.timed_out && report.phase == Phase::Fetching);

    let router = ScriptedRouter::naming(vec![failing(1)]);
    let world = world_with(Some(&router));
    let report = missing(world.get(&block("nowhere")).await);
    let text = "no providers found: asked the scripted router (1 router gave no answer)";
    assert!(report.to_string().ends_with(text), "{report}");

    let named = (0..3).map(|_| after(1, &provider())).collect();
    let router = ScriptedRouter::naming(named);
    let world = world_with(Some(&router));
    world.source.meets(Met { known: 3, reached: 2, answered: 0, gave: 0 });
    let block = block("slow");
    world.source.on(block.cid(), Act::Stall);
    let report = missing(world.get(&block).await);
    let text = "3 providers found, 2 reached, none answered within 25 s";
    assert!(report.timed_out && report.to_string().ends_with(text), "{report}");
    assert_eq!((world.source.under_way(), router.under_way()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_search_ends_when_its_request_leaves() {
    let router = ScriptedRouter::naming(vec![after(60_000, &provider())]);
    let world = world_with(Some(&router));
    let block = block("nowhere");
    let leaving = tokio::time::timeout(millis(100), world.get(&block)).await;
    assert!(leaving.is_err());
    tokio::time::sleep(millis(1)).await;
    assert_eq!((router.asked(), router.under_way()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn content_whose_root_alone_is_provided_is_found_below_it() {
    let (root, leaf) = (numbered(0), numbered(1));
    let router = ScriptedRouter::naming(vec![after(40, &provider())]).of(root.cid());
    let world = world_with(Some(&router));
    // The upper blocks are here.
    world.store.insert([root.clone()]);
    world.source.on(leaf.cid(), Act::GiveOfProvider(leaf.clone(), millis(10)));
    let session = world.retriever.session().below(root.cid());
    world.retriever.block(root.cid(), &session).await.unwrap();
    let started = Instant::now();
    assert_eq!(world.retriever.block(leaf.cid(), &session).await.unwrap(), leaf);
    assert_eq!((started.elapsed(), router.asked()), (millis(50), 2));
    let other = numbered(2);
    missing(world.retriever.block(other.cid(), &session).await);
    assert_eq!(router.asked(), 3, "the root's providers are known");
}

#[tokio::test(start_paused = true)]
async fn whoever_gave_blocks_of_a_root_lately_is_asked_first() {
    let (root, leaf, giver) = (numbered(0), numbered(1), provider());
    let router = ScriptedRouter::naming(vec![after(40, &giver)]).of(root.cid());
    let world = world_with(Some(&router));
    world.source.on(root.cid(), Act::GiveOfProvider(root.clone(), millis(10)));
    world.source.on(leaf.cid(), Act::GiveOfProvider(leaf.clone(), millis(10)));
    let who = ProviderId::Peer(giver.peer.unwrap());
    let (latency, busy) = (Some(millis(10)), millis(10));
    world.source.does(vec![Deed { who, blocks: 1, bytes: 4, busy, latency, failures: 0 }]);
    let session = world.retriever.session().below(root.cid());
    world.retriever.block(root.cid(), &session).await.unwrap();
    drop(session);
    let session = world.retriever.session().below(root.cid());
    let started = Instant::now();
    world.retriever.block(leaf.cid(), &session).await.unwrap();
    assert_eq!((started.elapsed(), router.asked()), (millis(10), 1), "no router is asked");
    assert_eq!(world.source.providers(), [giver.clone(), giver]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_named_again_much_later_is_told_again() {
    let named = provider();
    let router = ScriptedRouter::naming(vec![after(1, &named)]);
    let world = world_with(Some(&router));
    let session = world.retriever.session();
    for n in 0..3 {
        missing(world.retriever.block(numbered(n).cid(), &session).await);
    }
    assert_eq!(world.source.providers(), std::slice::from_ref(&named));
    tokio::time::sleep(Duration::from_secs(6)).await;
    missing(world.retriever.block(numbered(9).cid(), &session).await);
    assert_eq!(world.source.providers(), [named.clone(), named], "it may have gone since");
}
