// Names of numbers are put together from bits and symmetry, and looked up in the table of schemes.
#include "quant/scheme_choice.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>

#include "quant/name_pattern.h"

namespace bittern::quant {
namespace {

constexpr std::string_view kMixedFormat = "compressed-tensors";
constexpr std::string_view kKeep = "16";

[[noreturn]] void invalid(std::string message, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

std::string numbers_name(int bits, bool symmetric) {
  return "w" + std::to_string(bits) + "a16" + (symmetric ? "-sym" : "");
}

/// Bits of weights alone that some scheme stores.
void check_bits(const std::string& option, int bits) {
  if (bits >= 3 && bits <= 8) return;
  invalid(option + ": " + std::to_string(bits) + " bits are not written", "use 3 to 8; 16 keeps a linear: --skip");
}

void check_agreement(const Scheme& scheme, const QuantizeOptions& options) {
  const std::string named = "--scheme " + options.scheme;
  if (options.bits != 0 && options.bits != scheme.bits) {
    invalid("--bits " + std::to_string(options.bits) + " contradicts " + named + ", which has " +
                std::to_string(scheme.bits),
            "leave one of them out");
  }
  if (options.symmetric && !scheme.symmetric) {
    invalid("--symmetric contradicts " + named + ", which is asymmetric",
            "leave one of them out; the symmetric one is " + std::string(scheme.numbers) + "-sym");
  }
}

/// A scheme's name may be that of its numbers, whatever the layout ("w4a16"), or of one layout ("w4a16-gptq").
std::string_view layout_meant(const QuantizeOptions& options, const Scheme& scheme) {
  if (!options.format.empty()) return options.format;
  return options.scheme.empty() || scheme.name == scheme.numbers ? std::string_view() : scheme.disk_format;
}

}  // namespace

const Scheme& resolve_scheme(const QuantizeOptions& options, bool mixed) {
  if (options.budget && (options.bits != 0 || !options.scheme.empty())) {
    invalid(
        (options.bits != 0 ? "--bits" : "--scheme") + std::string(" contradicts the budget, which chooses the bits"),
        "leave one of them out; --override fixes the bits of some linears, --symmetric makes all symmetric");
  }
  if (options.bits != 0) check_bits("--bits", options.bits);
  const Scheme& scheme = options.scheme.empty()
                             ? find_scheme(numbers_name(options.bits == 0 ? 4 : options.bits, options.symmetric))
                             : find_scheme(options.scheme);
  if (!options.scheme.empty()) check_agreement(scheme, options);
  const std::string_view layout = layout_meant(options, scheme);
  if (mixed && !layout.empty() && layout != kMixedFormat) {
    invalid("the format '" + std::string(layout) + "' has one scheme for all linears, and here they differ",
            "use --format " + std::string(kMixedFormat) + ", or leave the format out");
  }
  if (mixed) return find_scheme_in_format(scheme.name, kMixedFormat);
  return options.format.empty() ? scheme : find_scheme_in_format(scheme.name, options.format);
}

const Scheme& resolve_override(const SchemeOverride& override_, const Scheme& base) {
  const std::string& text = override_.scheme;
  const bool is_number = !text.empty() && text.size() <= 3 &&
                         std::ranges::all_of(text, [](unsigned char c) { return c >= '0' && c <= '9'; });
  if (!is_number) return find_scheme_in_format(text, base.disk_format);
  check_bits("--override " + override_.pattern + "=" + text, std::stoi(text));
  return find_scheme_in_format(numbers_name(std::stoi(text), base.symmetric), base.disk_format);
}

std::vector<std::string> skipped(const QuantizeOptions& options) {
  std::vector<std::string> patterns = options.skip;
  for (const SchemeOverride& o : options.overrides) {
    if (o.scheme == kKeep) patterns.push_back(o.pattern);
  }
  return patterns;
}

void assign_schemes(std::vector<LinearTask>& linears, const QuantizeOptions& options) {
  std::vector<SchemeOverride> overrides = options.overrides;
  std::erase_if(overrides, [](const SchemeOverride& o) { return o.scheme == kKeep; });
  const Scheme& base = resolve_scheme(options, !overrides.empty() || options.budget);
  for (LinearTask& linear : linears) linear.scheme = &base;
  std::vector<std::string> names;
  for (const LinearTask& linear : linears) names.push_back(linear.name);
  for (const SchemeOverride& o : overrides) {
    const Scheme& scheme = resolve_override(o, base);
    NamePattern pattern("--override", o.pattern);
    for (LinearTask& linear : linears) {
      if (pattern.matches(linear.name)) linear.scheme = &scheme;
    }
    pattern.require_matched(names);
  }
}

std::set<std::string> overridden(std::span<const LinearTask> linears, const QuantizeOptions& options) {
  std::set<std::string> names;
  for (const SchemeOverride& o : options.overrides) {
    NamePattern pattern("--override", o.pattern);
    for (const LinearTask& linear : linears) {
      if (pattern.matches(linear.name)) names.insert(linear.name);
    }
  }
  return names;
}

Json quantization_config(std::span<const LinearTask> linears, std::int64_t group_size,
                         const std::vector<std::string>& kept) {
  const Scheme* first = linears.front().scheme;
  const bool same = std::ranges::all_of(linears, [&](const LinearTask& l) { return l.scheme == first; });
  return same ? first->config(group_size, kept) : mixed_config(linears, group_size, kept);
}

GptqOptions gptq_options(const Algorithm& algorithm, const QuantizeOptions& options) {
  if (!algorithm.reads_gptq_options && (options.damping || options.act_order)) {
    invalid(std::string(options.damping ? "--damp" : "--act-order") + " is for gptq, and algorithm '" +
                std::string(algorithm.name) + "' does not read it",
            "leave it out, or use --algorithm gptq");
  }
  GptqOptions result;
  if (options.act_order) result.act_order = *options.act_order;
  if (!options.damping) return result;
  if (!(*options.damping > 0 && *options.damping <= 1)) {
    invalid("--damp is " + std::to_string(*options.damping) + ", it must be above 0 and at most 1",
            "it is a part of the mean diagonal of the Hessian; 0.01 is usual");
  }
  result.damping = *options.damping;
  return result;
}

}  // namespace bittern::quant
