// The GGUF container: files made by hand, every truncation of one, and headers that lie.
#include "tensor/gguf.h"

#include <gtest/gtest.h>

#include <cstring>

#include "support/expect_error.h"
#include "support/gguf_bytes.h"

namespace bittern {
namespace {

using testing::GgufBytes;

GgufFile parse(const std::string& bytes) {
  auto keep = std::make_shared<const std::string>(bytes);
  return read_gguf(FileBytes{"test.gguf", std::as_bytes(std::span(*keep)), keep});
}

// Two values of metadata and a vector of four floats.
std::string small_file() {
  GgufBytes b;
  b.header(1, 3);
  b.key("general.architecture", 8).text("llama");
  b.key("llama.block_count", 4).put<std::uint32_t>(7);
  b.key("tokens", 9).put<std::uint32_t>(8).put<std::uint64_t>(2).text("a").text("bc");
  b.tensor("w", {4}, 0, 0).align(32);
  for (float value : {1.F, 2.F, 3.F, 4.F}) b.put(value);
  return b.bytes;
}

TEST(Gguf, ReadsMetadataAndTensors) {
  const GgufFile file = parse(small_file());
  EXPECT_EQ(file.version, 3U);
  EXPECT_EQ(file.metadata.text("general.architecture"), "llama");
  EXPECT_EQ(file.metadata.integer("llama.block_count"), 7);
  EXPECT_EQ(file.metadata.number("llama.block_count"), 7.0);
  EXPECT_EQ(file.metadata.texts("tokens"), (std::vector<std::string_view>{"a", "bc"}));
  EXPECT_EQ(file.metadata.integer("missing"), std::nullopt);
  ASSERT_EQ(file.tensors.size(), 1U);
  float last = 0;
  ASSERT_EQ(file.find("w")->bytes.size(), 16U);
  std::memcpy(&last, file.find("w")->bytes.data() + 12, 4);
  EXPECT_EQ(last, 4.F);
}

TEST(Gguf, ValuesOfAnotherTypeAreNamed) {
  const GgufFile file = parse(small_file());
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "'general.architecture' must be an integer",
               file.metadata.integer("general.architecture"));
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "'tokens' must be a single value", file.metadata.text("tokens"));
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "'llama.block_count' must be an array",
               file.metadata.numbers("llama.block_count"));
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "'nothing' is missing", file.metadata.require_text("nothing"));
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string whole = small_file();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, "test.gguf", parse(whole.substr(0, size)));
  }
}

// No change of one byte may do worse than an Error. (Under the sanitizers a read outside would end the test.)
TEST(Gguf, ChangedBytesNeverReadOutside) {
  const std::string whole = small_file();
  int refused = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int flip : {1, 0x80, 0xff}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ flip);
      try {
        const GgufFile file = parse(changed);
        for (const GgufTensor& tensor : file.tensors) {
          const std::byte* end = file.bytes.bytes.data() + whole.size();
          EXPECT_TRUE(tensor.bytes.empty() || tensor.bytes.data() + tensor.bytes.size() <= end);
        }
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100);
}

std::string with_tensor(const std::vector<std::int64_t>& dims, std::uint32_t type, std::uint64_t offset) {
  GgufBytes b;
  b.header(1, 0).tensor("w", dims, type, offset).align(32);
  b.bytes.append(64, '\0');
  return b.bytes;
}

TEST(Gguf, LyingTensorsAreRefused) {
  EXPECT_EQ(parse(with_tensor({8, 2}, 0, 0)).tensors[0].bytes.size(), 64U);
  const auto refused = [](const char* reason, const std::string& bytes) {
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, reason, parse(bytes));
  };
  refused("outside", with_tensor({8, 3}, 0, 0));
  refused("outside", with_tensor({8, 2}, 0, 32));
  refused("outside", with_tensor({8}, 0, ~std::uint64_t{31}));
  refused("multiple of the alignment", with_tensor({2}, 0, 4));
  refused("dimension of -1", with_tensor({-1}, 0, 0));
  refused("dimension of 0", with_tensor({0}, 0, 0));
  refused("0 dimensions", with_tensor({}, 0, 0));
  refused("5 dimensions", with_tensor({1, 1, 1, 1, 1}, 0, 0));
  refused("more elements", with_tensor({std::int64_t{1} << 40, std::int64_t{1} << 40}, 0, 0));
  refused("whole blocks of 32", with_tensor({16}, 2, 0));
}

TEST(Gguf, HostileCountsAreRefused) {
  const auto refused = [](const char* reason, const GgufBytes& b) {
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, reason, parse(b.bytes));
  };
  refused("tensors", GgufBytes().header(std::uint64_t{1} << 60, 0));
  refused("metadata values", GgufBytes().header(0, ~std::uint64_t{0}));
  refused("texts", GgufBytes().header(0, 1).key("k", 9).put<std::uint32_t>(8).put(~std::uint64_t{0}));
  refused("elements", GgufBytes().header(0, 1).key("k", 9).put<std::uint32_t>(10).put(std::uint64_t{1} << 61));
  refused("needs", GgufBytes().header(0, 1).key("k", 8).put(~std::uint64_t{0}));
  refused("unknown type 13", GgufBytes().header(0, 1).key("k", 13).put<std::uint64_t>(0));
  refused("appears twice", GgufBytes().header(0, 2).key("k", 0).put<char>(1).key("k", 0).put<char>(1).put<int>(0));
  refused("power of two", GgufBytes().header(0, 1).key("general.alignment", 4).put<std::uint32_t>(24));
  refused("power of two", GgufBytes().header(0, 1).key("general.alignment", 4).put<std::uint32_t>(0));
}

TEST(Gguf, SharedPlacesAreRefused) {
  GgufBytes twice, overlap;
  twice.header(2, 0).tensor("a", {8}, 0, 0).tensor("a", {8}, 0, 32).align(32).bytes.append(64, '\0');
  overlap.header(2, 0).tensor("a", {16}, 0, 0).tensor("b", {8}, 0, 32).align(32).bytes.append(64, '\0');
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "appears twice", parse(twice.bytes));
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "'b' overlaps 'a'", parse(overlap.bytes));
}

TEST(Gguf, OtherVersionsAreRefusedByName) {
  std::string bytes = small_file();
  bytes[4] = 1;
  EXPECT_ERROR(ErrorCode::unsupported, "version 1", parse(bytes));
  bytes[4] = 0;
  bytes[7] = 3;
  EXPECT_ERROR(ErrorCode::unsupported, "big-endian", parse(bytes));
  EXPECT_ERROR(
      ErrorCode::unsupported, "array of arrays",
      parse(GgufBytes().header(0, 1).key("k", 9).put<std::uint32_t>(9).put<std::uint64_t>(0).put<int>(0).bytes));
}

}  // namespace
}  // namespace bittern
