// Planning: reads config.json and the headers, sorts every tensor into its place, and refuses what cannot be done by
// name before a byte is written.
#include "quant/job.h"

#include <bittern/error.h>

#include <algorithm>
#include <set>

#include "base/sha256.h"
#include "base/strings.h"
#include "models/model.h"
#include "quant/calibrated_model.h"
#include "quant/evaluate.h"
#include "quant/output.h"
#include "quant/scheme_choice.h"
#include "quant/sensitivity.h"
#include "tensor/convert.h"

namespace bittern::quant {
namespace {

[[noreturn]] void unsupported(std::string message, std::string hint) {
  throw Error(ErrorCode::unsupported, std::move(message), std::move(hint));
}

void refuse_quantized(const ModelFiles& files, const ModelConfig& config) {
  if (config.quantization.is_null()) return;
  const std::string method =
      config.quantization.is_object() ? config.quantization.value("quant_method", "unknown") : "unknown";
  unsupported(files.origin() + " is already quantized (quant_method '" + method + "')",
              "quantize the original 16-bit checkpoint");
}

std::int64_t elements(const TensorEntry& entry) {
  std::int64_t count = 1;
  for (const std::int64_t dimension : entry.shape) count *= dimension;
  return count;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t n : shape) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return "(" + text + ")";
}

using EntryMap = std::map<std::string, const TensorEntry*, std::less<>>;

EntryMap index_entries(const Checkpoint& checkpoint) {
  EntryMap map;
  for (const TensorEntry& entry : checkpoint.entries()) map.emplace(entry.name, &entry);
  return map;
}

/// The weight of a linear: there, of the shape config.json implies, in a float type.
const TensorEntry& weight_entry(const EntryMap& entries, const LinearTask& linear) {
  const std::string name = linear.name + ".weight";
  const auto found = entries.find(name);
  if (found == entries.end()) {
    throw Error(ErrorCode::not_found, "the checkpoint has no tensor " + name, "config.json belongs to another model");
  }
  const TensorEntry& entry = *found->second;
  const std::vector<std::int64_t> expected = {linear.out, linear.in};
  if (entry.shape != expected) {
    throw Error(ErrorCode::invalid_checkpoint,
                name + " has shape " + shape_text(entry.shape) + ", config.json says " + shape_text(expected));
  }
  if (!entry.dtype || !is_float(*entry.dtype)) {
    unsupported(name + " is stored as " + entry.dtype_name, "quantize a checkpoint in BF16, F16 or F32");
  }
  return entry;
}

std::string obstacle(const LinearTask& linear, std::int64_t group_size) {
  return linear.scheme->obstacle(linear, group_size);
}

bool fits(const std::vector<LinearTask>& linears, std::int64_t group_size) {
  return std::ranges::all_of(linears, [&](const LinearTask& linear) {
    return std::ranges::find(linear.scheme->group_sizes, group_size) != linear.scheme->group_sizes.end() &&
           obstacle(linear, group_size).empty();
  });
}

/// What to do about linears that do not fit: a group size that suits all, or leaving them out.
std::string obstacle_hint(const std::vector<LinearTask>& linears, std::int64_t group_size) {
  for (const std::int64_t size : linears.front().scheme->group_sizes) {
    if (fits(linears, size)) return "use --group-size " + std::to_string(size) + ", which fits every linear";
  }
  std::set<std::string> parts;
  for (const LinearTask& linear : linears) {
    if (!obstacle(linear, group_size).empty()) parts.insert(linear.name.substr(linear.name.rfind('.') + 1));
  }
  std::string hint = "leave them as they are with";
  for (const std::string& part : parts) hint += " --skip " + part;
  return hint;
}

void refuse_obstacles(const std::vector<LinearTask>& linears, std::int64_t group_size) {
  constexpr int kShown = 4;
  int count = 0;
  std::string shown;
  std::set<std::string> schemes;
  for (const LinearTask& linear : linears) {
    const std::string reason = obstacle(linear, group_size);
    if (reason.empty()) continue;
    schemes.emplace(linear.scheme->name);
    if (++count <= kShown) shown += "\n  " + linear.name + ": " + reason;
  }
  if (count == 0) return;
  if (count > kShown) shown += "\n  and " + std::to_string(count - kShown) + " more";
  unsupported("scheme " + join(std::vector<std::string>(schemes.begin(), schemes.end()), ", ") + " cannot store " +
                  std::to_string(count) + " of " + std::to_string(linears.size()) + " linears with group size " +
                  std::to_string(group_size) + ":" + shown + "\n",
              obstacle_hint(linears, group_size));
}

/// Sorts the checkpoint's tensors: linears into their layers, everything else beside them.
void place_tensors(Job& job, const Checkpoint& checkpoint, const std::vector<LinearTask>& linears) {
  const EntryMap entries = index_entries(checkpoint);
  std::set<std::string, std::less<>> weights;
  for (const LinearTask& linear : linears) {
    const TensorEntry& entry = weight_entry(entries, linear);
    LayerJob& layer = job.layers.at(static_cast<std::size_t>(linear.layer));
    layer.linears.push_back(linear);
    layer.source_bytes += static_cast<std::int64_t>(entry.bytes);
    job.source_bytes[linear.name] = static_cast<std::int64_t>(entry.bytes);
    weights.insert(entry.name);
  }
  for (const TensorEntry& entry : checkpoint.entries()) {
    if (weights.contains(entry.name)) continue;
    if (!entry.dtype) unsupported(entry.name + " is stored as " + entry.dtype_name, "Bittern cannot copy that type");
    const int layer = layer_of(entry.name);
    const bool inside = layer >= 0 && layer < std::ssize(job.layers);
    (inside ? job.layers[static_cast<std::size_t>(layer)].kept : job.outside).push_back(entry);
    if (inside) job.layers[static_cast<std::size_t>(layer)].source_bytes += static_cast<std::int64_t>(entry.bytes);
  }
}

SchemeShare& share_of(QuantizePlan& plan, const Scheme& scheme) {
  for (SchemeShare& share : plan.shares) {
    if (share.scheme == scheme.name) return share;
  }
  return plan.shares.emplace_back(std::string(scheme.name), 0, 0, 0);
}

void declare_outputs(Job& job) {
  const auto keep = [&](const std::vector<TensorEntry>& entries) {
    for (const TensorEntry& entry : entries) job.outputs.push_back({entry.name, *entry.dtype, entry.shape});
  };
  keep(job.outside);
  for (const LayerJob& layer : job.layers) {
    for (const LinearTask& linear : layer.linears) {
      SchemeShare& share = share_of(job.plan, *linear.scheme);
      ++share.linears;
      share.parameters += linear.out * linear.in;
      for (TensorSpec& spec : linear.scheme->tensors(linear, job.plan.group_size)) {
        job.plan.quantized_output_bytes += spec.bytes();
        share.output_bytes += spec.bytes();
        job.outputs.push_back(std::move(spec));
      }
    }
    keep(layer.kept);
  }
  for (const TensorSpec& spec : job.outputs) job.plan.output_bytes += spec.bytes();
}

void count_sources(Job& job, const Checkpoint& checkpoint, const std::vector<LinearTask>& linears) {
  for (const TensorEntry& entry : checkpoint.entries()) {
    job.plan.source_bytes += static_cast<std::int64_t>(entry.bytes);
    job.plan.parameters += elements(entry);
  }
  for (const LinearTask& linear : linears) {
    job.plan.quantized_parameters += linear.out * linear.in;
    job.plan.quantized_source_bytes += job.source_bytes.at(linear.name);
  }
}

/// The stream maps one layer, or one tensor outside the layers, at a time. Mapped pages count as resident while they
/// are read, so they are part of the peak although the kernel may take them back.
void plan_memory(Job& job, const ModelConfig& config, const QuantizeOptions& options) {
  const std::int64_t calibrated_bytes =
      job.algorithm->needs_calibration ? CalibratedModel::planned_bytes(config, options.calibration) : 0;
  constexpr std::int64_t kBuffers = std::int64_t{2} << 20;  // of the writer and of the headers
  const auto need = [&](std::int64_t bytes, const std::string& where) {
    if (bytes + kBuffers <= job.plan.peak_bytes) return;
    job.plan.peak_bytes = bytes + kBuffers;
    job.plan.peak_at = where;
  };
  for (const TensorEntry& entry : job.outside) need(static_cast<std::int64_t>(entry.bytes), entry.name);
  for (std::size_t i = 0; i < job.layers.size(); ++i) {
    const LayerJob& layer = job.layers[i];
    need(calibrated_bytes + layer.source_bytes +
             job.algorithm->peak_bytes(layer.linears, job.plan.group_size, job.plan.search_tokens),
         "layer " + std::to_string(i));
  }
  if (!options.budget) return;
  const std::vector<LinearTask> linears = free_linears(job, options);
  const std::int64_t tokens = sensitivity_tokens(config, linears, options.calibration, options.budget->tokens);
  for (const LayerJob& layer : job.layers)
    need(layer.source_bytes + sensitivity_bytes(config, layer.linears, tokens), "the measurement of sensitivity");
  job.plan.sensitivity_tokens = tokens;
  job.plan.sensitivity_disk_bytes =
      sensitivity_disk_bytes(config, 1 + options.budget->serving.size() + linears.size(), tokens);
}

void describe(Job& job, const ModelFiles& files, const ModelConfig& config, Selection&& selection,
              const QuantizeOptions& options) {
  QuantizePlan& plan = job.plan;
  plan.algorithm = options.algorithm;
  plan.group_size = options.group_size;
  plan.source = files.origin();
  plan.output = options.output;
  plan.architecture = config.architecture;
  plan.layers = config.layers;
  plan.linears = static_cast<int>(selection.linears.size());
  plan.kept = std::move(selection.kept);
  plan.calibration_name = options.calibration.name;
  plan.calibration_tokens = options.calibration.tokens();
  plan.search_tokens = job.algorithm->needs_calibration ? options.calibration.search_tokens : 0;
}

bool is_copied(std::string_view name) {
  constexpr std::string_view kSuffixes[] = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".py"};
  constexpr std::string_view kPrefixes[] = {"LICENSE", "NOTICE", "COPYING"};
  if (name == "config.json" || name.ends_with(".index.json")) return false;
  return std::ranges::any_of(kSuffixes, [&](auto suffix) { return name.ends_with(suffix); }) ||
         std::ranges::any_of(kPrefixes, [&](auto prefix) { return name.starts_with(prefix); });
}

}  // namespace

std::vector<std::string> files_to_copy(const ModelFiles& files) {
  std::vector<std::string> names = files.list();
  std::erase_if(names, [](const std::string& name) { return !is_copied(name); });
  return names;
}

std::vector<LinearTask> free_linears(const Job& job, const QuantizeOptions& options) {
  std::vector<LinearTask> linears;
  for (const LayerJob& layer : job.layers) linears.insert(linears.end(), layer.linears.begin(), layer.linears.end());
  const std::set<std::string> fixed = overridden(linears, options);
  std::erase_if(linears, [&](const LinearTask& linear) { return fixed.contains(linear.name); });
  return linears;
}

std::string tokens_sha256(const Calibration& calibration) {
  Sha256 tokens;
  for (const auto& sequence : calibration.sequences) {
    tokens.update(std::as_bytes(std::span(sequence)));
    tokens.update("|");
  }
  return tokens.finish();
}

Job make_job(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options,
             const SchemesByName* chosen) {
  Job job;
  job.algorithm = &find_algorithm(options.algorithm);
  check_calibration(*job.algorithm, options);
  job.gptq = gptq_options(*job.algorithm, options);
  const ModelConfig config = load_config(*files);
  refuse_quantized(*files, config);
  Selection selection = select_linears(*build_model(config), skipped(options));
  assign_schemes(selection.linears, options);
  for (LinearTask& linear : selection.linears) {
    if (chosen && chosen->contains(linear.name)) linear.scheme = chosen->at(linear.name);
  }
  for (const LinearTask& linear : selection.linears) {
    check_scheme(*job.algorithm, *linear.scheme);
    check_group_size(*linear.scheme, options.group_size);
  }
  refuse_obstacles(selection.linears, options.group_size);
  const auto checkpoint = open_checkpoint(files, Json());
  job.layers.resize(static_cast<std::size_t>(config.layers));
  for (int i = 0; i < config.layers; ++i) job.layers[static_cast<std::size_t>(i)].index = i;
  place_tensors(job, *checkpoint, selection.linears);
  count_sources(job, *checkpoint, selection.linears);
  job.config = config.raw;
  job.config["quantization_config"] = quantization_config(selection.linears, options.group_size, selection.kept);
  describe(job, *files, config, std::move(selection), options);
  declare_outputs(job);
  job.plan.scheme = job.plan.shares.size() == 1 ? job.plan.shares.front().scheme : "mixed";
  plan_memory(job, config, options);
  plan_evaluation(job, config, options.evaluation);
  check_output(job.plan, *files, options);
  return job;
}

}  // namespace bittern::quant
