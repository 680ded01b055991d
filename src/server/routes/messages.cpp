// Anthropic's Messages API: POST /v1/messages and /v1/messages/count_tokens.
#include "server/anthropic/messages_input.h"
#include "server/anthropic/messages_output.h"
#include "server/model_pool.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

/// Where Anthropic's clients look for the request's name.
HttpReply with_request_id(HttpReply reply, const HttpRequest& request) {
  reply.headers.emplace_back("request-id", request.id);
  return reply;
}

HttpReply create(Service& service, const HttpRequest& http) {
  const OrderedJson body = parse_body(http.body);
  Fields fields(body);
  MessagesRequest request = read_messages_request(fields, false);
  request.model = served_name(service.models, std::move(request.model));
  report_unknown(fields, "/v1/messages", service.options.strict);
  auto run = std::make_unique<ChatRun>(service, request.model, request.chat, request.settings);
  if (request.settings.stream.stream) return stream_reply<ChatRun>(std::move(run), make_message_writer(request.model));
  return whole_message(std::move(run), request.model);
}

HttpReply count_tokens(Service& service, const HttpRequest& http) {
  const OrderedJson body = parse_body(http.body);
  Fields fields(body);
  const MessagesRequest request = read_messages_request(fields, true);
  report_unknown(fields, "/v1/messages/count_tokens", service.options.strict);
  const auto model = service.models.acquire(request.model);
  const PreparedChat chat = prepare_chat(*model, service.options, request.chat, request.settings);
  return json_reply({{"input_tokens", chat.prompt.size()}});
}

}  // namespace

void add_messages_routes(Routes& routes, Service& service) {
  const auto add = [&](const char* path, HttpReply (*answer)(Service&, const HttpRequest&)) {
    Route route{"POST", path, [&service, answer](const HttpRequest& request) {
                  return with_request_id(answer(service, request), request);
                }};
    route.errors = ErrorShape::anthropic;
    routes.push_back(std::move(route));
  };
  add("/v1/messages", create);
  add("/v1/messages/count_tokens", count_tokens);
}

}  // namespace bittern::server
