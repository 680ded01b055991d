// Every scheme, from a 16-bit checkpoint to disk and back: what is read equals what was computed, the plan counts the
// bytes that are written, and the same numbers go into any disk format.
#include "quant/scheme.h"

#include <bittern/quantize.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "quant/rtn.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tensor/checkpoint.h"
#include "tensor/model_files.h"
#include "tiny_checkpoint.h"

namespace bittern::quant {
namespace {

using bittern::testing::TempDir;
using bittern::testing::TinyCheckpoint;

std::vector<std::string> scheme_names() {
  std::vector<std::string> names;
  for (const Scheme& scheme : all_schemes()) names.emplace_back(scheme.name);
  return names;
}

class EveryScheme : public ::testing::TestWithParam<std::string> {
 protected:
  const Scheme& scheme() const { return find_scheme(GetParam()); }

  /// Quantizes a small model and opens both.
  QuantizeReport run(std::int64_t group_size, std::vector<std::string> skip = {}) {
    TinyCheckpoint().write(dir_.path() / "in");
    const auto files = ModelFiles::from_directory(dir_.path() / "in");
    QuantizeOptions options;
    options.scheme = GetParam();
    options.group_size = group_size;
    options.skip = std::move(skip);
    options.output = dir_.path() / "out";
    options.overwrite = true;
    QuantizeSink ignore;
    QuantizeReport report = quantize(files, options, ignore);
    source = open_checkpoint(files, Json());
    config = read_json_file(options.output / "config.json")["quantization_config"];
    output = open_checkpoint(ModelFiles::from_directory(options.output), config);
    return report;
  }

  void expect_rounded_to_nearest(const std::string& module, std::int64_t group_size) {
    SCOPED_TRACE(module);
    ThreadPool pool(1);
    const GroupLayout layout{scheme().bits, group_size, scheme().symmetric, scheme().scale_dtype,
                             scheme().int8_activations};
    const Weight expected = rtn(to_f32(source->dense(module + ".weight")), layout, pool);
    const Weight written = output->linear(module, used);
    EXPECT_EQ(written.format, expected.format);
    const Weight a = to_f32(written), b = to_f32(expected);
    ASSERT_EQ(a.data.size(), b.data.size());
    EXPECT_EQ(std::memcmp(a.data.data, b.data.data, static_cast<std::size_t>(a.data.size()) * sizeof(float)), 0);
  }

  TempDir dir_;
  std::unique_ptr<Checkpoint> source, output;
  Json config;
  std::vector<std::string> used;
};

TEST_P(EveryScheme, IsReadAsItWasComputed) {
  for (const std::int64_t size : scheme().group_sizes) {
    if (size != 32 && size != -1) continue;  // others do not divide the 96 inputs of down_proj
    used.clear();
    const QuantizeReport report = run(size);
    for (const LinearReport& linear : report.linears) expect_rounded_to_nearest(linear.name, size);
    EXPECT_EQ(report.linears.size(), 14u);
    std::int64_t kept = 0, stored = 0;
    const std::set<std::string> taken(used.begin(), used.end());
    for (const TensorEntry& entry : output->entries()) {
      stored += static_cast<std::int64_t>(entry.bytes);
      kept += taken.contains(entry.name) ? 0 : 1;
    }
    EXPECT_EQ(kept, 7) << "norms, embedding and head";
    EXPECT_EQ(stored, report.plan.output_bytes);
  }
}

TEST_P(EveryScheme, LeavesOutWhatIsSkipped) {
  const QuantizeReport report = run(-1, {"layers.0.mlp.down_proj"});
  EXPECT_EQ(report.linears.size(), 13u);
  const Weight kept = output->linear("model.layers.0.mlp.down_proj", used);
  EXPECT_EQ(kept.format, Format::dense(DType::bf16));
  EXPECT_NE(config.dump().find("down_proj"), std::string::npos) << config.dump();
  expect_rounded_to_nearest("model.layers.1.mlp.down_proj", -1);
}

INSTANTIATE_TEST_SUITE_P(All, EveryScheme, ::testing::ValuesIn(scheme_names()), [](const auto& test) {
  std::string name = test.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST(Schemes, HaveNamesOfTheirOwnAndOneRowPerFormat) {
  std::set<std::string_view> names;
  std::set<std::pair<std::string_view, std::string_view>> rows;
  for (const Scheme& scheme : all_schemes()) {
    EXPECT_TRUE(names.insert(scheme.name).second) << scheme.name;
    EXPECT_TRUE(rows.emplace(scheme.numbers, scheme.disk_format).second) << scheme.name;
    EXPECT_FALSE(scheme.summary.empty());
  }
}

TEST(Schemes, GoIntoOtherFormats) {
  EXPECT_EQ(find_scheme_in_format("w4a16", "awq").name, "w4a16");
  EXPECT_EQ(find_scheme_in_format("w4a16", "gptq").name, "w4a16-gptq");
  EXPECT_EQ(find_scheme_in_format("w4a16-gptq", "compressed-tensors").name, "w4a16-compressed-tensors");
  EXPECT_EQ(find_scheme_in_format("w8a16-sym", "gptq").name, "w8a16-sym-gptq");
  EXPECT_ERROR(ErrorCode::invalid_argument, "scheme w8a8 cannot be written in the format 'awq'",
               find_scheme_in_format("w8a8", "awq"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "there is no scheme 'w9a16'", find_scheme_in_format("w9a16", "awq"));
}

}  // namespace
}  // namespace bittern::quant
