// The names that OpenAI's clients know errors by.
#include "server/openai/error_body.h"

#include "server/api_error.h"

namespace bittern::server {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    default: return status < 500 ? "invalid_request_error" : "server_error";
  }
}

OrderedJson text_or_null(const std::string& text) { return text.empty() ? OrderedJson(nullptr) : OrderedJson(text); }

}  // namespace

OrderedJson openai_error(const Error& error) {
  const auto* named = dynamic_cast<const ApiError*>(&error);
  OrderedJson inner = {{"message", error.what()}, {"type", type_of(http_status(error.code()))}};
  inner["param"] = named != nullptr ? text_or_null(named->param()) : OrderedJson(nullptr);
  const bool has_code = named != nullptr && !named->api_code().empty();
  inner["code"] = has_code ? named->api_code() : std::string(error_code_name(error.code()));
  return {{"error", std::move(inner)}};
}

}  // namespace bittern::server
