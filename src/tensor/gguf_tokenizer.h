// The tokenizer of a GGUF file as tokenizer.json and tokenizer_config.json: SentencePiece BPE with scores
// (tokenizer.ggml.model "llama") and byte-level BPE with merges ("gpt2"). How texts are cut before merging is
// gguf_pre.h.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/gguf.h"

namespace bittern {

/// Kinds of tokens, by their number in tokenizer.ggml.token_type.
enum class GgufTokenType : std::int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

/// tokenizer.json. Error(unsupported) names the kind of tokenizer or the way of cutting that Bittern lacks,
/// Error(invalid_checkpoint) lists that do not fit together.
Json gguf_tokenizer_json(const GgufMetadata& metadata);
/// tokenizer_config.json: tokens with a role, BOS and EOS, the chat template.
Json gguf_tokenizer_config(const GgufMetadata& metadata);

/// The merges that scores stand for: every way to put a piece together from two others, best first.
std::vector<std::pair<std::string_view, std::string_view>> merges_from_scores(
    const std::vector<std::string_view>& tokens, const std::vector<double>& scores,
    const std::vector<std::int64_t>& types);

}  // namespace bittern
