//! A compiled chat template and its rendering from JSON contexts, with or without provenance.
//! It only joins environment.rs (the semantics) with provenance.rs (what came from the request).

use crate::environment;
use crate::error::BridgeError;
use crate::provenance::{Guard, Rendered};
use minijinja::{Environment, Value};
use serde_json::Value as Json;

/// A chat template, compiled once and rendered from any number of threads.
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    guard: Option<Guard>,
}

impl ChatTemplate {
    pub fn compile(source: &str) -> Result<Self, BridgeError> {
        let env = environment::build(source)?;
        Ok(ChatTemplate { env, source: source.to_string(), guard: None })
    }

    /// From now on keeps special tokens in the request apart from the template's; see Guard::new.
    pub fn protect(&mut self, specials: Vec<String>, lookalikes: &str, exact: bool) -> Result<(), BridgeError> {
        self.guard = Some(Guard::new(&self.source, specials, lookalikes, exact)?);
        Ok(())
    }

    /// Renders with the variables of two JSON objects: `settings` are the model's (bos_token ...) and trusted,
    /// `request` is the client's (messages, tools ...). `now` is local time in seconds since the epoch.
    pub fn render(&self, settings: &str, request: &str, now: i64) -> Result<Rendered, BridgeError> {
        let settings_json = parse(settings, "settings")?;
        let request_json = parse(request, "request")?;
        let render = |request_now: &Json| {
            let bytes = settings.len() + request.len() + self.source.len();
            self.render_plain(&settings_json, request_now, now, bytes)
        };
        match &self.guard {
            Some(guard) => guard.render(&request_json, render),
            None => Ok(Rendered { text: render(&request_json)?, untrusted: Vec::new() }),
        }
    }

    fn render_plain(&self, settings: &Json, request: &Json, now: i64, bytes: usize) -> Result<String, BridgeError> {
        let mut variables = Vec::new();
        for object in [settings, request] {
            for (name, value) in object.as_object().into_iter().flatten() {
                variables.push((name.clone(), to_value(value)));
            }
        }
        let context = environment::with_now(variables, now);
        // The limit belongs to the render, and only a copy of the environment can have its own; copies share templates.
        let mut env = self.env.clone();
        env.set_fuel(Some(environment::fuel_for(bytes)));
        Ok(env.get_template(environment::TEMPLATE_NAME)?.render(context)?)
    }
}

/// A JSON value as the template engine sees it; objects keep their order.
fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(to_value).collect(),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(key, item)| (key.as_str(), to_value(item)))),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => Value::from(signed),
            (None, Some(unsigned)) => Value::from(unsigned),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
    }
}

fn parse(text: &str, what: &str) -> Result<Json, BridgeError> {
    let value: Json = serde_json::from_str(text)
        .map_err(|e| BridgeError::new("JsonError", format!("the {what} of the chat template: {e}")))?;
    if !value.is_object() {
        return Err(BridgeError::new("JsonError", format!("the {what} of the chat template must be a JSON object")));
    }
    Ok(value)
}
