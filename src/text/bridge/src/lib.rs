//! What Bittern takes from the Rust ecosystem, behind the C ABI of bridge.h: Hugging Face tokenizers, chat templates
//! (minijinja set up as Hugging Face sets up jinja2), llguidance grammars, and rows of Parquet files.
//! Nothing here knows of models, requests or files: bytes go in, bytes and ids come out, and no panic crosses.

mod environment;
mod error;
mod ffi;
mod grammar;
mod parquet_rows;
mod provenance;
mod pyjson;
mod pymethods;
mod sentencepiece;
mod splitting;
mod strftime;
pub mod template;
pub mod tokenizer;
