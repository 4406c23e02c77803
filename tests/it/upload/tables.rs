//! What cannot be taken, and what is said of it.

use crate::api::{BOUNDARY, car, form, form_type, node_of, part, raw};

/// Forms that cannot be taken: status, what the answer says, name of the case, type, body.
pub(super) fn bad_forms() -> Vec<(u16, &'static str, &'static str, String, Vec<u8>)> {
    let kind = form_type();
    let mut cases = Vec::new();
    let mut case = |status, why, what, body: Vec<u8>| {
        cases.push((status, why, what, kind.clone(), body));
    };
    let long = "n".repeat(256);
    let deep = vec!["d"; 70].join("/");
    for (why, name) in [
        ("plain names", "../../etc/x"),
        ("plain names", "/etc/passwd"),
        ("plain names", "a//b"),
        ("plain names", "a/./b"),
        ("plain names", ".."),
        ("NUL", "a\0b"),
        ("255 bytes", &long),
        ("64 deep", &deep),
    ] {
        case(400, why, "a name", form(&[("good", b"good"), (name, b"bad")]));
    }
    case(400, "twice", "the same name twice", form(&[("a", b"1"), ("a", b"2")]));
    case(400, "twice", "a file as a folder", form(&[("a", b"1"), ("a/b", b"2")]));
    case(400, "twice", "two files without names", form(&[("", b"1"), ("", b"2")]));
    case(400, "no file", "no part", form(&[]));
    let mut only_text = part("filename", None, b"x");
    only_text.extend_from_slice(&form(&[]));
    case(400, "no file", "a text field alone", only_text);
    let mut long_text = part("filename", None, &vec![b'x'; 100 << 10]);
    long_text.extend_from_slice(&form(&[("f", b"1")]));
    case(400, "65536", "a long text field", long_text);
    let many: Vec<u8> = (0..100).flat_map(|_| part("x", None, b"")).collect();
    case(400, "64 fields", "many text fields", [many, form(&[("f", b"1")])].concat());
    case(400, "the form", "not a form", b"hello".to_vec());
    case(400, "the form", "nothing", Vec::new());
    let whole = form(&[("f", b"1234")]);
    case(400, "the form", "no end", whole[..whole.len() - 5].to_vec());
    let head = format!("--{BOUNDARY}\r\nX: {}\r\n\r\n1\r\n--{BOUNDARY}--", "x".repeat(1 << 20));
    case(400, "head of a part", "a long head", head.into());
    case(400, "before the first part", "a long preamble", vec![b'x'; 1 << 20]);
    let nested = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"f\"\r\n\
         Content-Type: multipart/mixed; boundary=x\r\n\r\n1\r\n--{BOUNDARY}--"
    );
    case(400, "parts itself", "nested parts", nested.into());
    let good = form(&[("f", b"1")]);
    for (why, what, kind) in [
        ("multipart/form-data", "another type", "application/json".to_owned()),
        ("boundary", "no boundary", "multipart/form-data".to_owned()),
        (
            "boundary",
            "a long boundary",
            format!("multipart/form-data; boundary={}", "b".repeat(8000)),
        ),
    ] {
        cases.push((400, why, what, kind, good.clone()));
    }
    cases
}

/// CARs that `/content/add-car` cannot take: what the answer says, name of the case, bytes.
pub(super) fn bad_cars() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (leaf, other) = (raw("leaf"), raw("other"));
    let inner = node_of(&[&leaf]);
    let root = node_of(&[&inner, &other]);
    let dag = [root.clone(), inner, leaf.clone(), other];
    let roots = [*root.cid()];
    let whole = car(&roots, &dag);
    let after = |tail: &[u8]| [whole.as_slice(), tail].concat();
    let header = car(&roots, &[]);
    let lie = [leaf.clone(), raw("lies")];
    let mut lying = car(&[*leaf.cid()], &lie[..1]);
    let at = lying.len() - 4;
    lying[at..].copy_from_slice(b"LEAF");
    let large = |cid_of: &estuary::block::Block, length: usize| {
        let cid = cid_of.cid().to_bytes();
        let mut section = header.clone();
        let mut buffer = unsigned_varint::encode::usize_buffer();
        section.extend_from_slice(unsigned_varint::encode::usize(cid.len() + length, &mut buffer));
        section.extend_from_slice(&cid);
        section.extend(std::iter::repeat_n(b'x', length));
        section
    };
    vec![
        ("too few roots", "no root", car(&[], &dag)),
        ("number of roots", "two roots", car(&[*root.cid(), *leaf.cid()], &dag)),
        ("number of roots", "many roots", car(&vec![*leaf.cid(); 1000], &dag)),
        ("is missing", "its root absent", car(&[*raw("elsewhere").cid()], &dag)),
        (
            "is missing",
            "a leaf missing",
            car(&roots, &[dag[0].clone(), dag[1].clone(), dag[3].clone()]),
        ),
        ("is missing", "nothing but a header", header.clone()),
        (
            "not under its root",
            "a stray block",
            [whole.clone(), car(&[], &[raw("stray")])[18..].to_vec()].concat(),
        ),
        ("do not hash", "a lying block", lying),
        ("2097152", "a block over the limit", large(&leaf, (2 << 20) + 1)),
        (
            "a CAR section",
            "a section of 2^63 bytes",
            after(&[0xff; 8].into_iter().chain([0x7f]).collect::<Vec<_>>()),
        ),
        ("a section is empty", "a section of no bytes", after(&[0])),
        ("shortest form", "an overlong length", after(&[0x81, 0])),
        ("varint", "a length without end", after(&[0xff; 12])),
        ("", "garbage behind it", after(b"garbage behind the last block")),
        ("a CAR header", "a header of 4 GiB", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0xa2]),
        ("truncated", "no bytes", Vec::new()),
        ("", "not a CAR", b"hello, this is no CAR".to_vec()),
        ("version", "version 3", {
            let mut car = header;
            *car.last_mut().unwrap() = 3;
            car
        }),
    ]
}
