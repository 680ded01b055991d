// Configurations of published models, for benchmarks that need their shapes and no weights: the facts of their
// config.json that decide how fast they run. Nothing of them is downloaded.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/config.h"

namespace bittern::cli {

struct PublishedConfig {
  std::string_view name;  // "qwen2.5-0.5b"
  std::string_view json;  // as config.json would say it
};
const std::vector<PublishedConfig>& published_configs();

/// `which` is a name of the list or a path of a config.json. Error(not_found) lists the names.
ModelConfig config_by_name_or_file(const std::string& which);

}  // namespace bittern::cli
