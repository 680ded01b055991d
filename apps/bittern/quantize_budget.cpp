// One row for each layer, one column for each kind of linear.
#include "quantize_budget.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "base/strings.h"
#include "table.h"

namespace bittern::cli {
namespace {

std::string bytes(std::int64_t count) { return human_bytes(static_cast<std::uint64_t>(count)); }

std::string number(const char* format, double value) {
  char text[32];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string kind_of(const std::string& name) { return name.substr(name.rfind('.') + 1); }

void print_grid(const quant::BudgetPlan& budget) {
  std::vector<std::string> kinds;
  std::map<int, std::map<std::string, const quant::BudgetPlan::Linear*>> layers;
  for (const auto& linear : budget.linears) {
    const std::string kind = kind_of(linear.name);
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
    layers[linear.layer][kind] = &linear;
  }
  std::vector<std::string> header = {"bits of layer"};
  header.insert(header.end(), kinds.begin(), kinds.end());
  header.push_back("expected KL");
  Table table(std::move(header));
  for (const auto& [layer, linears] : layers) {
    std::vector<std::string> row = {std::to_string(layer)};
    double loss = 0;
    for (const std::string& kind : kinds) {
      const auto found = linears.find(kind);
      row.push_back(found == linears.end() ? "-" : std::to_string(found->second->bits));
      loss += found == linears.end() ? 0 : found->second->loss;
    }
    row.push_back(number("%.6f", loss));
    table.row(std::move(row));
  }
  std::fprintf(stderr, "%s", table.text().c_str());
}

}  // namespace

void print_budget(const quant::BudgetPlan& budget, double bits_per_weight) {
  print_grid(budget);
  std::fprintf(stderr, "  expected KL %.6f at %.3f bits per weight, measured on %ld tokens by rounding to nearest;",
               budget.loss, bits_per_weight, static_cast<long>(budget.tokens));
  for (const auto& uniform : budget.uniform)
    std::fprintf(stderr, " %.6f with %d bits everywhere (%.3f)%s", uniform.loss, uniform.bits, uniform.bits_per_weight,
                 &uniform == &budget.uniform.back() ? "\n" : ",");
  if (budget.kv_cache.empty()) return;
  std::fprintf(stderr, "  running it takes %s of %s: weights %s, KV cache %s in %s (expected KL %.6f), a step %s\n",
               bytes(budget.total_bytes()).c_str(), bytes(budget.bytes).c_str(), bytes(budget.weight_bytes).c_str(),
               bytes(budget.kv_bytes).c_str(), budget.kv_cache.c_str(), budget.kv_loss,
               bytes(budget.step_bytes).c_str());
}

}  // namespace bittern::cli
