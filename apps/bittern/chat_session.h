// ChatSession: a conversation and the settings it is held with, apart from the terminal. One call makes one reply.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "options.h"
#include "server/loaded_model.h"
#include "server/text_generation.h"

namespace bittern::cli {

class ChatSession {
 public:
  ChatSession(server::LoadedModel& model, SamplingOptions sampling, std::string system)
      : model_(model), sampling_(std::move(sampling)), system_(std::move(system)) {}

  /// Called with each piece of the reply; returning false stops it.
  using OnText = std::function<bool(std::string_view)>;
  /// Appends the user's message and the reply. When the reply fails, the conversation is as before.
  void say(const std::string& message, const OnText& on_text);
  /// Drops the last reply and makes another. Error(invalid_argument) when there is none.
  void regenerate(const OnText& on_text);
  void clear();

  /// Changes a setting by its option name without dashes ("top-p", "system"). Errors name it and list what there is.
  void set(const std::string& name, const std::string& value);
  /// Settings, one "name value" a line.
  std::string settings() const;
  /// Counts and speeds of the last reply; empty before the first.
  std::string last_stats() const;
  const OrderedJson& messages() const { return messages_; }
  /// Tokens of the conversation so far.
  std::int64_t length() const { return length_; }

 private:
  OrderedJson with_system() const;
  void reply(const OnText& on_text);

  server::LoadedModel& model_;
  SamplingOptions sampling_;
  std::string system_;
  OrderedJson messages_ = OrderedJson::array();
  server::GenerationStats stats_;
  std::uint64_t seed_used_ = 0;
  std::int64_t length_ = 0;
};

}  // namespace bittern::cli
