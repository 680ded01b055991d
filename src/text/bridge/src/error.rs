//! The one error type of the crate: a class, and a message that can be shown to a user.
//! Template errors keep the class name that Python's jinja2 would raise, since clients and tests compare it.
//! It does not carry hints; the C++ side knows what the user can do about it.

use std::error::Error as StdError;
use std::fmt;

/// A failure on its way to the C boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeError {
    /// e.g. "TemplateError", "UndefinedError", "TokenizerError", "Panic".
    pub class: String,
    pub message: String,
}

impl BridgeError {
    pub fn new(class: &str, message: impl Into<String>) -> Self {
        BridgeError { class: class.to_string(), message: message.into() }
    }

    /// A file of the tokenizer is wrong, or a text cannot be tokenized.
    pub fn tokenizer(message: impl fmt::Display) -> Self {
        Self::new("TokenizerError", message.to_string())
    }
}

impl fmt::Display for BridgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl StdError for BridgeError {}

/// Builds a template engine error that remembers the Python exception it stands for.
pub fn python_error(class: &str, message: impl Into<String>) -> minijinja::Error {
    let inner = BridgeError::new(class, message);
    minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, inner.message.clone()).with_source(inner)
}

/// Turns an engine error into ours: the remembered Python exception if there is one, else the nearest class.
impl From<minijinja::Error> for BridgeError {
    fn from(error: minijinja::Error) -> Self {
        let mut source: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(inner) = source {
            if let Some(own) = inner.downcast_ref::<BridgeError>() {
                return own.clone();
            }
            source = inner.source();
        }
        if let Some(name) = error.detail().and_then(undefined_name) {
            return BridgeError::new("UndefinedError", format!("'{name}' is undefined"));
        }
        if let Some(message) = error.detail().and_then(concatenation_message) {
            return BridgeError::new("TypeError", message);
        }
        BridgeError::new(class_of(error.kind()), describe(&error))
    }
}

fn class_of(kind: minijinja::ErrorKind) -> &'static str {
    use minijinja::ErrorKind::*;
    match kind {
        SyntaxError | UnknownFilter | UnknownTest => "TemplateSyntaxError",
        UndefinedError | UnknownFunction | UnknownMethod => "UndefinedError",
        OutOfFuel => "LimitError",
        TemplateNotFound | BadInclude => "TemplateNotFound",
        _ => "TypeError",
    }
}

/// The variable that the engine's detail "... (`name` is undefined, from ...)" speaks of, if it is a plain name.
fn undefined_name(detail: &str) -> Option<&str> {
    let (before, _) = detail.split_once("` is undefined")?;
    let (_, name) = before.rsplit_once('`')?;
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if plain { Some(name) } else { None }
}

/// Python's words for `+` on operands that cannot be added, from the engine's.
fn concatenation_message(detail: &str) -> Option<String> {
    let operands = detail.strip_prefix("tried to use + operator on unsupported types ")?;
    let (left, right) = operands.split_once(" and ")?;
    let (left, right) = (python_type(left), python_type(right));
    Some(match left {
        "str" | "list" => format!("can only concatenate {left} (not \"{right}\") to {left}"),
        _ => format!("unsupported operand type(s) for +: '{left}' and '{right}'"),
    })
}

fn python_type(kind: &str) -> &str {
    match kind {
        "string" => "str",
        "map" => "dict",
        "sequence" => "list",
        "number" => "int",
        "none" => "NoneType",
        "undefined" => "Undefined",
        other => other,
    }
}

/// Message with the engine's own details and the line of the template.
fn describe(error: &minijinja::Error) -> String {
    let mut text = match error.detail() {
        Some(detail) => detail.to_string(),
        None => error.kind().to_string(),
    };
    if error.kind() == minijinja::ErrorKind::OutOfFuel {
        text = "the template needs more work or memory than its limit allows".to_string();
    }
    if let Some(line) = error.line() {
        text.push_str(&format!(" (line {line} of the template)"));
    }
    text
}
