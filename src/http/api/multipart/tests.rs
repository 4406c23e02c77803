use http::HeaderValue;

use super::*;

type Parts = Vec<(Part, Vec<u8>)>;

async fn read(body: &[u8], size: usize) -> io::Result<Parts> {
    let pieces: Vec<_> = body.chunks(size).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    let mut multipart = Multipart::new(futures_util::stream::iter(pieces), "XX");
    let mut parts = Vec::new();
    while let Some(part) = multipart.next().await? {
        let mut data = Vec::new();
        while let Some(bytes) = multipart.data().await? {
            assert!(!bytes.is_empty());
            data.extend_from_slice(&bytes);
        }
        parts.push((part, data));
    }
    Ok(parts)
}

fn part(head: &str, data: &str) -> String {
    format!("--XX\r\n{head}\r\n\r\n{data}\r\n")
}

fn named(name: &str, filename: Option<&str>) -> Part {
    Part { name: name.into(), filename: filename.map(str::to_owned) }
}

/// Data that looks like a boundary, begins like one, and ends with the begin of one.
const TRICKY: &str = "\r\n--X\r\n--XY\r\r\n-\n--XX\r\n--X";

#[tokio::test]
async fn parts_are_read_however_the_body_is_cut() {
    let body = [
        "a preamble\r\n",
        &part("Content-Disposition: form-data; name=\"filename\"", "n"),
        &part("content-disposition:form-data;filename=\"a/b.txt\" ;name=data", TRICKY),
        &part("Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"e\"", ""),
        "--XX--\r\nan epilogue",
    ]
    .concat();
    for size in 1..body.len() {
        let parts = read(body.as_bytes(), size).await.unwrap();
        assert_eq!(parts.len(), 3, "{size}");
        assert_eq!(parts[0], (named("filename", None), b"n".to_vec()));
        assert_eq!(parts[1], (named("data", Some("a/b.txt")), TRICKY.as_bytes().to_vec()));
        assert_eq!(parts[2], (named("e", None), Vec::new()));
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_never_taken_for_a_whole_one() {
    let body = part("Content-Disposition: form-data; name=\"data\"; filename=\"f\"", "hello");
    let body = body + "--XX--";
    for length in 0..body.len() {
        assert!(read(&body.as_bytes()[..length], 7).await.is_err(), "{length}");
    }
    assert_eq!(read(body.as_bytes(), 7).await.unwrap().len(), 1);
    assert!(read(b"--XX--", 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_unread_of_a_part_is_passed_over() {
    let one = part("Content-Disposition: form-data; name=a", TRICKY);
    let two = part("Content-Disposition: form-data; name=b", "2");
    let body = one + &two + "--XX--";
    let pieces = body.as_bytes().chunks(5).map(|piece| Ok(Bytes::copy_from_slice(piece)));
    let mut multipart = Multipart::new(futures_util::stream::iter(pieces), "XX");
    assert_eq!(multipart.next().await.unwrap(), Some(named("a", None)));
    assert_eq!(multipart.next().await.unwrap(), Some(named("b", None)));
    assert_eq!(multipart.data().await.unwrap().unwrap().as_ref(), b"2");
}

#[tokio::test]
async fn malformed_parts_are_refused_and_nothing_is_hoarded() {
    let long = "x".repeat(HEAD_BYTES_MAX);
    let around = "x".repeat(AROUND_BYTES_MAX + 9);
    for (body, why) in [
        (part("Content-Type: text/plain", ""), "no Content-Disposition"),
        (part("Content-Disposition: form-data", ""), "no name"),
        (part("Content-Disposition: attachment; name=a", ""), "not form-data"),
        (part("Content-Disposition: form-data; name=\"a", ""), "no name"),
        (part("no colon", ""), "no colon"),
        (part(&format!("X: {long}"), ""), "too long"),
        (format!("--XX\r\nX: {long}"), "too long"),
        (
            part(
                "Content-Type: multipart/mixed; boundary=Y\r\nContent-Disposition: form-data; name=a",
                "",
            ),
            "parts itself",
        ),
        (
            part(
                "Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b",
                "",
            ),
            "two Content-Dispositions",
        ),
        ("--XXY\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--XX--".into(), "other text"),
        (around.clone(), "before the first part"),
        (format!("--XX--{around}"), "behind the last part"),
    ] {
        let error = read(body.as_bytes(), 1000).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error:?} of {:?}", &body[..body.len().min(80)]);
    }
}

#[test]
fn file_names_are_read_as_browsers_and_curl_write_them() {
    for (written, name) in [
        (r#"filename="a b.txt""#, "a b.txt"),
        (r#"filename="a%22b%0D%0A%25.txt""#, "a\"b\r\n%25.txt"),
        (r#"filename="a\"b\\c.txt""#, "a\"b\\c.txt"),
        (r#"filename="dir\file""#, r"dir\file"),
        (r#"filename="日本;x=y""#, "日本;x=y"),
        ("filename=plain ; x=y", "plain"),
    ] {
        let head = format!("\r\nContent-Disposition: form-data; name=\"data\"; {written}\r\n\r\n");
        let part = read_head(head.as_bytes()).unwrap();
        assert_eq!(part, named("data", Some(name)), "{written}");
    }
}

#[test]
fn boundaries_are_checked() {
    let of = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        boundary(&headers)
    };
    assert_eq!(of("multipart/form-data; boundary=XX").unwrap(), "XX");
    assert_eq!(of("Multipart/Form-Data;charset=x; BOUNDARY=\"a b\"").unwrap(), "a b");
    let long = format!("multipart/form-data; boundary={}", "b".repeat(1 << 20));
    for wrong in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=XX",
        "application/json",
        "multipart/form-data; boundary=\"a\tb\"",
        &long,
    ] {
        assert!(of(wrong).is_err(), "{}", &wrong[..wrong.len().min(60)]);
    }
    assert!(boundary(&HeaderMap::new()).is_err());
}
