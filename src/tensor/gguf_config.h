// The metadata of a GGUF file as the JSON files of a Hugging Face checkpoint: config.json and generation_config.json.
// Architectures that have no row in the table, experts and split files are refused by name.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "tensor/gguf.h"

namespace bittern {

/// What GGUF does to the weights of an architecture.
struct GgufArchitecture {
  std::string_view name;        // general.architecture
  std::string_view model_type;  // of config.json
  std::string_view class_name;  // "LlamaForCausalLM"
  bool permuted_heads = false;  // rows of q and k are stored for rotation of neighbours instead of halves
  bool norm_plus_one = false;   // norm weights are stored as 1 + w
};

/// The architecture of the file. Error(unsupported) names it and those that Bittern reads.
const GgufArchitecture& gguf_architecture(const GgufMetadata& metadata);
/// The row of a class name of config.json, or nullptr.
const GgufArchitecture* gguf_architecture_of_class(std::string_view class_name);

/// config.json. Error(invalid_checkpoint or unsupported) names the metadata key.
Json gguf_config(const GgufFile& file);
/// generation_config.json: every id that ends a generation.
Json gguf_generation_config(const GgufMetadata& metadata);

}  // namespace bittern
