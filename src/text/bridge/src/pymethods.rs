//! Methods of Python's str, list and dict that templates call, where the engine's own set is missing or differs.
//! Everything else goes on to minijinja-contrib's pycompat. Methods that change a container fail as they do in
//! jinja2's ImmutableSandboxedEnvironment. Comparing and stripping look through provenance marks (provenance.rs).

use crate::error::python_error;
use crate::provenance::{is_bracket, without_brackets};
use minijinja::value::{from_args, Kwargs, Tuple, ValueKind};
use minijinja::{Error, State, Value};

/// The engine calls this for each method that a value does not have itself.
pub fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    refuse_mutation(value, method)?;
    let known = match value.kind() {
        ValueKind::String => string_method(state, value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Seq => list_method(value, method, args)?,
        ValueKind::Map => map_method(value, method, args)?,
        _ => None,
    };
    match known {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn refuse_mutation(value: &Value, method: &str) -> Result<(), Error> {
    const LIST: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
    const DICT: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];
    let (unsafe_methods, kind): (&[&str], _) = match value.kind() {
        ValueKind::Seq => (&LIST, "list"),
        ValueKind::Map => (&DICT, "dict"),
        _ => return Ok(()),
    };
    if unsafe_methods.contains(&method) {
        let message = format!("access to attribute '{method}' of '{kind}' object is unsafe.");
        return Err(python_error("SecurityError", message));
    }
    Ok(())
}

fn list_method(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => from_args::<()>(args).map(|()| Some(value.clone())),
        "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let position = value.try_iter()?.position(|item| item == *wanted);
            let index = position.ok_or_else(|| python_error("ValueError", format!("{wanted} is not in list")))?;
            Ok(Some(Value::from(index)))
        }
        _ => Ok(None),
    }
}

fn map_method(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => from_args::<()>(args).map(|()| Some(value.clone())),
        _ => Ok(None),
    }
}

fn string_method(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(Some(match method {
        "strip" => strip_method(text, args, true, true)?,
        "lstrip" => strip_method(text, args, true, false)?,
        "rstrip" => strip_method(text, args, false, true)?,
        "startswith" => affix_method(text, args, |text, affix| text.starts_with(affix), method)?,
        "endswith" => affix_method(text, args, |text, affix| text.ends_with(affix), method)?,
        "removeprefix" => affix_removed(text, args, |text, affix| text.strip_prefix(affix))?,
        "removesuffix" => affix_removed(text, args, |text, affix| text.strip_suffix(affix))?,
        "split" => split_method(state, text, args, false)?,
        "rsplit" => split_method(state, text, args, true)?,
        "partition" => partition_method(text, args, false)?,
        "rpartition" => partition_method(text, args, true)?,
        "splitlines" => splitlines_method(text, args)?,
        "index" => index_method(text, args)?,
        "ljust" | "rjust" | "center" | "zfill" => pad_method(state, text, method, args)?,
        "swapcase" => Value::from(swap_case(text)),
        // Character by character: str::to_lowercase knows the Greek final sigma, which folding must not.
        "casefold" => Value::from(text.replace(['ß', 'ẞ'], "ss").chars().flat_map(char::to_lowercase).collect::<String>()),
        _ => return Ok(None),
    }))
}

/// What str.strip() without arguments removes: Unicode white space and the four ASCII separators.
pub fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The filter `trim(value, chars=None)`, which turns any value into text first.
pub fn trim(value: &Value, chars: Option<String>) -> Value {
    let text = value.to_string();
    let set = chars.map(|chars| chars.chars().collect::<Vec<_>>());
    Value::from(strip(&text, set.as_deref(), true, true))
}

/// The filter `wordcount`: runs of letters, digits and underscores.
pub fn wordcount(value: &Value) -> usize {
    let text = value.to_string();
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
}

/// The test `iterable`: what Python's iter() takes; an undefined value is an empty sequence.
pub fn is_iterable(value: &Value) -> bool {
    use ValueKind::*;
    matches!(value.kind(), String | Seq | Map | Iterable | Undefined | Bytes)
}

/// The test `sequence`: what has a length and items.
pub fn is_sequence(value: &Value) -> bool {
    use ValueKind::*;
    matches!(value.kind(), String | Seq | Map | Undefined | Bytes)
}

fn strip_method(text: &str, args: &[Value], left: bool, right: bool) -> Result<Value, Error> {
    let (chars,): (Option<Value>,) = from_args(args)?;
    let set = match chars {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => Some(string_argument(&v, "strip")?.chars().collect::<Vec<_>>()),
    };
    Ok(Value::from(strip(text, set.as_deref(), left, right)))
}

/// Strips characters from the ends. A bracket of provenance is looked through and kept: dropping it would make a
/// special token of the content look like one of the template.
fn strip(text: &str, set: Option<&[char]>, left: bool, right: bool) -> String {
    let strippable = |c: char| set.map_or_else(|| is_python_space(c), |set| set.contains(&c));
    let core = |c: char| !is_bracket(c) && !strippable(c);
    let first = text.char_indices().find(|&(_, c)| core(c)).map_or(text.len(), |(at, _)| at);
    let last = text.char_indices().rev().find(|&(_, c)| core(c)).map_or(first, |(at, c)| at + c.len_utf8());
    let edge = |part: &str, cut: bool| -> String {
        if cut { part.chars().filter(|&c| is_bracket(c)).collect() } else { part.to_string() }
    };
    edge(&text[..first], left) + &text[first..last] + &edge(&text[last..], right)
}

fn string_argument<'a>(value: &'a Value, method: &str) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| {
        python_error("TypeError", format!("{method} arg must be None or str, not {}", value.kind()))
    })
}

fn affix_method(text: &str, args: &[Value], test: fn(&str, &str) -> bool, method: &str) -> Result<Value, Error> {
    let (affix,): (&Value,) = from_args(args)?;
    let text = without_brackets(text);
    let matches = |affix: &Value| Ok::<_, Error>(test(&text, &without_brackets(string_argument(affix, method)?)));
    if affix.kind() != ValueKind::Seq {
        return matches(affix).map(Value::from);
    }
    for one in affix.try_iter()? {
        if matches(&one)? {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

fn affix_removed(
    text: &str, args: &[Value], remove: for<'a> fn(&'a str, &str) -> Option<&'a str>,
) -> Result<Value, Error> {
    let (affix,): (&str,) = from_args(args)?;
    Ok(Value::from(remove(text, affix).unwrap_or(text)))
}

fn split_method(state: &State, text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (sep, limit, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let sep = match sep {
        Some(sep) => Some(sep),
        None => kwargs.get("sep")?,
    };
    let limit = match limit {
        Some(limit) => limit,
        None => kwargs.get::<Option<i64>>("maxsplit")?.unwrap_or(-1),
    };
    kwargs.assert_all_used()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts = match sep.filter(|sep| !sep.is_none()) {
        None => split_on_space(text, limit, from_right),
        Some(sep) => {
            let sep = string_argument(&sep, "split")?;
            if sep.is_empty() {
                return Err(python_error("ValueError", "empty separator"));
            }
            split_on(text, sep, limit, from_right)
        }
    };
    state.consume_fuel(parts.len() as u64)?;
    Ok(parts.into_iter().map(Value::from).collect())
}

fn split_on<'a>(text: &'a str, sep: &str, limit: usize, from_right: bool) -> Vec<&'a str> {
    let pieces = limit.saturating_add(1);
    if from_right {
        let mut parts: Vec<_> = text.rsplitn(pieces, sep).collect();
        parts.reverse();
        return parts;
    }
    text.splitn(pieces, sep).collect()
}

/// Splits at runs of white space; the part past the limit keeps its inner space, as in Python.
fn split_on_space(text: &str, limit: usize, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_matches(is_python_space);
    while !rest.is_empty() {
        let found = if from_right { rest.rfind(is_python_space) } else { rest.find(is_python_space) };
        match found.filter(|_| parts.len() < limit) {
            None => {
                parts.push(rest);
                break;
            }
            Some(at) if from_right => {
                let space = rest[at..].chars().next().map_or(1, char::len_utf8);
                parts.push(&rest[at + space..]);
                rest = rest[..at].trim_end_matches(is_python_space);
            }
            Some(at) => {
                parts.push(&rest[..at]);
                rest = rest[at..].trim_start_matches(is_python_space);
            }
        }
    }
    if from_right {
        parts.reverse();
    }
    parts
}

fn partition_method(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (sep,): (&str,) = from_args(args)?;
    if sep.is_empty() {
        return Err(python_error("ValueError", "empty separator"));
    }
    let parts = match if from_right { text.rsplit_once(sep) } else { text.split_once(sep) } {
        Some((before, after)) => [before, sep, after],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// Python's line boundaries, of which str::lines of Rust knows two.
fn splitlines_method(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
    let keep = keep.unwrap_or(kwargs.get::<Option<bool>>("keepends")?.unwrap_or(false));
    kwargs.assert_all_used()?;
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some((at, end)) = rest.char_indices().find(|&(_, c)| is_end(c)) {
        let next = if rest[at..].starts_with("\r\n") { at + 2 } else { at + end.len_utf8() };
        lines.push(Value::from(&rest[..if keep { next } else { at }]));
        rest = &rest[next..];
    }
    if !rest.is_empty() {
        lines.push(Value::from(rest));
    }
    Ok(Value::from(lines))
}

fn index_method(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (wanted,): (&str,) = from_args(args)?;
    let at = text.find(wanted).ok_or_else(|| python_error("ValueError", "substring not found"))?;
    Ok(Value::from(text[..at].chars().count()))
}

fn pad_method(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let length = text.chars().count();
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(length);
    state.consume_fuel(missing as u64)?;
    let fill = if method == "zfill" { "0" } else { fill.unwrap_or(" ") };
    if fill.chars().count() != 1 {
        return Err(python_error("TypeError", "The fill character must be exactly one character long"));
    }
    // CPython's rule for which side gets the odd one out.
    let left = match method {
        "ljust" => 0,
        "center" => missing / 2 + (missing & width as usize & 1),
        _ => missing,
    };
    let sign = if method == "zfill" && text.starts_with(['+', '-']) { 1 } else { 0 };
    let body = format!("{}{}{}", fill.repeat(left), &text[sign..], fill.repeat(missing - left));
    Ok(Value::from(text[..sign].to_string() + &body))
}

fn swap_case(text: &str) -> String {
    let swap = |c: char| -> String {
        if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
    };
    text.chars().map(swap).collect()
}
