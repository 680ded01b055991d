// Generation: the choices of one request (n samples of each of its prompts) read without blocking: it submits to the
// engine, hands out text events as they come, counts tokens for usage and metrics, and cancels what is left when it is
// destroyed. Every API that makes text is built on it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/generation/settings.h"
#include "server/loaded_model.h"
#include "server/model_pool.h"
#include "server/server_metrics.h"
#include "server/text_generation.h"

namespace bittern::server {

/// Tokens as the API's "usage" counts them.
struct Usage {
  std::int64_t prompt_tokens = 0;  // each prompt once, however many samples it has
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompts
  std::int64_t reasoning_tokens = 0;
};

class Generation {
 public:
  struct Input {
    std::vector<std::vector<std::int32_t>> prompts;
    std::string prompt_param;  // the field they came from, for errors: "messages"
    std::string model_name;    // for metrics
    bool names_ends = false;   // whoever reads calls named_end() for every choice that has ended
  };

  /// Submits everything or, by an exception, nothing. ApiError: a prompt that is too long has the code
  /// context_length_exceeded; Error(overloaded) when the queue is full. Destroying it cancels what still runs.
  Generation(std::shared_ptr<LoadedModel> model, ServerMetrics& metrics, Input input,
             const GenerationSettings& settings);

  /// `wake` is called, on the engine's thread, whenever poll() may have something new; call once.
  void start(std::function<void()> wake);
  /// The next event, its `sample` counted over all prompts (prompt * n + sample); nullopt: none has come yet, or
  /// finished(). A sample that failed ends with FinishReason::failed, and token.error says why.
  std::optional<TextEvent> poll();
  bool finished() const { return open_ == 0; }
  /// What an end is called in metrics, where it is not finish_name(): see Input::names_ends.
  void named_end(int choice, std::string_view name);

  int choices() const { return static_cast<int>(choices_.size()); }
  int samples_of_prompt() const { return n_; }
  const std::vector<std::int32_t>& prompt(int index) const { return prompts_[static_cast<std::size_t>(index)]; }
  /// Scores of a prompt's tokens, the first without; empty before the first event of its samples or if not asked for.
  const std::vector<TokenEvent>& prompt_logprobs(int prompt) const;
  Usage usage() const;
  /// The seed that sample `choice` is drawn with.
  std::uint64_t seed(int choice) const;
  LoadedModel& model() const { return *model_; }

 private:
  struct Stream {
    std::unique_ptr<TextGeneration> text;
    int first_choice = 0;
    bool drained = false;
  };
  struct Choice {
    std::unique_ptr<RequestTimer> timer;
    std::int64_t tokens = 0;
    bool begun = false;
  };

  void submit(int prompt, const GenerationSettings& settings);
  std::optional<TextEvent> poll_stream(Stream& stream);
  void count(const TextEvent& event);

  std::shared_ptr<LoadedModel> model_;
  std::vector<std::vector<std::int32_t>> prompts_;
  int n_ = 1;
  bool names_ends_ = false;
  bool scores_only_ = false;  // max_tokens 0: the one token that the engine insists on is not shown
  std::vector<Choice> choices_;
  std::vector<Stream> streams_;  // of each prompt
  int open_ = 0;                 // choices that have not ended
  std::size_t next_ = 0;         // stream to look at next
};

/// As ModelPool::acquire; a name that nothing has is an ApiError with the field "model" and the code model_not_found.
std::shared_ptr<LoadedModel> acquire_model(ModelPool& models, std::string_view name);

/// "stop" or "length", as the OpenAI API has it; "cancelled" and "error" beside them.
std::string_view finish_name(FinishReason reason);

}  // namespace bittern::server
