//! The C ABI declared in bridge.h. Each entry point turns its arguments into Rust values, runs the body under
//! catch_unwind, and hands errors back as an owned string; a panic becomes an error of class "Panic".
//! Pointers must be what bridge.h says; that is the caller's side of the contract and cannot be checked here.

use crate::error::BridgeError;
use crate::grammar::{Grammar, Kind, Matcher, TokenTrie};
use crate::template::ChatTemplate;
use crate::tokenizer::HfTokenizer;
use std::ops::Range;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// A borrowed text or byte string; `data` may be null when `size` is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

/// A byte string owned by the bridge, to be given back to bittern_bridge_free_bytes.
#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    size: usize,
}

/// A half-open range of bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ByteRange {
    begin: usize,
    end: usize,
}

/// An array owned by the bridge, to be given back to bittern_bridge_free_ids.
#[repr(C)]
pub struct Ids {
    data: *mut u32,
    size: usize,
}

/// An array owned by the bridge, to be given back to bittern_bridge_free_ranges.
#[repr(C)]
pub struct Ranges {
    data: *mut ByteRange,
    size: usize,
}

/// Called once per added token.
type AddedTokenVisitor = extern "C" fn(context: *mut std::ffi::c_void, id: u32, special: bool, content: Slice);

impl Slice {
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(self.data, self.size) } }
    }

    unsafe fn text<'a>(self, what: &str) -> Result<&'a str, BridgeError> {
        std::str::from_utf8(unsafe { self.bytes() }).map_err(|e| {
            BridgeError::new("EncodingError", format!("{what} is not valid UTF-8 at byte {}", e.valid_up_to()))
        })
    }

    fn of(text: &str) -> Self {
        Slice { data: text.as_ptr(), size: text.len() }
    }
}

/// Moves a vector to the caller; null and 0 when empty.
fn into_raw<T>(items: Vec<T>) -> (*mut T, usize) {
    if items.is_empty() {
        return (std::ptr::null_mut(), 0);
    }
    let size = items.len();
    (Box::into_raw(items.into_boxed_slice()).cast(), size)
}

unsafe fn from_raw<T>(data: *mut T, size: usize) {
    if !data.is_null() {
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, size)) });
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let (data, size) = into_raw(bytes);
        Bytes { data, size }
    }
}

unsafe fn ranges_of<'a>(data: *const ByteRange, size: usize) -> &'a [ByteRange] {
    if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, size) } }
}

/// Runs `body`; true if it gave a value, which goes to `out`, else false and the reason goes to `error`.
unsafe fn guarded<T>(out: *mut T, error: *mut Bytes, body: impl FnOnce() -> Result<T, BridgeError>) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(BridgeError::new("Panic", text.unwrap_or_else(|| "unknown".to_string())))
    });
    match outcome {
        Ok(value) => {
            unsafe { out.write(value) };
            true
        }
        Err(reason) => {
            unsafe { error.write(reason.to_string().into_bytes().into()) };
            false
        }
    }
}

/// Panics are reported as errors, so Rust's own message on stderr would only repeat them.
fn silence_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_free_bytes(bytes: Bytes) {
    unsafe { from_raw(bytes.data, bytes.size) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_free_ids(ids: Ids) {
    unsafe { from_raw(ids.data, ids.size) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_free_ranges(ranges: Ranges) {
    unsafe { from_raw(ranges.data, ranges.size) }
}

// --- Tokenizer ---------------------------------------------------------------------------------------------------

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_new(
    json: Slice, out: *mut *mut HfTokenizer, error: *mut Bytes,
) -> bool {
    silence_panics();
    unsafe { guarded(out, error, || HfTokenizer::from_json(json.bytes()).map(|t| Box::into_raw(Box::new(t)))) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_from_sentencepiece(
    model: Slice, settings: Slice, added: Slice, out: *mut *mut HfTokenizer, error: *mut Bytes,
) -> bool {
    silence_panics();
    let body = || unsafe { HfTokenizer::from_sentencepiece(model.bytes(), settings.bytes(), added.bytes()) };
    unsafe { guarded(out, error, || body().map(|t| Box::into_raw(Box::new(t)))) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_free(tokenizer: *mut HfTokenizer) {
    if !tokenizer.is_null() {
        drop(unsafe { Box::from_raw(tokenizer) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_encode(
    tokenizer: *const HfTokenizer, text: Slice, untrusted: *const ByteRange, untrusted_size: usize, add_special: bool,
    ids: *mut Ids, offsets: *mut Ranges, error: *mut Bytes,
) -> bool {
    let body = || {
        let text = unsafe { text.text("the text to tokenize")? };
        let untrusted = unsafe { ranges_of(untrusted, untrusted_size) };
        let untrusted: Vec<Range<usize>> = untrusted.iter().map(|range| range.begin..range.end).collect();
        let encoded = unsafe { &*tokenizer }.encode(text, &untrusted, add_special, !offsets.is_null())?;
        if !offsets.is_null() {
            let ranges = encoded.offsets.iter().map(|&(begin, end)| ByteRange { begin, end });
            let (data, size) = into_raw(ranges.collect());
            unsafe { offsets.write(Ranges { data, size }) };
        }
        let (data, size) = into_raw(encoded.ids);
        Ok(Ids { data, size })
    };
    unsafe { guarded(ids, error, body) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_decode(
    tokenizer: *const HfTokenizer, ids: *const u32, size: usize, skip_special: bool, text: *mut Bytes,
    error: *mut Bytes,
) -> bool {
    let body = || {
        let ids = if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(ids, size) } };
        unsafe { &*tokenizer }.decode(ids, skip_special).map(|text| text.into_bytes().into())
    };
    unsafe { guarded(text, error, body) }
}

/// `found` says whether the id exists; the token may be the empty string.
#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_token(
    tokenizer: *const HfTokenizer, id: u32, as_bytes: bool, found: *mut bool, token: *mut Bytes, error: *mut Bytes,
) -> bool {
    let body = || {
        let tokenizer = unsafe { &*tokenizer };
        let bytes = if as_bytes { tokenizer.token_bytes(id) } else { tokenizer.id_to_token(id).map(String::into_bytes) };
        unsafe { found.write(bytes.is_some()) };
        Ok(bytes.unwrap_or_default().into())
    };
    unsafe { guarded(token, error, body) }
}

/// `id` is -1 for an unknown token.
#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_id(
    tokenizer: *const HfTokenizer, token: Slice, id: *mut i64, error: *mut Bytes,
) -> bool {
    let body = || {
        let token = unsafe { token.text("the token")? };
        Ok(unsafe { &*tokenizer }.token_to_id(token).map_or(-1, i64::from))
    };
    unsafe { guarded(id, error, body) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_vocab_size(
    tokenizer: *const HfTokenizer, size: *mut usize, error: *mut Bytes,
) -> bool {
    unsafe { guarded(size, error, || Ok((*tokenizer).vocab_size())) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_added_tokens(
    tokenizer: *const HfTokenizer, visit: AddedTokenVisitor, context: *mut std::ffi::c_void, count: *mut usize,
    error: *mut Bytes,
) -> bool {
    let body = || {
        let tokens = unsafe { &*tokenizer }.added_tokens();
        for token in &tokens {
            visit(context, token.id, token.special, Slice::of(&token.content));
        }
        Ok(tokens.len())
    };
    unsafe { guarded(count, error, body) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_tokenizer_lookalikes(
    tokenizer: *const HfTokenizer, exact: *mut bool, lookalikes: *mut Bytes, error: *mut Bytes,
) -> bool {
    let body = || {
        let (characters, is_exact) = unsafe { &*tokenizer }.lookalikes()?;
        unsafe { exact.write(is_exact) };
        Ok(characters.into_bytes().into())
    };
    unsafe { guarded(lookalikes, error, body) }
}

// --- Chat template -----------------------------------------------------------------------------------------------

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_template_new(
    source: Slice, out: *mut *mut ChatTemplate, error: *mut Bytes,
) -> bool {
    silence_panics();
    let body = || ChatTemplate::compile(unsafe { source.text("the chat template")? });
    unsafe { guarded(out, error, || body().map(|template| Box::into_raw(Box::new(template)))) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_template_free(template: *mut ChatTemplate) {
    if !template.is_null() {
        drop(unsafe { Box::from_raw(template) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_template_protect(
    template: *mut ChatTemplate, specials: *const Slice, specials_size: usize, lookalikes: Slice, exact: bool,
    error: *mut Bytes,
) -> bool {
    let body = || {
        let specials: &[Slice] =
            if specials_size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(specials, specials_size) } };
        let specials = specials.iter().map(|text| unsafe { text.text("a special token") }.map(str::to_string));
        let specials: Vec<String> = specials.collect::<Result<_, _>>()?;
        unsafe { (*template).protect(specials, lookalikes.text("the lookalikes")?, exact) }
    };
    let mut done = ();
    unsafe { guarded(&mut done, error, body) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_template_render(
    template: *const ChatTemplate, settings: Slice, request: Slice, now: i64, text: *mut Bytes,
    untrusted: *mut Ranges, error: *mut Bytes,
) -> bool {
    let body = || {
        let settings = unsafe { settings.text("the template's settings")? };
        let request = unsafe { request.text("the request")? };
        let rendered = unsafe { &*template }.render(settings, request, now)?;
        let ranges = rendered.untrusted.iter().map(|range| ByteRange { begin: range.start, end: range.end });
        let (data, size) = into_raw(ranges.collect());
        unsafe { untrusted.write(Ranges { data, size }) };
        Ok(rendered.text.into_bytes().into())
    };
    unsafe { guarded(text, error, body) }
}

// --- Parquet -----------------------------------------------------------------------------------------------------

/// `columns` are names with a newline after each but the last.
#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_parquet_json_lines(
    file: Slice, columns: Slice, lines: *mut Bytes, error: *mut Bytes,
) -> bool {
    silence_panics();
    let body = || {
        let columns: Vec<&str> = unsafe { columns.text("the columns")? }.split('\n').collect();
        crate::parquet_rows::json_lines(unsafe { file.bytes() }, &columns).map(Bytes::from)
    };
    unsafe { guarded(lines, error, body) }
}

// --- Grammars ----------------------------------------------------------------------------------------------------

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_trie_new(
    tokenizer: *const HfTokenizer, end_ids: *const u32, end_ids_size: usize, out: *mut *mut TokenTrie,
    error: *mut Bytes,
) -> bool {
    silence_panics();
    let body = || {
        let end_ids = if end_ids_size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(end_ids, end_ids_size) } };
        TokenTrie::new(unsafe { &*tokenizer }, end_ids).map(|trie| Box::into_raw(Box::new(trie)))
    };
    unsafe { guarded(out, error, body) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_trie_free(trie: *mut TokenTrie) {
    if !trie.is_null() {
        drop(unsafe { Box::from_raw(trie) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_grammar_new(
    trie: *const TokenTrie, kind: u32, source: Slice, out: *mut *mut Grammar, error: *mut Bytes,
) -> bool {
    let body = || {
        let source = unsafe { source.text("the grammar")? };
        Grammar::compile(unsafe { &*trie }, Kind::from_number(kind)?, source).map(|g| Box::into_raw(Box::new(g)))
    };
    unsafe { guarded(out, error, body) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_grammar_free(grammar: *mut Grammar) {
    if !grammar.is_null() {
        drop(unsafe { Box::from_raw(grammar) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_matcher_new(
    grammar: *const Grammar, out: *mut *mut Matcher, error: *mut Bytes,
) -> bool {
    unsafe { guarded(out, error, || Ok(Box::into_raw(Box::new(Matcher::new(&*grammar))))) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_matcher_copy(
    matcher: *const Matcher, out: *mut *mut Matcher, error: *mut Bytes,
) -> bool {
    unsafe { guarded(out, error, || Ok(Box::into_raw(Box::new((*matcher).copy())))) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_matcher_free(matcher: *mut Matcher) {
    if !matcher.is_null() {
        drop(unsafe { Box::from_raw(matcher) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_matcher_mask(
    matcher: *mut Matcher, words: *mut u32, words_size: usize, error: *mut Bytes,
) -> bool {
    let mut done = ();
    let body = || unsafe { (*matcher).mask(std::slice::from_raw_parts_mut(words, words_size)) };
    unsafe { guarded(&mut done, error, body) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_matcher_accept(matcher: *mut Matcher, token: u32, error: *mut Bytes) -> bool {
    let mut done = ();
    unsafe { guarded(&mut done, error, || (*matcher).accept(token)) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_matcher_rollback(
    matcher: *mut Matcher, tokens: usize, error: *mut Bytes,
) -> bool {
    let mut done = ();
    unsafe { guarded(&mut done, error, || (*matcher).rollback(tokens)) }
}

#[no_mangle]
pub unsafe extern "C" fn bittern_bridge_matcher_state(
    matcher: *mut Matcher, stopped: *mut bool, accepting: *mut bool, error: *mut Bytes,
) -> bool {
    let body = || unsafe {
        stopped.write((*matcher).is_stopped());
        (*matcher).is_accepting()
    };
    unsafe { guarded(accepting, error, body) }
}

// --- Versions ----------------------------------------------------------------------------------------------------

/// Lines "name version" of the libraries inside, ended by a NUL that the size does not count.
#[no_mangle]
pub extern "C" fn bittern_bridge_versions() -> *const std::ffi::c_char {
    concat!(env!("BITTERN_BRIDGE_VERSIONS"), "\0").as_ptr().cast()
}
