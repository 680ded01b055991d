// Damaged checkpoints: whatever the bytes are, opening them either works or throws a bittern::Error about the input.
// Everything that opens is read to the end, so that AddressSanitizer sees an offset that points outside.
#include <bittern/error.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "fuzz/attempt.h"
#include "fuzz/mutate.h"
#include "models/model.h"
#include "support/memory_files.h"
#include "tensor/checkpoint.h"

namespace bittern {
namespace {

using fuzz::attempt;
using fuzz::open_and_read;
using fuzz::Tally;

constexpr int kRounds = 20000;

const std::string kHeader =
    R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b.weight":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"I64","shape":[],"data_offsets":[32,40]},)"
    R"("empty":{"dtype":"F32","shape":[0,7],"data_offsets":[40,40]}})";
const std::string kData(40, '\x3c');

TEST(CheckpointFuzz, WholeFile) {
  Tally tally;
  for (int seed = 0; seed < kRounds; ++seed) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(seed));
    const std::string file = mutator.mutate(testing::raw_safetensors(kHeader, kData));
    attempt(tally, file, [&] { open_and_read({{"model.safetensors", file}}, nullptr); });
  }
  EXPECT_GT(tally.accepted, 0) << "mutations that damage nothing must still open";
  EXPECT_GT(tally.refused, kRounds / 2);
}

TEST(CheckpointFuzz, HeaderOfTheRightLength) {
  Tally tally;
  for (int seed = 0; seed < kRounds; ++seed) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(seed) + 1000000);
    const std::string header = mutator.mutate(kHeader);
    attempt(tally, header, [&] {
      open_and_read({{"model.safetensors", testing::raw_safetensors(header, kData)}}, nullptr);
    });
  }
  EXPECT_GT(tally.accepted, 0);
  EXPECT_GT(tally.refused, kRounds / 2);
}

TEST(CheckpointFuzz, ShardIndex) {
  const std::string shard1 = testing::raw_safetensors(R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "ab");
  const std::string shard2 = testing::raw_safetensors(R"({"y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "cd");
  const std::string index =
      R"({"metadata":{"total_size":4},"weight_map":{"x":"m-1.safetensors","y":"m-2.safetensors"}})";
  Tally tally;
  for (int seed = 0; seed < kRounds; ++seed) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(seed) + 2000000);
    const std::string damaged = mutator.mutate(index);
    attempt(tally, damaged, [&] {
      open_and_read(
          {{"m-1.safetensors", shard1}, {"m-2.safetensors", shard2}, {"model.safetensors.index.json", damaged}},
          nullptr);
    });
  }
  EXPECT_GT(tally.accepted, 0);
  EXPECT_GT(tally.refused, kRounds / 2);
}

std::string awq_file() {
  const std::string header =
      R"({"m.qweight":{"dtype":"I32","shape":[8,1],"data_offsets":[0,32]},"m.qzeros":{"dtype":"I32","shape":[2,1],)"
      R"("data_offsets":[32,40]},"m.scales":{"dtype":"F16","shape":[2,8],"data_offsets":[40,72]}})";
  return testing::raw_safetensors(header, std::string(72, '\x31'));
}

TEST(CheckpointFuzz, AwqTensorsAndTheirConfig) {
  const std::string config =
      R"({"quant_method":"awq","bits":4,"group_size":4,"zero_point":true,"version":"gemm","modules_to_not_convert":["lm_head"]})";
  Tally tally;
  for (int seed = 0; seed < kRounds; ++seed) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(seed) + 3000000);
    const bool damage_file = mutator.below(2) == 0;
    const std::string file = damage_file ? mutator.mutate(awq_file()) : awq_file();
    const std::string json = damage_file ? config : mutator.mutate(config);
    attempt(tally, json + file, [&] { open_and_read({{"model.safetensors", file}}, parse_json(json, "config")); });
  }
  EXPECT_GT(tally.accepted, 0);
  EXPECT_GT(tally.refused, kRounds / 2);
}

TEST(CheckpointFuzz, ConfigJson) {
  const std::string config =
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,"intermediate_size":172,)"
      R"("num_hidden_layers":5,"num_attention_heads":8,"num_key_value_heads":4,"head_dim":8,"vocab_size":512,)"
      R"("max_position_embeddings":512,"rms_norm_eps":1e-5,"rope_theta":10000.0,"hidden_act":"silu","torch_dtype":"float32",)"
      R"("tie_word_embeddings":true,"bos_token_id":1,"eos_token_id":[2,3],"rope_scaling":{"rope_type":"llama3","factor":8.0,)"
      R"("low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":256}})";
  Tally tally;
  for (int seed = 0; seed < kRounds; ++seed) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(seed) + 4000000);
    const std::string damaged = mutator.mutate(config);
    attempt(tally, damaged, [&] {
      const ModelConfig parsed = load_config(*testing::memory_files({{"config.json", damaged}}));
      EXPECT_GT(parsed.layers, 0) << damaged;
      EXPECT_GT(parsed.head_dim, 0) << damaged;
      EXPECT_GT(parsed.kv_heads, 0) << damaged;
      EXPECT_EQ(parsed.heads % std::max(parsed.kv_heads, 1), 0) << damaged;
    });
  }
  EXPECT_GT(tally.accepted, 0);
  EXPECT_GT(tally.refused, kRounds / 4);
}

}  // namespace
}  // namespace bittern
