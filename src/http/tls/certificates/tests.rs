use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::*;
use crate::http::metrics::Metrics;
use crate::metrics::Registry;

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pair(&self, name: &str) -> Pair {
        let [certificate, key] = ["pem", "key"].map(|end| self.path(&format!("{name}.{end}")));
        Pair { certificate, key }
    }

    /// Writes a certificate for these names and its key.
    fn issue(&self, name: &str, names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(2050, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let pair = self.pair(name);
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

fn load(pairs: Vec<Pair>) -> Result<Certificates, Error> {
    let metrics = Metrics::register(&Registry::new()).unwrap().certificates("gateway_tls");
    Certificates::load(pairs, Arc::new(ring::default_provider()), metrics)
}

/// The certificate that is shown to who asks for this name.
fn shown(certificates: &Certificates, name: Option<&str>) -> CertificateDer<'static> {
    certificates.choose(name).unwrap().cert[0].clone()
}

fn first(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&pair.certificate).unwrap()
}

#[test]
fn the_name_that_is_asked_for_decides() {
    let dir = Dir::new();
    let pairs = [
        dir.issue("a", &["a.example"]),
        dir.issue("wild", &["*.b.example", "b.example"]),
        dir.issue("ip", &["192.0.2.7"]),
    ];
    let certificates = load(pairs.to_vec()).unwrap();
    let check = |name: Option<&str>, pair: &Pair| {
        assert_eq!(shown(&certificates, name), first(pair), "{name:?}");
    };
    let [a, wild, ip] = &pairs;
    check(Some("a.example"), a);
    check(Some("A.Example"), a);
    check(Some("b.example"), wild);
    check(Some("bafy.b.example"), wild);
    check(Some("192.0.2.7"), ip);
    // A wildcard stands for one label; what is for nobody, or for nothing, is the first's.
    check(Some("x.y.b.example"), a);
    check(Some("evil.example"), a);
    check(Some("not a name"), a);
    check(None, a);
}

#[test]
fn what_changed_is_read_anew_and_what_is_broken_is_not_shown() {
    let dir = Dir::new();
    let pairs = vec![dir.issue("a", &["a.example"]), dir.issue("b", &["b.example"])];
    let certificates = load(pairs.clone()).unwrap();
    let [old_a, old_b] = [&pairs[0], &pairs[1]].map(first);
    let metrics = certificates.metrics.clone();
    assert_eq!(metrics.expiry.get(), 2_524_608_000);
    certificates.look();
    assert_eq!((metrics.reloaded.get(), metrics.reload_failed.get()), (0, 0));

    // The certificate comes before its key: until that comes too, the old one is shown.
    let other = Dir::new();
    let new = other.issue("a", &["a.example"]);
    std::fs::copy(&new.certificate, &pairs[0].certificate).unwrap();
    certificates.look();
    certificates.look();
    assert_eq!(shown(&certificates, Some("a.example")), old_a);
    assert_eq!((metrics.reloaded.get(), metrics.reload_failed.get()), (0, 1));
    std::fs::copy(&new.key, &pairs[0].key).unwrap();
    certificates.look();
    assert_eq!(shown(&certificates, Some("a.example")), first(&new));
    assert_eq!(shown(&certificates, Some("b.example")), old_b);
    assert_eq!((metrics.reloaded.get(), metrics.reload_failed.get()), (1, 1));

    for broken in
        [&b""[..], b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        std::fs::write(&pairs[1].certificate, broken).unwrap();
        certificates.look();
        assert_eq!(shown(&certificates, Some("b.example")), old_b);
    }
    std::fs::remove_file(&pairs[1].certificate).unwrap();
    certificates.look();
    assert_eq!(shown(&certificates, Some("b.example")), old_b);
    assert_eq!((metrics.reloaded.get(), metrics.reload_failed.get()), (1, 5));
}

#[test]
fn what_cannot_be_shown_is_named() {
    let dir = Dir::new();
    let (a, b) = (dir.issue("a", &["a.example"]), dir.issue("b", &["b.example"]));
    let check = |pair: Pair, expected: &str| {
        let said = load(vec![pair]).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    };
    check(dir.pair("none"), "none.pem cannot be read: No such file");
    check(Pair { key: b.key, ..a.clone() }, "a.pem and ");
    check(Pair { key: a.certificate.clone(), ..a.clone() }, "a.pem holds no private key");
    check(Pair { certificate: a.key.clone(), ..a.clone() }, "a.key holds no certificate");
    std::fs::write(&a.key, vec![b'a'; (1 << 20) + 1]).unwrap();
    check(a, "longer than 1 MiB");
}

#[test]
fn files_that_may_be_read_at_last_are_looked_at_again() {
    use std::os::unix::fs::PermissionsExt;

    let dir = Dir::new();
    let pair = dir.issue("a", &["a.example"]);
    let before = stamps(&pair);
    let mode = |mode| std::fs::set_permissions(&pair.key, PermissionsExt::from_mode(mode)).unwrap();
    // The file system's clock may tick as slowly as once in 10 ms.
    for _ in 0..1000 {
        mode(0o640);
        mode(0o600);
        if stamps(&pair) != before {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("a change of who may read a key goes unseen");
}
