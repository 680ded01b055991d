//! A tokenizer.json, loaded by Hugging Face's own library: encoding with a veto on untrusted special tokens, decoding,
//! and the bytes of each token. Truncation and padding settings of the file are dropped, since a server never wants
//! them. `.model` files come in as the tokenizer.json that sentencepiece.rs makes of them.

use crate::error::BridgeError;
use crate::splitting::Splitter;
use std::ops::Range;
use tokenizers::{Model, NormalizedString, Normalizer, OffsetType, PreTokenizer, Tokenizer};

/// How the strings of the vocabulary stand for bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spelling {
    /// GPT-2's table: each character of a token is one byte.
    ByteLevel,
    /// SentencePiece: U+2581 is a space, and `byte_fallback` tokens are written <0xE5>.
    Pieces { byte_fallback: bool },
    /// WordPiece and others: the token is its own text.
    Plain,
}

/// Ids and, per id, the bytes of the text it came from.
pub struct Encoded {
    pub ids: Vec<u32>,
    pub offsets: Vec<(usize, usize)>,
}

/// An added token and what it is for.
pub struct Added {
    pub id: u32,
    pub special: bool,
    pub content: String,
}

pub struct HfTokenizer {
    inner: Tokenizer,
    splitter: Splitter,
    spelling: Spelling,
}

impl HfTokenizer {
    pub fn from_json(bytes: &[u8]) -> Result<Self, BridgeError> {
        let mut inner = Tokenizer::from_bytes(bytes).map_err(BridgeError::tokenizer)?;
        inner.with_truncation(None).map_err(BridgeError::tokenizer)?;
        inner.with_padding(None);
        let splitter = Splitter::new(&inner)?;
        let spelling = spelling_of(&inner)?;
        Ok(HfTokenizer { inner, splitter, spelling })
    }

    /// From a SentencePiece model and its settings files; see sentencepiece.rs.
    pub fn from_sentencepiece(model: &[u8], settings: &[u8], added: &[u8]) -> Result<Self, BridgeError> {
        Self::from_json(&crate::sentencepiece::to_tokenizer_json(model, settings, added)?)
    }

    /// Encodes `text`. Special tokens that touch `untrusted` (sorted byte ranges) are read as text; `add_special` adds
    /// what the post-processor adds (BOS ...). Offsets are only filled in when asked for.
    pub fn encode(
        &self, text: &str, untrusted: &[Range<usize>], add_special: bool, with_offsets: bool,
    ) -> Result<Encoded, BridgeError> {
        let encoding = match (untrusted.is_empty(), with_offsets) {
            (true, true) => self.inner.encode(text, add_special),
            (true, false) => self.inner.encode_fast(text, add_special),
            (false, _) => return self.encode_split(text, untrusted, add_special),
        };
        let encoding = encoding.map_err(BridgeError::tokenizer)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    fn encode_split(
        &self, text: &str, untrusted: &[Range<usize>], add_special: bool,
    ) -> Result<Encoded, BridgeError> {
        let mut pieces = self.splitter.split(&self.inner, text, untrusted)?;
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(BridgeError::tokenizer)?;
        }
        self.inner.get_model().tokenize_in_pretokenized(&mut pieces, None).map_err(BridgeError::tokenizer)?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::Byte).map_err(BridgeError::tokenizer)?;
        let encoding = self.inner.post_process(encoding, None, add_special).map_err(BridgeError::tokenizer)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, BridgeError> {
        self.inner.decode(ids, skip_special).map_err(BridgeError::tokenizer)
    }

    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the largest id, added tokens included. Vocabularies may have gaps, so this is not a count.
    pub fn vocab_size(&self) -> usize {
        let ids = self.inner.get_vocab(true);
        ids.into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Added tokens by id.
    pub fn added_tokens(&self) -> Vec<Added> {
        let tokens = self.inner.get_added_tokens_decoder();
        let mut list: Vec<Added> = tokens
            .into_iter()
            .map(|(id, token)| Added { id, special: token.special, content: token.content })
            .collect();
        list.sort_by_key(|token| token.id);
        list
    }

    /// The bytes a token adds to a text, before any rule about leading spaces; None for an unknown id.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        if let Some(added) = self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id) {
            return Some(added.content.clone().into_bytes());
        }
        let token = self.inner.id_to_token(id)?;
        Some(match self.spelling {
            Spelling::ByteLevel => byte_level_bytes(&token).unwrap_or_else(|| token.into_bytes()),
            Spelling::Pieces { byte_fallback: true } if byte_of(&token).is_some() => vec![byte_of(&token)?],
            Spelling::Pieces { .. } => token.replace('\u{2581}', " ").into_bytes(),
            Spelling::Plain => token.into_bytes(),
        })
    }

    /// Characters that normalization may turn into one that begins or ends a special token, and whether special
    /// tokens are found only as spelled. Both matter to provenance.rs.
    pub fn lookalikes(&self) -> Result<(String, bool), BridgeError> {
        let exact = self.splitter.specials_are_exact();
        let mut found = String::new();
        let Some(normalizer) = self.inner.get_normalizer().filter(|_| !exact) else { return Ok((found, exact)) };
        let mut edges = Vec::new();
        for token in self.added_tokens().iter().filter(|token| token.special) {
            edges.extend(token.content.trim().chars().next());
            edges.extend(token.content.trim().chars().next_back());
        }
        // Compatibility characters live in these ranges; beyond them nothing folds to ASCII punctuation or letters.
        let candidates = ('\u{21}'..='\u{7e}').chain('\u{a0}'..='\u{33ff}').chain('\u{fe00}'..='\u{ffef}');
        for c in candidates.filter(|c| !edges.contains(c)) {
            let mut text = NormalizedString::from(c.to_string());
            normalizer.normalize(&mut text).map_err(BridgeError::tokenizer)?;
            if text.get().chars().any(|c| edges.contains(&c)) {
                found.push(c);
            }
        }
        Ok((found, exact))
    }
}

/// Reads the spelling off the decoder, which is what turns tokens back into text.
fn spelling_of(tokenizer: &Tokenizer) -> Result<Spelling, BridgeError> {
    let decoder = serde_json::to_value(tokenizer.get_decoder()).map_err(BridgeError::tokenizer)?;
    let mut kinds = Vec::new();
    let mut queue = vec![&decoder];
    while let Some(node) = queue.pop() {
        kinds.extend(node.get("type").and_then(|kind| kind.as_str()));
        queue.extend(node.get("decoders").and_then(|list| list.as_array()).into_iter().flatten());
    }
    let byte_fallback = kinds.contains(&"ByteFallback");
    Ok(if kinds.contains(&"ByteLevel") {
        Spelling::ByteLevel
    } else if byte_fallback || kinds.contains(&"Metaspace") || kinds.contains(&"Replace") {
        Spelling::Pieces { byte_fallback }
    } else {
        Spelling::Plain
    })
}

/// GPT-2's table maps the printable bytes to themselves and the 68 others to U+0100 onwards, in order.
fn byte_level_bytes(token: &str) -> Option<Vec<u8>> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others: Vec<u8> = (0..256u32).filter(|&byte| !printable(byte)).map(|byte| byte as u8).collect();
    token
        .chars()
        .map(|c| match c as u32 {
            code if printable(code) => Some(code as u8),
            code => others.get(code.checked_sub(0x100)? as usize).copied(),
        })
        .collect()
}

/// The byte of a fallback token such as "<0xE5>".
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{byte_level_bytes, byte_of};

    #[test]
    fn spellings_give_back_their_bytes() {
        assert_eq!(byte_level_bytes("Ġhi"), Some(b" hi".to_vec()));
        assert_eq!(byte_level_bytes("Ċ"), Some(b"\n".to_vec()));
        assert_eq!(byte_level_bytes("ĠÃ©"), Some(vec![0x20, 0xc3, 0xa9]));
        assert_eq!(byte_level_bytes("世"), None);
        assert_eq!(byte_of("<0xE5>"), Some(0xe5));
        assert_eq!(byte_of("<0xE>"), None);
    }
}
