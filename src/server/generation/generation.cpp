// Submitting, reading and counting. A mask follows one sample, so samples of a masked request are requests of their
// own.
#include "server/generation/generation.h"

#include <fmt/core.h>

#include <algorithm>

#include "server/api_error.h"
#include "server/generation/masks.h"

namespace bittern::server {
namespace {

[[noreturn]] void refuse_length(const std::string& param, std::size_t tokens, std::int64_t context) {
  throw ApiError(ErrorCode::invalid_argument, param,
                 fmt::format("the prompt has {} tokens, but this model's context holds {}", tokens, context),
                 fmt::format("at most {} leave room for one token of output", context - 1), "context_length_exceeded");
}

void fit_prompt(std::vector<std::int32_t>& prompt, const GenerationSettings& settings, std::int64_t context,
                const std::string& param) {
  if (prompt.empty()) refuse_field(param, fmt::format("{} holds no tokens", param));
  if (settings.truncate_prompt) {
    const std::int64_t keep = *settings.truncate_prompt < 0 ? context - 1 : *settings.truncate_prompt;
    const auto size = static_cast<std::int64_t>(prompt.size());
    if (size > keep) prompt.erase(prompt.begin(), prompt.end() - keep);
  }
  if (static_cast<std::int64_t>(prompt.size()) >= context) refuse_length(param, prompt.size(), context);
}

/// The engine's errors begin with the name of its field; clients know it by the API's.
[[noreturn]] void throw_named(const Error& error, const std::string& prompt_param) {
  std::string field = error.message().substr(0, error.message().find(' '));
  if (field == "prompt") field = prompt_param;
  if (field == "stop_ids") field = "stop_token_ids";
  const bool ours = field.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos;
  throw ApiError(error.code(), ours ? field : "", error.message(), error.hint());
}

}  // namespace

std::shared_ptr<LoadedModel> acquire_model(ModelPool& models, std::string_view name) {
  try {
    return models.acquire(name);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    throw ApiError(error.code(), "model", error.message(), error.hint(), "model_not_found");
  }
}

std::string_view finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
    case FinishReason::failed: return "error";
    case FinishReason::none: break;
  }
  return "";
}

Generation::Generation(std::shared_ptr<LoadedModel> model, ServerMetrics& metrics, Input input,
                       const GenerationSettings& settings)
    : model_(std::move(model)), prompts_(std::move(input.prompts)), n_(settings.n), names_ends_(input.names_ends) {
  scores_only_ = settings.max_tokens == 0;
  const std::int64_t context = model_->engine().plan().context;
  for (auto& prompt : prompts_) fit_prompt(prompt, settings, context, input.prompt_param);
  const std::size_t count = prompts_.size() * static_cast<std::size_t>(n_);
  for (std::size_t i = 0; i < count; ++i) choices_.push_back({metrics.start(input.model_name), 0, false});
  open_ = static_cast<int>(count);
  try {
    for (std::size_t i = 0; i < prompts_.size(); ++i) submit(static_cast<int>(i), settings);
  } catch (const ApiError&) {
    throw;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    throw_named(error, input.prompt_param);
  }
}

void Generation::submit(int prompt, const GenerationSettings& settings) {
  const auto& tokens = prompts_[static_cast<std::size_t>(prompt)];
  const std::int64_t room = model_->engine().plan().context - static_cast<std::int64_t>(tokens.size());
  TextRequest text;
  text.request.prompt = tokens;
  text.request.sampling = settings.sampling;
  text.request.sampling.max_tokens =
      settings.max_tokens ? std::max(1, *settings.max_tokens) : static_cast<int>(std::max<std::int64_t>(1, room));
  text.request.n = n_;
  text.request.priority = settings.priority;
  text.request.mask = make_mask(*model_, settings);
  text.request.id = settings.request_id;
  text.request.client = settings.client;
  text.request.cache_salt = settings.cache_salt;
  text.stop = settings.stop;
  text.include_stop = settings.include_stop;
  text.skip_special = settings.skip_special;
  text.shown_specials = settings.shown_specials;
  streams_.push_back({std::make_unique<TextGeneration>(*model_, std::move(text)), prompt * n_, false});
}

void Generation::start(std::function<void()> wake) {
  for (Stream& stream : streams_) stream.text->on_events(wake);
}

std::optional<TextEvent> Generation::poll() {
  for (std::size_t tried = 0; tried < streams_.size() && open_ > 0; ++tried) {
    Stream& stream = streams_[next_];
    if (auto event = stream.drained ? std::nullopt : poll_stream(stream)) return event;
    next_ = (next_ + 1) % streams_.size();
  }
  return std::nullopt;
}

std::optional<TextEvent> Generation::poll_stream(Stream& stream) {
  bool timed_out = false;
  auto event = stream.text->next_for(std::chrono::milliseconds(0), timed_out);
  if (!event) {
    stream.drained = !timed_out;
    return std::nullopt;
  }
  event->sample += stream.first_choice;
  if (scores_only_) {
    event->text.clear();
    event->token.token = event->token.stop_token = -1;
    if (event->finish == FinishReason::stop) event->finish = FinishReason::length;
  }
  count(*event);
  return event;
}

void Generation::count(const TextEvent& event) {
  Choice& choice = choices_[static_cast<std::size_t>(event.sample)];
  if (!choice.begun) {
    choice.begun = true;
    const auto& stream = streams_[static_cast<std::size_t>(event.sample / n_)];
    const auto tokens = static_cast<std::int64_t>(prompt(event.sample / n_).size());
    choice.timer->prompt(tokens, stream.text->progress().cached_tokens);
  }
  if (event.token.token >= 0) {
    ++choice.tokens;
    choice.timer->token();
  }
  if (event.finish == FinishReason::none) return;
  --open_;
  if (!names_ends_) choice.timer->finish(finish_name(event.finish));
}

void Generation::named_end(int choice, std::string_view name) {
  choices_[static_cast<std::size_t>(choice)].timer->finish(name);
}

const std::vector<TokenEvent>& Generation::prompt_logprobs(int prompt) const {
  return streams_[static_cast<std::size_t>(prompt)].text->prompt_logprobs();
}

std::uint64_t Generation::seed(int choice) const {
  return streams_[static_cast<std::size_t>(choice / n_)].text->seed();
}

Usage Generation::usage() const {
  Usage usage;
  for (const auto& prompt : prompts_) usage.prompt_tokens += static_cast<std::int64_t>(prompt.size());
  for (const Stream& stream : streams_) usage.cached_tokens += stream.text->progress().cached_tokens;
  for (const Choice& choice : choices_) usage.completion_tokens += choice.tokens;
  return usage;
}

}  // namespace bittern::server
