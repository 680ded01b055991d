// The one error type of Bittern: what went wrong, the reason, and what to do about it.
// Thrown at the edges (loading, configuration, HTTP); the step loop itself never throws for one request.
// This header does not map codes to exit codes or HTTP statuses: base/error.cpp holds that single table.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace bittern {

enum class ErrorCode {
  invalid_argument,    // an option, field or request value is wrong
  not_found,           // a file, model, tensor or key does not exist
  invalid_checkpoint,  // a model file is damaged, truncated or inconsistent
  unsupported,         // well formed, but Bittern cannot do it
  out_of_memory,       // the memory plan does not fit
  io,                  // the operating system refused to read or write
  overloaded,          // the queue is full: try again later
  cancelled,           // stopped on request
  internal,            // a bug of ours
};

/// Name of a code as printed in messages and JSON, e.g. "invalid_argument".
std::string_view error_code_name(ErrorCode code);
/// Process exit status for a code (docs/commands.md lists them).
int exit_status(ErrorCode code);
/// HTTP status for a code.
int http_status(ErrorCode code);

/// Bad input or environment. `message` names the thing and the reason, `hint` says what to do (may be empty).
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, std::string message, std::string hint = {})
      : std::runtime_error(hint.empty() ? message : message + " (" + hint + ")"),
        code_(code),
        message_(std::move(message)),
        hint_(std::move(hint)) {}

  ErrorCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& hint() const noexcept { return hint_; }

 private:
  ErrorCode code_;
  std::string message_;
  std::string hint_;
};

}  // namespace bittern
