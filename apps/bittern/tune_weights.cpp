// Names to options of quantization, and one quantization after the other.
#include "tune_weights.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/progress.h"
#include "base/sha256.h"
#include "base/strings.h"
#include "model_loader.h"

namespace bittern::cli {
namespace {

constexpr const char* kForm =
    "give SCHEME-ALGORITHM or SCHEME-ALGORITHM-gGROUP, such as w4a16-awq-g128, or 4.25bpw-gptq for mixed bits";

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("quantization '{}': {}", name, why), kForm);
}

/// Takes "-gGROUP" off the end of `rest`.
std::int64_t take_group(const std::string& name, std::string& rest) {
  const std::size_t dash = rest.rfind("-g");
  if (dash == std::string::npos || dash + 2 == rest.size()) return 128;
  const char *begin = rest.data() + dash + 2, *end = rest.data() + rest.size();
  if (*begin < '0' || *begin > '9') return 128;  // "-gptq"
  std::int64_t group = 0;
  const auto [read, error] = std::from_chars(begin, end, group);
  if (error != std::errc() || read != end || group <= 0) refuse(name, "no such group size");
  rest.resize(dash);
  return group;
}

/// "4.25bpw" is 4.25; 0 for what does not end so.
double bits_per_weight(const std::string& name, std::string_view scheme) {
  if (!scheme.ends_with("bpw")) return 0;
  double bits = 0;
  const char* end = scheme.data() + scheme.size() - 3;
  const auto [read, error] = std::from_chars(scheme.data(), end, bits);
  if (error != std::errc() || read != end || !(bits > 0 && bits < 32))
    refuse(name, "no such number of bits per weight");
  return bits;
}

class QuantizeProgressBar final : public quant::QuantizeSink {
 public:
  explicit QuantizeProgressBar(std::string title) : title_(std::move(title)) {}
  void progress(const quant::QuantizeProgress& p) override {
    if (!bar_) bar_ = std::make_unique<Progress>(title_, static_cast<std::uint64_t>(p.total), Progress::Unit::bytes);
    bar_->advance(static_cast<std::uint64_t>(p.done - done_));
    done_ = p.done;
  }

 private:
  std::string title_;
  std::unique_ptr<Progress> bar_;
  std::int64_t done_ = 0;
};

}  // namespace

NamedQuantization quantization_from_name(const std::string& name) {
  NamedQuantization result;
  std::string rest = name;
  result.group_size = take_group(name, rest);
  const std::size_t dash = rest.rfind('-');
  if (dash == std::string::npos || dash == 0 || dash + 1 == rest.size()) refuse(name, "scheme or algorithm is missing");
  result.scheme = rest.substr(0, dash);
  result.algorithm = rest.substr(dash + 1);
  result.bits_per_weight = bits_per_weight(name, result.scheme);
  if (result.bits_per_weight > 0) result.scheme.clear();
  const auto algorithms = quant::algorithms();
  if (std::ranges::find(algorithms, result.algorithm, &quant::Choice::name) == algorithms.end())
    refuse(name, fmt::format("there is no algorithm '{}'", result.algorithm));
  return result;
}

std::string calibration_mark(const CalibrationSourceOptions& calibration) {
  const CalibrationSourceOptions usual;
  const bool same = calibration.data.empty() && calibration.samples == usual.samples &&
                    calibration.seqlen == usual.seqlen && calibration.seed == usual.seed;
  if (same) return "";
  Sha256 hash;
  if (!calibration.data.empty()) hash.update(read_text(calibration.data));
  hash.update(fmt::format("|{}|{}|{}", calibration.samples, calibration.seqlen, calibration.seed));
  return "-" + hash.finish().substr(0, 8);
}

TuneWeights::TuneWeights(std::shared_ptr<const ModelFiles> source, std::filesystem::path directory,
                         CalibrationSourceOptions calibration, int threads)
    : source_(std::move(source)),
      directory_(std::move(directory)),
      calibration_(std::move(calibration)),
      mark_(calibration_mark(calibration_)),
      threads_(threads) {}

quant::QuantizeOptions TuneWeights::options_for(const std::string& name) const {
  const NamedQuantization named = quantization_from_name(name);
  quant::QuantizeOptions options;
  options.scheme = named.scheme;
  options.algorithm = named.algorithm;
  options.group_size = named.group_size;
  options.output = directory_of(name);
  options.threads = threads_;
  options.evaluation.absent = "tune measures it";
  if (named.bits_per_weight > 0) options.budget.emplace().bits_per_weight = named.bits_per_weight;
  if (!options.budget && !quant::needs_calibration(named.algorithm)) return options;
  quant::CalibrationData data = read_calibration(*source_, calibration_);
  options.calibration.name = data.name;
  options.calibration.sha256 = data.sha256;
  options.calibration.sequences = std::move(data.samples);
  return options;
}

void TuneWeights::check(const std::string& name) const {
  quant::QuantizeOptions options = options_for(name);
  options.output.clear();      // it may be there already, from an earlier run
  if (options.budget) return;  // planning it is the measuring
  quant::plan_quantize(source_, options);
}

std::string TuneWeights::make(const std::string& name) const {
  const std::filesystem::path path = directory_of(name);
  // A directory appears under its name only when it is complete.
  if (std::filesystem::exists(path)) return path.string();
  std::filesystem::create_directories(directory_);
  QuantizeProgressBar sink("quantizing " + name);
  quant::quantize(source_, options_for(name), sink);
  return path.string();
}

}  // namespace bittern::cli
