// Progress: how far a long job has come, on stderr: a bar with rate and time left on a terminal, a plain line now and
// then elsewhere (logs, CI). Thread-safe; it says nothing before half a second has passed, so short jobs stay quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>
#include <string_view>

namespace bittern {

class Progress {
 public:
  enum class Unit { items, bytes };
  enum class Style {
    automatic,  // bar when `out` is a terminal, else lines
    bar,
    lines,
    silent,
  };

  /// `total` of 0 means that the end is not known: only count and rate are shown.
  Progress(std::string title, uint64_t total, Unit unit = Unit::items, Style style = Style::automatic,
           std::FILE* out = stderr);
  /// Ends the line when finish() was not called (an exception passes).
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(uint64_t amount = 1);
  /// What is being worked on now, shown at the end of the bar ("layer 3").
  void set_note(std::string note);
  /// Shows the final state with the time taken.
  void finish();

 private:
  void show(bool last);

  const std::string title_;
  const uint64_t total_;
  const Unit unit_;
  const Style style_;
  std::FILE* const out_;
  const std::chrono::steady_clock::time_point start_;
  std::mutex mutex_;
  uint64_t done_ = 0;
  std::string note_;
  std::chrono::steady_clock::time_point next_show_;
  uint64_t next_percent_ = 10;
  bool shown_ = false;
  bool finished_ = false;
};

/// The text of one state, without a line end; `bar_width` of 0 leaves the bar out. Pure, for tests.
std::string progress_text(std::string_view title, uint64_t done, uint64_t total, Progress::Unit unit, double seconds,
                          int bar_width);

}  // namespace bittern
