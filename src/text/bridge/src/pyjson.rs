//! `tojson` as Hugging Face defines it: Python's json.dumps with ensure_ascii, indent, separators and sort_keys.
//! The engine's own filter escapes for HTML and knows none of these, so values are written out here.
//! Code points of the provenance marks (see provenance.rs) count as the ASCII characters they stand for.

use crate::error::python_error;
use crate::provenance::is_mark;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, State, Value};

/// Nesting at which Python would fail with RecursionError; far above any real message.
const MAX_DEPTH: usize = 200;

/// Layout of the output, the arguments of json.dumps.
struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

/// The filter `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub fn tojson(state: &State, value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let style = Style::from_kwargs(&kwargs)?;
    kwargs.assert_all_used()?;
    let mut writer = Writer { out: String::new(), charged: 0, style, state };
    writer.value(value, 0)?;
    writer.charge()?;
    Ok(Value::from(writer.out))
}

impl Style {
    fn from_kwargs(kwargs: &Kwargs) -> Result<Style, Error> {
        let indent = match kwargs.get::<Option<Value>>("indent")? {
            None => None,
            Some(v) if v.is_none() || v.is_undefined() => None,
            Some(v) => Some(indent_text(&v)?),
        };
        let (mut item, mut key) = (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string());
        if let Some(pair) = kwargs.get::<Option<Value>>("separators")?.filter(|v| !v.is_none()) {
            let parts: Vec<String> = pair.try_iter()?.map(|v| v.to_string()).collect();
            if parts.len() != 2 {
                return Err(python_error("ValueError", "tojson: separators must be a pair of strings"));
            }
            (item, key) = (parts[0].clone(), parts[1].clone());
        }
        Ok(Style {
            ensure_ascii: flag(kwargs, "ensure_ascii")?,
            sort_keys: flag(kwargs, "sort_keys")?,
            indent,
            item_separator: item,
            key_separator: key,
        })
    }
}

fn flag(kwargs: &Kwargs, name: &str) -> Result<bool, Error> {
    Ok(kwargs.get::<Option<Value>>(name)?.is_some_and(|v| v.is_true()))
}

fn indent_text(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_string());
    }
    let width = match value.kind() {
        ValueKind::Bool => value.is_true() as i64,
        _ => i64::try_from(value.clone())?,
    };
    Ok(" ".repeat(width.clamp(0, 64) as usize))
}

struct Writer<'a, 'b, 'c> {
    out: String,
    charged: usize,
    style: Style,
    state: &'a State<'b, 'c>,
}

impl Writer<'_, '_, '_> {
    /// Pays for what was written since the last call, so that a nest of containers cannot outgrow the limits.
    fn charge(&mut self) -> Result<(), Error> {
        let written = self.out.len() - self.charged;
        self.charged = self.out.len();
        self.state.consume_fuel(1 + written as u64 / 16)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(python_error("RecursionError", "tojson: the value is nested too deeply"));
        }
        if self.out.len() - self.charged > 4096 {
            self.charge()?;
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq => self.sequence(value, depth)?,
            ValueKind::Map => self.mapping(value, depth)?,
            _ => return Err(not_serializable(value)),
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) {
        if value.is_integer() {
            self.out.push_str(&value.to_string());
        } else {
            self.out.push_str(&float_repr(f64::try_from(value.clone()).unwrap_or(f64::NAN)));
        }
    }

    fn sequence(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut empty = true;
        self.out.push('[');
        for item in value.try_iter()? {
            self.before_item(&mut empty, depth);
            self.value(&item, depth + 1)?;
        }
        self.close(']', empty, depth);
        Ok(())
    }

    fn mapping(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.style.sort_keys {
            keys.sort();
        }
        let mut empty = true;
        self.out.push('{');
        for key in keys {
            self.before_item(&mut empty, depth);
            self.key(&key)?;
            let separator = self.style.key_separator.clone();
            self.out.push_str(&separator);
            self.value(&value.get_item(&key)?, depth + 1)?;
        }
        self.close('}', empty, depth);
        Ok(())
    }

    /// Python turns the keys that JSON cannot have into strings.
    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::None => self.out.push_str("\"null\""),
            ValueKind::Bool => self.out.push_str(if key.is_true() { "\"true\"" } else { "\"false\"" }),
            ValueKind::Number => {
                self.out.push('"');
                self.number(key);
                self.out.push('"');
            }
            _ => return Err(python_error("TypeError", "keys must be str, int, float, bool or None")),
        }
        Ok(())
    }

    fn before_item(&mut self, empty: &mut bool, depth: usize) {
        if !*empty {
            let separator = self.style.item_separator.clone();
            self.out.push_str(&separator);
        }
        *empty = false;
        self.new_line(depth + 1);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.new_line(depth);
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.style.ensure_ascii && !c.is_ascii() && !is_mark(c)) => {
                    let mut units = [0u16; 2];
                    for unit in c.encode_utf16(&mut units) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

fn not_serializable(value: &Value) -> Error {
    let name = match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::Bytes => "bytes",
        ValueKind::Iterable => "generator",
        _ => "object",
    };
    python_error("TypeError", format!("Object of type {name} is not JSON serializable"))
}

/// Python's repr of a float: the shortest digits that read back equal, in exponent form from 1e16 and below 1e-4.
pub fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        return format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let mut text = value.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::float_repr;

    #[test]
    fn floats_print_as_python_prints_them() {
        let cases = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (123456789012345.0, "123456789012345.0"),
            (0.0001, "0.0001"),
            (1e300, "1e+300"),
        ];
        for (value, expected) in cases {
            assert_eq!(float_repr(value), expected);
        }
    }
}
