// Declaring the options of `bittern quantize`, and putting them together.
#include "quantize_options.h"

#include <bittern/error.h>

#include <cstdlib>
#include <optional>

#include "options.h"

namespace bittern::cli {
namespace {

std::string choices(const std::vector<quant::Choice>& rows) {
  std::string text;
  for (const quant::Choice& row : rows) text += (text.empty() ? "" : "; ") + row.name + ": " + row.summary;
  return text;
}

void add_scheme_options(CLI::App& command, QuantizeVerbOptions& options) {
  quant::QuantizeOptions& q = options.quantize;
  add_option(command, "--scheme", q.scheme, "w4a16 unless options below say more; " + choices(quant::schemes()));
  add_option(command, "--bits", q.bits, "bits of a weight, 3 to 8, in place of a scheme's name; 0: 4")
      ->check(CLI::Range(0, 8));
  add_option(command, "--symmetric", q.symmetric, "symmetric groups, in place of a scheme's name");
  add_option(command, "--format", q.format,
             "disk format to write the scheme in: awq, gptq or compressed-tensors; the scheme has its own otherwise");
  add_option(command, "--override", options.overrides,
             "PATTERN=SCHEME or PATTERN=BITS: another scheme for linears named as in --skip, 16 keeps them; may be "
             "repeated, the last that matches counts");
}

void add_gptq_options(CLI::App& command, QuantizeVerbOptions& options) {
  CLI::Option* order = add_option(command, "--act-order", options.act_order,
                                  "gptq: columns in the order of the largest inputs (the default)");
  add_option(command, "--no-act-order", options.no_act_order, "gptq: columns in their own order")->excludes(order);
  options.damping_option =
      add_option(command, "--damp", options.damping, "gptq: added to the Hessian's diagonal, as a part of its mean");
}

void add_budget_options(CLI::App& command, QuantizeVerbOptions& options) {
  CLI::Option* budget =
      add_option(command, "--budget", options.budget,
                 "bits per weight to keep to, such as 4.25bpw, scales and zeros included: the bits of "
                 "every linear are chosen by what its rounding changes in the answers");
  add_option(command, "--fit", options.fit,
             "memory to run in, such as 6GiB: weights, KV cache and a step; chooses bits and the KV cache's precision")
      ->excludes(budget);
  options.serving_options = {
      add_option(command, "--context", options.serving.context,
                 "with --fit: tokens of the longest sequence; 0: what the model was made for")
          ->check(CLI::Range(0, 1 << 30)),
      add_option(command, "--sequences", options.serving.sequences, "with --fit: sequences that long at once")
          ->check(CLI::Range(1, 4096)),
      add_option(command, "--kv-cache", options.serving.kv_cache,
                 "with --fit: auto, to choose from bf16, int8 and int4, or the precision to count with")};
  options.budget_options = {
      add_option(
          command, "--mix", options.mix,
          "with a budget: linear chooses for every linear, input alike for those that take one activation, which "
          "programs that join q, k and v need")
          ->check(CLI::IsMember({"linear", "input"})),
      add_option(command, "--sensitivity-tokens", options.sensitivity_tokens,
                 "with a budget: calibration tokens to measure on; 0: 64 to 2048 by the size of the model")
          ->check(CLI::Range(0, 1 << 20))};
}

void add_calibration_options(CLI::App& command, QuantizeVerbOptions& options) {
  CalibrationSourceOptions& source = options.calibration;
  options.calibration_options = {
      add_option(command, "--data", source.data,
                 "calibration data: .txt, .jsonl or .parquet; by default the text that ships with the program"),
      add_option(command, "--column", source.column, "of JSON lines or Parquet: the text or conversation to use"),
      add_option(command, "--samples", source.samples, "calibration sequences")->check(CLI::Range(1, 100000)),
      add_option(command, "--seqlen", source.seqlen, "tokens of the longest calibration sequence")
          ->check(CLI::Range(2, 1 << 20)),
      add_option(command, "--seed", source.seed, "chooses the calibration sequences"),
      add_option(command, "--search-tokens", options.quantize.calibration.search_tokens,
                 "calibration tokens that are run again for every candidate, and that losses are measured on")
          ->check(CLI::Range(1, 1 << 20))};
}

void add_evaluation_options(CLI::App& command, EvaluationSourceOptions& options) {
  CLI::Option* data =
      add_option(command, "--eval-data", options.data,
                 "text to measure the loss on; by default the held-out text that ships with the program");
  CLI::Option* tokens = add_option(command, "--eval-tokens", options.tokens,
                                   "tokens of it to run; 0: 2048 to 8192 by the size of the model")
                            ->check(CLI::Range(0, 1 << 30));
  add_option(command, "--no-eval", options.off, "do not measure the loss on text")->excludes(data)->excludes(tokens);
}

void add_calibration(quant::QuantizeOptions& options, const ModelFiles& files, const CalibrationSourceOptions& source) {
  quant::CalibrationData data = read_calibration(files, source);
  options.calibration.name = data.name;
  options.calibration.sha256 = data.sha256;
  options.calibration.sequences = std::move(data.samples);
}

void refuse_calibration(const QuantizeVerbOptions& options) {
  for (const CLI::Option* option : options.calibration_options) {
    if (option->count() == 0) continue;
    throw Error(ErrorCode::invalid_argument,
                option->get_name() + " is for algorithms with calibration, and '" + options.quantize.algorithm +
                    "' looks at no data",
                "leave it out, or use --algorithm awq or gptq, or a budget");
  }
}

/// The environment may hold what is meant for other verbs; what the command line says is refused.
void refuse_unread(const std::vector<const CLI::Option*>& options, const std::string& reader) {
  for (const CLI::Option* option : options) {
    if (option->count() == 0 || std::getenv(option->get_envname().c_str())) continue;
    throw Error(ErrorCode::invalid_argument, option->get_name() + " is read with " + reader + " alone",
                "give that too, or leave it out");
  }
}

/// "4.25bpw" or "4.25".
double parse_bits_per_weight(const std::string& text) {
  std::size_t end = 0;
  double bits = 0;
  try {
    bits = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  if (end == 0 || !(bits > 0 && bits < 100) || (text.substr(end) != "" && text.substr(end) != "bpw")) {
    throw Error(ErrorCode::invalid_argument, "--budget '" + text + "' is no number of bits per weight",
                "as in --budget 4.25bpw; a size is --fit 6GiB");
  }
  return bits;
}

std::optional<quant::Budget> budget(const QuantizeVerbOptions& options, const ModelFiles& files) {
  if (options.budget.empty() && options.fit.empty()) refuse_unread(options.budget_options, "--budget or --fit");
  if (options.fit.empty()) refuse_unread(options.serving_options, "--fit");
  quant::Budget result;
  result.shared_inputs_alike = options.mix == "input";
  result.tokens = options.sensitivity_tokens;
  if (!options.budget.empty()) {
    result.bits_per_weight = parse_bits_per_weight(options.budget);
    return result;
  }
  if (options.fit.empty()) return std::nullopt;
  result.bytes = parse_bytes("--fit", options.fit);
  ServingOptions serving = options.serving;
  serving.threads = options.quantize.threads;
  result.serving = serving_memory(files, serving);
  return result;
}

/// The last '=' parts pattern and scheme: expressions may have one, schemes never do.
quant::SchemeOverride parse_override(const std::string& text) {
  const std::size_t at = text.rfind('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size()) {
    throw Error(ErrorCode::invalid_argument, "--override '" + text + "' is not PATTERN=SCHEME",
                "as in --override down_proj=8 or --override 're:.*layers\\.0\\..*=w8a16'");
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace

void add_quantize_options(CLI::App& command, QuantizeVerbOptions& options) {
  quant::QuantizeOptions& q = options.quantize;
  add_model_argument(command, options.model);
  add_option(command, "--output,-o", options.output, "directory to make")->required();
  add_scheme_options(command, options);
  add_option(command, "--algorithm", q.algorithm, choices(quant::algorithms()));
  add_option(command, "--group-size", q.group_size, "inputs that share a scale: 32, 64, 128, or -1 for a whole row");
  add_budget_options(command, options);
  add_gptq_options(command, options);
  add_calibration_options(command, options);
  add_evaluation_options(command, options.evaluation);
  add_option(command, "--skip", q.skip, "linears to leave as they are: a name, or re:REGEX; may be repeated");
  add_option(command, "--overwrite", q.overwrite, "replace the output when it is a checkpoint");
  add_option(command, "--max-shard", options.max_shard, "cut larger checkpoints into files of about this size");
  add_option(command, "--threads", q.threads, "worker threads; 0: the cores this process may use")
      ->check(CLI::Range(0, 4096));
  add_option(command, "--dry-run", options.dry_run, "print the plan and stop");
  add_option(command, "--json", options.json, "print JSON");
  add_option(command, "--html", options.html, "write the report as a web page to this file");
}

quant::QuantizeOptions resolved(const QuantizeVerbOptions& options, const ModelFiles& files) {
  quant::QuantizeOptions q = options.quantize;
  q.output = options.output;
  q.max_shard_bytes = parse_bytes("--max-shard", options.max_shard);
  for (const std::string& text : options.overrides) q.overrides.push_back(parse_override(text));
  if (options.damping_option->count() > 0) q.damping = options.damping;
  if (options.act_order || options.no_act_order) q.act_order = options.act_order;
  q.budget = budget(options, files);
  if (quant::needs_calibration(q.algorithm) || q.budget)
    add_calibration(q, files, options.calibration);
  else
    refuse_calibration(options);
  q.evaluation = read_evaluation(files, options.evaluation);
  return q;
}

}  // namespace bittern::cli
