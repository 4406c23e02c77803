//! TARs: what is in them, and what never is.

use std::collections::BTreeMap;

use super::made::{Made, cbor_links};
use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    flag: u8,
    mode: u32,
    mtime: String,
    target: String,
    data: Vec<u8>,
}

/// Reads a TAR as POSIX says, and asserts that it is whole.
fn unpack(tar: &[u8]) -> Vec<(String, Entry)> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    let (mut at, mut entries, mut extended) = (0, Vec::new(), BTreeMap::new());
    while tar[at] != 0 {
        let head = &tar[at..at + 512];
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32
            - head[148..156].iter().map(|byte| u32::from(*byte)).sum::<u32>();
        assert_eq!(u32::from_str_radix(text(&head[148..155]).trim(), 8).unwrap(), sum);
        assert_eq!(&head[257..263], b"ustar\0");
        let octal = |field: &[u8]| u64::from_str_radix(text(field).trim(), 8).unwrap();
        let size = octal(&head[124..136]) as usize;
        let data = tar[at + 512..at + 512 + size].to_vec();
        at += 512 + size.next_multiple_of(512);
        if head[156] == b'x' {
            let mut rest = &data[..];
            while !rest.is_empty() {
                let space = rest.iter().position(|byte| *byte == b' ').unwrap();
                let length: usize = text(&rest[..space]).parse().unwrap();
                let (key, value) = std::str::from_utf8(&rest[space + 1..length - 1])
                    .unwrap()
                    .split_once('=')
                    .unwrap();
                extended.insert(key.to_owned(), value.to_owned());
                rest = &rest[length..];
            }
            continue;
        }
        let mut field = |key: &str, plain: String| extended.remove(key).unwrap_or(plain);
        let name = field("path", text(&head[..100]));
        let target = field("linkpath", text(&head[157..257]));
        let mtime = field("mtime", octal(&head[136..148]).to_string());
        let mode = octal(&head[100..108]) as u32;
        entries.push((name, Entry { flag: head[156], mode, mtime, target, data }));
        extended.clear();
    }
    assert_eq!(tar.len() - at, 1024);
    assert!(tar[at..].iter().all(|byte| *byte == 0));
    entries
}

#[tokio::test]
async fn a_tree_comes_as_files_folders_and_links() {
    let world = world();
    let data = bytes(100_000);
    let large = world.store.add_file(&data, 1000).unwrap();
    let empty = world.raw("");
    let inner = world.store.add_directory([("ę", large), ("none", empty)]).unwrap();
    let sharded = (0..9000).map(|n| (format!("{n:04}-{}", "x".repeat(30)), empty));
    let sharded = world.store.add_directory(sharded).unwrap();
    let long = "n".repeat(250);
    let dated = Made {
        kind: 2,
        data: Some(b"hi".to_vec()),
        mode: Some(0o104_750),
        mtime: Some(1_600_000_000),
        ..Made::default()
    }
    .put(&world);
    let up = Made::link("../../etc").put(&world);
    let root = world
        .store
        .add_directory([
            ("ą b", inner),
            ("sharded", sharded),
            (&long, large),
            ("dated", dated),
            ("link", up),
        ])
        .unwrap();
    let uri = format!("/ipfs/{root}?format=tar");
    let tar = world.get(&uri).await;
    assert_eq!((tar.status, tar.whole), (200, true));
    let entries: BTreeMap<_, _> = unpack(&tar.body).into_iter().collect();
    assert_eq!(entries.len(), 1 + 3 + 9001 + 3);
    let entry = |name: &str| &entries[&format!("{root}{name}")];
    assert_eq!((entry("").flag, entry("").mode), (b'5', 0o755));
    assert_eq!((entry("/ą b/ę").flag, &entry("/ą b/ę").data), (b'0', &data));
    assert_eq!(entry(&format!("/{long}")).data, data);
    assert_eq!((entry("/ą b/none").data.len(), entry("/ą b/none").mode), (0, 0o644));
    assert_eq!((entry("/link").flag, entry("/link").target.as_str()), (b'2', "../../etc"));
    // Who may run it as somebody else was decided on another machine.
    assert_eq!((entry("/dated").mode, entry("/dated").mtime.as_str()), (0o750, "1600000000"));

    assert_eq!(tar.header("etag"), format!("W/\"{root}.x-tar\""));
    assert_eq!(tar.header("content-type"), "application/x-tar");
    assert_eq!(tar.header("x-content-type-options"), "nosniff");
    assert_eq!(tar.header("accept-ranges"), "none");
    assert!(
        tar.header("content-disposition")
            .starts_with(&format!("attachment; filename=\"{root}.tar\""))
    );
    assert_eq!(world.get(&uri).await.body, tar.body);
    let before = world.store.reads();
    let head = world.ask(Method::HEAD, &uri, &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(stable(head.headers), stable(tar.headers.clone()));
    let accepted = [("accept", "application/x-tar"), ("if-none-match", tar.header("etag"))];
    assert_eq!(world.ask(Method::GET, &format!("/ipfs/{root}"), &accepted).await.status, 304);
    assert!(world.store.reads() - before <= 4);

    let file = world.get(&format!("/ipfs/{root}/{long}?format=tar&filename=a.tar")).await;
    let entries = unpack(&file.body);
    assert_eq!((entries.len(), entries[0].0.as_str()), (1, large.to_string().as_str()));
    assert!(file.header("content-disposition").starts_with("attachment; filename=\"a.tar\""));
}

#[tokio::test]
async fn names_that_lead_out_of_a_tar_are_refused() {
    let world = world();
    let file = world.raw("evil");
    let names: [&[u8]; 8] = [b"../x", b"..", b".", b"a/../../x", b"/../x", b"x\0y", b"a/..", b"a/"];
    for name in names {
        let root = Made::directory([(&b"0"[..], file), (name, file)]).put(&world);
        let answer = world.get(&format!("/ipfs/{root}?format=tar")).await;
        let shown = String::from_utf8_lossy(name);
        assert_eq!(answer.status, 422, "{shown:?}");
        let head = world.ask(Method::HEAD, &format!("/ipfs/{root}?format=tar"), &[]).await;
        assert_eq!(head.status, 422, "{shown:?}");
    }
    // Behind much else there is no status left to say so: the stream is cut.
    let large = world.store.add_file(&bytes(300_000), 100_000).unwrap();
    let evil = Made::directory([(&b"../../../x"[..], file)]).put(&world);
    let root = Made::directory([(&b"a"[..], large), (b"b", evil)]).put(&world);
    let answer = world.get(&format!("/ipfs/{root}?format=tar")).await;
    assert_eq!((answer.status, answer.whole), (200, false));
    // Steps that stay inside are taken, and absolute names begin at the top.
    let folder = Made::directory([(&b"../file"[..], file), (b"/etc/passwd", file)]).put(&world);
    let root = Made::directory([(&b"folder"[..], folder)]).put(&world);
    let answer = world.get(&format!("/ipfs/{root}?format=tar")).await;
    let names: Vec<_> = unpack(&answer.body).into_iter().map(|(name, _)| name).collect();
    let want = ["", "/folder", "/file", "/folder/etc/passwd"].map(|name| format!("{root}{name}"));
    assert_eq!(names, want);
}

#[tokio::test]
async fn no_tar_leads_through_a_link_of_its_own() {
    let world = world();
    let file = world.raw("evil");
    let link = Made::link("/etc").put(&world);
    for names in [[(&b"a"[..], link), (b"a/passwd", file)], [(b"a/passwd", file), (b"a", link)]] {
        let root = Made::directory(names).put(&world);
        let answer = world.get(&format!("/ipfs/{root}?format=tar")).await;
        assert!(answer.status == 422 || !answer.whole, "{}", answer.status);
    }
    // Of two entries of one name there is only the first.
    let root = Made::directory([(&b"a"[..], link), (b"a", file)]).put(&world);
    let answer = world.get(&format!("/ipfs/{root}?format=tar")).await;
    assert_eq!(unpack(&answer.body).len(), 2);
}

#[tokio::test]
async fn a_missing_block_cuts_a_tar_and_a_missing_root_is_404() {
    let world = world();
    let large = world.store.add_file(&bytes(400_000), 40_000).unwrap();
    let root = world.store.add_directory([("a", large), ("b", large)]).unwrap();
    let uri = format!("/ipfs/{root}?format=tar");
    world.store.remove(world.links(&large).last().unwrap());
    let answer = world.get(&uri).await;
    assert_eq!((answer.status, answer.whole), (200, false));
    assert!(answer.body.len() > 300_000);
    let first = super::world();
    let root = first.store.add_directory([("a", large)]).unwrap();
    assert_eq!(first.get(&format!("/ipfs/{root}?format=tar")).await.status, 404);
    assert_eq!(first.get(&format!("/ipfs/{large}?format=tar")).await.status, 404);
}

#[tokio::test]
async fn only_files_become_a_tar_and_only_so_deep() {
    let world = world();
    let node = cbor_links(&world, &[("a", world.raw("x"))]);
    for head in [&[][..], &[("if-none-match", "*")]] {
        let answer = world.ask(Method::GET, &format!("/ipfs/{node}?format=tar"), head).await;
        assert_eq!(answer.status, 406);
        assert!(answer.text().contains("format=raw"));
    }
    let mut deep = world.raw("x");
    for _ in 0..400 {
        deep = world.store.add_directory([("d", deep)]).unwrap();
    }
    let answer = world.get(&format!("/ipfs/{deep}?format=tar")).await;
    assert_eq!((answer.status, answer.whole), (200, false));
    assert!(answer.body.len() < 1 << 20);
}

#[tokio::test]
async fn the_head_of_a_tar_is_that_of_its_beginning() {
    let world = world();
    let missing = world.store.add_file(&bytes(5000), 1000).unwrap();
    for leaf in world.links(&missing) {
        world.store.remove(&leaf);
    }
    let empty = world.raw("");
    let many = (0..9000).map(|n| (format!("{n:04}-{}", "x".repeat(30)), empty));
    let evil = world.store.add_directory(many.chain([("..".to_owned(), empty)])).unwrap();
    let good = world.store.add_directory([("a", empty)]).unwrap();
    for (cid, status) in [(missing, None), (evil, None), (good, Some(200))] {
        let uri = format!("/ipfs/{cid}?format=tar");
        let head = world.ask(Method::HEAD, &uri, &[]).await;
        let get = world.get(&uri).await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{cid}");
        assert_eq!(stable(head.headers), stable(get.headers), "{cid}");
        assert!(status.is_none_or(|status| get.status == status));
    }
    let head = world.ask(Method::HEAD, &format!("/ipfs/{missing}?format=tar"), &[]).await;
    assert_eq!(head.status, world.get(&format!("/ipfs/{missing}?format=tar")).await.status);
}
