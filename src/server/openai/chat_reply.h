// What /v1/chat/completions answers: a chat.completion at the end, or chat.completion.chunk objects on the way.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/generation/chat_run.h"
#include "server/generation/replies.h"
#include "server/openai/shapes.h"

namespace bittern::server {

/// What of a chat request only its reply depends on.
struct ChatReplyOptions {
  ReplyHead head;
  bool logprobs = false;
  bool function_call = false;  // answer in the deprecated form, as "functions" asked
  std::string echo;            // text that the content begins with
  int call_id_length = 24;
};

class ChatReply {
 public:
  ChatReply(const ChatRun& run, ChatReplyOptions options);
  /// Throws choice_failure() for a choice that failed.
  void collect(const ChatEvent& event);
  OrderedJson finish(const ChatRun& run);

 private:
  struct Choice {
    AssistantMessage message;
    std::vector<TokenEvent> tokens;
    std::string finish, stop;
    TokenEvent end;
  };
  OrderedJson message_json(const Choice& choice) const;
  OrderedJson choice_json(const Choice& choice, int index) const;

  ChatReplyOptions options_;
  GenerationSettings settings_;
  TokenSpeller speller_;
  std::vector<Choice> choices_;
};

std::unique_ptr<StreamWriter<ChatRun>> make_chat_stream(const ChatRun& run, ChatReplyOptions options);

}  // namespace bittern::server
