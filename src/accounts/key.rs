use std::fmt;

const PREFIX: &str = "EST";
const SUFFIX: &str = "ARY";
const UUID_CHARS: usize = 36;

/// A key's text, `EST<uuid>ARY`. It is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one, of 122 random bits.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        bytes[6] = (bytes[6] & 0x0f) | 0x40; // UUID version 4
        bytes[8] = (bytes[8] & 0x3f) | 0x80; // RFC 9562 variant
        let hex = data_encoding::HEXLOWER.encode(&bytes);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Ok(Self(format!("{PREFIX}{}{SUFFIX}", parts.join("-"))))
    }

    /// Text that has the form of a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = text.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        (uuid.len() == UUID_CHARS && uuid.bytes().all(plain)).then(|| Self(text.to_owned()))
    }

    /// The text, to be shown once to whoever asked for the key.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it: its BLAKE3 hash.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(self.0.as_bytes()).as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_original_form_and_hide_in_debug() {
        let secret = Secret::random().unwrap();
        assert_eq!(Secret::parse(secret.reveal()).as_ref(), Some(&secret));
        assert!(!format!("{secret:?}").contains(&secret.reveal()[3..12]));
        for wrong in ["", "EST", "ESTARY", "EST1ARY", &secret.reveal()[1..]] {
            assert_eq!(Secret::parse(wrong), None, "{wrong}");
        }
    }
}
