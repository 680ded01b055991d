// RunSettings: how a workspace's config.ini asks for its model to be run. What the file does not say is empty here, and
// left to the command line's defaults; what the command line says counts more.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bittern {

struct RunSettings {
  std::optional<std::int64_t> context;          // session_len
  std::optional<std::int64_t> max_sequences;    // max_batch_size
  std::optional<std::int64_t> max_step_tokens;  // num_tokens_per_iter
  std::optional<std::int64_t> block_tokens;     // cache_block_seq_len
  std::optional<std::int64_t> kv_cache_blocks;  // cache_max_entry_count of 1 and more
  std::optional<double> kv_cache_share;         // cache_max_entry_count below 1: part of the free memory
  std::optional<std::string> kv_cache;          // quant_policy: "int8", "int8-static"
  /// Sentences for the user about settings that mean something else elsewhere.
  std::vector<std::string> notices;
};

}  // namespace bittern
