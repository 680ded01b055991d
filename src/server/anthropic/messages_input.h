// A request of Anthropic's Messages API as the conversation and settings that every chat runs on. What the API has and
// a text model has not (images, documents, tools that Anthropic's servers run) is refused by its name.
#pragma once

#include <string>

#include "server/generation/chat_input.h"
#include "server/generation/settings.h"

namespace bittern::server {

struct MessagesRequest {
  std::string model;
  ChatInput chat;
  GenerationSettings settings;
};

/// Reads all fields. `counting`: for count_tokens, which has no max_tokens.
MessagesRequest read_messages_request(Fields& fields, bool counting);

}  // namespace bittern::server
