// "quantization_config" of a compressed-tensors checkpoint: config groups with the linears they target, and what is
// ignored. Everything that would change what a linear computes and is not read here is refused by name.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/compressed_tensors.h"

namespace bittern {

struct CompressedGroup {
  std::string name;  // "group_0"
  CompressedLayout layout;
  /// Linears carry a scale for their inputs (fp8), which is not needed: inputs are not rounded here.
  bool input_scale = false;
  std::vector<std::string> targets;  // "Linear", a module's name, or "re:" and an expression
};

class CompressedConfig {
 public:
  /// Error(unsupported) naming the key and its value; Error(invalid_checkpoint) for a value of the wrong type.
  explicit CompressedConfig(const Json& quantization_config);

  /// The group of a linear, or null when none targets it or it is ignored. Exact names go before expressions, these in
  /// alphabetical order, and those before the class, as in the compressed-tensors package.
  const CompressedGroup* group_of(const std::string& module) const;

 private:
  void index_targets();

  std::vector<CompressedGroup> groups_;
  std::vector<std::string> ignore_;
  std::vector<std::pair<std::string, std::size_t>> targets_;  // in the order of their precedence, with their group
};

}  // namespace bittern
