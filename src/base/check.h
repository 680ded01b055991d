// BITTERN_CHECK: states what must hold if our own code is right; when it does not, the process says where and aborts.
// For bad input or a bad environment throw bittern::Error instead. Checks stay on in every build.
#pragma once

#include <fmt/core.h>

#include <string>

namespace bittern {

/// Prints "file:line: check failed: condition: message" to stderr and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);

namespace detail {
inline std::string check_message() { return {}; }
template <class... Args>
std::string check_message(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace detail

}  // namespace bittern

/// BITTERN_CHECK(condition) or BITTERN_CHECK(condition, "format", values...): aborts unless the condition holds.
/// The message is built only when the check fails.
#define BITTERN_CHECK(condition, ...) \
  (static_cast<bool>(condition)       \
       ? static_cast<void>(0)         \
       : ::bittern::check_failed(__FILE__, __LINE__, #condition, ::bittern::detail::check_message(__VA_ARGS__)))
