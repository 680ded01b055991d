// POST /v1/chat/completions.
#include "server/openai/chat_reply.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

/// The reply's length: two names, of which the older one still is the more common.
std::optional<int> read_max_tokens(Fields& fields) {
  std::optional<int> limit;
  for (const char* key : {"max_tokens", "max_completion_tokens"}) {
    if (fields.has(key)) limit = fields.in_range(key, 0, 1, 1 << 30);
  }
  return limit;
}

/// "logprobs": true and "top_logprobs": how many beside the chosen one.
bool read_logprobs(Fields& fields, SamplingParams& sampling) {
  const bool logprobs = fields.get_or("logprobs", false);
  const int top = fields.in_range("top_logprobs", 0, 0, kMostLogprobs);
  if (top > 0 && !logprobs) refuse_field("top_logprobs", "top_logprobs needs logprobs to be true");
  if (logprobs) sampling.logprobs = top;
  return logprobs;
}

void refuse_the_impossible(Fields& fields) {
  fields.refuse("audio", "this model writes text alone");
  fields.refuse("web_search_options", "there is no web search");
  fields.refuse("best_of", "chats have no best_of", "use n");
  if (const auto modalities = fields.get<std::vector<std::string>>("modalities")) {
    for (const std::string& one : *modalities) {
      if (one != "text") refuse_field("modalities", "modalities holds '" + one + "', but this model writes text alone");
    }
  }
  for (const char* key : {"mm_processor_kwargs", "media_io_kwargs"}) fields.refuse(key, "this model reads text alone");
  fields.accept({"prediction", "verbosity"});  // hints for speed and style that no open model was trained to take
}

/// With "echo", the content begins with the last message that the reply goes on from.
std::string read_echo(Fields& fields, const ChatInput& input) {
  const bool echo = fields.get_or("echo", false);
  const OrderedJson& last = input.messages.back();
  return echo && last["role"] == "assistant" ? last["content"].get<std::string>() : "";
}

struct ChatRequest {
  std::string model;
  ChatInput input;
  GenerationSettings settings;
  bool logprobs = false, function_call = false;
  std::string echo;
};

ChatRequest read_request(const OrderedJson& body, bool strict) {
  Fields fields(body);
  ChatRequest request;
  request.model = fields.get_or<std::string>("model", "");
  request.input = read_chat_input(fields);
  request.settings = read_generation_settings(fields);
  request.settings.max_tokens = read_max_tokens(fields);
  request.logprobs = read_logprobs(fields, request.settings.sampling);
  request.function_call = fields.has("functions") && !fields.has("tools");
  request.echo = read_echo(fields, request.input);
  if (request.settings.stream.stream && request.settings.sampling.prompt_logprobs >= 0) {
    refuse_field("prompt_logprobs", "prompt_logprobs cannot be streamed");
  }
  refuse_the_impossible(fields);
  report_unknown(fields, "/v1/chat/completions", strict);
  return request;
}

HttpReply chat(Service& service, const HttpRequest& http) {
  const OrderedJson body = parse_body(http.body);
  ChatRequest request = read_request(body, service.options.strict);
  request.settings.client = http.client;
  request.model = served_name(service.models, std::move(request.model));
  auto run = std::make_unique<ChatRun>(service, request.model, request.input, request.settings);
  const bool stream = request.settings.stream.stream;
  ChatReplyOptions options;
  options.head = make_head("chatcmpl-", stream ? "chat.completion.chunk" : "chat.completion", request.settings, http,
                           request.model, run->model());
  options.logprobs = request.logprobs;
  options.function_call = request.function_call;
  options.echo = std::move(request.echo);
  if (run->tool_style() != nullptr && run->tool_style()->name == "mistral") options.call_id_length = 9;
  if (stream) {
    auto writer = make_chat_stream(*run, std::move(options));
    return stream_reply(std::move(run), std::move(writer));
  }
  const auto reply = std::make_shared<ChatReply>(*run, std::move(options));
  return whole_reply<ChatRun>(
      std::move(run), [reply](const ChatEvent& event) { reply->collect(event); },
      [reply](const ChatRun& ended) { return json_reply(reply->finish(ended)); });
}

}  // namespace

void add_chat_routes(Routes& routes, Service& service) {
  // An unknown name is an error of the command line, not of the first request.
  find_tool_style(service.options.tool_parser, "");
  find_reasoning_style(service.options.reasoning_parser, "");
  routes.push_back(
      {"POST", "/v1/chat/completions", [&service](const HttpRequest& request) { return chat(service, request); }});
}

}  // namespace bittern::server
