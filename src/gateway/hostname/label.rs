//! Roots as labels of a host, `{root}.ipfs.{host}`: one form for each, in lower case and short enough
//! for DNS, so that a root has one origin (subdomain gateway specification). Pure.

use multibase::Base;

use crate::block::Cid;
use crate::routing::Name;

use super::host::LABEL_BYTES_MAX;
use crate::gateway::error::Error;

/// The label of content: CID version 1 in base32, or in base36 where that is too long for a label.
pub(in crate::gateway) fn of_cid(cid: &Cid) -> Result<String, Error> {
    let bytes = Cid::new_v1(cid.codec(), *cid.hash()).to_bytes();
    let base32 = multibase::encode(Base::Base32Lower, &bytes);
    if base32.len() <= LABEL_BYTES_MAX {
        return Ok(base32);
    }
    fitting(multibase::encode(Base::Base36Lower, &bytes))
}

/// The label of a name: of a key its CID in base36, of a domain the domain, which is inlined into
/// one label where that is wanted.
pub(super) fn of_name(name: &Name, inline: bool) -> Result<String, Error> {
    match name {
        Name::Key(_) => fitting(name.to_string()),
        Name::Domain(domain) if inline => {
            let label = inlined(domain.as_str());
            if label.len() > LABEL_BYTES_MAX {
                Err(Error::DomainTooLong(label.into()))
            } else {
                Ok(label)
            }
        }
        Name::Domain(domain) => Ok(domain.as_str().to_owned()),
    }
}

fn fitting(label: String) -> Result<String, Error> {
    if label.len() > LABEL_BYTES_MAX { Err(Error::LabelTooLong(label.into())) } else { Ok(label) }
}

/// A domain in one label: hyphens doubled, dots made hyphens.
#[must_use]
pub fn inlined(domain: &str) -> String {
    domain.replace('-', "--").replace('.', "-")
}

/// The domain that was inlined into a label. Of three hyphens the first two are one.
#[must_use]
pub fn from_inlined(label: &str) -> String {
    let mut domain = String::with_capacity(label.len());
    let mut rest = label;
    while let Some(at) = rest.find('-') {
        let (plain, hyphens) = rest.split_at(at);
        domain.push_str(plain);
        rest = match hyphens.strip_prefix("--") {
            Some(rest) => {
                domain.push('-');
                rest
            }
            None => {
                domain.push('.');
                hyphens.get(1..).unwrap_or_default()
            }
        };
    }
    domain + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipld::path::parse_cid;

    #[test]
    fn content_has_one_label() {
        let check = |text: &str, want: &str| {
            assert_eq!(of_cid(&parse_cid(text).unwrap()).unwrap(), want, "{text}");
        };
        let base32 = "bafybeif7a7gdklt6hodwdrmwmxnhksctcuav6lfxlcyfz4khzl3qfmvcgu";
        let cid = parse_cid(base32).unwrap();
        check(base32, base32);
        check(&cid::Cid::new_v0(cid.hash().resize().unwrap()).unwrap().to_string(), base32);
        for base in [Base::Base16Lower, Base::Base36Lower, Base::Base32Upper, Base::Base58Btc] {
            check(&multibase::encode(base, cid.to_bytes()), base32);
        }
        // 40 bytes: too long in base32, not in base36.
        let longer = Cid::new_v1(0x55, crate::block::Mh::wrap(0, &[7; 34]).unwrap());
        assert!(longer.to_string().len() == 63 || of_cid(&longer).unwrap().len() <= 63);
        let longest = Cid::new_v1(0x55, crate::block::Mh::wrap(0, &[7; 64]).unwrap());
        let error = of_cid(&longest).unwrap_err().to_string();
        assert!(error.contains("CID incompatible with DNS label length limit of 63"), "{error}");
    }

    #[test]
    fn domains_are_inlined_and_back() {
        let check = |domain: &str, label: &str| {
            assert_eq!(inlined(domain), label);
            assert_eq!(from_inlined(label), domain);
        };
        check("en.wikipedia-on-ipfs.org", "en-wikipedia--on--ipfs-org");
        check("my.v-long.example.com", "my-v--long-example-com");
        check("xn--caf-dma.example", "xn----caf--dma-example");
        check("localhost", "localhost");
        check("a-.b", "a---b");
    }

    #[test]
    fn a_domain_that_is_too_long_for_a_label_says_so() {
        let name = Name::parse(&format!("{}.example", "a".repeat(60))).unwrap();
        assert!(of_name(&name, false).is_ok());
        let error = of_name(&name, true).unwrap_err().to_string();
        assert!(error.contains("DNS label length limit of 63"), "{error}");
    }

    proptest! {
        #[test]
        fn inlining_is_undone(domain in "[a-z0-9]{1,5}([.-]{1,2}[a-z0-9]{1,5}){0,4}") {
            // No label of a domain begins with a hyphen.
            prop_assume!(!domain.contains(".-") && !domain.contains(".."));
            prop_assert_eq!(from_inlined(&inlined(&domain)), domain);
        }
    }
}
