// A chat's events as a message of Anthropic's API: one block after another, whole or as the stream's events.
#pragma once

#include <memory>
#include <string>

#include "server/generation/assistant_parts.h"
#include "server/generation/replies.h"

namespace bittern::server {

/// The block of a part. A call whose arguments are not an object has input {}.
OrderedJson message_block(const AssistantPart& part);

/// How the API calls the end of `event`, with the stop text if there was one.
struct MessageEnd {
  std::string reason;
  OrderedJson stop_sequence;
};
MessageEnd message_end(const ChatRun& run, const ChatEvent& event);
OrderedJson message_usage(const ChatRun& run);

std::unique_ptr<StreamWriter<ChatRun>> make_message_writer(std::string model);
HttpReply whole_message(std::unique_ptr<ChatRun> run, std::string model);

}  // namespace bittern::server
