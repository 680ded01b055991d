// The names here are those of `bittern quantize --json`; sizes are bytes, times seconds.
#include "quant/report.h"

#include "quant/algorithm.h"
#include "quant/scheme.h"

namespace bittern::quant {
namespace {

double bits_per(std::int64_t bytes, std::int64_t count) {
  return count == 0 ? 0.0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(count);
}

template <class Row>
std::vector<Choice> choices(std::span<const Row> rows) {
  std::vector<Choice> list;
  for (const Row& row : rows) list.push_back({std::string(row.name), std::string(row.summary)});
  return list;
}

}  // namespace

std::vector<Choice> schemes() { return choices(all_schemes()); }
std::vector<Choice> algorithms() { return choices(all_algorithms()); }

std::int64_t Calibration::tokens() const {
  std::int64_t count = 0;
  for (const auto& sequence : sequences) count += static_cast<std::int64_t>(sequence.size());
  return count;
}

double QuantizePlan::bits_per_weight() const { return bits_per(quantized_output_bytes, quantized_parameters); }
double QuantizePlan::bits_per_parameter() const { return bits_per(output_bytes, parameters); }

Json to_json(const BudgetPlan& budget) {
  Json linears = Json::array(), uniform = Json::array();
  for (const BudgetPlan::Linear& l : budget.linears)
    linears.push_back({{"name", l.name}, {"layer", l.layer}, {"bits", l.bits}, {"expected_kl", l.loss}});
  for (const BudgetPlan::Uniform& u : budget.uniform)
    uniform.push_back({{"bits", u.bits}, {"bits_per_weight", u.bits_per_weight}, {"expected_kl", u.loss}});
  Json json = {{"bits_per_weight", budget.bits_per_weight},
               {"bytes", budget.bytes},
               {"measured_tokens", budget.tokens},
               {"linears", std::move(linears)},
               {"uniform", std::move(uniform)},
               {"expected_kl", budget.loss}};
  if (budget.kv_cache.empty()) return json;
  json["memory"] = {{"weights", budget.weight_bytes},
                    {"kv_cache", budget.kv_bytes},
                    {"step", budget.step_bytes},
                    {"total", budget.total_bytes()}};
  json["kv_cache"] = budget.kv_cache;
  json["kv_expected_kl"] = budget.kv_loss;
  return json;
}

Json to_json(const QuantizePlan& plan) {
  Json shares = Json::array();
  for (const SchemeShare& share : plan.shares) {
    shares.push_back({{"scheme", share.scheme},
                      {"linears", share.linears},
                      {"parameters", share.parameters},
                      {"output_bytes", share.output_bytes}});
  }
  Json leftovers = Json::array();
  for (const auto& path : plan.leftovers) leftovers.push_back(path.string());
  return {
      {"scheme", plan.scheme},
      {"shares", std::move(shares)},
      {"budget", plan.budget ? to_json(*plan.budget) : Json()},
      {"sensitivity", {{"tokens", plan.sensitivity_tokens}, {"disk_bytes", plan.sensitivity_disk_bytes}}},
      {"algorithm", plan.algorithm},
      {"group_size", plan.group_size},
      {"source", plan.source},
      {"output", plan.output.string()},
      {"architecture", plan.architecture},
      {"layers", plan.layers},
      {"linears", plan.linears},
      {"kept", plan.kept},
      {"parameters", plan.parameters},
      {"quantized_parameters", plan.quantized_parameters},
      {"source_bytes", plan.source_bytes},
      {"output_bytes", plan.output_bytes},
      {"quantized_source_bytes", plan.quantized_source_bytes},
      {"quantized_output_bytes", plan.quantized_output_bytes},
      {"bits_per_weight", plan.bits_per_weight()},
      {"bits_per_parameter", plan.bits_per_parameter()},
      {"calibration",
       {{"name", plan.calibration_name}, {"tokens", plan.calibration_tokens}, {"search_tokens", plan.search_tokens}}},
      {"evaluation",
       {{"name", plan.evaluation_name},
        {"windows", plan.evaluation_windows},
        {"context", plan.evaluation_context},
        {"disk_bytes", plan.evaluation_disk_bytes}}},
      {"peak_bytes", plan.peak_bytes},
      {"peak_at", plan.peak_at},
      {"free_disk_bytes", plan.free_disk_bytes},
      {"leftovers", std::move(leftovers)}};
}

Json to_json(const LinearReport& linear) {
  const auto measured = [](double value) { return value < 0 ? Json() : Json(value); };
  return {{"name", linear.name},
          {"layer", linear.layer},
          {"out", linear.out},
          {"in", linear.in},
          {"scheme", linear.scheme},
          {"nmse", linear.nmse},
          {"cosine", linear.cosine},
          {"max_abs", linear.max_abs},
          {"loss_before", measured(linear.loss_before)},
          {"loss_after", measured(linear.loss_after)},
          {"notes", linear.notes},
          {"source_bytes", linear.source_bytes},
          {"output_bytes", linear.output_bytes}};
}

LinearReport linear_report_from_json(const Json& json) {
  const auto measured = [&](const char* key) { return json.at(key).is_null() ? -1.0 : json.at(key).get<double>(); };
  LinearReport linear;
  linear.name = json.at("name");
  linear.layer = json.at("layer");
  linear.out = json.at("out");
  linear.in = json.at("in");
  linear.scheme = json.at("scheme");
  linear.nmse = json.at("nmse");
  linear.cosine = json.at("cosine");
  linear.max_abs = json.at("max_abs");
  linear.loss_before = measured("loss_before");
  linear.loss_after = measured("loss_after");
  linear.notes = json.at("notes");
  linear.source_bytes = json.at("source_bytes");
  linear.output_bytes = json.at("output_bytes");
  return linear;
}

Json to_json(const QualityReport& quality) {
  const auto measured = [](double value, double error) { return Json{{"value", value}, {"standard_error", error}}; };
  Json percentiles = Json::array();
  for (const auto& [percent, kl] : quality.kl_percentiles) percentiles.push_back({{"percent", percent}, {"kl", kl}});
  return {{"name", quality.name},
          {"sha256", quality.sha256},
          {"context", quality.context},
          {"windows", quality.windows},
          {"bos", quality.bos < 0 ? Json() : Json(quality.bos)},
          {"tokens", quality.tokens},
          {"reference_perplexity", measured(quality.reference_perplexity, quality.reference_perplexity_error)},
          {"perplexity", measured(quality.perplexity, quality.perplexity_error)},
          {"kl", measured(quality.kl, quality.kl_error)},
          {"kl_max", quality.kl_max},
          {"kl_percentiles", std::move(percentiles)},
          {"same_top", measured(quality.same_top, quality.same_top_error)},
          {"seconds", quality.seconds}};
}

Json to_json(const QuantizeReport& report) {
  Json linears = Json::array();
  for (const LinearReport& linear : report.linears) linears.push_back(to_json(linear));
  return {{"plan", to_json(report.plan)},
          {"nmse", report.nmse},
          {"worst", report.worst},
          {"quality", report.quality ? to_json(*report.quality) : Json()},
          {"quality_absent", report.quality_absent},
          {"seconds", report.seconds},
          {"resumed_layers", report.resumed_layers},
          {"files", report.files},
          {"linears", std::move(linears)}};
}

}  // namespace bittern::quant
