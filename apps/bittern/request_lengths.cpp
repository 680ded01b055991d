// Lines and ranges.
#include "request_lengths.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>

#include "base/random.h"
#include "base/strings.h"
#include "options.h"

namespace bittern::cli {
namespace {

constexpr int kLongest = 1 << 24;

[[noreturn]] void refuse(std::string message, std::string hint) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

bool parse_length(std::string_view text, int& value) {
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  return status == std::errc() && end == text.data() + text.size() && value >= 1 && value <= kLongest;
}

struct Range {
  int low = 0, high = 0;
  int draw(Random& random) const {
    return low + static_cast<int>(random.next_below(static_cast<std::uint32_t>(high - low + 1)));
  }
};

Range parse_range(const char* option, const std::string& text) {
  const auto parts = split(text, ':');
  Range range;
  const bool good =
      parts.size() <= 2 && parse_length(parts.front(), range.low) && parse_length(parts.back(), range.high);
  if (good && range.low <= range.high) return range;
  refuse(fmt::format("{}: '{}' is not a range of tokens", option, text),
         "write LOW:HIGH, such as 32:512, or one number");
}

std::size_t column_of(const std::vector<std::string_view>& header, std::string_view name, const std::string& file) {
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (trim(header[i]) == name) return i;
  }
  refuse(fmt::format("{}: its first line names no column {}", file, name),
         "a trace is a CSV file with the columns ContextTokens and GeneratedTokens");
}

int scaled(int length, double scale) {
  return std::max(1, static_cast<int>(std::lround(std::min<double>(length * scale, kLongest))));
}

std::vector<RequestLengths> read_trace(const LengthOptions& options) {
  std::ifstream file(options.trace);
  std::string line;
  if (!std::getline(file, line)) refuse("--trace: cannot read " + options.trace, "");
  const auto header = split(line, ',');
  const std::size_t prompt = column_of(header, "ContextTokens", options.trace);
  const std::size_t output = column_of(header, "GeneratedTokens", options.trace);
  std::vector<RequestLengths> lengths;
  for (int number = 2; std::ssize(lengths) < options.requests && std::getline(file, line); ++number) {
    if (trim(line).empty()) continue;
    const auto cells = split(line, ',');
    RequestLengths each;
    if (cells.size() <= std::max(prompt, output) || !parse_length(trim(cells[prompt]), each.prompt) ||
        !parse_length(trim(cells[output]), each.output)) {
      refuse(fmt::format("{}:{}: '{}' has no two lengths of at least one token", options.trace, number, line), "");
    }
    lengths.push_back({scaled(each.prompt, options.scale), scaled(each.output, options.scale)});
  }
  if (lengths.empty()) refuse("--trace: " + options.trace + " has no requests", "");
  return lengths;
}

}  // namespace

void add_length_options(CLI::App& command, LengthOptions& o) {
  const char* group = "Requests";
  add_option(command, "--requests", o.requests, "how many; of a trace, the first ones")
      ->check(CLI::Range(1, 1 << 20))
      ->group(group);
  CLI::Option* trace =
      add_option(command, "--trace", o.trace, "CSV file with the columns ContextTokens and GeneratedTokens")
          ->check(CLI::ExistingFile)
          ->group(group);
  add_option(command, "--scale", o.scale, "multiplies the lengths of the trace")
      ->needs(trace)
      ->check(CLI::PositiveNumber)
      ->group(group);
  add_option(command, "--prompt-tokens", o.prompt, "without a trace: prompts of LOW:HIGH tokens")
      ->excludes(trace)
      ->group(group);
  add_option(command, "--output-tokens", o.output, "without a trace: answers of LOW:HIGH tokens")
      ->excludes(trace)
      ->group(group);
  add_option(command, "--seed", o.seed, "of lengths and tokens")->group(group);
}

OrderedJson to_json(const LengthOptions& o) {
  OrderedJson json = {{"requests", o.requests}, {"seed", o.seed}};
  if (!o.trace.empty()) {
    json["trace"] = o.trace;
    json["scale"] = o.scale;
  } else {
    json["prompt_tokens"] = o.prompt;
    json["output_tokens"] = o.output;
  }
  return json;
}

std::vector<RequestLengths> request_lengths(const LengthOptions& options) {
  if (!options.trace.empty()) return read_trace(options);
  const Range prompt = parse_range("--prompt-tokens", options.prompt);
  const Range output = parse_range("--output-tokens", options.output);
  Random random(options.seed, 1);
  std::vector<RequestLengths> lengths;
  for (int i = 0; i < options.requests; ++i) {
    const int prompt_tokens = prompt.draw(random);
    lengths.push_back({prompt_tokens, output.draw(random)});
  }
  return lengths;
}

}  // namespace bittern::cli
