// The stateless core of the OpenAI Responses API: POST /v1/responses and /v1/responses/input_tokens.
#include "server/model_pool.h"
#include "server/responses/responses_input.h"
#include "server/responses/responses_output.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

ResponsesRequest read(Service& service, Fields& fields, const char* route) {
  ResponsesRequest request = read_responses_request(fields);
  report_unknown(fields, route, service.options.strict);
  request.model = served_name(service.models, std::move(request.model));
  request.echo["model"] = request.model;
  return request;
}

HttpReply create(Service& service, const HttpRequest& http) {
  const OrderedJson body = parse_body(http.body);
  Fields fields(body);
  ResponsesRequest request = read(service, fields, "/v1/responses");
  auto run = std::make_unique<ChatRun>(service, request.model, request.chat, request.settings);
  if (!request.settings.stream.stream) return whole_response(std::move(run), std::move(request.echo));
  return stream_reply<ChatRun>(std::move(run), make_response_writer(std::move(request.echo)));
}

HttpReply count_tokens(Service& service, const HttpRequest& http) {
  const OrderedJson body = parse_body(http.body);
  Fields fields(body);
  const ResponsesRequest request = read(service, fields, "/v1/responses/input_tokens");
  const auto model = service.models.acquire(request.model);
  const PreparedChat chat = prepare_chat(*model, service.options, request.chat, request.settings);
  return json_reply({{"object", "response.input_tokens"}, {"input_tokens", chat.prompt.size()}});
}

}  // namespace

void add_responses_routes(Routes& routes, Service& service) {
  routes.push_back(
      {"POST", "/v1/responses", [&service](const HttpRequest& request) { return create(service, request); }});
  routes.push_back({"POST", "/v1/responses/input_tokens",
                    [&service](const HttpRequest& request) { return count_tokens(service, request); }});
}

}  // namespace bittern::server
