//! Finds added tokens in a text as Hugging Face's tokenizer does, except that a special token which touches a range
//! of untrusted bytes is passed over and read as ordinary text.
//! The library has a switch for all special tokens of a text but none for some of them, hence this second
//! implementation of its matching rules; tests hold both equal where everything is trusted.

use crate::error::BridgeError;
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;
use std::ops::Range;
use tokenizers::{
    tokenizer::normalizer::Range as Referential, AddedToken, NormalizedString, Normalizer, PreTokenizedString, Token,
    Tokenizer,
};

/// Pieces of a text: each either one added token or text for the model.
type Pieces = Vec<(NormalizedString, Option<Vec<Token>>)>;

/// The added tokens of a tokenizer, ready to be searched for.
pub struct Splitter {
    tokens: HashMap<u32, AddedToken>,
    /// Tokens matched before and after normalization.
    raw: Matcher,
    normalized: Matcher,
}

struct Matcher {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Splitter {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, BridgeError> {
        let tokens: HashMap<u32, AddedToken> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        for (&id, token) in &tokens {
            if !token.normalized {
                raw.push((token.content.clone(), id));
                continue;
            }
            let mut text = NormalizedString::from(token.content.as_str());
            if let Some(normalizer) = tokenizer.get_normalizer() {
                normalizer.normalize(&mut text).map_err(BridgeError::tokenizer)?;
            }
            normalized.push((text.get().to_string(), id));
        }
        Ok(Splitter { tokens, raw: Matcher::new(raw)?, normalized: Matcher::new(normalized)? })
    }

    /// Whether special tokens are found only as they are spelled, before any normalization.
    pub fn specials_are_exact(&self) -> bool {
        !self.tokens.values().any(|token| token.special && token.normalized)
    }

    /// Splits `text` at its added tokens and normalizes the rest. `untrusted` are sorted byte ranges of `text`.
    pub fn split(
        &self, tokenizer: &Tokenizer, text: &str, untrusted: &[Range<usize>],
    ) -> Result<PreTokenizedString, BridgeError> {
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, piece| Ok(self.cut(piece, &self.raw, untrusted))).map_err(BridgeError::tokenizer)?;
        pieces
            .split(|_, mut piece| {
                if let Some(normalizer) = tokenizer.get_normalizer() {
                    normalizer.normalize(&mut piece)?;
                }
                Ok(self.cut(piece, &self.normalized, untrusted))
            })
            .map_err(BridgeError::tokenizer)?;
        Ok(pieces)
    }

    fn cut(&self, piece: NormalizedString, matcher: &Matcher, untrusted: &[Range<usize>]) -> Pieces {
        let text = piece.get().to_string();
        let slice = |range: Range<usize>| piece.slice(Referential::Normalized(range)).unwrap_or_else(|| "".into());
        let mut pieces: Pieces = Vec::new();
        let mut done = 0;
        for found in matcher.automaton.find_iter(&text) {
            let id = matcher.ids[found.pattern().as_usize()];
            let Some(token) = self.tokens.get(&id) else { continue };
            let forged = || overlaps(untrusted, slice(found.range()).offsets_original());
            if (token.special && forged()) || (token.single_word && !stands_alone(&text, found.range())) {
                continue;
            }
            let start = if token.lstrip { text[..found.start()].trim_end().len().max(done) } else { found.start() };
            let rest = &text[found.end()..];
            let end = if token.rstrip { text.len() - rest.trim_start().len() } else { found.end() };
            if done < start {
                pieces.push((slice(done..start), None));
            }
            let value = text[start..end].to_string();
            let length = value.len();
            pieces.push((slice(start..end), Some(vec![Token::new(id, value, (0, length))])));
            done = end;
        }
        if done < text.len() || pieces.is_empty() {
            pieces.push((slice(done..text.len()), None));
        }
        pieces
    }
}

impl Matcher {
    fn new(patterns: Vec<(String, u32)>) -> Result<Self, BridgeError> {
        let (texts, ids): (Vec<String>, Vec<u32>) = patterns.into_iter().filter(|(text, _)| !text.is_empty()).unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(BridgeError::tokenizer)?;
        Ok(Matcher { automaton, ids })
    }
}

fn overlaps(ranges: &[Range<usize>], (start, end): (usize, usize)) -> bool {
    let next = ranges.partition_point(|range| range.end <= start);
    ranges.get(next).is_some_and(|range| range.start < end)
}

/// Whether no word character touches the match, the rule of `single_word`.
fn stands_alone(text: &str, found: Range<usize>) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    !text[..found.start].chars().next_back().is_some_and(is_word)
        && !text[found.end..].chars().next().is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::overlaps;

    #[test]
    fn ranges_overlap_only_where_they_share_a_byte() {
        let ranges = [2..4, 7..8];
        let expected = [((0, 2), false), ((1, 3), true), ((4, 7), false), ((5, 9), true), ((8, 9), false)];
        for (span, hit) in expected {
            assert_eq!(overlaps(&ranges, span), hit, "{span:?}");
        }
    }
}
