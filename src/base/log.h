// Logging to stderr, behind functions of our own so that the logging library is included in one file alone.
// stdout belongs to what the user asked for (text, JSON): no library of ours writes there.
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <string_view>

namespace bittern {

enum class LogLevel { trace, debug, info, warn, error, off };

struct LogOptions {
  LogLevel level = LogLevel::info;
  bool json = false;  // one JSON object per line: {"time", "level", "thread", "message"}
};

/// Options from BITTERN_LOG_LEVEL (trace, debug, info, warn, error, off) and BITTERN_LOG_JSON (0 or 1), `base` where
/// they are not set. Throws Error(invalid_argument) naming the variable and the nearest right spelling.
LogOptions log_options_from_env(LogOptions base = {});
/// Level by name; throws Error(invalid_argument) naming `source`.
LogLevel parse_log_level(std::string_view name, std::string_view source);

/// Before this is called, info and above are logged as plain lines.
void configure_log(const LogOptions& options);
LogLevel log_level();

namespace detail {
extern std::atomic<LogLevel> g_log_level;
void write_log(LogLevel level, fmt::string_view format, fmt::format_args args);
}  // namespace detail

/// Whether a message of this level would be written; guard what is costly to compute.
inline bool log_enabled(LogLevel level) { return level >= detail::g_log_level.load(std::memory_order_relaxed); }

template <class... Args>
void log_at(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) detail::write_log(level, format, fmt::make_format_args(args...));
}
template <class... Args>
void log_trace(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::trace, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::debug, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::info, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::warn, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::error, format, std::forward<Args>(args)...);
}

}  // namespace bittern
