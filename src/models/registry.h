// What an architecture's file includes, and the table its row goes into (registry.cpp). Adding an architecture is one
// file and one row: docs/adding-a-model.md.
#pragma once

#include <memory>
#include <string_view>

#include "models/blocks.h"
#include "models/config.h"
#include "models/decoder.h"
#include "models/model.h"

namespace bittern {

struct Architecture {
  std::string_view name;  // config.json "architectures"[0]
  std::unique_ptr<Model> (*make)(ModelConfig config);
};

/// A boolean, number or activation of config.json under `key`, or `fallback` when absent or null.
/// Error(invalid_checkpoint) names the key when it has another type.
bool config_flag(const ModelConfig& config, const char* key, bool fallback);
double config_number(const ModelConfig& config, const char* key, double fallback);
Activation config_activation(const ModelConfig& config, const char* key, Activation fallback);

/// 1 / sqrt(head_dim).
double default_attention_scale(const ModelConfig& config);
/// Gives every layer config.window, unless config.json lists layer_types.
void use_window_in_all_layers(ModelConfig& config);
/// Qwen's rule: with use_sliding_window, layers from max_window_layers up have the window, unless layer_types says.
void use_window_in_upper_layers(ModelConfig& config);

}  // namespace bittern
