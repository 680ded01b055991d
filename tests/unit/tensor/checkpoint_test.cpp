// Checkpoints of one and of several files, and the refusals of what cannot be read.
#include "tensor/checkpoint.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/memory_files.h"

namespace bittern {
namespace {

using testing::memory_files;
using testing::raw_safetensors;

std::string u8_file(const std::string& name, const std::string& data) {
  const std::string n = std::to_string(data.size());
  return raw_safetensors("{\"" + name + R"(":{"dtype":"U8","shape":[)" + n + R"(],"data_offsets":[0,)" + n + "]}}",
                         data);
}

std::unique_ptr<Checkpoint> open(std::map<std::string, std::string, std::less<>> files, const Json& config = nullptr) {
  return open_checkpoint(memory_files(std::move(files)), config);
}

std::string index_of(const std::string& map) { return R"({"metadata":{"total_size":2},"weight_map":)" + map + "}"; }

TEST(CheckpointTest, DenseTensorsOfEveryRank) {
  const std::string header =
      R"({"m.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"s":{"dtype":"F32","shape":[],"data_offsets":[24,28]},)"
      R"("t":{"dtype":"U8","shape":[1,2,3],"data_offsets":[32,38]},"v":{"dtype":"I32","shape":[1],"data_offsets":[28,32]}})";
  const auto checkpoint = open({{"model.safetensors", raw_safetensors(header, std::string(38, '\1'))}});
  EXPECT_EQ(checkpoint->entries().size(), 4u);
  EXPECT_EQ(checkpoint->entries()[0].file, "memory/model.safetensors");
  EXPECT_TRUE(checkpoint->contains("v"));
  EXPECT_FALSE(checkpoint->contains("w"));
  EXPECT_TRUE(checkpoint->has_linear("m"));
  EXPECT_FALSE(checkpoint->has_linear("v"));

  std::vector<std::string> used;
  const Weight m = checkpoint->linear("m", used);
  EXPECT_EQ(used, (std::vector<std::string>{"m.weight"}));
  EXPECT_EQ(m.name, "m");
  EXPECT_EQ(m.format, Format::dense(DType::f32));
  EXPECT_EQ(std::pair(m.out, m.in), (std::pair<std::int64_t, std::int64_t>(2, 3)));
  const auto shape = [&](const char* name) {
    const Weight w = checkpoint->dense(name);
    return std::pair(w.out, w.in);
  };
  EXPECT_EQ(shape("s"), (std::pair<std::int64_t, std::int64_t>(1, 1)));
  EXPECT_EQ(shape("v"), (std::pair<std::int64_t, std::int64_t>(1, 1)));
  EXPECT_EQ(shape("t"), (std::pair<std::int64_t, std::int64_t>(1, 6)));
  EXPECT_ERROR(ErrorCode::not_found, "'w'", checkpoint->dense("w"));
  EXPECT_ERROR(ErrorCode::not_found, "'x.weight'", checkpoint->linear("x", used));
}

TEST(CheckpointTest, UnalignedDataIsReadAllTheSame) {
  const float value = 2.5f;
  std::string data(1, 'x');
  data.append(reinterpret_cast<const char*>(&value), 4);
  const auto checkpoint = open(
      {{"model.safetensors",
        raw_safetensors(
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
            data)}});
  const Weight w = checkpoint->dense("f");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(w.data.data) % 4, 0u);
  EXPECT_EQ(w.data.as<float>()[0], 2.5f);
}

TEST(CheckpointTest, EmptyTensorsAreReadWithoutTouchingMemory) {
  const auto checkpoint = open(
      {{"model.safetensors",
        raw_safetensors(
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[0,4],"data_offsets":[1,1]},)"
            R"("c":{"dtype":"F32","shape":[2,0],"data_offsets":[1,1]}})",
            "x")}});
  EXPECT_EQ(to_f32(checkpoint->dense("b")).out, 0);
  const Weight c = to_f32(reorder_rows(checkpoint->dense("c"), {1, 0}));
  EXPECT_EQ(std::pair(c.out, c.in), (std::pair<std::int64_t, std::int64_t>(2, 0)));
}

TEST(CheckpointTest, UnknownElementTypeIsNamedWhenAskedFor) {
  const auto checkpoint = open(
      {{"model.safetensors",
        raw_safetensors(
            R"({"a":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
            "xy")}});
  EXPECT_EQ(checkpoint->dense("b").data.as<char>()[0], 'y');
  EXPECT_ERROR(ErrorCode::unsupported, "tensor 'a' has element type 'F8_E5M2'", checkpoint->dense("a"));
}

TEST(CheckpointTest, ShardsJoin) {
  const auto checkpoint =
      open({{"s1.safetensors", u8_file("b", "1")},
            {"s2.safetensors", u8_file("a", "2")},
            {"model.safetensors.index.json", index_of(R"({"a":"s2.safetensors","b":"s1.safetensors"})")}});
  EXPECT_EQ(checkpoint->entries()[0].name, "a");
  EXPECT_EQ(checkpoint->dense("a").data.as<char>()[0], '2');
  EXPECT_EQ(checkpoint->dense("b").data.as<char>()[0], '1');
}

TEST(CheckpointTest, LyingIndexesAreRefused) {
  const auto refused = [](const std::string& index, ErrorCode code, const char* says) {
    EXPECT_ERROR(code, says,
                 open({{"s1.safetensors", u8_file("b", "1")},
                       {"s2.safetensors", u8_file("b", "2")},
                       {"s3.safetensors", u8_file("c", "2")},
                       {"model.safetensors.index.json", index}}));
  };
  refused("[]", ErrorCode::invalid_checkpoint, "is not a JSON object");
  refused("{}", ErrorCode::invalid_checkpoint, "no object 'weight_map'");
  refused(R"({"weight_map":[]})", ErrorCode::invalid_checkpoint, "no object 'weight_map'");
  refused(index_of("{}"), ErrorCode::invalid_checkpoint, "names no tensors");
  refused(index_of(R"({"b":1})"), ErrorCode::invalid_checkpoint, "the shard of 'b' must be a string");
  refused(index_of(R"({"b":"s1.safetensors","b":"s1.safetensors"})"), ErrorCode::invalid_checkpoint,
          "'b' occurs twice");
  refused(index_of(R"({"b":"s9.safetensors"})"), ErrorCode::not_found,
          "names s9.safetensors (for 'b'), which is missing");
  refused(index_of(R"({"x":"s1.safetensors"})"), ErrorCode::invalid_checkpoint,
          "says that 'x' is in s1.safetensors, but it is not");
  refused(index_of(R"({"b":"s1.safetensors","c":"s1.safetensors","d":"s3.safetensors"})"),
          ErrorCode::invalid_checkpoint, "'c' is in s1");
  for (const char* name : {"../s1.safetensors", "/etc/s1.safetensors", "a\\\\s1.safetensors", "", "..",
                           "s1\\u0000.safetensors", "config.json"}) {
    refused(index_of("{\"b\":\"" + std::string(name) + "\"}"), ErrorCode::invalid_checkpoint,
            "is not the name of a safetensors file beside it");
  }
}

TEST(CheckpointTest, OneTensorInTwoShardsIsRefused) {
  EXPECT_ERROR(
      ErrorCode::invalid_checkpoint, "tensor 'b' is in both memory/s1.safetensors and memory/s2.safetensors",
      open(
          {{"s1.safetensors", u8_file("b", "1")},
           {"s2.safetensors",
            raw_safetensors(
                R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                "xy")},
           {"model.safetensors.index.json", index_of(R"({"b":"s1.safetensors","c":"s2.safetensors"})")}}));
}

TEST(CheckpointTest, NoWeights) {
  EXPECT_ERROR(ErrorCode::not_found, "memory has neither model.safetensors nor", open({{"config.json", "{}"}}));
  EXPECT_ERROR(ErrorCode::not_found, "convert pytorch_model.bin to safetensors", open({{"pytorch_model.bin", ""}}));
}

TEST(CheckpointTest, OtherQuantizationsAreNamed) {
  const auto refused = [](const Json& config, ErrorCode code, const char* says) {
    EXPECT_ERROR(code, says, open({{"model.safetensors", u8_file("a", "1")}}, config));
  };
  refused({{"quant_method", "bitsandbytes"}}, ErrorCode::unsupported, "quant_method 'bitsandbytes' is not supported");
  refused({{"quant_method", "quark"}}, ErrorCode::unsupported,
          "Bittern reads unquantized checkpoints and quant_method 'awq', 'gptq'");
  refused(Json::object(), ErrorCode::unsupported, "has no quant_method");
  refused({{"quant_method", 4}}, ErrorCode::unsupported, "has no quant_method");
  refused(7, ErrorCode::invalid_checkpoint, "must be an object");
}

}  // namespace
}  // namespace bittern
