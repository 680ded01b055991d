// Blocks of every type against what the gguf package decodes from the same bytes, bit for bit.
#include "tensor/gguf_blocks.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>

#include "base/json.h"
#include "support/expect_error.h"

namespace bittern {
namespace {

std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(GgufBlocks, DecodeAsTheReference) {
  const Json golden = read_json_file(std::filesystem::path(BITTERN_SOURCE_DIR) / "tests/golden/gguf/blocks.json");
  ASSERT_EQ(golden.at("cases").size(), 10U);
  for (const Json& each : golden.at("cases")) {
    const auto number = each.at("number").get<std::uint32_t>();
    ASSERT_EQ(gguf_type_name(number), each.at("type").get<std::string>());
    const auto expected = each.at("decoded").get<std::vector<std::uint32_t>>();
    const auto bytes = from_hex(each.at("blocks").get<std::string>());
    const std::int64_t rows = 2, cols = static_cast<std::int64_t>(expected.size()) / rows;
    const Weight weight = decode_gguf_blocks("w", static_cast<GgufType>(number), rows, cols, bytes);
    EXPECT_EQ(weight.format, gguf_format(static_cast<GgufType>(number)));
    const Weight floats = to_f32(weight);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const float want = std::bit_cast<float>(expected[i]), got = floats.data.as<float>()[i];
      ASSERT_EQ(got, want) << each.at("type") << " value " << i;  // 0 equals -0
    }
  }
}

TEST(GgufBlocks, DenseTypesShareTheFile) {
  alignas(4) const float values[] = {1, 2, 3, 4, 5, 6};
  const Weight weight = decode_gguf_blocks("w", GgufType::f32, 2, 3, std::as_bytes(std::span(values)));
  EXPECT_EQ(weight.data.data, values);
  EXPECT_EQ(weight.out, 2);
  EXPECT_EQ(weight.in, 3);
  std::vector<std::byte> shifted(sizeof(values) + 1);
  std::memcpy(shifted.data() + 1, values, sizeof(values));
  const Weight copy = decode_gguf_blocks("w", GgufType::f32, 2, 3, std::span(shifted).subspan(1));
  EXPECT_EQ(copy.data.row<float>(1)[2], 6);
}

TEST(GgufBlocks, ScaleThatIsNoNumberIsRefused) {
  const std::vector<std::byte> block(17, std::byte{0xff});
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "MXFP4", decode_gguf_blocks("w", GgufType::mxfp4, 1, 32, block));
}

TEST(GgufBlocks, TypesHaveNames) {
  EXPECT_EQ(gguf_type_name(10), "Q2_K");
  EXPECT_EQ(gguf_type_info(10)->block_bytes, 0);
  EXPECT_EQ(gguf_type_name(4), "type 4");
  EXPECT_EQ(gguf_bytes(GgufType::q6_k, 512), 420);
}

}  // namespace
}  // namespace bittern
