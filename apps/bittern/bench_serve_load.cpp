// Each property of a request is drawn from its own stream of random numbers, so that changing one option leaves the
// others as they were.
#include "bench_serve_load.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <string_view>

#include "base/strings.h"

namespace bittern::cli {
namespace {

// Short and common, so that large vocabularies have a token for each.
constexpr std::array<std::string_view, 48> kWords = {
    "the",   "time", "water", "people", "long", "day",  "made",  "find",  "work", "first", "place", "year",
    "back",  "give", "most",  "very",   "good", "name", "line",  "right", "mean", "same",  "old",   "great",
    "home",  "hand", "land",  "high",   "such", "act",  "ask",   "men",   "went", "light", "kind",  "need",
    "house", "try",  "point", "world",  "near", "self", "earth", "head",  "own",  "page",  "sun",   "left"};

enum Stream : std::uint64_t { kLengths = 1, kArrivals, kCancels, kPrefix, kPrompts = 1000 };

int draw(Random& random, const TokenRange& range) {
  return range.low + static_cast<int>(random.next_below(static_cast<std::uint32_t>(range.high - range.low + 1)));
}

[[noreturn]] void refuse(const std::string& option, const std::string& text, const std::string& hint) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: '{}' is not valid", option, text), hint);
}

std::optional<int> positive(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) return std::nullopt;
  return value;
}

// "2023-11-16 18:15:46.6805900" as seconds since 1970.
double timestamp(const std::string& text, const std::string& where) {
  std::tm parts{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%d %H:%M:%S", &parts);
  if (rest == nullptr) throw Error(ErrorCode::invalid_argument, where + ": '" + text + "' is not a time");
  const double fraction = *rest == '.' ? std::strtod(rest, nullptr) : 0;
  return static_cast<double>(timegm(&parts)) + fraction;
}

TraceRow trace_row(const std::string& line, const std::string& where) {
  const std::vector<std::string_view> cells = split(trim(line), ',');
  const std::optional<int> prompt = cells.size() == 3 ? positive(cells[1]) : std::nullopt;
  const std::optional<int> output = cells.size() == 3 ? positive(cells[2]) : std::nullopt;
  if (!prompt || !output) {
    throw Error(ErrorCode::invalid_argument, where + ": not 'time,prompt tokens,output tokens': '" + line + "'");
  }
  return {timestamp(std::string(cells[0]), where), *prompt, *output};
}

}  // namespace

TokenRange parse_range(const std::string& option, const std::string& text) {
  const std::size_t dash = text.find('-');
  const std::optional<int> low = positive(std::string_view(text).substr(0, dash));
  const std::optional<int> high = dash == std::string::npos ? low : positive(std::string_view(text).substr(dash + 1));
  if (!low || !high || *low > *high) refuse(option, text, "give tokens as 256, or a range as 128-512");
  return {*low, *high};
}

double parse_seconds(const std::string& option, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double scale = unit == "ms" ? 1e-3 : (unit.empty() || unit == "s") ? 1 : unit == "min" ? 60 : 0;
  if (error != std::errc() || scale == 0 || !(value > 0)) refuse(option, text, "give a time as 500ms, 2s or 1min");
  return value * scale;
}

std::vector<TraceRow> read_trace(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorCode::not_found, "--trace: cannot open " + path);
  std::string line;
  std::getline(file, line);
  if (!trim(line).starts_with("TIMESTAMP,ContextTokens,GeneratedTokens")) {
    throw Error(ErrorCode::invalid_argument, path + ": the first line is not TIMESTAMP,ContextTokens,GeneratedTokens");
  }
  std::vector<TraceRow> rows;
  for (int number = 2; std::getline(file, line); ++number) {
    if (!trim(line).empty()) rows.push_back(trace_row(line, fmt::format("{}, line {}", path, number)));
  }
  if (rows.empty()) throw Error(ErrorCode::invalid_argument, path + " holds no requests");
  const double start = rows.front().at;
  for (TraceRow& row : rows) row.at -= start;
  return rows;
}

LoadPlan::LoadPlan(LoadOptions options)
    : options_(std::move(options)),
      lengths_(options_.seed, kLengths),
      arrivals_(options_.seed, kArrivals),
      cancels_(options_.seed, kCancels) {}

PlannedRequest LoadPlan::next() {
  const TraceRow* row = options_.trace.empty() ? nullptr : &options_.trace[count_ % options_.trace.size()];
  PlannedRequest request;
  request.at = arrival(row);
  const int prompt = row != nullptr ? row->prompt : draw(lengths_, options_.prompt);
  request.output_tokens = row != nullptr ? row->output : draw(lengths_, options_.output);
  request.prompt_tokens = prompt + options_.shared_prefix;
  Random prefix(options_.seed, kPrefix), own(options_.seed, kPrompts + count_++);
  if (options_.ids) {
    for (int i = 0; i < options_.shared_prefix; ++i) request.ids.push_back(draw(prefix, options_.id_range));
    for (int i = 0; i < prompt; ++i) request.ids.push_back(draw(own, options_.id_range));
  } else {
    if (options_.shared_prefix > 0) request.text = words(prefix, options_.shared_prefix);
    request.text += words(own, prompt - static_cast<int>(std::lround(options_.tokens_around)));
  }
  const bool cancelled = cancels_.next_double() < options_.cancel_rate;
  const int after = draw(cancels_, {1, request.output_tokens});  // drawn always: the next request's draw stays the same
  if (cancelled) request.cancel_at = after;
  return request;
}

std::string LoadPlan::words(Random& random, int tokens) const {
  const auto count = std::max(1L, std::lround(tokens / options_.tokens_per_word));
  std::string text;
  for (long i = 0; i < count; ++i) {
    text += ' ';
    text += kWords[random.next_below(kWords.size())];
  }
  return text;
}

double LoadPlan::arrival(const TraceRow* row) {
  if (options_.replay > 0) {
    const std::uint64_t rounds = count_ / options_.trace.size();
    return (row->at + static_cast<double>(rounds) * options_.trace.back().at) / options_.replay;
  }
  if (options_.rate > 0) clock_ += -std::log(1 - arrivals_.next_double()) / options_.rate;
  return clock_;
}

}  // namespace bittern::cli
