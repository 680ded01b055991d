//! Grammars over a model's own vocabulary, by llguidance: which tokens may come next so that the text stays a prefix of
//! something a JSON schema, a regular expression, a Lark grammar or a list of choices allows. Compiling is bounded by
//! size and by the engine's fuel, never by a clock, so that a grammar is refused everywhere or nowhere.

use crate::error::BridgeError;
use crate::tokenizer::HfTokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher as Inner, ParserFactory};
use serde_json::{json, Value};
use std::sync::Arc;

/// Longest source of a grammar, in bytes.
const MAX_SOURCE: usize = 512 * 1024;
/// About 2 KB each: what one grammar's lexer may grow to.
const MAX_LEXER_STATES: usize = 50_000;
/// Between two parts of a JSON text: a space, or a new line and its indentation. Were any space allowed, a small model
/// might go on with it until its tokens run out.
const JSON_SPACE: &str = r"\x20|\x0A[\x20\x09]{0,16}";

/// The vocabulary as a tree of bytes, made once and shared by all grammars of a tokenizer.
pub struct TokenTrie {
    factory: ParserFactory,
}

/// What `Grammar::compile` reads; the numbers are part of the ABI.
#[derive(Clone, Copy)]
pub enum Kind {
    JsonSchema = 0,
    JsonObject = 1,
    Regex = 2,
    Lark = 3,
    Choice = 4,
}

/// A compiled grammar: a matcher that has seen nothing, to be copied.
pub struct Grammar {
    start: Inner,
}

/// Follows one text.
pub struct Matcher {
    inner: Inner,
}

fn grammar_error(message: impl std::fmt::Display) -> BridgeError {
    let text = message.to_string();
    let text = text.strip_suffix("\n<non-verbose/>").unwrap_or(&text);
    BridgeError::new("GrammarError", text)
}

impl TokenTrie {
    /// `end_ids` are allowed when the grammar is complete, and only then.
    pub fn new(tokenizer: &HfTokenizer, end_ids: &[u32]) -> Result<Self, BridgeError> {
        let words = token_words(tokenizer);
        let size = words.len();
        if end_ids.is_empty() || end_ids.iter().any(|&id| id as usize >= size) {
            return Err(grammar_error(format!("{end_ids:?} are no end tokens of a vocabulary of {size}")));
        }
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, end_ids[0]), &words).with_eos_tokens(end_ids);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(grammar_error)?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        factory.limits_mut().max_lexer_states = MAX_LEXER_STATES;
        Ok(TokenTrie { factory })
    }
}

/// Bytes of each token. Special tokens get llguidance's mark before their name: no text matches them, a Lark grammar
/// can ask for them.
fn token_words(tokenizer: &HfTokenizer) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> =
        (0..tokenizer.vocab_size()).map(|id| tokenizer.token_bytes(id as u32).unwrap_or_default()).collect();
    for token in tokenizer.added_tokens().iter().filter(|token| token.special) {
        words[token.id as usize] = [&[TokTrie::SPECIAL_TOKEN_MARKER], token.content.as_bytes()].concat();
    }
    words
}

impl Kind {
    pub fn from_number(number: u32) -> Result<Self, BridgeError> {
        const KINDS: [Kind; 5] = [Kind::JsonSchema, Kind::JsonObject, Kind::Regex, Kind::Lark, Kind::Choice];
        KINDS.get(number as usize).copied().ok_or_else(|| grammar_error(format!("{number} is no kind of grammar")))
    }
}

impl Grammar {
    pub fn compile(trie: &TokenTrie, kind: Kind, source: &str) -> Result<Self, BridgeError> {
        if source.len() > MAX_SOURCE {
            let size = source.len();
            return Err(grammar_error(format!("it has {size} bytes, but at most {MAX_SOURCE} are read")));
        }
        let top = match kind {
            Kind::JsonSchema => TopLevelGrammar::from_json_schema(with_bounded_space(parse_json(source)?)),
            Kind::JsonObject => TopLevelGrammar::from_json_schema(with_bounded_space(json!({"type": "object"}))),
            Kind::Regex => TopLevelGrammar::from_regex(without_anchors(source)),
            Kind::Lark => TopLevelGrammar::from_lark(source.to_string()),
            Kind::Choice => TopLevelGrammar::from_lark(choice_grammar(source)?),
        };
        let parser = trie.factory.create_parser(top).map_err(grammar_error)?;
        let mut start = Inner::new(Ok(parser));
        start.compute_mask_or_eos().map_err(grammar_error)?; // a grammar that allows no text is refused now
        Ok(Grammar { start })
    }
}

fn parse_json(source: &str) -> Result<Value, BridgeError> {
    serde_json::from_str(source).map_err(grammar_error)
}

/// A schema's own x-guidance has the last word.
fn with_bounded_space(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.entry("x-guidance").or_insert_with(|| json!({"whitespace_pattern": JSON_SPACE}));
    }
    schema
}

/// A whole text must match anyway, so anchors at the ends say nothing; llguidance knows none.
fn without_anchors(regex: &str) -> &str {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let escapes = regex.strip_suffix('$').map(|rest| rest.len() - rest.trim_end_matches('\\').len());
    if escapes.is_some_and(|count| count % 2 == 0) { &regex[..regex.len() - 1] } else { regex }
}

fn choice_grammar(source: &str) -> Result<String, BridgeError> {
    let choices: Vec<String> = serde_json::from_str(source).map_err(grammar_error)?;
    if choices.is_empty() || choices.iter().any(String::is_empty) {
        return Err(grammar_error("a choice is between one or more texts, none of them empty"));
    }
    let literals: Vec<String> = choices.iter().map(|choice| Value::from(choice.as_str()).to_string()).collect();
    Ok(format!("start: CHOICE\nCHOICE: {}\n", literals.join(" | ")))
}

impl Matcher {
    /// With caches of its own, so that matchers of one grammar do not wait for each other.
    pub fn new(grammar: &Grammar) -> Self {
        Matcher { inner: grammar.start.deep_clone() }
    }

    pub fn copy(&self) -> Self {
        Matcher { inner: self.inner.deep_clone() }
    }

    /// Fills `words`, one bit a token: only end tokens once the text is complete. No bit at all is an error.
    pub fn mask(&mut self, words: &mut [u32]) -> Result<(), BridgeError> {
        let mask = self.inner.compute_mask_or_eos().map_err(grammar_error)?;
        let bits = mask.as_slice();
        let shared = bits.len().min(words.len());
        words[..shared].copy_from_slice(&bits[..shared]);
        words[shared..].fill(0);
        Ok(())
    }

    pub fn accept(&mut self, token: u32) -> Result<(), BridgeError> {
        self.inner.consume_token(token).map_err(grammar_error)
    }

    pub fn rollback(&mut self, tokens: usize) -> Result<(), BridgeError> {
        self.inner.rollback(tokens).map_err(grammar_error)
    }

    pub fn is_stopped(&self) -> bool {
        self.inner.is_stopped()
    }

    pub fn is_accepting(&mut self) -> Result<bool, BridgeError> {
        Ok(self.inner.is_stopped() || self.inner.is_accepting().map_err(grammar_error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{choice_grammar, without_anchors, Grammar, TokenTrie};

    #[test]
    fn grammars_may_be_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<TokenTrie>();
        shared::<Grammar>();
    }

    #[test]
    fn anchors_go_but_escaped_ones_stay() {
        for (given, left) in [("^a$", "a"), (r"a\$", r"a\$"), (r"a\\$", r"a\\"), ("a", "a"), ("^$", "")] {
            assert_eq!(without_anchors(given), left);
        }
    }

    #[test]
    fn choices_are_quoted() {
        assert_eq!(choice_grammar(r#"["a\"b", "c"]"#).unwrap(), "start: CHOICE\nCHOICE: \"a\\\"b\" | \"c\"\n");
        assert!(choice_grammar("[]").is_err() && choice_grammar(r#"[""]"#).is_err() && choice_grammar("{}").is_err());
    }
}
