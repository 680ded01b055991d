//! Proof that the grammar engine is linked and works: compiles a JSON schema over a vocabulary of single bytes.
//! Constrained decoding over a model's own vocabulary is built on the same calls, and is not here yet.

use crate::error::BridgeError;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use llguidance::{Matcher, ParserFactory};

/// Number of bytes that may start a text which satisfies `schema`. An unsupported keyword is an error that names it.
pub fn first_bytes(schema: &str) -> Result<usize, BridgeError> {
    let error = |e: &dyn std::fmt::Display| BridgeError::new("GrammarError", e.to_string());
    let schema: serde_json::Value = serde_json::from_str(schema).map_err(|e| error(&e))?;
    let env = ApproximateTokEnv::single_byte_env();
    let mut factory = ParserFactory::new_simple(&env).map_err(|e| error(&e))?;
    factory.quiet();
    let mut matcher = Matcher::new(factory.create_parser(TopLevelGrammar::from_json_schema(schema)));
    let mask = matcher.compute_mask().map_err(|e| error(&e))?;
    Ok(mask.num_set())
}
