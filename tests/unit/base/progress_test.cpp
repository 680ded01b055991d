// Progress: the text of a state, and what reaches a file and a silent run.
#include "base/progress.h"

#include <thread>

#include "unit/base/test_support.h"

namespace bittern {
namespace {

TEST(ProgressText, ShowsShareRateAndTimeLeft) {
  using Unit = Progress::Unit;
  EXPECT_EQ(progress_text("layers", 12, 48, Unit::items, 4, 8), "layers: [##......]  25% (12/48), 3.00/s, 12 s left");
  EXPECT_EQ(progress_text("layers", 48, 48, Unit::items, 4, 0), "layers: 100% (48/48), 12/s");
  EXPECT_EQ(progress_text("layers", 0, 48, Unit::items, 4, 0), "layers:   0% (0/48)");
  EXPECT_EQ(progress_text("read", 512 << 20, 1 << 30, Unit::bytes, 1, 0),
            "read:  50% (512 MiB/1.00 GiB), 512 MiB/s, 1.0 s left");
  EXPECT_EQ(progress_text("tokens", 30, 0, Unit::items, 2, 8), "tokens: 30, 15/s");
  EXPECT_EQ(progress_text("over", 60, 48, Unit::items, 1, 4), "over: [####] 100% (60/48), 60/s");
}

std::string output_of(Progress::Style style, std::chrono::milliseconds pause) {
  const TempFolder folder;
  std::FILE* out = std::fopen((folder / "log").c_str(), "w");
  {
    Progress progress("work", 100, Progress::Unit::items, style, out);
    for (int i = 0; i < 100; ++i) {
      if (i == 20) std::this_thread::sleep_for(pause);
      progress.set_note("part " + std::to_string(i));
      progress.advance();
    }
    progress.finish();
    progress.finish();
  }
  std::fclose(out);
  return read_text(folder / "log");
}

TEST(Progress, ShortJobsStayQuiet) {
  EXPECT_EQ(output_of(Progress::Style::automatic, std::chrono::milliseconds(0)), "");
  EXPECT_EQ(output_of(Progress::Style::silent, std::chrono::milliseconds(600)), "");
}

TEST(Progress, AFileGetsPlainLines) {
  const std::string text = output_of(Progress::Style::automatic, std::chrono::milliseconds(600));
  EXPECT_FALSE(has(text, "\r"));
  EXPECT_FALSE(has(text, "["));
  EXPECT_TRUE(has(text, "work:  30% (30/100)")) << text;
  EXPECT_TRUE(has(text, "part 29\n")) << text;
  EXPECT_TRUE(has(text, "work: 100% (100/100)")) << text;
  EXPECT_TRUE(has(text, "took 0.6 s\n")) << text;
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 12);
}

TEST(Progress, ATerminalGetsABar) {
  const std::string text = output_of(Progress::Style::bar, std::chrono::milliseconds(600));
  EXPECT_TRUE(has(text, "\rwork: [")) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(text.back(), '\n');
}

}  // namespace
}  // namespace bittern
