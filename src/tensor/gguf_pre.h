// tokenizer.ggml.pre: how a byte-level BPE tokenizer cuts texts before it merges, known by name from one table. What a
// name means is llama.cpp's doing; names outside the table are refused, since a wrong cut gives wrong ids silently.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tensor/gguf.h"

namespace bittern {

struct GgufPre {
  std::string_view name;
  Json (*pre_tokenizer)();  // as in tokenizer.json
  bool ignore_merges;       // a word that is a token is taken whole
  bool nfc;                 // texts are composed first
  bool add_bos;             // where the file does not say
};

/// The row that tokenizer.ggml.pre names. Error(unsupported) names it and those that are known.
const GgufPre& gguf_pre(const GgufMetadata& metadata);
/// The ByteLevel step of tokenizer.json, as pre-tokenizer (with or without GPT-2's own cut) and as decoder.
Json gguf_byte_level(bool with_gpt2_regex);

/// The tokenizer.ggml.pre whose cutting and merging equal those of a tokenizer.json with byte-level BPE, or nullopt.
std::optional<std::string> gguf_pre_name(const Json& tokenizer_json);
/// Every name of tokenizer.ggml.pre that can be read.
std::vector<std::string> gguf_pre_names();

}  // namespace bittern
