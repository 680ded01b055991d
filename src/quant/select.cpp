// A visitor that sorts leaves into layers and the rest.
#include "quant/select.h"

#include <bittern/error.h>

#include <algorithm>
#include <charconv>

#include "base/strings.h"
#include "nn/linear.h"
#include "quant/name_pattern.h"

namespace bittern::quant {
namespace {

/// Every pattern sees every name, so that each learns whether it is of use.
bool any_matches(std::vector<NamePattern>& patterns, const std::string& name) {
  bool hit = false;
  for (NamePattern& pattern : patterns) hit = pattern.matches(name) || hit;
  return hit;
}

class LeafCollector : public nn::Visitor {
 public:
  LeafCollector(Selection& selection, std::vector<NamePattern>& patterns)
      : selection_(selection), patterns_(patterns) {}

  void linear(const std::string& name, nn::Linear& linear) override {
    const int layer = layer_of(name);
    const bool skipped = any_matches(patterns_, name);
    if (layer < 0 || skipped) {
      selection_.kept.push_back(name);
    } else {
      selection_.linears.push_back({name, layer, linear.out(), linear.in(), nullptr});
    }
  }
  void norm(const std::string&, nn::RmsNorm&) override {}
  void embedding(const std::string& name, nn::Embedding&) override { keep(name); }

  void keep(const std::string& name) {
    any_matches(patterns_, name);
    selection_.kept.push_back(name);
  }

 private:
  Selection& selection_;
  std::vector<NamePattern>& patterns_;
};

std::vector<std::string> names_of(const std::vector<LinearTask>& linears) {
  std::vector<std::string> names;
  for (const LinearTask& linear : linears) names.push_back(linear.name);
  return names;
}

}  // namespace

int layer_of(std::string_view name) {
  for (const std::string_view part : split(name, '.')) {
    int layer = -1;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), layer);
    if (error == std::errc() && end == part.data() + part.size() && layer >= 0) return layer;
  }
  return -1;
}

Selection select_linears(Model& model, const std::vector<std::string>& skip) {
  std::vector<NamePattern> patterns;
  for (const std::string& text : skip) patterns.emplace_back("--skip", text);
  Selection selection;
  LeafCollector collector(selection, patterns);
  model.visit(collector);
  // A tied head has no leaf of its own here, but it is a module for other programs, which would look for its codes.
  if (model.config().tied_embeddings) collector.keep(model.head_name());
  for (const NamePattern& pattern : patterns) pattern.require_matched(names_of(selection.linears));
  if (selection.linears.empty())
    throw Error(ErrorCode::invalid_argument, "nothing is left to quantize: --skip matches every linear");
  return selection;
}

}  // namespace bittern::quant
