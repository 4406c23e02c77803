//! The rules of a `_redirects` file (Web Redirects File specification): read once, matched in time
//! linear in the size of the file. Pure.

use percent_encoding::percent_decode_str;

use crate::gateway::escape;

/// Largest file, in bytes (the specification's limit).
pub const FILE_BYTES_MAX: usize = 64 << 10;
/// Most rules of a file.
pub const RULES_MAX: usize = 1000;
/// Most placeholders of one rule.
const PLACEHOLDERS_MAX: usize = 32;
/// Longest place that a rule may lead to once its placeholders are filled in, in bytes.
pub const TARGET_BYTES_MAX: usize = 8 << 10;

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is over [`FILE_BYTES_MAX`].
    #[error("redirects file size cannot exceed {FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// It has more than [`RULES_MAX`] rules.
    #[error("it has more than {RULES_MAX} rules")]
    TooMany,
    /// It is not text.
    #[error("it is not UTF-8")]
    NotText,
    /// It is a directory, a link, or a file of too many pieces.
    #[error("it is not a plain file")]
    NotAFile,
    /// Its blocks are not to be had.
    #[error("its blocks cannot be had")]
    Unread,
    /// A line is no rule.
    #[error("line {line}: {reason}")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The path that a rule leads to cannot be read.
    #[error("the path that a rule leads to cannot be read: {0}")]
    Target(&'static str),
    /// With its placeholders filled in, a rule leads to too long a place.
    #[error("a rule leads to a place longer than {TARGET_BYTES_MAX} bytes")]
    TargetTooLong,
}

/// What a rule answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The content at another path of the site, as if it had been asked for (200).
    Rewrite,
    /// The content at another path of the site, with this status: 404, 410 or 451.
    Page(u16),
    /// Where to go instead: 301, 302, 303, 307 or 308.
    Redirect(u16),
}

/// Where a request is to go by the first rule that matches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How it is answered.
    pub answer: Answer,
    /// A path of the site that begins with one slash; of a redirect, a URL where the rule has one.
    /// Fit to stand in a header.
    pub target: String,
}

/// The rules of a file, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    from: Vec<Piece>,
    /// Whether more may follow `from`, which `:splat` stands for.
    splat: bool,
    to: String,
    answer: Answer,
}

/// A segment of `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// This name, decoded.
    Name(String),
    /// Any name; it is known by this.
    Placeholder(String),
}

impl Rules {
    /// Reads a file.
    pub fn parse(file: &[u8]) -> Result<Self, Fault> {
        if file.len() > FILE_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        let text = std::str::from_utf8(file).map_err(|_| Fault::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if rules.len() == RULES_MAX {
                return Err(Fault::TooMany);
            }
            let rule = Rule::parse(line);
            rules.push(rule.map_err(|reason| Fault::Line { line: index + 1, reason })?);
        }
        Ok(Self(rules))
    }

    /// What the first rule says that matches a path of these names, decoded.
    pub fn find(&self, path: &[String]) -> Result<Option<Found>, Fault> {
        self.find_counting(path, &mut 0)
    }

    /// Looks at each piece of each rule once at most, and counts them.
    fn find_counting(&self, path: &[String], looks: &mut usize) -> Result<Option<Found>, Fault> {
        self.0
            .iter()
            .find(|rule| rule.matches(path, looks))
            .map(|rule| rule.found(path))
            .transpose()
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut fields = line.split_whitespace();
        let (Some(from), Some(to)) = (fields.next(), fields.next()) else {
            return Err("a rule is `from to [status]`");
        };
        let answer = fields.next().map_or(Ok(Answer::Redirect(301)), answer)?;
        if fields.next().is_some() {
            return Err("a rule is `from to [status]`, and nothing behind it");
        }
        let (from, splat) = parse_from(from)?;
        check_target(to, answer)?;
        Ok(Self { from, splat, to: to.to_owned(), answer })
    }

    fn matches(&self, path: &[String], looks: &mut usize) -> bool {
        // As elsewhere, `/a/*` is for what is below `/a`, not for that itself.
        let long_enough =
            if self.splat { path.len() > self.from.len() } else { path.len() == self.from.len() };
        long_enough
            && self.from.iter().zip(path).all(|(piece, name)| {
                *looks += 1;
                match piece {
                    Piece::Name(wanted) => wanted == name,
                    Piece::Placeholder(_) => true,
                }
            })
    }

    /// The target for a path that matches.
    fn found(&self, path: &[String]) -> Result<Found, Fault> {
        let mut target = String::new();
        let mut rest = self.to.as_str();
        while let Some(at) = rest.find(':') {
            let (plain, after) = rest.split_at(at);
            escape::uri(&mut target, plain);
            let after = after.get(1..).unwrap_or_default();
            let known = self.placeholders(path).filter(|(name, _)| after.starts_with(name));
            match known.max_by_key(|(name, _)| name.len()) {
                Some((name, value)) => {
                    fill(&mut target, value);
                    rest = after.get(name.len()..).unwrap_or_default();
                }
                None => {
                    target.push(':');
                    rest = after;
                }
            }
            if target.len() > TARGET_BYTES_MAX {
                return Err(Fault::TargetTooLong);
            }
        }
        escape::uri(&mut target, rest);
        if target.len() > TARGET_BYTES_MAX {
            return Err(Fault::TargetTooLong);
        }
        // A path is one whatever was filled in: two slashes would begin the name of a host.
        if is_path(&self.to) {
            target = escape::one_slash(&target).to_owned();
        }
        Ok(Found { answer: self.answer, target })
    }

    /// The names of the placeholders, and what they stand for in a path that matches.
    fn placeholders<'a>(
        &'a self,
        path: &'a [String],
    ) -> impl Iterator<Item = (&'a str, &'a [String])> {
        let named = self.from.iter().zip(path.chunks(1)).filter_map(|(piece, name)| match piece {
            Piece::Placeholder(known_by) => Some((known_by.as_str(), name)),
            Piece::Name(_) => None,
        });
        let rest = path.get(self.from.len()..).unwrap_or_default();
        named.chain(self.splat.then_some(("splat", rest)))
    }
}

fn fill(target: &mut String, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            target.push('/');
        }
        escape::segment(target, name.as_bytes());
        if target.len() > TARGET_BYTES_MAX {
            return;
        }
    }
}

fn answer(status: &str) -> Result<Answer, &'static str> {
    Ok(match status {
        "200" => Answer::Rewrite,
        "301" => Answer::Redirect(301),
        "302" => Answer::Redirect(302),
        "303" => Answer::Redirect(303),
        "307" => Answer::Redirect(307),
        "308" => Answer::Redirect(308),
        "404" => Answer::Page(404),
        "410" => Answer::Page(410),
        "451" => Answer::Page(451),
        _ if status.ends_with('!') => {
            return Err("forced redirects (a status with !) are not supported");
        }
        _ => {
            return Err("unsupported status: use 200, 301, 302, 303, 307, 308, 404, 410 or 451");
        }
    })
}

fn parse_from(from: &str) -> Result<(Vec<Piece>, bool), &'static str> {
    let path = from.strip_prefix('/').ok_or("`from` must begin with /")?;
    let (path, splat) = match path.strip_suffix('*') {
        Some(before) if before.is_empty() || before.ends_with('/') => (before, true),
        _ => (path, false),
    };
    if path.contains('*') {
        return Err("an asterisk may stand only as the last segment of `from`");
    }
    let mut pieces = Vec::new();
    let mut known: Vec<&str> = if splat { vec!["splat"] } else { Vec::new() };
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let Some(name) = segment.strip_prefix(':') else {
            let name = percent_decode_str(segment).decode_utf8();
            let name = name.map_err(|_| "`from` is not UTF-8 once its escapes are read")?;
            pieces.push(Piece::Name(name.into_owned()));
            continue;
        };
        if name.is_empty() {
            return Err("a placeholder has a name, such as :year");
        }
        if known.contains(&name) {
            return Err("duplicate placeholder in `from`");
        }
        if known.len() == PLACEHOLDERS_MAX {
            return Err("`from` has more than 32 placeholders");
        }
        known.push(name);
        pieces.push(Piece::Placeholder(name.to_owned()));
    }
    Ok((pieces, splat))
}

/// Whether a target is on the site itself.
fn is_path(to: &str) -> bool {
    to.starts_with('/') && !matches!(to.as_bytes().get(1), Some(b'/' | b'\\'))
}

fn check_target(to: &str, answer: Answer) -> Result<(), &'static str> {
    if is_path(to) {
        return Ok(());
    }
    if !matches!(answer, Answer::Redirect(_)) {
        return Err("only a redirect (301, 302, 303, 307 or 308) may lead to another site");
    }
    let elsewhere = ["//", "https://", "http://", "ipfs://", "ipns://"];
    if elsewhere.iter().any(|start| to.starts_with(start)) {
        Ok(())
    } else {
        Err("`to` is a path that begins with /, or a URL of http, https, ipfs or ipns")
    }
}

/// The target with the query of the request: what the client asks for wins over what the rule
/// says of the same parameter.
pub(super) fn with_query(target: &str, query: Option<&str>) -> String {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return target.to_owned() };
    let (target, fragment) = match target.find('#') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    let (path, fixed) = target.split_once('?').unwrap_or((target, ""));
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let asked: std::collections::HashSet<_> = query.split('&').map(name).collect();
    let mut whole = format!("{path}?");
    let kept = fixed.split('&').filter(|pair| !pair.is_empty() && !asked.contains(&name(pair)));
    for pair in kept {
        whole.push_str(pair);
        whole.push('&');
    }
    escape::query(&mut whole, query.as_bytes());
    whole.push_str(fragment);
    whole
}

#[cfg(test)]
mod tests;
