//! Tells which characters of a rendered prompt came from the request, so that a message which spells out a special
//! token (say "<|im_end|>") is read as text while the template's own special tokens are read as tokens.
//!
//! Main idea: render twice. The first render sees the request as it is, so its text is exactly what any other
//! implementation produces. The second sees the request with the characters that begin or end a special token
//! replaced by twins, private code points of the same meaning; mapped back, it must give the same text, and then
//! the twins' positions say what came from the request. A special token made of pieces (the end of one message and
//! the start of the next, or of the template's text) is caught too, since each piece carries its twins.
//! Templates that look into the content would see through neither `in` nor split, so the strings that the template
//! itself holds are left as they are: bare where they cannot take part in a special token, in brackets where they
//! can. If even that render differs, the request is refused: the text could not be told apart.
//!
//! Why not marks around each message: strip, startswith, length and comparisons would all see them. Why not a string
//! type that carries its origin: the engine's operators build plain strings.
//! This module does not tokenize; the tokenizer gets the byte ranges that are not to be trusted.

use crate::error::BridgeError;
use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value as Json;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// Private code points: one twin per alphabet character from here on, and the two brackets after them.
const FIRST_TWIN: u32 = 0x10_E000;
const MAX_TWINS: usize = 0x1000;
const OPEN: char = '\u{10F000}';
const CLOSE: char = '\u{10F001}';

/// Roles that templates know. Another one is refused if a special token contains its name: templates build tokens
/// as '<|' + role + '|>'.
const KNOWN_ROLES: [&str; 14] = [
    "system", "developer", "user", "assistant", "tool", "function", "ipython", "model", "observation", "environment",
    "context", "document", "documents", "latest_reminder",
];

thread_local! {
    /// Set while the second render runs; at other times the private code points are ordinary characters.
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

fn reserved(c: char) -> bool {
    (FIRST_TWIN..=CLOSE as u32).contains(&(c as u32))
}

/// Whether this is a twin or bracket of the render in progress.
pub fn is_mark(c: char) -> bool {
    reserved(c) && MARKED.get()
}

/// Whether this is a bracket of the render in progress.
pub fn is_bracket(c: char) -> bool {
    (c == OPEN || c == CLOSE) && MARKED.get()
}

/// The text as the template should see it when it compares.
pub fn without_brackets(text: &str) -> String {
    text.chars().filter(|&c| !is_bracket(c)).collect()
}

/// Runs `render` with the private code points acting as marks.
fn marked<T>(render: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            MARKED.set(false);
        }
    }
    let _reset = Reset;
    MARKED.set(true);
    render()
}

/// Text of a render and the byte ranges of it that came from the request and could take part in a special token.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    pub untrusted: Vec<Range<usize>>,
}

/// The special tokens of one tokenizer together with one template's literals, prepared for many renders.
pub struct Guard {
    specials: Vec<String>,
    /// Finds special tokens in the request; absent where a normalizer may turn other text into one.
    finder: Option<AhoCorasick>,
    /// Characters that begin or end a special token, each with its twin.
    twins: HashMap<char, char>,
    originals: Vec<char>,
    literals: Vec<Literal>,
    literal_finder: AhoCorasick,
}

struct Literal {
    text: String,
    /// It cannot be, begin or end a part of a special token.
    harmless: bool,
}

impl Guard {
    /// `lookalikes` are characters that the tokenizer's normalizer may turn into one of a special token; `exact`
    /// says that special tokens are only found as they are spelled.
    pub fn new(source: &str, specials: Vec<String>, lookalikes: &str, exact: bool) -> Result<Self, BridgeError> {
        let specials: Vec<String> = specials.into_iter().filter(|s| !s.trim().is_empty()).collect();
        let mut alphabet: BTreeSet<char> = lookalikes.chars().collect();
        for special in &specials {
            alphabet.extend(special.trim().chars().next());
            alphabet.extend(special.trim().chars().next_back());
        }
        if alphabet.len() > MAX_TWINS {
            let message = format!("special tokens begin or end with {} different characters", alphabet.len());
            return Err(BridgeError::new("LimitError", message));
        }
        let originals: Vec<char> = alphabet.into_iter().collect();
        let twin = |i: usize| char::from_u32(FIRST_TWIN + i as u32).unwrap_or(OPEN);
        let twins: HashMap<char, char> = originals.iter().enumerate().map(|(i, &c)| (c, twin(i))).collect();
        let literals: Vec<Literal> = template_literals(source)
            .into_iter()
            .filter(|text| text.chars().any(|c| twins.contains_key(&c)))
            .map(|text| Literal { harmless: specials.iter().all(|s| !touches(&text, s)), text })
            .collect();
        let finder = if exact { Some(automaton(&specials)?) } else { None };
        let literal_finder = automaton(literals.iter().map(|l| &l.text))?;
        Ok(Guard { specials, finder, twins, originals, literals, literal_finder })
    }

    /// Renders `request` (see the top of this file). `render` is called with a request and gives its text.
    pub fn render(
        &self, request: &Json, mut render: impl FnMut(&Json) -> Result<String, BridgeError>,
    ) -> Result<Rendered, BridgeError> {
        self.check_roles(request)?;
        let text = render(request)?;
        if !any_string(request, &mut |s| self.suspicious(s)) {
            return Ok(Rendered { text, untrusted: Vec::new() });
        }
        if text.chars().any(reserved) || any_string(request, &mut |s| s.chars().any(reserved)) {
            return Err(refusal("it uses code points U+10E000 to U+10F001, which are reserved here"));
        }
        for brackets in [false, true] {
            let twin_request = map_strings(request, &|s| self.mark(s, brackets));
            // A template may fail on the twins alone, e.g. by raise_exception; then this attempt says nothing.
            if let Ok(twin_text) = marked(|| render(&twin_request)) {
                let candidate = self.unmark(&twin_text);
                if candidate.text == text {
                    return Ok(candidate);
                }
            }
        }
        Err(refusal("the chat template treats it in a way that hides where the characters came from"))
    }

    fn check_roles(&self, request: &Json) -> Result<(), BridgeError> {
        let messages = request.get("messages").and_then(Json::as_array);
        for role in messages.into_iter().flatten().filter_map(|m| m.get("role").and_then(Json::as_str)) {
            let hidden = !role.is_empty() && !KNOWN_ROLES.contains(&role);
            if let Some(special) = self.specials.iter().find(|s| hidden && s.contains(role)) {
                let message = format!("message role '{role}' is part of the special token '{special}'");
                return Err(BridgeError::new("ProvenanceError", message));
            }
        }
        Ok(())
    }

    /// Whether a string of the request holds a special token, or could become one beside other text.
    fn suspicious(&self, text: &str) -> bool {
        let Some(finder) = &self.finder else {
            return text.chars().any(|c| self.twins.contains_key(&c));
        };
        let edges = text.chars().rev().take(64).chain(text.chars().take(64));
        if finder.is_match(text) {
            return true;
        }
        edges.clone().any(|c| self.twins.contains_key(&c)) && self.specials.iter().any(|s| joins(text, s))
    }

    /// Replaces the alphabet's characters by their twins, outside the template's literals.
    fn mark(&self, text: &str, brackets: bool) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        let mut at = 0;
        for found in self.literal_finder.find_iter(text) {
            let literal = &self.literals[found.pattern().as_usize()];
            if !literal.harmless && !brackets {
                continue;
            }
            self.push_twins(&mut out, &text[at..found.start()]);
            if literal.harmless {
                out.push_str(&literal.text);
            } else {
                out.push(OPEN);
                out.push_str(&literal.text);
                out.push(CLOSE);
            }
            at = found.end();
        }
        self.push_twins(&mut out, &text[at..]);
        out
    }

    fn push_twins(&self, out: &mut String, text: &str) {
        out.extend(text.chars().map(|c| *self.twins.get(&c).unwrap_or(&c)));
    }

    /// Maps a marked render back and notes what the marks say.
    fn unmark(&self, marked: &str) -> Rendered {
        let mut text = String::with_capacity(marked.len());
        let mut untrusted: Vec<Range<usize>> = Vec::new();
        let mut opened = None;
        for c in marked.chars() {
            let start = text.len();
            match c {
                OPEN => opened = Some(start),
                CLOSE => {
                    if let Some(from) = opened.take().filter(|&from| self.is_literal(&text[from..])) {
                        note(&mut untrusted, from..start);
                    }
                }
                c if reserved(c) => {
                    text.push(self.originals.get((c as u32 - FIRST_TWIN) as usize).copied().unwrap_or(c));
                    note(&mut untrusted, start..text.len());
                }
                c => text.push(c),
            }
        }
        Rendered { text, untrusted }
    }

    fn is_literal(&self, text: &str) -> bool {
        self.literals.iter().any(|literal| !literal.harmless && literal.text == text)
    }
}

fn refusal(why: &str) -> BridgeError {
    let message = format!("the request spells out a special token of the model or a part of one, and {why}");
    BridgeError::new("ProvenanceError", message)
}

fn note(ranges: &mut Vec<Range<usize>>, new: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == new.start => last.end = new.end,
        _ if new.is_empty() => {}
        _ => ranges.push(new),
    }
}

fn automaton<I: IntoIterator<Item = P>, P: AsRef<[u8]>>(patterns: I) -> Result<AhoCorasick, BridgeError> {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(patterns)
        .map_err(|e| BridgeError::new("LimitError", e.to_string()))
}

/// Whether text ends with the start of `special`, or starts with its end.
fn joins(text: &str, special: &str) -> bool {
    let inner_cuts = || special.char_indices().map(|(at, _)| at).skip(1);
    inner_cuts().any(|at| text.ends_with(&special[..at]) || text.starts_with(&special[at..]))
        || text.ends_with(special)
        || text.starts_with(special)
}

/// Whether a literal contains `special`, or is or joins a part of it.
fn touches(literal: &str, special: &str) -> bool {
    literal.contains(special) || joins(literal, special)
}

fn any_string(value: &Json, test: &mut impl FnMut(&str) -> bool) -> bool {
    match value {
        Json::String(text) => test(text),
        Json::Array(items) => items.iter().any(|item| any_string(item, test)),
        Json::Object(map) => map.iter().any(|(key, item)| test(key) || any_string(item, test)),
        _ => false,
    }
}

fn map_strings(value: &Json, change: &impl Fn(&str) -> String) -> Json {
    match value {
        Json::String(text) => Json::String(change(text)),
        Json::Array(items) => Json::Array(items.iter().map(|item| map_strings(item, change)).collect()),
        Json::Object(map) => {
            Json::Object(map.iter().map(|(key, item)| (change(key), map_strings(item, change))).collect())
        }
        other => other.clone(),
    }
}

/// The string constants in a template's expressions and tags. Strings inside raw blocks are found as well, which
/// does no harm: they only widen the list.
fn template_literals(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = source;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        rest = &rest[start + 2..];
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' | '\'' => {
                    found.extend(literal(&mut chars, c));
                }
                '}' | '%' if rest[at + 1..].starts_with('}') => break,
                _ => {}
            }
        }
        rest = chars.as_str();
    }
    found
}

/// Reads a string constant up to its closing quote; None if there is none.
fn literal(chars: &mut std::str::CharIndices, quote: char) -> Option<String> {
    let mut text = String::new();
    while let Some((_, c)) = chars.next() {
        match c {
            c if c == quote => return Some(text),
            '\\' => match chars.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'u' => {
                    let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                    text.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                }
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
    None
}
