// GenerationSettings: how a request wants its text made, read from the fields that the OpenAI API, vLLM and LMDeploy
// give it. This is the only place where such fields are read and their ranges checked; the engine checks again what it
// is given. What a prompt is, each API says for itself.
#pragma once

#include <bittern/request.h>

#include <optional>
#include <string>
#include <vector>

#include "server/generation/constraint.h"
#include "server/generation/fields.h"

namespace bittern::server {

struct StreamSettings {
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;  // in every chunk, and not only in the last
};

struct GenerationSettings {
  SamplingParams sampling;        // max_tokens: see below
  std::optional<int> max_tokens;  // absent: all that the context leaves; 0: only the prompt is scored
  int n = 1;
  int priority = 0;
  std::string request_id;
  std::string cache_salt;  // see Request
  std::string client;      // likewise; whoever has the HTTP request sets it
  std::vector<std::string> stop;
  bool include_stop = false;
  bool skip_special = true;
  std::vector<std::int32_t> shown_specials;  // see TextRequest
  std::vector<std::int32_t> allowed_tokens;  // empty: all
  std::vector<std::string> bad_words;        // texts that the output may not contain as tokens
  std::optional<int> truncate_prompt;        // keep so many tokens of the prompt's end; -1: as many as fit
  OutputConstraint constraint;
  std::optional<std::int32_t> constrain_after;  // the constraint begins after this token (the end of reasoning)
  bool return_token_ids = false;
  bool tokens_as_ids = false;  // tokens of logprobs are spelled "token_id:17"
  StreamSettings stream;
};

/// Every field of sampling, stopping and streaming; `max_tokens` is the caller's, since its name and default differ.
/// ApiError names a field of the wrong type, out of its range, or that cannot be honoured.
GenerationSettings read_generation_settings(Fields& fields);

constexpr int kMostSamples = 128;
constexpr int kMostLogprobs = 20;  // of one position, as the OpenAI API has it

}  // namespace bittern::server
