// Damaged checkpoints of quantized formats and damaged GGUF files: an Error that blames the input or a model, never a
// crash, and never an allocation that a file of a few KiB cannot justify. Headers, data and configurations are damaged
// apart, so that most inputs get past the first check.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>
#include <random>

#include "fuzz/attempt.h"
#include "fuzz/mutate.h"
#include "support/gguf_bytes.h"
#include "support/tensor_list.h"
#include "tensor/gguf_model.h"

namespace {

// The largest single request since the last reset.
std::atomic<std::size_t> largest_request{0};

void* counted_or_null(std::size_t size) {
  std::size_t seen = largest_request.load();
  while (size > seen && !largest_request.compare_exchange_weak(seen, size)) {
  }
  return std::malloc(size == 0 ? 1 : size);
}

void* counted(std::size_t size) {
  if (void* memory = counted_or_null(size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
// std::stable_sort asks for its buffer so.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted_or_null(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted_or_null(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace bittern {
namespace {

using fuzz::attempt;
using fuzz::Tally;
using testing::GgufBytes;
using testing::TensorList;

constexpr int kRounds = 10000;
constexpr std::size_t kLargest = std::size_t{1} << 20;

// Buffers of tensors are mapped, not allocated; a limit on addresses makes a huge one fail. (The sanitizers reserve
// terabytes, so they go without.)
void limit_addresses() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = rlim_t{4} << 30;
  setrlimit(RLIMIT_AS, &limit);
#endif
}

// e4m3 codes that are numbers.
std::vector<char> small_floats(std::size_t count) {
  std::vector<char> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<char>(i % 0x70);
  return values;
}

template <class T>
std::vector<T> bytes_like(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(random());
  return values;
}

TensorList gptq_tensors() {
  TensorList list;
  list.add("m.qweight", "I32", {8, 32}, bytes_like<std::uint32_t>(8 * 32, 1));
  list.add("m.qzeros", "I32", {2, 4}, bytes_like<std::uint32_t>(8, 2));
  list.f16("m.scales", {2, 32}, std::vector<float>(64, 0.01F));
  std::vector<std::uint32_t> index(64);
  for (std::size_t i = 0; i < index.size(); ++i) index[i] = i % 2;
  list.i32("m.g_idx", {64}, index);
  return list;
}

TensorList packed_tensors() {
  TensorList list;
  list.add("m.weight_packed", "I32", {16, 8}, bytes_like<std::uint32_t>(16 * 8, 3));
  list.add("m.weight_shape", "I64", {2}, std::vector<std::int64_t>{16, 64});
  list.f16("m.weight_scale", {16, 2}, std::vector<float>(32, 0.02F));
  list.add("m.weight_zero_point", "I32", {2, 2}, bytes_like<std::uint32_t>(4, 4));
  std::vector<std::uint32_t> index(64);
  for (std::size_t i = 0; i < index.size(); ++i) index[i] = i % 2;
  list.i32("m.weight_g_idx", {64}, index);
  return list;
}

std::string compressed_config(const std::string& format, const std::string& weights) {
  return R"({"quant_method":"compressed-tensors","format":")" + format +
         R"(","quantization_status":"compressed","config_groups":{"group_0":{"targets":["Linear","re:.*m"],"weights":{)" +
         weights + R"(},"input_activations":null}},"ignore":["lm_head"],"kv_cache_scheme":null})";
}

struct Case {
  std::string name;
  TensorList tensors;
  std::string config;
};

std::vector<Case> cases() {
  TensorList int8, e4m3, mxfp4, fp8;
  int8.add("m.weight", "I8", {4, 16}, bytes_like<char>(64, 5)).f32("m.weight_scale", {4, 1}, {1, 2, 3, 4});
  e4m3.add("m.weight", "F8_E4M3", {4, 16}, small_floats(64)).f32("m.weight_scale", {4, 1}, {1, 2, 3, 4});
  mxfp4.add("m.weight_packed", "U8", {4, 32}, bytes_like<char>(128, 7))
      .add("m.weight_scale", "U8", {4, 2}, std::vector<char>(8, 120));
  fp8.add("m.weight", "F8_E4M3", {8, 16}, small_floats(128))
      .f32("m.weight_scale_inv", {2, 4}, std::vector<float>(8, 0.5F));
  const std::string channel = R"("symmetric":true,"strategy":"channel","num_bits":8,"type":)";
  return {
      {"gptq", gptq_tensors(),
       R"({"quant_method":"gptq","bits":4,"group_size":32,"sym":false,"desc_act":true,"checkpoint_format":"gptq","dynamic":{"+:x":{"bits":8}}})"},
      {"packed", packed_tensors(),
       compressed_config(
           "pack-quantized",
           R"("num_bits":4,"type":"int","strategy":"group","group_size":32,"symmetric":false,"actorder":"group")")},
      {"int8", int8, compressed_config("int-quantized", channel + "\"int\"")},
      {"e4m3", e4m3, compressed_config("float-quantized", channel + "\"float\"")},
      {"mxfp4", mxfp4,
       compressed_config("mxfp4-pack-quantized",
                         R"("num_bits":4,"type":"float","strategy":"group","group_size":32,"symmetric":true)")},
      {"fp8", fp8, R"({"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[4,4]})"},
  };
}

class FormatFuzz : public ::testing::TestWithParam<Case> {};

TEST_P(FormatFuzz, HeaderDataOrConfiguration) {
  limit_addresses();
  const Case& each = GetParam();
  Tally whole;
  attempt(whole, each.config, [&] {
    fuzz::open_and_read({{"model.safetensors", testing::raw_safetensors(each.tensors.header(), each.tensors.data())}},
                        parse_json(each.config, "config"));
  });
  ASSERT_EQ(whole.accepted, 1) << "the undamaged checkpoint must open";

  Tally tally;
  for (int seed = 0; seed < kRounds && !HasFailure(); ++seed) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(seed) + 5000000);
    std::string header = each.tensors.header(), data = each.tensors.data(), config = each.config;
    switch (mutator.below(3)) {
      case 0: header = mutator.mutate(header); break;
      case 1: config = mutator.mutate(config); break;
      case 2: data[mutator.below(data.size())] = static_cast<char>(mutator.below(256)); break;
    }
    largest_request = 0;
    attempt(tally, config + header, [&] {
      fuzz::open_and_read({{"model.safetensors", testing::raw_safetensors(header, data)}},
                          parse_json(config, "config"));
    });
    ASSERT_LE(largest_request, kLargest) << config << header;
  }
  EXPECT_GT(tally.accepted, kRounds / 20);
  EXPECT_GT(tally.refused, kRounds / 5);
}

INSTANTIATE_TEST_SUITE_P(Formats, FormatFuzz, ::testing::ValuesIn(cases()),
                         [](const auto& each) { return each.param.name; });

// --- GGUF ---

std::string gguf_file() {
  GgufBytes b;
  b.header(7, 17);
  b.key("general.architecture", 8).text("llama");
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, std::uint32_t>>{{"llama.block_count", 1},
                                                          {"llama.context_length", 64},
                                                          {"llama.embedding_length", 32},
                                                          {"llama.feed_forward_length", 32},
                                                          {"llama.attention.head_count", 2},
                                                          {"llama.attention.head_count_kv", 2},
                                                          {"llama.vocab_size", 4},
                                                          {"tokenizer.ggml.bos_token_id", 1},
                                                          {"tokenizer.ggml.eos_token_id", 2}}) {
    b.key(key, 4).put(value);
  }
  b.key("llama.attention.layer_norm_rms_epsilon", 6).put(1e-5F);
  b.key("llama.rope.freq_base", 6).put(10000.0F);
  b.key("tokenizer.ggml.model", 8).text("llama");
  b.key("tokenizer.ggml.tokens", 9)
      .put<std::uint32_t>(8)
      .put<std::uint64_t>(4)
      .text("<unk>")
      .text("<s>")
      .text("</s>")
      .text("a");
  b.key("tokenizer.ggml.scores", 9).put<std::uint32_t>(6).put<std::uint64_t>(4).put(0.F).put(0.F).put(0.F).put(-1.F);
  b.key("tokenizer.ggml.token_type", 9).put<std::uint32_t>(5).put<std::uint64_t>(4).put(2).put(3).put(3).put(1);
  b.key("tokenizer.chat_template", 8).text("{{ messages }}");
  b.tensor("token_embd.weight", {32, 4}, 8, 0);             // Q8_0, 136 bytes
  b.tensor("blk.0.attn_q.weight", {32, 32}, 2, 160);        // Q4_0, 576
  b.tensor("blk.0.ffn_up.weight", {256, 1}, 12, 736);       // Q4_K, 144
  b.tensor("blk.0.ffn_gate.weight", {256, 1}, 14, 896);     // Q6_K, 210
  b.tensor("blk.0.ffn_down.weight", {32, 1}, 20, 1120);     // IQ4_NL, 18
  b.tensor("blk.0.attn_norm.weight", {32}, 0, 1152);        // F32, 128
  b.tensor("blk.0.attn_output.weight", {32, 1}, 39, 1280);  // MXFP4, 17
  b.align(32);
  b.bytes.append(1312, '\x11');
  return b.bytes;
}

std::shared_ptr<const GgufModelFiles> open_bytes(const std::string& bytes) {
  auto keep = std::make_shared<const std::vector<char>>(bytes.begin(), bytes.end());
  return std::make_shared<GgufModelFiles>(FileBytes{"fuzz.gguf", std::as_bytes(std::span(*keep)), keep});
}

TEST(GgufFuzz, WholeFile) {
  limit_addresses();
  const std::string whole = gguf_file();
  Tally undamaged, tally;
  const auto read = [](Tally& counts, const std::string& file) {
    attempt(counts, "", [&] {
      const auto files = open_bytes(file);
      for (const std::string& name : files->list()) attempt(counts, name, [&] { files->find(name); });
      fuzz::read_everything(*open_gguf_checkpoint(files));
    });
  };
  read(undamaged, whole);
  ASSERT_EQ(undamaged.refused, 0);
  for (int seed = 0; seed < 3 * kRounds && !HasFailure(); ++seed) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(seed) + 6000000);
    std::string file = whole;
    if (mutator.below(4) == 0) {
      file = mutator.mutate(file);
    } else {  // the length stays, so that what comes after the damage is still read
      for (std::size_t i = 1 + mutator.below(3); i > 0; --i) {
        static constexpr std::array kBytes = {0x00, 0x01, 0x7f, 0x80, 0xff};
        file[mutator.below(file.size())] = static_cast<char>(kBytes[mutator.below(kBytes.size())]);
      }
    }
    largest_request = 0;
    read(tally, file);
    ASSERT_LE(largest_request, kLargest) << seed;
  }
  EXPECT_GT(tally.accepted, kRounds);
  EXPECT_GT(tally.refused, kRounds);
}

}  // namespace
}  // namespace bittern
