//! The CIDs are those that Kubo 0.43 gives the same bytes and names under the same profile.

use bytes::Bytes;

use super::*;
use crate::ipld::unixfs::{Kind, Metadata, Mtime, Node};

const V1: Profile = Profile::V1_2025;
const V0: Profile = Profile::V0_2015;

fn bytes(length: usize) -> Bytes {
    (0..=250).cycle().take(length).collect::<Vec<u8>>().into()
}

fn file(profile: Profile, chunker: Chunker, data: &Bytes) -> Built {
    let mut builder = FileBuilder::new(profile, profile.links_max());
    let mut blocks = Vec::new();
    for start in (0..data.len()).step_by(chunker.bytes_max()) {
        let end = data.len().min(start + chunker.bytes_max());
        let leaf = profile.leaf(data.slice(start..end)).unwrap();
        blocks.extend(builder.push(&leaf).unwrap());
        blocks.push(leaf.block);
    }
    let mut built = builder.finish().unwrap();
    blocks.append(&mut built.blocks);
    assert_eq!(built.size, data.len() as u64);
    assert!(blocks.iter().any(|block| *block.cid() == built.root));
    let total: usize = blocks.iter().map(|block| block.data().len()).sum();
    assert_eq!(built.tsize, total as u64);
    Built { blocks, ..built }
}

#[test]
fn files_get_the_cids_of_their_profile() {
    for (profile, chunker, length, cid) in [
        (V1, "", 0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (V1, "", 1, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"),
        (V1, "", (1 << 20) - 1, "bafkreielkxdkfu2eicjkgfuykayoada6n6dar2xzclejnxxhyn2niqhnce"),
        (V1, "", 1 << 20, "bafkreidddocae7lltzjlkooe5a3tmiwsgazn7logjvqk7bzttsidpzhxne"),
        (V1, "", (1 << 20) + 1, "bafybeidjogjfwuhbzwopgd4bn3skcf5m6oz72xshywcndzxgqb623nfclu"),
        (V1, "size-16", 16384, "bafybeifczdqstytics5dcatqxpt37sagocmudmp2jjsor3uul3326wx6we"),
        (V1, "size-16", 16385, "bafybeicp36ggd4ooej4aftjhwk2ntk6mnffeb2vckqpqwmddmz7nndwhwa"),
        (V1, "size-16", 32773, "bafybeigntfqnh5bqth63lt5elrfqfoo4qrjzwptlxpyubaq6wwv2h4ypq4"),
        (V0, "", 0, "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"),
        (V0, "", 1, "QmS9JArPwa55ePgDnyg6TzX24mYTS1b1vLqWNebyVotKxQ"),
        (V0, "", (256 << 10) - 1, "QmRfm83kqBpGJbGxJg1en9hpwq8eNnP4E2Dj8K73F4m983"),
        (V0, "", 256 << 10, "QmeqfRyS3vkku7n6krqC3DgGMex3x2sCpSeKMDmrG13QQq"),
        (V0, "", (256 << 10) + 1, "QmUSjGawaz4ptvREcMKSMJneWCa5j8dAz2wSAAvHtW2rnB"),
        (V0, "size-16", 2784, "Qme74tGUEq2c2zchW7rU44GZYTjL26VzMsqh9NBk6oWxyz"),
        (V0, "size-16", 2785, "QmZ2udiRewkni7HfXoL8vnYF9Vuyjp5y6KVhvGLiD1kbQc"),
        (V0, "size-16", 5573, "QmNf4bSW9ohYgeGcFt8i9YYdmtBX2aEvSeUPFnuhCAH8A3"),
        (V0, "size-16", 484_417, "QmVnbnCgRdVFBQjgwkRQzHvLch1fU7H97Tyk4kNYe5DNzR"),
    ] {
        let chunker = chunker.parse().unwrap_or(profile.chunker());
        let built = file(profile, chunker, &bytes(length));
        assert_eq!(built.root.to_string(), cid, "{length} bytes, {profile}");
    }
}

/// A directory of empty files.
fn directory(profile: Profile, names: impl Iterator<Item = String>) -> Built {
    let empty = file(profile, profile.chunker(), &Bytes::new());
    let mut builder = DirectoryBuilder::new(profile);
    for name in names {
        builder.insert(name, &empty.root, empty.tsize);
    }
    builder.finish().unwrap()
}

fn numbered(count: usize, width: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |i| format!("{:n<width$}", format!("{i:06}")))
}

#[test]
fn directories_get_the_cids_of_their_profile() {
    let names = || numbered(4095, 20);
    for (built, sharded, cid) in [
        (
            directory(V1, numbered(0, 6)),
            false,
            "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
        ),
        (directory(V0, numbered(0, 6)), false, "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"),
        (
            directory(V1, numbered(7000, 6)),
            true,
            "bafybeiam2hqttby5c3atr6yypstdh6rpml4wn3afq5j7ptdumou3wajioi",
        ),
        (directory(V0, numbered(7000, 6)), true, "Qme3LbBDpSTAYHt7yCCi6wkTaVufxfa4z3XpHsJ9HaHXYF"),
        // At the threshold and one entry, or one byte, above it.
        (
            directory(V0, numbered(4096, 30)),
            false,
            "QmYhdmyKwerMp7L6UBsygUbFCRQw4uNwC3GrMA3qUBkYaj",
        ),
        (directory(V0, numbered(4097, 30)), true, "QmP6vVA63khnpq5FGTEEZewA6cwhWcadPAu2WjfGvDcuSJ"),
        (
            directory(V1, names().chain(["q".repeat(16)])),
            false,
            "bafybeihnuoep6mk64ksg73bjshs5cglvon3ppnajdodytwcjofsykqgouq",
        ),
        (
            directory(V1, names().chain(["q".repeat(17)])),
            true,
            "bafybeih7j6v332ju6k3dvzqymhsioidprenuef47oc26wxbogx67br2cd4",
        ),
    ] {
        assert_eq!(built.root.to_string(), cid);
        assert_eq!(built.blocks.len() > 1, sharded, "{cid}");
    }
}

#[test]
fn links_get_the_cids_of_their_profile() {
    for (profile, cid) in [
        (V1, "bafybeift2wljokuhnen46w62disjckekxvqd6wizv2zcnbbee3bkwhbu5e"),
        (V0, "QmVJ7RTVYrWfVrAvN5KxpXQ2wHpJvgHpvxafeNAZrCqTuK"),
    ] {
        let mut builder = DirectoryBuilder::new(profile);
        let f = file(profile, profile.chunker(), &Bytes::from_static(b"f"));
        builder.insert("f", &f.root, f.tsize);
        for (name, target) in [("l", "target"), ("up", "../x"), ("abs", "/etc"), ("uni", "日本")]
        {
            let link = symlink(profile, target, Metadata::default()).unwrap();
            builder.insert(name, &link.root, link.tsize);
        }
        assert_eq!(builder.finish().unwrap().root.to_string(), cid);
    }
}

#[test]
fn the_order_of_insertion_does_not_count_and_the_last_of_a_name_wins() {
    let (one, two) = (directory(V1, numbered(1, 6)).root, directory(V1, numbered(2, 6)).root);
    let mut there = DirectoryBuilder::new(V1);
    let mut back = there.clone();
    there.insert("a", &two, 2);
    there.insert("a", &one, 1);
    there.insert("b", &two, 2);
    back.insert("b", &two, 2);
    back.insert("a", &one, 1);
    assert_eq!(there.finish().unwrap(), back.finish().unwrap());
}

#[test]
fn an_empty_name_is_refused_and_claimed_sizes_do_not_overflow() {
    let empty = directory(V1, numbered(0, 6)).root;
    let mut builder = DirectoryBuilder::new(V1);
    builder.insert("a", &empty, u64::MAX);
    builder.insert("b", &empty, u64::MAX);
    assert_eq!(builder.clone().finish().unwrap().tsize, u64::MAX);
    builder.insert("", &empty, 1);
    assert!(builder.finish().is_err());
}

#[test]
fn metadata_is_kept_on_files_directories_and_links() {
    let mtime = Some(Mtime { seconds: -5, nanos: 7 });
    let metadata = Metadata { mode: Some(0o644), mtime };
    let mut small = FileBuilder::new(V1, 1024).with_metadata(metadata);
    small.push(&V1.leaf(bytes(5)).unwrap()).unwrap();
    for built in [
        small.finish().unwrap(),
        DirectoryBuilder::new(V0).with_metadata(metadata).finish().unwrap(),
        symlink(V1, "x", metadata).unwrap(),
    ] {
        let root = built.blocks.last().unwrap();
        assert_eq!(*root.cid(), built.root);
        assert_eq!(Node::decode(root).unwrap().metadata, metadata);
    }
}

#[test]
fn symbolic_links_keep_their_target() {
    let built = symlink(V1, [0xff, b'/'], Metadata::default()).unwrap();
    let node = Node::decode(&built.blocks[0]).unwrap();
    assert!(matches!(node.kind, Kind::Symlink { target } if target[..] == [0xff, b'/']));
}

#[test]
fn chunkers_and_profiles_are_read_as_written() {
    for text in ["size-1", "size-262144", "size-2096896"] {
        assert_eq!(text.parse::<Chunker>().unwrap().to_string(), text);
    }
    for text in
        ["", "size-", "size-0", "size-+1", "size-2096897", "rabin", "size-99999999999999999999"]
    {
        assert!(text.parse::<Chunker>().is_err(), "{text}");
    }
    for profile in Profile::ALL {
        assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
    }
    assert!("unixfs-v2".parse::<Profile>().is_err());
}
