// The one file that knows spdlog: a logger on stderr, and our levels, environment and JSON lines on top of it.
#include "base/log.h"

#include <bittern/error.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/strings.h"

namespace bittern {
namespace {

constexpr std::string_view kLevelNames[] = {"trace", "debug", "info", "warn", "error", "off"};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::trace: return spdlog::level::trace;
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warn: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
    case LogLevel::off: return spdlog::level::off;
  }
  return spdlog::level::off;
}

// Quotes and escapes the message of each line as JSON; the pattern around it supplies the other fields.
class JsonMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string text = Json(std::string(message.payload.data(), message.payload.size()))
                                 .dump(-1, ' ', false, Json::error_handler_t::replace);
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::custom_flag_formatter> clone() const override { return std::make_unique<JsonMessage>(); }
};

std::unique_ptr<spdlog::formatter> make_formatter(bool json) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  if (json) {
    formatter->add_flag<JsonMessage>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","thread":%t,"message":%*})");
  } else {
    formatter->set_pattern("%H:%M:%S.%e %^%-7l%$ %v");
  }
  return formatter;
}

// Never destroyed, so that threads which outlive main can still log.
spdlog::logger& logger() {
  static spdlog::logger* const instance = [] {
    auto* created = new spdlog::logger("bittern", std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>());
    created->set_level(spdlog::level::trace);  // g_log_level decides
    created->flush_on(spdlog::level::trace);
    created->set_formatter(make_formatter(false));
    return created;
  }();
  return *instance;
}

}  // namespace

namespace detail {

std::atomic<LogLevel> g_log_level{LogLevel::info};

void write_log(LogLevel level, fmt::string_view format, fmt::format_args args) {
  logger().log(to_spdlog(level), fmt::vformat(format, args));
}

}  // namespace detail

LogLevel parse_log_level(std::string_view name, std::string_view source) {
  for (size_t i = 0; i < std::size(kLevelNames); ++i) {
    if (to_lower(name) == kLevelNames[i]) return static_cast<LogLevel>(i);
  }
  const std::string suggestion = did_you_mean(name, kLevelNames);
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("{}: unknown log level '{}'; known are trace, debug, info, warn, error and off", source, name),
      suggestion);
}

LogOptions log_options_from_env(LogOptions base) {
  if (const char* level = std::getenv("BITTERN_LOG_LEVEL"); level != nullptr && *level != '\0') {
    base.level = parse_log_level(level, "BITTERN_LOG_LEVEL");
  }
  if (const char* json = std::getenv("BITTERN_LOG_JSON"); json != nullptr && *json != '\0') {
    const std::string_view value = json;
    if (value != "0" && value != "1") {
      throw Error(ErrorCode::invalid_argument, fmt::format("BITTERN_LOG_JSON is '{}', but must be 0 or 1", value));
    }
    base.json = value == "1";
  }
  return base;
}

void configure_log(const LogOptions& options) {
  logger().set_formatter(make_formatter(options.json));
  detail::g_log_level.store(options.level, std::memory_order_relaxed);
}

LogLevel log_level() { return detail::g_log_level.load(std::memory_order_relaxed); }

}  // namespace bittern
