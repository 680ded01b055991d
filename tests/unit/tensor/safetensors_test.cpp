// The safetensors reader refuses every kind of lie by name; the writer makes what the reader and others accept.
#include "tensor/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/mmap_file.h"
#include "support/expect_error.h"
#include "support/memory_files.h"
#include "support/temp_dir.h"

namespace bittern {
namespace {

using testing::raw_safetensors;

SafetensorsFile read(const std::string& bytes) {
  // A copy of exactly this size, so that a read past the end is seen by AddressSanitizer.
  auto copy = std::make_shared<std::vector<std::byte>>(bytes.size());
  std::transform(bytes.begin(), bytes.end(), copy->begin(), [](char c) { return static_cast<std::byte>(c); });
  const std::span<const std::byte> span(*copy);
  return read_safetensors(FileBytes{"x.safetensors", span, copy});
}

SafetensorsFile read(const std::string& header, const std::string& data) { return read(raw_safetensors(header, data)); }

TEST(SafetensorsReadTest, ReadsWhatIsThere) {
  const SafetensorsFile file = read(
      R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"a":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]},)"
      R"("empty":{"dtype":"U8","shape":[0,9],"data_offsets":[2,2]},"__metadata__":{"format":"pt"}} )",
      "ab01234567");
  ASSERT_EQ(file.entries.size(), 3u);
  EXPECT_EQ(file.entries[0].name, "a");
  EXPECT_EQ(file.entries[1].name, "empty");
  EXPECT_EQ(file.entries[2].name, "b");
  EXPECT_EQ(file.entries[2].dtype, DType::f32);
  EXPECT_EQ(file.entries[2].shape, (std::vector<std::int64_t>{2}));
  EXPECT_EQ(std::memcmp(file.entries[2].data.data(), "01234567", 8), 0);
  EXPECT_EQ(file.metadata.at("format"), "pt");
  EXPECT_TRUE(read("{}", "").entries.empty());
}

TEST(SafetensorsReadTest, UnknownTypesAreKept) {
  const SafetensorsFile file = read(R"({"a":{"dtype":"F8_E5M2","shape":[3],"data_offsets":[0,3]}})", "abc");
  EXPECT_EQ(file.entries[0].dtype, std::nullopt);
  EXPECT_EQ(file.entries[0].dtype_name, "F8_E5M2");
}

struct Lie {
  const char* name;
  std::string bytes;
  const char* says;
};
void PrintTo(const Lie& lie, std::ostream* out) { *out << lie.name; }

std::string one(const char* entry, const std::string& data) {
  return raw_safetensors(R"({"a":)" + std::string(entry) + "}", data);
}

class SafetensorsLieTest : public ::testing::TestWithParam<Lie> {};

TEST_P(SafetensorsLieTest, IsRefusedByName) {
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, GetParam().says, read(GetParam().bytes));
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "x.safetensors", read(GetParam().bytes));
}

const std::string kA = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
const Lie kLies[] = {
    {"Empty", "", "has 0 bytes"},
    {"SevenBytes", "1234567", "has 7 bytes"},
    {"HeaderBeyondFile", raw_safetensors("{}", "", 3), "claims a header of 3 bytes, but only 2 follow"},
    {"HeaderOfAllOnes", raw_safetensors("{}", "", INT64_MAX), "the limit is 100000000"},
    {"LfsPointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"},
    {"EmptyHeader", raw_safetensors("", ""), "is not a JSON object"},
    {"HeaderIsAList", raw_safetensors("[]", ""), "is not a JSON object"},
    {"HeaderIsCut", raw_safetensors(R"({"a":)", ""), "not valid JSON"},
    {"ZeroByteInHeader", raw_safetensors(std::string("{}\0x", 4), ""), "is not a JSON object"},
    {"TextAfterHeader", raw_safetensors("{} x", ""), "not valid JSON"},
    {"InvalidUtf8", raw_safetensors("{\"\xff\":1}", ""), "not valid JSON"},
    {"DeepNesting", raw_safetensors("{\"a\":" + std::string(5000, '[') + std::string(5000, ']') + "}", ""), "nested"},
    {"NameTwice", raw_safetensors(R"({"a":)" + kA + R"(,"a":)" + kA + "}", "abcd"), "'a' occurs twice"},
    {"EntryIsANumber", one("7", ""), "tensor 'a': expected an object"},
    {"NoDtype", one(R"({"shape":[1],"data_offsets":[0,4]})", "abcd"), "has no 'dtype'"},
    {"NoShape", one(R"({"dtype":"F32","data_offsets":[0,4]})", "abcd"), "has no 'shape'"},
    {"NoOffsets", one(R"({"dtype":"F32","shape":[1]})", "abcd"), "has no 'data_offsets'"},
    {"DtypeIsANumber", one(R"({"dtype":32,"shape":[1],"data_offsets":[0,4]})", "abcd"), "dtype must be a string"},
    {"ShapeIsAnObject", one(R"({"dtype":"F32","shape":{},"data_offsets":[0,4]})", "abcd"), "shape must be an array"},
    {"NegativeDimension", one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", "abcd"), "non-negative integers"},
    {"FractionalDimension", one(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})", "abcd"),
     "non-negative integers"},
    {"HugeDimension", one(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]})", "abcd"),
     "below 2^63"},
    {"ShapeOverflows", one(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4]})", "abcd"),
     "more elements"},
    {"ShapeOverflowsToFit", one(R"({"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]})", "abcd"),
     "more elements"},
    {"UnknownTypeOverflows", one(R"({"dtype":"F4","shape":[4294967296,4294967296],"data_offsets":[0,4]})", "abcd"),
     "more elements"},
    {"TooManyDimensions",
     one(("{\"dtype\":\"U8\",\"data_offsets\":[0,1],\"shape\":[1" +
          [] {
            std::string s;
            for (int i = 0; i < 99; ++i) s += ",1";
            return s;
          }() +
          "]}")
             .c_str(),
         "a"),
     "100 dimensions"},
    {"OneOffset", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", "abcd"), "must be two numbers"},
    {"OffsetsBackwards", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", "abcd"), "lie outside"},
    {"NegativeOffset", one(R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", "abcd"), "non-negative integers"},
    {"BeyondTheFile", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", "abcd"), "lie outside the 4 bytes"},
    {"OffsetOf2To64",
     one(R"({"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]})", "abcd"),
     "below 2^63"},
    {"SizeIsNotShape", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", "abcd"),
     "has 4 bytes, but its shape and type 'F32' need 8"},
    {"Gap", raw_safetensors(R"({"a":)" + kA + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})", "abcdef"),
     "'b': starts after a gap of 1 bytes"},
    {"GapAtTheStart", one(R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})", "ab"), "gap of 1 bytes"},
    {"Overlap", raw_safetensors(R"({"a":)" + kA + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})", "abcde"),
     "'b': overlaps 'a'"},
    {"BytesLeftOver", one(kA.c_str(), "abcdef"), "2 bytes follow the last tensor"},
    {"NameThatSteersTerminals", raw_safetensors("{\"\\u001b[2J\\u0000\":7}", ""), "tensor '\\x1b[2J\\x00'"},
    {"MetadataIsAList", raw_safetensors(R"({"__metadata__":[]})", ""), "__metadata__ must be an object"},
    {"MetadataOfNumbers", raw_safetensors(R"({"__metadata__":{"k":1}})", ""), "'k' must be a string"},
};
INSTANTIATE_TEST_SUITE_P(All, SafetensorsLieTest, ::testing::ValuesIn(kLies),
                         [](const auto& test) { return test.param.name; });

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

SafetensorsFile read_file(const std::filesystem::path& path) {
  auto file = std::make_shared<MmapFile>(path);
  const auto bytes = file->bytes();
  return read_safetensors(FileBytes{path.string(), bytes, file});
}

TEST(SafetensorsWriteTest, RoundTrip) {
  testing::TempDir dir;
  const auto path = dir.path() / "m.safetensors";
  SafetensorsWriter writer(path, {{"w", DType::f32, {2, 1}}, {"none", DType::f16, {0}}, {"b", DType::u8, {3}}},
                           {{"format", "pt"}, {"note", "a \"quoted\" one"}});
  writer.append(bytes_of("0123"));
  EXPECT_FALSE(std::filesystem::exists(path)) << "visible only when complete";
  writer.append(bytes_of("4567xy"));
  writer.append(bytes_of("z"));
  writer.finish();
  const SafetensorsFile file = read_file(path);
  ASSERT_EQ(file.entries.size(), 3u);
  EXPECT_EQ(file.entries[0].name, "w");
  EXPECT_EQ(std::memcmp(file.entries[0].data.data(), "01234567", 8), 0);
  EXPECT_EQ(std::memcmp(file.entries[2].data.data(), "xyz", 3), 0);
  EXPECT_EQ(file.metadata.at("note"), "a \"quoted\" one");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.entries[0].data.data()) % 8, 0u) << "data starts aligned";
}

TEST(SafetensorsWriteTest, MisuseIsNamed) {
  testing::TempDir dir;
  const auto path = dir.path() / "m.safetensors";
  const std::vector<TensorSpec> specs = {{"a", DType::u8, {2}}, {"b", DType::u8, {1}}};
  {
    SafetensorsWriter writer(path, specs);
    EXPECT_ERROR(ErrorCode::internal, "'b' given where 'a' was to follow", writer.write("b", bytes_of("x")));
    EXPECT_ERROR(ErrorCode::internal, "'a' has 1 bytes, declared 2", writer.write("a", bytes_of("x")));
    writer.write("a", bytes_of("xy"));
    EXPECT_ERROR(ErrorCode::internal, "'b' is not completely written", writer.finish());
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path())) << "nothing is left behind";
  SafetensorsWriter writer(path, specs);
  EXPECT_ERROR(ErrorCode::internal, "1 bytes more than declared", writer.append(bytes_of("wxyz")));
  EXPECT_ERROR(ErrorCode::invalid_argument, "'a' cannot be used", SafetensorsWriter(path, {specs[0], specs[0]}));
  EXPECT_ERROR(ErrorCode::invalid_argument, "negative", SafetensorsWriter(path, {{"n", DType::u8, {-1}}}));
  EXPECT_ERROR(ErrorCode::not_found, "nowhere", SafetensorsWriter(dir.path() / "nowhere" / "m", specs));
}

TEST(SafetensorsWriteTest, OneFileWhenItFits) {
  testing::TempDir dir;
  ShardedSafetensorsWriter writer(dir.path(), {{"a", DType::u8, {2}}, {"b", DType::u8, {2}}}, 4);
  EXPECT_EQ(writer.files(), (std::vector<std::string>{"model.safetensors"}));
  writer.write("a", bytes_of("ab"));
  writer.write("b", bytes_of("cd"));
  writer.finish();
  EXPECT_EQ(read_file(dir.path() / "model.safetensors").entries.size(), 2u);
}

TEST(SafetensorsWriteTest, ShardsOpenAsOneCheckpoint) {
  testing::TempDir dir;
  // The second is larger than a shard and gets one of its own.
  ShardedSafetensorsWriter writer(
      dir.path(), {{"a", DType::u8, {2}}, {"big", DType::u8, {9}}, {"c", DType::u8, {2}}, {"d", DType::u8, {2}}}, 4);
  EXPECT_EQ(writer.files(),
            (std::vector<std::string>{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                      "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
  writer.write("a", bytes_of("ab"));
  EXPECT_ERROR(ErrorCode::internal, "only 0 shards", writer.finish());
  writer.write("big", bytes_of("123456789"));
  writer.write("c", bytes_of("cc"));
  writer.write("d", bytes_of("dd"));
  writer.finish();
  const auto checkpoint = open_checkpoint(ModelFiles::from_directory(dir.path()), nullptr);
  ASSERT_EQ(checkpoint->entries().size(), 4u);
  EXPECT_EQ(checkpoint->entries()[3].name, "d");
  EXPECT_EQ(checkpoint->dense("big").data.as<char>()[8], '9');
}

}  // namespace
}  // namespace bittern
