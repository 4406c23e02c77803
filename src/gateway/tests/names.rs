//! Names in requests: what they lead to, and what is said when they do not.

use super::*;

const KEY: &str = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";
const PEER_ID: &str = "12D3KooWGjMCwKnVfdyvVRwGQpDVLLEyYnkrFUJKRzPnBgHqJnEz";

/// A world where `site.test` leads into a tree, and others to nothing good.
fn world_with_site() -> (World, Cid, Cid) {
    let store = MemoryBlockstore::default();
    let file = store.add_file(b"hello", 100).unwrap();
    let below = store.add_directory([("a b.txt", file)]).unwrap();
    let root = store.add_directory([("sub", below)]).unwrap();
    let fixed = [
        format!("site.test:/ipfs/{root}/sub"),
        format!("bare.test:/ipfs/{file}"),
        format!("to-key.test:/ipns/{KEY}"),
        "loop.test:/ipns/loop.test".to_owned(),
    ];
    let fixed: Vec<_> = fixed.iter().map(String::as_str).collect();
    let world = world_with(false, &fixed);
    (World { store: copied(&world, &store, [file, below, root]), ..world }, root, file)
}

/// The world's store, with these blocks of another.
fn copied<const N: usize>(
    world: &World,
    from: &MemoryBlockstore,
    cids: [Cid; N],
) -> MemoryBlockstore {
    for cid in cids {
        let block = futures_util::FutureExt::now_or_never(block::Blockstore::get(from, &cid));
        world.store.insert(block.unwrap().unwrap());
    }
    world.store.clone()
}

#[tokio::test]
async fn a_name_leads_into_content_and_answers_are_not_for_ever() {
    let (world, root, file) = world_with_site();
    let answer = world.get("/ipns/site.test/a%20b.txt").await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("x-ipfs-path"), "/ipns/site.test/a%20b.txt");
    let roots: Vec<_> = answer.header("x-ipfs-roots").split(',').collect();
    assert_eq!(roots.len(), 3, "the record's own names are on the way too");
    assert_eq!((roots[0], roots[2]), (root.to_string().as_str(), file.to_string().as_str()));
    assert_eq!(answer.header("cache-control"), "", "nobody says for how long it holds");
    for uri in ["/ipns/site.test/", "/ipns/site.test/?format=car", "/ipns/site.test?format=raw"] {
        let answer = world.get(uri).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, ""), "{uri}");
        assert!(answer.header("x-ipfs-path").starts_with("/ipns/site.test"), "{uri}");
    }
    let listed = world.get("/ipns/site.test").await;
    assert_eq!((listed.status, listed.header("location")), (301, "/ipns/site.test/"));
}

#[tokio::test]
async fn roots_of_a_name_that_looks_like_a_cid_are_those_of_its_content() {
    let (world, _, file) = world_with_site();
    let answer = world.get("/ipns/bare.test").await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("x-ipfs-roots"), file.to_string());
    assert_eq!(answer.header("etag"), format!("\"{file}\""));
    let held = answer.header("etag").to_owned();
    let again = world.ask(Method::GET, "/ipns/bare.test", &[("if-none-match", &held)]).await;
    assert_eq!((again.status, again.header("cache-control")), (304, ""));
}

#[tokio::test]
async fn names_that_lead_nowhere_say_what_a_client_may_do() {
    let (world, ..) = world_with_site();
    let check = async |uri: &str, status: u16, retry: &str, says: &str| {
        let answer = world.get(uri).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, retry), "{uri}");
        assert!(answer.text().contains(says), "{uri}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), "no-store", "{uri}");
    };
    check(&format!("/ipns/{KEY}"), 502, "60", "no record").await;
    check(&format!("/ipns/{KEY}?format=ipns-record"), 502, "60", "no records").await;
    check("/ipns/to-key.test/a", 502, "60", "no record").await;
    check("/ipns/other.test", 502, "60", "offline").await;
    check("/ipns/loop.test", 400, "", "32 names").await;
    check("/ipns/", 400, "", "empty").await;
    check("/ipns/nothing", 400, "", "neither").await;
    check("/ipns/10.0.0.1", 400, "", "address").await;
    check("/ipns/bafkqaaa", 400, "", "/ipfs/").await;
    check("/ipns/site.test?format=ipns-record", 400, "", "ipns-record").await;
    check(&format!("/ipns/{KEY}/a?format=ipns-record"), 400, "", "ipns-record").await;
    check("/ipfs/bafkqaaa?format=ipns-record", 400, "", "ipns-record").await;
}

#[tokio::test]
async fn a_key_in_another_form_is_sent_to_its_base36_form_with_path_and_query() {
    let (world, ..) = world_with_site();
    let Ok(crate::routing::Name::Key(key)) = PEER_ID.parse() else { panic!("{PEER_ID}") };
    let as_base32 = key.cid().to_string();
    let as_dag_pb = Cid::new_v1(codec::DAG_PB, *key.hash()).to_string();
    for form in [PEER_ID, &as_base32, &as_dag_pb] {
        for below in ["", "/", "/a%2Fb/%C5%BC/?format=raw&x=%20"] {
            let answer = world.get(&format!("/ipns/{form}{below}")).await;
            assert_eq!(answer.status, 302, "{form}{below}");
            assert_eq!(answer.header("location"), format!("/ipns/{key}{below}"));
        }
    }
    let canonical = world.get(&format!("/ipns/{key}")).await;
    assert_eq!(canonical.status, 502);
}

#[tokio::test]
async fn names_that_are_not_resolved_here_are_412_where_only_that_is_asked_for() {
    let (world, ..) = world_with_site();
    let only = ("cache-control", "only-if-cached");
    for uri in [
        format!("/ipns/{KEY}"),
        format!("/ipns/{KEY}?format=ipns-record"),
        "/ipns/to-key.test/a".to_owned(),
        "/ipns/other.test".to_owned(),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = world.ask(method, &uri, &[only]).await;
            assert_eq!((answer.status, answer.header("retry-after")), (412, ""), "{uri}");
        }
    }
    assert_eq!(world.ask(Method::GET, "/ipns/bare.test", &[only]).await.status, 200);
    assert_eq!(world.ask(Method::GET, "/ipns/loop.test", &[only]).await.status, 400);
}
