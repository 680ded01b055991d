// The types of errors follow OpenAI's and Anthropic's documentation of their APIs.
#include "server/http/error_reply.h"

#include "base/json.h"
#include "base/log.h"
#include "server/api_error.h"

namespace bittern::server {
namespace {

std::string_view openai_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 503: return "service_unavailable_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string_view anthropic_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    default: return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

OrderedJson text_or_null(std::string_view text) { return text.empty() ? OrderedJson() : OrderedJson(text); }

std::string_view api_code_of(const Error& error) {
  const auto* api = dynamic_cast<const ApiError*>(&error);
  return api && !api->api_code().empty() ? std::string_view(api->api_code()) : error_code_name(error.code());
}

std::string_view param_of(const Error& error) {
  const auto* api = dynamic_cast<const ApiError*>(&error);
  return api ? std::string_view(api->param()) : std::string_view();
}

}  // namespace

OrderedJson error_body(ErrorShape shape, int status, std::string_view message, std::string_view param,
                       std::string_view code, std::string_view request_id) {
  OrderedJson body;
  if (shape == ErrorShape::anthropic) {
    body["type"] = "error";
    body["error"] = {{"type", anthropic_type(status)}, {"message", message}};
    body["request_id"] = text_or_null(request_id);
  } else {
    body["error"] = {{"message", message},
                     {"type", openai_type(status)},
                     {"param", text_or_null(param)},
                     {"code", text_or_null(code)}};
  }
  return body;
}

OrderedJson error_body(ErrorShape shape, const Error& error, std::string_view request_id) {
  return error_body(shape, http_status(error.code()), error.what(), param_of(error), api_code_of(error), request_id);
}

HttpReply error_reply(ErrorShape shape, int status, std::string_view message, std::string_view param,
                      std::string_view code, std::string_view request_id) {
  HttpReply reply;
  reply.status = status;
  const OrderedJson body = error_body(shape, status, message, param, code, request_id);
  reply.body = body.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  if (status == 429 || status == 503) reply.headers.emplace_back("retry-after", "1");
  if (shape == ErrorShape::anthropic && !request_id.empty()) reply.headers.emplace_back("request-id", request_id);
  return reply;
}

HttpReply error_reply(ErrorShape shape, const std::exception& error, std::string_view request_id) {
  const auto* ours = dynamic_cast<const Error*>(&error);
  if (!ours || ours->code() == ErrorCode::internal) {
    log_error("request {}: internal error: {}", request_id, error.what());
    return error_reply(shape, 500, "an internal error of the server; its log says more", {}, "internal", request_id);
  }
  return error_reply(shape, http_status(ours->code()), ours->what(), param_of(*ours), api_code_of(*ours), request_id);
}

}  // namespace bittern::server
