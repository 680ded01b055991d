// A visitor that sorts leaves into layers and the rest, and the two kinds of skip patterns.
#include "quant/select.h"

#include <bittern/error.h>

#include <algorithm>
#include <charconv>
#include <regex>

#include "base/strings.h"
#include "nn/linear.h"

namespace bittern::quant {
namespace {

[[noreturn]] void invalid(std::string message, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

/// One --skip pattern; remembers whether it ever matched.
class SkipPattern {
 public:
  explicit SkipPattern(const std::string& text) : text_(text), is_regex_(text.starts_with("re:")) {
    if (text.empty() || text == "re:") invalid("--skip '" + text + "' names nothing");
    if (!is_regex_) return;
    try {
      regex_.assign(text.substr(3), std::regex::ECMAScript);
    } catch (const std::regex_error& error) {
      invalid("--skip '" + text + "' is not a valid ECMAScript expression: " + error.what());
    }
  }

  const std::string& text() const { return text_; }
  bool matched() const { return matched_; }

  bool matches(const std::string& name) {
    const bool hit = is_regex_ ? std::regex_search(name, regex_, std::regex_constants::match_continuous)
                               : ("." + name + ".").find("." + text_ + ".") != std::string::npos;
    matched_ = matched_ || hit;
    return hit;
  }

 private:
  std::string text_;
  bool is_regex_;
  std::regex regex_;
  bool matched_ = false;
};

/// Every pattern sees every name, so that each learns whether it is of use.
bool any_matches(std::vector<SkipPattern>& patterns, const std::string& name) {
  bool hit = false;
  for (SkipPattern& pattern : patterns) hit = pattern.matches(name) || hit;
  return hit;
}

class LeafCollector : public nn::Visitor {
 public:
  LeafCollector(Selection& selection, std::vector<SkipPattern>& patterns)
      : selection_(selection), patterns_(patterns) {}

  void linear(const std::string& name, nn::Linear& linear) override {
    const int layer = layer_of(name);
    const bool skipped = any_matches(patterns_, name);
    if (layer < 0 || skipped) {
      selection_.kept.push_back(name);
    } else {
      selection_.linears.push_back({name, layer, linear.out(), linear.in()});
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
  std::vector<SkipPattern>& patterns_;
};

void check_all_matched(const std::vector<SkipPattern>& patterns, const Selection& selection) {
  for (const SkipPattern& pattern : patterns) {
    if (pattern.matched()) continue;
    std::vector<std::string> parts;
    for (const LinearTask& task : selection.linears) parts.push_back(task.name.substr(task.name.rfind('.') + 1));
    const std::string example = selection.linears.empty() ? "" : "names look like " + selection.linears.front().name;
    const std::string guess = did_you_mean(pattern.text(), parts);
    invalid("--skip '" + pattern.text() + "' matches no linear of this model", guess.empty() ? example : guess);
  }
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
  std::vector<SkipPattern> patterns(skip.begin(), skip.end());
  Selection selection;
  LeafCollector collector(selection, patterns);
  model.visit(collector);
  // A tied head has no leaf of its own here, but it is a module for other programs, which would look for its codes.
  if (model.config().tied_embeddings) collector.keep(model.head_name());
  check_all_matched(patterns, selection);
  if (selection.linears.empty()) invalid("nothing is left to quantize: --skip matches every linear");
  return selection;
}

}  // namespace bittern::quant
