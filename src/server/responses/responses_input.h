// A request of the OpenAI Responses API as the conversation and settings that every chat runs on. The server keeps
// nothing between requests, so whatever refers to something kept is refused by its name.
#pragma once

#include <string>

#include "server/generation/chat_input.h"
#include "server/generation/settings.h"

namespace bittern::server {

struct ResponsesRequest {
  std::string model;
  ChatInput chat;
  GenerationSettings settings;
  OrderedJson echo = OrderedJson::object();  // fields that the response repeats
};

ResponsesRequest read_responses_request(Fields& fields);

}  // namespace bittern::server
