//! The template environment with the semantics of Hugging Face's: jinja2's ImmutableSandboxedEnvironment with
//! trim_blocks, lstrip_blocks, loop controls, the generation tag, and transformers' own functions and filters.
//! Limits on work, memory and depth keep a hostile template from hanging or filling the machine.

use crate::error::{python_error, BridgeError};
use crate::{pyjson, pymethods, strftime};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, State, UndefinedBehavior, Value};

/// Name under which a template's source is registered.
pub const TEMPLATE_NAME: &str = "chat_template";
/// Longest template source; real ones stay below 40 KiB.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Work allowed besides what the size of the input pays for. One unit is an instruction or 64 bytes of data.
const BASE_FUEL: u64 = 2_000_000;
/// Variable that holds the time of the render; its name cannot be written in a template.
const NOW: &str = "now of this render";

/// Builds the environment of one template.
pub fn build(source: &str) -> Result<Environment<'static>, BridgeError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        let message = format!("the template has {} bytes; at most {MAX_TEMPLATE_BYTES} are accepted", source.len());
        return Err(BridgeError::new("LimitError", message));
    }
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    env.set_syntax(syntax);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    // Debug mode remembers which expression was undefined, so that an error can name it as jinja2 does.
    env.set_debug(true);
    env.set_unknown_method_callback(pymethods::call);
    env.add_filter("tojson", pyjson::tojson);
    env.add_filter("trim", pymethods::trim);
    env.add_filter("wordcount", pymethods::wordcount);
    env.add_test("iterable", pymethods::is_iterable);
    env.add_test("sequence", pymethods::is_sequence);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
    env.add_template_owned(TEMPLATE_NAME, plain_generation_tags(source))?;
    Ok(env)
}

/// Work allowed for a render whose inputs have this many bytes in all.
pub fn fuel_for(input_bytes: usize) -> u64 {
    BASE_FUEL + input_bytes as u64
}

/// Adds the time of this render, in seconds of local time, to the context's variables.
pub fn with_now(mut variables: Vec<(String, Value)>, now: i64) -> Value {
    variables.push((NOW.to_string(), Value::from(now)));
    Value::from_pairs(variables)
}

fn raise_exception(message: Value) -> Result<Value, Error> {
    Err(python_error("TemplateError", message.to_string()))
}

fn strftime_now(state: &State, format: String) -> Result<String, Error> {
    let now = state.lookup(NOW).and_then(|now| i64::try_from(now).ok()).unwrap_or(0);
    strftime::strftime(now, &format)
}

/// Rewrites `{% generation %}` … `{% endgeneration %}` (which mark what the assistant wrote, for training) as a
/// `with` block: the text inside is rendered in a scope of its own and nothing else happens.
fn plain_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let opening = |text: &str| ["{%", "{{", "{#"].iter().filter_map(|mark| text.find(mark)).min();
    while let Some(start) = opening(rest) {
        let closing = match &rest[start..start + 2] {
            "{%" => "%}",
            "{{" => "}}",
            _ => "#}",
        };
        let body = start + 2;
        let Some(end) = rest[body..].find(closing).map(|at| body + at) else { break };
        out.push_str(&rest[..body]);
        let inside = &rest[body..end];
        match inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" if closing == "%}" => out.push_str(&inside.replace("generation", "with")),
            "endgeneration" if closing == "%}" => out.push_str(&inside.replace("endgeneration", "endwith")),
            _ => out.push_str(inside),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::plain_generation_tags;

    #[test]
    fn generation_tags_become_with_blocks() {
        let source = "{%- generation -%}a{{ '{% generation %}' }}{# {% generation %} #}{% endgeneration %}{% generation";
        let expected = "{%- with -%}a{{ '{% generation %}' }}{# {% generation %} #}{% endwith %}{% generation";
        assert_eq!(plain_generation_tags(source), expected);
    }
}
