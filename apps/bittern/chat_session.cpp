// The conversation. Settings are the sampling options themselves: /set feeds them through the same CLI11 definitions as
// the command line, so names, ranges and errors are one.
#include "chat_session.h"

#include <bittern/error.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/strings.h"

namespace bittern::cli {
namespace {

// Environment variables must not change a setting behind the user's back in the middle of a chat.
void forget_environment(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) option->envname("");
}

}  // namespace

OrderedJson ChatSession::with_system() const {
  OrderedJson all = OrderedJson::array();
  if (!system_.empty()) all.push_back({{"role", "system"}, {"content", system_}});
  for (const auto& message : messages_) all.push_back(message);
  return all;
}

void ChatSession::reply(const OnText& on_text) {
  server::TextRequest request;
  request.request.prompt = model_.encode_chat(with_system());
  request.request.sampling = sampling_.resolved();
  request.stop = sampling_.stop;
  request.include_stop = sampling_.include_stop;
  server::TextGeneration generation(model_, std::move(request));
  std::string text;
  bool timed_out = false, stopped = false;
  while (true) {
    const auto event = generation.next_for(std::chrono::milliseconds(50), timed_out);
    if (!event && !timed_out) break;
    if (event && event->finish == FinishReason::failed) throw Error(ErrorCode::internal, event->token.error);
    if (event) text += event->text;
    if (!on_text(event ? std::string_view(event->text) : std::string_view()) && !stopped) {
      generation.cancel();
      stopped = true;
    }
  }
  stats_ = generation.stats();
  seed_used_ = generation.seed();
  length_ = stats_.prompt_tokens + stats_.generated_tokens;
  messages_.push_back({{"role", "assistant"}, {"content", text}});
}

void ChatSession::say(const std::string& message, const OnText& on_text) {
  messages_.push_back({{"role", "user"}, {"content", message}});
  try {
    reply(on_text);
  } catch (...) {
    messages_.erase(messages_.size() - 1);
    throw;
  }
}

void ChatSession::regenerate(const OnText& on_text) {
  if (messages_.empty()) throw Error(ErrorCode::invalid_argument, "there is no reply to make again");
  const OrderedJson last = messages_.back();
  messages_.erase(messages_.size() - 1);
  try {
    reply(on_text);
  } catch (...) {
    messages_.push_back(last);
    throw;
  }
}

void ChatSession::clear() {
  messages_ = OrderedJson::array();
  length_ = 0;
}

void ChatSession::set(const std::string& name, const std::string& value) {
  if (name == "system") {
    system_ = value;
    return;
  }
  SamplingOptions changed = sampling_;
  CLI::App app;
  add_sampling_options(app, changed);
  forget_environment(app);
  const CLI::Option* option = app.get_option_no_throw("--" + name);
  if (!option || name == "help") {
    std::vector<std::string> names = {"system"};
    for (const CLI::Option* known : app.get_options()) {
      if (!known->get_lnames().empty() && known->get_lnames()[0] != "help") names.push_back(known->get_lnames()[0]);
    }
    const std::string hint = did_you_mean(name, names);
    throw Error(ErrorCode::invalid_argument, "there is no setting '" + name + "'",
                hint.empty() ? "settings: " + join(names, ", ") : hint);
  }
  try {
    app.parse(std::vector<std::string>{"--" + name + "=" + value});
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorCode::invalid_argument, error.what());
  }
  sampling_ = changed;
}

std::string ChatSession::settings() const {
  const SamplingParams& p = sampling_.params;
  char text[512];
  std::snprintf(text, sizeof(text),
                "temperature %g\ntop-k %d\ntop-p %g\nmin-p %g\nrepetition-penalty %g\npresence-penalty %g\n"
                "frequency-penalty %g\nmax-tokens %d\nseed %lld%s\n",
                p.temperature, p.top_k, p.top_p, p.min_p, p.repetition_penalty, p.presence_penalty, p.frequency_penalty,
                p.max_tokens, static_cast<long long>(sampling_.seed),
                sampling_.seed < 0 ? " (drawn for each reply)" : "");
  return text + std::string("system ") + (system_.empty() ? "(none)" : system_) + "\n";
}

std::string ChatSession::last_stats() const {
  if (stats_.prompt_tokens == 0) return {};
  char text[256];
  std::snprintf(
      text, sizeof(text),
      "prompt %ld tokens at %.1f tok/s (first token after %.0f ms), reply %ld tokens at %.1f tok/s, seed %lu, "
      "conversation %ld tokens",
      static_cast<long>(stats_.prompt_tokens), stats_.prefill_rate(), stats_.first_token_seconds * 1e3,
      static_cast<long>(stats_.generated_tokens), stats_.decode_rate(), static_cast<unsigned long>(seed_used_),
      static_cast<long>(length_));
  return text;
}

}  // namespace bittern::cli
