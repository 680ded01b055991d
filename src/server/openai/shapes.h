// The parts of replies that the chat and completions APIs share: ids, usage, fingerprints, tokens with their bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/generation/generation.h"
#include "server/http/message.h"
#include "server/service.h"

namespace bittern::server {

/// What every reply and every chunk of one request begins with.
struct ReplyHead {
  std::string id;      // "chatcmpl-..."
  std::string object;  // "chat.completion"
  std::int64_t created = 0;
  std::string model;
  std::string fingerprint;
};

ReplyHead make_head(std::string_view prefix, std::string_view object, const GenerationSettings& settings,
                    const HttpRequest& request, const std::string& model_name, const LoadedModel& model);
/// {"id", "object", "created", "model", "system_fingerprint"}
OrderedJson to_json(const ReplyHead& head);
OrderedJson to_json(const Usage& usage);

/// `prefix` and `length` random letters and digits.
std::string random_id(std::string_view prefix, int length);

/// How the tokens of log-probabilities are spelled.
class TokenSpeller {
 public:
  TokenSpeller(const text::Tokenizer& tokenizer, bool as_ids) : tokenizer_(&tokenizer), as_ids_(as_ids) {}
  /// Text of the token alone: bytes that are not UTF-8 are replaced; or "token_id:17".
  std::string name(std::int32_t token) const;
  std::string bytes(std::int32_t token) const { return tokenizer_->token_bytes(token).value_or(""); }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }

 private:
  const text::Tokenizer* tokenizer_;
  bool as_ids_;
};

/// {"token", "logprob", "bytes", "top_logprobs"} of the chat API.
OrderedJson chat_logprob(const TokenSpeller& speller, const TokenEvent& token);
/// vLLM's: for each token of the prompt null or {"ID": {"logprob", "rank", "decoded_token"}}.
OrderedJson prompt_logprobs_json(const TokenSpeller& speller, const std::vector<TokenEvent>& scores);
/// "stop_reason": the stop text or the id of stop_token_ids that ended the choice, else null.
OrderedJson stop_reason(const std::string& stop, const TokenEvent& token, const GenerationSettings& settings);
/// The Error of a choice that failed or was cancelled by the server.
Error choice_failure(const TokenEvent& token, std::string_view finish);

}  // namespace bittern::server
