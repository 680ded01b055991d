//! Reads a SentencePiece `.model` and writes the tokenizer.json that is equal to it, so that one engine tokenizes for
//! every checkpoint. This is what transformers does when it meets such a file, and the results are held equal to it.
//! SentencePiece's own library is not used: no distribution ships an archive of it to link, and it does not know
//! added tokens. Models whose ids transformers shifts (XLM-R and its kin) are refused.

use crate::error::BridgeError;
use serde_json::{json, Map, Value as Json};
use std::collections::HashMap;

const SPACE: &str = "\u{2581}";
/// Tokenizer classes that renumber the pieces of their .model.
const RENUMBERED: [&str; 6] = ["XLMRoberta", "Camembert", "MBart", "NllbTokenizer", "Barthez", "M2M100"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

/// What matters of the protocol buffer ModelProto.
struct Model {
    pieces: Vec<Piece>,
    is_bpe: bool,
    charsmap: Vec<u8>,
    add_dummy_prefix: bool,
    remove_extra_spaces: bool,
}

/// Builds the tokenizer.json. `settings` is tokenizer_config.json, `added` added_tokens.json; either may be empty.
pub fn to_tokenizer_json(model: &[u8], settings: &[u8], added: &[u8]) -> Result<Vec<u8>, BridgeError> {
    let settings = parse_object(settings, "tokenizer_config.json")?;
    let added = parse_object(added, "added_tokens.json")?;
    let class = settings.get("tokenizer_class").and_then(Json::as_str).unwrap_or_default();
    if RENUMBERED.iter().any(|name| class.starts_with(name)) {
        return Err(BridgeError::tokenizer(format!("{class} renumbers its .model; only its tokenizer.json can be read")));
    }
    let model = Model::parse(model)?;
    let document = json!({
        "version": "1.0",
        "added_tokens": added_tokens(&model, &settings, &added)?,
        "normalizer": normalizer(&model, &settings),
        "pre_tokenizer": pre_tokenizer(&model, &settings),
        "post_processor": null,
        "decoder": decoder(&model),
        "model": if model.is_bpe { bpe(&model) } else { unigram(&model)? },
    });
    serde_json::to_vec(&document).map_err(BridgeError::tokenizer)
}

fn parse_object(bytes: &[u8], name: &str) -> Result<Map<String, Json>, BridgeError> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes).map_err(|e| BridgeError::tokenizer(format!("{name}: {e}")))
}

/// Legacy behaviour (the default) puts a space before every stretch of text between special tokens, the other only
/// before the first.
fn is_legacy(settings: &Map<String, Json>) -> bool {
    settings.get("legacy").and_then(Json::as_bool).unwrap_or(true)
}

fn normalizer(model: &Model, settings: &Map<String, Json>) -> Json {
    let mut steps = Vec::new();
    if !model.charsmap.is_empty() {
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": base64(&model.charsmap)}));
    }
    if model.remove_extra_spaces {
        steps.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    if is_legacy(settings) {
        if model.add_dummy_prefix {
            steps.push(json!({"type": "Prepend", "prepend": SPACE}));
        }
        steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
    }
    if steps.is_empty() { Json::Null } else { json!({"type": "Sequence", "normalizers": steps}) }
}

fn pre_tokenizer(model: &Model, settings: &Map<String, Json>) -> Json {
    if is_legacy(settings) {
        return Json::Null;
    }
    let scheme = if model.add_dummy_prefix { "first" } else { "never" };
    json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false})
}

fn decoder(model: &Model) -> Json {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if model.add_dummy_prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

fn bpe(model: &Model) -> Json {
    let vocab: Map<String, Json> =
        model.pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), Json::from(id))).collect();
    json!({
        "type": "BPE", "dropout": null, "unk_token": model.unknown(), "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": model.has_bytes(), "ignore_merges": false,
        "vocab": vocab, "merges": merges(model),
    })
}

/// Every way to put a piece together from two others, best first: SentencePiece merges the pair whose result has the
/// highest score.
fn merges(model: &Model) -> Vec<[&str; 2]> {
    let ids: HashMap<&str, usize> = model.pieces.iter().enumerate().map(|(id, p)| (p.text.as_str(), id)).collect();
    let mut found = Vec::new();
    for piece in model.pieces.iter().filter(|piece| matches!(piece.kind, Kind::Normal | Kind::UserDefined)) {
        let cuts = piece.text.char_indices().skip(1).map(|(at, _)| piece.text.split_at(at));
        let pairs = cuts.filter_map(|(l, r)| Some((*ids.get(l)?, *ids.get(r)?, l, r)));
        let mut local: Vec<_> = pairs.map(|(left, right, l, r)| (piece.score, left, right, l, r)).collect();
        local.sort_by_key(|&(_, left, right, _, _)| (left, right));
        found.extend(local);
    }
    let length = |text: &str| text.chars().count();
    found.sort_by(|a, b| {
        let key = |m: &(f32, usize, usize, &str, &str)| (length(m.3), length(m.4));
        b.0.total_cmp(&a.0).then_with(|| key(b).cmp(&key(a)))
    });
    found.into_iter().map(|(_, _, _, l, r)| [l, r]).collect()
}

fn unigram(model: &Model) -> Result<Json, BridgeError> {
    let unknown = model.pieces.iter().position(|piece| piece.kind == Kind::Unknown);
    let unknown = unknown.ok_or_else(|| BridgeError::tokenizer("the SentencePiece model has no unknown piece"))?;
    let vocab: Vec<Json> = model.pieces.iter().map(|piece| json!([piece.text, piece.score as f64])).collect();
    Ok(json!({"type": "Unigram", "unk_id": unknown, "byte_fallback": model.has_bytes(), "vocab": vocab}))
}

/// Control and user-defined pieces of the model, then what the two settings files add or change.
fn added_tokens(
    model: &Model, settings: &Map<String, Json>, added: &Map<String, Json>,
) -> Result<Vec<Json>, BridgeError> {
    let mut tokens: std::collections::BTreeMap<u64, Json> = Default::default();
    let entry = |id: u64, content: &str, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": special})
    };
    for (id, piece) in model.pieces.iter().enumerate() {
        let special = matches!(piece.kind, Kind::Unknown | Kind::Control);
        if special || piece.kind == Kind::UserDefined {
            tokens.insert(id as u64, entry(id as u64, &piece.text, special));
        }
    }
    for (content, id) in added {
        let id = id.as_u64().ok_or_else(|| BridgeError::tokenizer(format!("added_tokens.json: bad id of {content}")))?;
        tokens.insert(id, entry(id, content, false));
    }
    for (id, token) in settings.get("added_tokens_decoder").and_then(Json::as_object).into_iter().flatten() {
        let content = token.get("content").and_then(Json::as_str);
        let (Ok(number), Some(content)) = (id.parse::<u64>(), content) else {
            return Err(BridgeError::tokenizer(format!("tokenizer_config.json: added_tokens_decoder has a bad entry {id}")));
        };
        let mut merged = entry(number, content, false);
        copy_flags(token, &mut merged);
        tokens.insert(number, merged);
    }
    // Older settings describe the tokens with a role beside their role.
    for role in ["bos_token", "eos_token", "unk_token", "pad_token"] {
        let Some(described) = settings.get(role).filter(|token| token.is_object()) else { continue };
        for token in tokens.values_mut().filter(|token| token["content"] == described["content"]) {
            copy_flags(described, token);
        }
    }
    Ok(tokens.into_values().collect())
}

/// Takes over how a token is to be found in texts.
fn copy_flags(from: &Json, to: &mut Json) {
    for flag in ["single_word", "lstrip", "rstrip", "normalized", "special"] {
        if let Some(value) = from.get(flag).and_then(Json::as_bool) {
            to[flag] = Json::Bool(value);
        }
    }
}

impl Model {
    fn parse(bytes: &[u8]) -> Result<Model, BridgeError> {
        let mut model = Model {
            pieces: Vec::new(),
            is_bpe: false,
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_spaces: true,
        };
        let mut model_type = 1;
        for (number, field) in fields(bytes)? {
            match (number, field) {
                (1, Field::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Field::Bytes(trainer)) => {
                    for (number, field) in fields(trainer)? {
                        if let (3, Field::Number(value)) = (number, field) {
                            model_type = value;
                        }
                    }
                }
                (3, Field::Bytes(spec)) => model.read_normalizer(spec)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() || !matches!(model_type, 1 | 2) {
            let what = format!("{} pieces, model type {model_type}", model.pieces.len());
            return Err(BridgeError::tokenizer(format!("not a SentencePiece unigram or BPE model ({what})")));
        }
        model.is_bpe = model_type == 2;
        Ok(model)
    }

    fn read_normalizer(&mut self, spec: &[u8]) -> Result<(), BridgeError> {
        for (number, field) in fields(spec)? {
            match (number, field) {
                (2, Field::Bytes(charsmap)) => self.charsmap = charsmap.to_vec(),
                (3, Field::Number(value)) => self.add_dummy_prefix = value != 0,
                (4, Field::Number(value)) => self.remove_extra_spaces = value != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn unknown(&self) -> Option<&str> {
        self.pieces.iter().find(|piece| piece.kind == Kind::Unknown).map(|piece| piece.text.as_str())
    }

    fn has_bytes(&self) -> bool {
        self.pieces.iter().any(|piece| piece.kind == Kind::Byte)
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Result<Piece, BridgeError> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
        for (number, field) in fields(bytes)? {
            match (number, field) {
                (1, Field::Bytes(text)) => {
                    piece.text = String::from_utf8(text.to_vec()).map_err(BridgeError::tokenizer)?;
                }
                (2, Field::Float(score)) => piece.score = score,
                (3, Field::Number(kind)) => {
                    piece.kind = match kind {
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        _ => Kind::Normal,
                    }
                }
                _ => {}
            }
        }
        Ok(piece)
    }
}

/// One field of a protocol buffer message.
enum Field<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    Fixed64,
}

fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Field<'_>)>, BridgeError> {
    let damaged = || BridgeError::tokenizer("not a SentencePiece model (damaged protocol buffer)");
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes).ok_or_else(damaged)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes).ok_or_else(damaged)?),
            1 => take(&mut bytes, 8).map(|_| Field::Fixed64).ok_or_else(damaged)?,
            2 => {
                let size = varint(&mut bytes).ok_or_else(damaged)?;
                Field::Bytes(take(&mut bytes, usize::try_from(size).map_err(|_| damaged())?).ok_or_else(damaged)?)
            }
            5 => {
                let raw: [u8; 4] = take(&mut bytes, 4).and_then(|b| b.try_into().ok()).ok_or_else(damaged)?;
                Field::Float(f32::from_le_bytes(raw))
            }
            _ => return Err(damaged()),
        };
        found.push((key >> 3, field));
    }
    Ok(found)
}

fn take<'a>(bytes: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(size)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{base64, fields, varint};

    #[test]
    fn base64_pads_the_last_group() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn damaged_messages_are_errors() {
        assert_eq!(varint(&mut &[0xac, 0x02][..]), Some(300));
        assert_eq!(varint(&mut &[0xff; 11][..]), None);
        for bytes in [&[0x0a, 0x05, 1][..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &[0x0f], &[0x15, 1]] {
            assert!(fields(bytes).is_err(), "{bytes:?}");
        }
    }
}
