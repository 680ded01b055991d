// What quantize() writes, plans and reports when all goes well.
#include <cmath>
#include <cstring>

#include "quant/report.h"
#include "quant/rtn.h"
#include "quantize_fixture.h"

namespace bittern::quant {
namespace {

using Quantize = QuantizeFixture;

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.size() == b.size() && a.dtype == b.dtype &&
         std::memcmp(a.data, b.data, static_cast<std::size_t>(a.size()) * dtype_size(a.dtype)) == 0;
}

TEST_F(Quantize, WritesWhatRoundToNearestGivesForEveryLinearAndKeepsTheRest) {
  const TinyCheckpoint checkpoint;
  const auto files = write(checkpoint);
  run(files);
  const auto source = open_checkpoint(files, Json()), output = open_output();
  ThreadPool pool(1);
  int linears = 0, kept = 0;
  for (const TensorEntry& entry : source->entries()) {
    SCOPED_TRACE(entry.name);
    const bool linear = entry.name.find("_proj.weight") != std::string::npos;
    if (!linear) {
      EXPECT_TRUE(same_bytes(source->dense(entry.name).data, output->dense(entry.name).data));
      ++kept;
      continue;
    }
    std::vector<std::string> used;
    const std::string module = entry.name.substr(0, entry.name.size() - 7);
    const Weight expected = rtn_int4(to_f32(source->dense(entry.name)), 32, DType::f16, pool);
    const Weight written = output->linear(module, used);
    EXPECT_TRUE(same_bytes(written.data, expected.data));
    EXPECT_TRUE(same_bytes(written.scales, expected.scales));
    EXPECT_TRUE(same_bytes(written.zeros, expected.zeros));
    EXPECT_FALSE(output->contains(entry.name));
    ++linears;
  }
  EXPECT_EQ(linears, 14);
  EXPECT_EQ(kept, 7);
  EXPECT_EQ(output->entries().size(), 14u * 3 + 7);
}

TEST_F(Quantize, WritesACompleteCheckpoint) {
  TinyCheckpoint checkpoint;
  checkpoint.config()["an_unknown_key"] = {1, 2};
  const QuantizeReport report = run(checkpoint);
  const std::vector<std::string> expected = {
      "LICENSE", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"};
  EXPECT_EQ(names_in(options.output), expected);
  EXPECT_EQ(report.files, expected);
  EXPECT_EQ(read_text(options.output / "tokenizer.json"), read_text(dir.path() / "in" / "tokenizer.json"));
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in", "out"}));  // nothing temporary is left

  Json config = read_json_file(options.output / "config.json");
  EXPECT_EQ(config["quantization_config"],
            Json::parse(R"({"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true, "version": "gemm",
                            "modules_to_not_convert": ["model.embed_tokens", "lm_head"]})"));
  config.erase("quantization_config");
  EXPECT_EQ(config, checkpoint.config());
}

TEST_F(Quantize, OneGroupPerRowIsWrittenAsMinusOne) {
  options.group_size = -1;
  run(TinyCheckpoint());
  EXPECT_EQ(read_json_file(options.output / "config.json")["quantization_config"]["group_size"], -1);
  std::vector<std::string> used;
  EXPECT_EQ(open_output()->linear("model.layers.1.mlp.down_proj", used).format, Format::int4(96));
}

TEST_F(Quantize, ATiedHeadIsListedAsKept) {
  run(TinyCheckpoint({.tied = true}));
  EXPECT_EQ(read_json_file(options.output / "config.json")["quantization_config"]["modules_to_not_convert"],
            Json({"model.embed_tokens", "lm_head"}));
}

TEST_F(Quantize, KeepsTheElementTypeOfTheRest) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    options.overwrite = true;
    run(TinyCheckpoint({.dtype = dtype}));
    EXPECT_EQ(open_output()->dense("lm_head.weight").format.dtype, dtype);
  }
}

TEST_F(Quantize, CutsLargeOutputsIntoShards) {
  options.max_shard_bytes = 20'000;
  run(TinyCheckpoint());
  EXPECT_TRUE(fs::exists(options.output / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(options.output / "model.safetensors"));
  EXPECT_EQ(open_output()->entries().size(), 14u * 3 + 7);
}

TEST_F(Quantize, PlansTheSizesItWrites) {
  const auto files = write(TinyCheckpoint());
  const QuantizePlan plan = plan_quantize(files, options);
  EXPECT_FALSE(fs::exists(options.output));  // a plan writes nothing
  const QuantizeReport report = run(files);
  std::int64_t written = 0, quantized = 0;
  const auto output = open_output();
  for (const TensorEntry& entry : output->entries()) {
    written += static_cast<std::int64_t>(entry.bytes);
    if (entry.name.find("_proj.") != std::string::npos) quantized += static_cast<std::int64_t>(entry.bytes);
  }
  EXPECT_EQ(plan.output_bytes, written);
  EXPECT_EQ(plan.quantized_output_bytes, quantized);
  EXPECT_EQ(plan.linears, 14);
  EXPECT_EQ(plan.source_bytes, plan.parameters * 2);
  EXPECT_EQ(plan.quantized_source_bytes, plan.quantized_parameters * 2);
  EXPECT_DOUBLE_EQ(plan.bits_per_weight(), 4 + (16 + 4) / 32.0);
  EXPECT_GT(plan.bits_per_parameter(), plan.bits_per_weight());
  Json planned = to_json(plan), done = to_json(report.plan);
  planned.erase("free_disk_bytes"), done.erase("free_disk_bytes");  // others write to the disk too
  EXPECT_EQ(done, planned);
}

TEST_F(Quantize, ReportsTheLossOfEveryLinear) {
  TinyCheckpoint checkpoint;
  auto& values = checkpoint.values("model.layers.1.mlp.up_proj.weight");
  for (std::size_t i = 0; i < values.size(); i += 32) values[i] = 0.4f;  // an outlier coarsens its whole group
  const QuantizeReport report = run(checkpoint);
  ASSERT_EQ(report.linears.size(), 14u);
  EXPECT_EQ(report.linears[0].name, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(report.worst, "model.layers.1.mlp.up_proj");
  double worst = 0;
  for (const LinearReport& linear : report.linears) {
    worst = std::max(worst, linear.nmse);
    EXPECT_GT(linear.nmse, 1e-5) << linear.name;
    EXPECT_LT(linear.nmse, 0.05) << linear.name;
    EXPECT_GT(linear.cosine, 0.97) << linear.name;
    EXPECT_GT(linear.max_abs, 0.0) << linear.name;
    EXPECT_EQ(linear.source_bytes, linear.out * linear.in * 2);
    EXPECT_EQ(linear.output_bytes * 8, linear.out * linear.in * 4625 / 1000);
  }
  EXPECT_GT(report.nmse, 0.0);
  EXPECT_LT(report.nmse, worst);
  const Json json = to_json(report);
  EXPECT_EQ(json["linears"].size(), 14u);
  EXPECT_EQ(json["plan"]["scheme"], "w4a16");
}

TEST_F(Quantize, SkipsByNameByPartAndByExpression) {
  options.skip = {"down_proj", "model.layers.0.self_attn", "re:.*layers\\.1\\..*[kv]_proj", "lm_head"};
  const QuantizeReport report = run(TinyCheckpoint());
  std::vector<std::string> quantized;
  for (const LinearReport& linear : report.linears) quantized.push_back(linear.name);
  EXPECT_EQ(quantized, (std::vector<std::string>{"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj",
                                                 "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.o_proj",
                                                 "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"}));
  const auto output = open_output();
  EXPECT_TRUE(output->contains("model.layers.0.mlp.down_proj.weight"));
  std::vector<std::string> used;  // the reader takes a listed module as it lies
  EXPECT_EQ(output->linear("model.layers.1.self_attn.k_proj", used).format, Format::dense(DType::bf16));
}

TEST_F(Quantize, TellsProgressUpToTheEnd) {
  struct Sink : QuantizeSink {
    void plan(const QuantizePlan& plan) override { total = plan.source_bytes; }
    void progress(const QuantizeProgress& p) override {
      EXPECT_GT(p.done, done);
      EXPECT_EQ(p.total, total);
      done = p.done, layer = p.layer, ++calls;
    }
    std::int64_t total = 0, done = 0;
    int layer = 0, calls = 0;
  } sink;
  quantize(write(TinyCheckpoint()), options, sink);
  EXPECT_EQ(sink.done, sink.total);
  EXPECT_EQ(sink.layer, 1);  // the last tensor belongs to the layer that then counts as finished
  EXPECT_EQ(sink.calls, 14 + 7);
}

TEST_F(Quantize, GivesTheSameBytesWithAnyNumberOfThreads) {
  const auto files = write(TinyCheckpoint());
  options.threads = 1;
  run(files);
  const std::string first = read_text(options.output / "model.safetensors");
  options.threads = 3, options.output = dir.path() / "again";
  run(files);
  EXPECT_EQ(read_text(options.output / "model.safetensors"), first);
}

TEST_F(Quantize, OverwritesACheckpointOnlyWhenAsked) {
  const auto files = write(TinyCheckpoint());
  run(files);
  EXPECT_ERROR(kInvalid, "--overwrite", run(files));
  options.overwrite = true, options.group_size = 32;
  TinyCheckpoint::text(options.output / "stale.txt", "of the old one");
  run(files);
  EXPECT_FALSE(fs::exists(options.output / "stale.txt"));
}

TEST_F(Quantize, HoldsTheMemoryItPlanned) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers have memory of their own";
#endif
  const auto files =
      write(TinyCheckpoint({.layers = 5, .hidden = 768, .ffn = 1536, .heads = 8, .kv_heads = 8, .vocab = 64}));
  const QuantizePlan plan = plan_quantize(files, options);
  ASSERT_GT(plan.source_bytes, 55 << 20);
  ASSERT_LT(plan.peak_bytes, 24 << 20);
  const std::int64_t grown = growth_of_a_run(files);
  RecordProperty("planned", std::to_string(plan.peak_bytes));
  RecordProperty("measured", std::to_string(grown));
  EXPECT_LE(grown, plan.peak_bytes + (4 << 20)) << "beside the plan: thread stacks, code pages and the allocator";
  EXPECT_GE(grown, plan.peak_bytes / 2) << "the plan promises far more than is used";
}

TEST(QuantizeChoices, AreListedWithASummary) {
  ASSERT_FALSE(schemes().empty());
  EXPECT_EQ(schemes()[0].name, "w4a16");
  EXPECT_FALSE(schemes()[0].summary.empty());
  ASSERT_EQ(algorithms().size(), 4u);
  EXPECT_EQ(algorithms()[0].name, "rtn");
}

}  // namespace
}  // namespace bittern::quant
