// Logging: levels, the JSON form, the environment, and that nothing reaches stdout.
#include "base/log.h"

#include <cstdlib>

#include "base/json.h"
#include "unit/base/test_support.h"

namespace bittern {
namespace {

class Log : public testing::Test {
 protected:
  ~Log() override { configure_log({}); }

  // What `call` writes to stderr; stdout must stay empty.
  template <class F>
  std::string stderr_of(F&& call) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    call();
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    return text;
  }
};

TEST_F(Log, WritesFromItsLevelUpwards) {
  configure_log({.level = LogLevel::warn});
  EXPECT_EQ(log_level(), LogLevel::warn);
  const std::string text = stderr_of([] {
    log_info("quiet {}", 1);
    log_warn("loud {}", 2);
    log_error("louder {}", 3);
  });
  EXPECT_FALSE(has(text, "quiet"));
  EXPECT_TRUE(has(text, "warning loud 2\n")) << text;
  EXPECT_TRUE(has(text, "error   louder 3\n")) << text;
  configure_log({.level = LogLevel::off});
  EXPECT_EQ(stderr_of([] { log_error("nothing"); }), "");
}

TEST_F(Log, JsonLinesSurviveAnyText) {
  configure_log({.level = LogLevel::info, .json = true});
  const std::string nasty = "quote \" newline \n percent %v bad \xff end";
  const std::string line = stderr_of([&] { log_info("{}", nasty); });
  const Json json = parse_json(line, "log line");
  EXPECT_EQ(require<std::string>(json, "message"), "quote \" newline \n percent %v bad \xef\xbf\xbd end");
  EXPECT_EQ(require<std::string>(json, "level"), "info");
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST_F(Log, OptionsComeFromTheEnvironment) {
  setenv("BITTERN_LOG_LEVEL", "debug", 1);
  setenv("BITTERN_LOG_JSON", "1", 1);
  EXPECT_EQ(log_options_from_env().level, LogLevel::debug);
  EXPECT_TRUE(log_options_from_env().json);
  setenv("BITTERN_LOG_LEVEL", "wran", 1);
  const std::string text = error_of(ErrorCode::invalid_argument, [] { log_options_from_env(); });
  EXPECT_TRUE(has(text, "BITTERN_LOG_LEVEL: unknown log level 'wran'")) << text;
  EXPECT_TRUE(has(text, "did you mean 'warn'?")) << text;
  setenv("BITTERN_LOG_LEVEL", "info", 1);
  setenv("BITTERN_LOG_JSON", "yes", 1);
  error_of(ErrorCode::invalid_argument, [] { log_options_from_env(); });
  unsetenv("BITTERN_LOG_LEVEL");
  unsetenv("BITTERN_LOG_JSON");
  EXPECT_EQ(log_options_from_env({.level = LogLevel::error}).level, LogLevel::error);
}

}  // namespace
}  // namespace bittern
