// ApiError: an Error of a request to the server that also names the request's field and a code that programs can test.
// http/error_reply turns it, as any Error, into the error body of the API in question.
#pragma once

#include <bittern/error.h>

#include <string>
#include <utility>

namespace bittern::server {

class ApiError : public Error {
 public:
  /// `param`: the field, "messages[2].content"; `api_code`: the API's code, "context_length_exceeded". Each may be
  /// empty.
  ApiError(ErrorCode error, std::string param, std::string message, std::string hint = {}, std::string api_code = {})
      : Error(error, std::move(message), std::move(hint)), param_(std::move(param)), api_code_(std::move(api_code)) {}

  const std::string& param() const noexcept { return param_; }
  const std::string& api_code() const noexcept { return api_code_; }

 private:
  std::string param_;
  std::string api_code_;
};

}  // namespace bittern::server
