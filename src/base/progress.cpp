// Rendering of Progress: at most ten updates a second on a terminal, a line per tenth of the work elsewhere.
#include "base/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "base/strings.h"

namespace bittern {
namespace {

constexpr auto kQuiet = std::chrono::milliseconds(500);
constexpr auto kRefresh = std::chrono::milliseconds(100);
constexpr auto kLineAtLeastEvery = std::chrono::seconds(30);
constexpr int kBarWidth = 28;

Progress::Style resolve(Progress::Style style, std::FILE* out) {
  if (style != Progress::Style::automatic) return style;
  return isatty(fileno(out)) == 1 ? Progress::Style::bar : Progress::Style::lines;
}

std::string amount(uint64_t value, Progress::Unit unit) {
  return unit == Progress::Unit::bytes ? human_bytes(value) : std::to_string(value);
}

std::string rate(double per_second, Progress::Unit unit) {
  if (unit == Progress::Unit::bytes) return human_bytes(static_cast<uint64_t>(per_second)) + "/s";
  return per_second < 10 ? fmt::format("{:.2f}/s", per_second) : fmt::format("{:.0f}/s", per_second);
}

std::string bar(double fraction, int width) {
  const int full = std::clamp(static_cast<int>(fraction * width), 0, width);
  return "[" + std::string(static_cast<size_t>(full), '#') + std::string(static_cast<size_t>(width - full), '.') + "] ";
}

}  // namespace

std::string progress_text(std::string_view title, uint64_t done, uint64_t total, Progress::Unit unit, double seconds,
                          int bar_width) {
  const double per_second = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  if (total == 0) return fmt::format("{}: {}, {}", title, amount(done, unit), rate(per_second, unit));
  const double fraction = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  std::string text = fmt::format("{}: {}{:3.0f}% ({}/{})", title, bar_width > 0 ? bar(fraction, bar_width) : "",
                                 100 * fraction, amount(done, unit), amount(total, unit));
  if (done == 0 || per_second <= 0) return text;
  text += ", " + rate(per_second, unit);
  if (done < total) text += ", " + human_seconds(static_cast<double>(total - done) / per_second) + " left";
  return text;
}

Progress::Progress(std::string title, uint64_t total, Unit unit, Style style, std::FILE* out)
    : title_(std::move(title)),
      total_(total),
      unit_(unit),
      style_(resolve(style, out)),
      out_(out),
      start_(std::chrono::steady_clock::now()),
      next_show_(start_ + kQuiet) {}

Progress::~Progress() {
  if (!finished_ && shown_ && style_ == Style::bar) std::fputc('\n', out_);
}

void Progress::advance(uint64_t amount) {
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ += amount;
  const auto now = std::chrono::steady_clock::now();
  const bool is_time = now >= next_show_;
  if (style_ == Style::bar) {
    if (!is_time) return;
    next_show_ = now + kRefresh;
    return show(false);
  }
  // Lines: at each tenth, and now and then in between; the first half second stays quiet here too.
  const uint64_t percent = total_ == 0 ? 0 : done_ * 100 / total_;
  if (now < start_ + kQuiet || (percent < next_percent_ && !is_time)) return;
  next_percent_ = percent / 10 * 10 + 10;
  next_show_ = now + kLineAtLeastEvery;
  show(false);
}

void Progress::set_note(std::string note) {
  const std::lock_guard<std::mutex> lock(mutex_);
  note_ = std::move(note);
}

void Progress::finish() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_) return;
  finished_ = true;
  if (shown_ || std::chrono::steady_clock::now() >= start_ + kQuiet) show(true);
}

void Progress::show(bool last) {
  if (style_ == Style::silent) return;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  const bool is_bar = style_ == Style::bar;
  std::string text = progress_text(title_, done_, total_, unit_, elapsed.count(), is_bar ? kBarWidth : 0);
  if (last) {
    text += ", took " + human_seconds(elapsed.count());
  } else if (!note_.empty()) {
    text += ", " + note_;
  }
  // "\r" returns to the start of the line, "\033[K" clears what a longer text left behind.
  const std::string line = is_bar ? "\r" + text + "\033[K" + (last ? "\n" : "") : text + "\n";
  std::fputs(line.c_str(), out_);
  std::fflush(out_);
  shown_ = true;
}

}  // namespace bittern
