// A chat's events as a response of the OpenAI Responses API: its items, whole or as the stream's numbered events.
#pragma once

#include <memory>
#include <string>

#include "server/generation/assistant_parts.h"
#include "server/generation/replies.h"

namespace bittern::server {

/// The item of a part; `done`: its status is completed and not in_progress.
OrderedJson response_item(const AssistantPart& part, bool done);

/// `echo`: the fields of ResponsesRequest::echo.
std::unique_ptr<StreamWriter<ChatRun>> make_response_writer(OrderedJson echo);
HttpReply whole_response(std::unique_ptr<ChatRun> run, OrderedJson echo);

}  // namespace bittern::server
