// How long the requests of a benchmark are: from a trace (a CSV file with ContextTokens and GeneratedTokens, as the
// Azure traces of LLM inference have it) or drawn evenly from two ranges.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace bittern::cli {

struct LengthOptions {
  std::string trace;  // file; empty: drawn
  std::string prompt = "32:512", output = "16:128";
  int requests = 64;
  double scale = 1;  // multiplies the lengths of a trace
  std::uint64_t seed = 0;
};
void add_length_options(CLI::App& command, LengthOptions& options);
OrderedJson to_json(const LengthOptions& options);

struct RequestLengths {
  int prompt = 0, output = 0;
};
/// One for each request, at least one token each. Error(invalid_argument) names the option or the line of the file.
std::vector<RequestLengths> request_lengths(const LengthOptions& options);

}  // namespace bittern::cli
