// The whole of quantize(): what it writes, what it reports, what it refuses, and what is left when it is stopped.
#include <bittern/quantize.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/sysinfo.h"
#include "quant/report.h"
#include "quant/rtn.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tensor/checkpoint.h"
#include "tensor/model_files.h"
#include "tiny_checkpoint.h"

namespace bittern::quant {
namespace {

namespace fs = std::filesystem;
using bittern::testing::TempDir;
using bittern::testing::TinyCheckpoint;
using bittern::testing::TinyShape;

constexpr auto kInvalid = ErrorCode::invalid_argument;

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> names_in(const fs::path& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

struct Fixture : ::testing::Test {
  Fixture() { options.output = dir.path() / "out", options.group_size = 32; }

  std::shared_ptr<const ModelFiles> write(const TinyCheckpoint& checkpoint) {
    checkpoint.write(dir.path() / "in");
    return ModelFiles::from_directory(dir.path() / "in");
  }
  QuantizeReport run(const TinyCheckpoint& checkpoint) { return run(write(checkpoint)); }
  QuantizeReport run(const std::shared_ptr<const ModelFiles>& files) {
    QuantizeSink ignore;
    return quantize(files, options, ignore);
  }
  std::unique_ptr<Checkpoint> open_output() {
    const Json config = read_json_file(options.output / "config.json");
    return open_checkpoint(ModelFiles::from_directory(options.output), config["quantization_config"]);
  }

  TempDir dir;
  QuantizeOptions options;
};

using Quantize = Fixture;
using QuantizeRefuses = Fixture;
using QuantizeStopped = Fixture;

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
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  malloc_trim(0);              // no free memory of this process for the child to reuse
  const pid_t child = fork();  // a fresh peak counter
  if (child == 0) {
    const auto before = static_cast<std::int64_t>(resident_bytes());
    run(files);
    const std::int64_t grown = static_cast<std::int64_t>(peak_resident_bytes()) - before;
    _exit(::write(channel[1], &grown, sizeof grown) == sizeof grown ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::int64_t grown = 0;
  ASSERT_EQ(::read(channel[0], &grown, sizeof grown), static_cast<ssize_t>(sizeof grown));
  RecordProperty("planned", std::to_string(plan.peak_bytes));
  RecordProperty("measured", std::to_string(grown));
  EXPECT_LE(grown, plan.peak_bytes + (4 << 20)) << "beside the plan: thread stacks, code pages and the allocator";
  EXPECT_GE(grown, plan.peak_bytes / 2) << "the plan promises far more than is used";
}

TEST_F(QuantizeRefuses, UnknownNamesListingWhatThereIs) {
  const auto files = write(TinyCheckpoint());
  options.scheme = "w4a1";
  EXPECT_ERROR(kInvalid, "did you mean 'w4a16'", run(files));
  options.scheme = "w4a16", options.algorithm = "magic";
  EXPECT_ERROR(kInvalid, "there is: rtn", run(files));
  options.algorithm = "rtn", options.group_size = 48;
  EXPECT_ERROR(kInvalid, "32, 64, 128, -1", run(files));
}

TEST_F(QuantizeRefuses, ShapesTheFormatCannotHoldAndSaysWhatFits) {
  options.group_size = 64;
  EXPECT_ERROR(ErrorCode::unsupported, "model.layers.0.mlp.down_proj", run(TinyCheckpoint()));
  EXPECT_ERROR(ErrorCode::unsupported, "use --group-size 32", run(TinyCheckpoint()));
  // 172 outputs are no multiple of 8, whatever the group.
  const TinyCheckpoint odd({.ffn = 172});
  EXPECT_ERROR(ErrorCode::unsupported, "model.layers.0.mlp.gate_proj: its 172 outputs", run(odd));
  EXPECT_ERROR(ErrorCode::unsupported, "--skip down_proj --skip gate_proj --skip up_proj", run(odd));
  options.skip = {"down_proj", "gate_proj", "up_proj"};
  EXPECT_EQ(run(odd).linears.size(), 8u);  // the hint works
}

TEST_F(QuantizeRefuses, SkipPatternsThatDoNothing) {
  const auto files = write(TinyCheckpoint());
  options.skip = {"down_prj"};
  EXPECT_ERROR(kInvalid, "did you mean 'down_proj'", run(files));
  options.skip = {"re:(["};
  EXPECT_ERROR(kInvalid, "re:([", run(files));
  options.skip = {""};
  EXPECT_ERROR(kInvalid, "names nothing", run(files));
  options.skip = {"re:.*"};
  EXPECT_ERROR(kInvalid, "nothing is left", run(files));
  options.skip = {"_proj"};  // components are whole
  EXPECT_ERROR(kInvalid, "matches no linear", run(files));
}

TEST_F(QuantizeRefuses, OutputsThatAreInTheWay) {
  const auto files = write(TinyCheckpoint());
  options.overwrite = true;
  options.output = dir.path() / "in";
  EXPECT_ERROR(kInvalid, "the model that is read", run(files));
  options.output = dir.path() / "in" / "out";
  EXPECT_ERROR(kInvalid, "the model that is read", run(files));
  options.output = dir.path();
  EXPECT_ERROR(kInvalid, "the model that is read", run(files));
  options.output = dir.path() / "in" / "config.json";
  EXPECT_ERROR(kInvalid, "the model that is read", run(files));
  fs::create_directories(dir.path() / "photos");
  TinyCheckpoint::text(dir.path() / "photos" / "holiday.jpg", "precious");
  options.output = dir.path() / "photos";
  EXPECT_ERROR(kInvalid, "not a checkpoint", run(files));
  EXPECT_TRUE(fs::exists(dir.path() / "photos" / "holiday.jpg"));
  TinyCheckpoint::text(dir.path() / "file", "");
  options.output = dir.path() / "file";
  EXPECT_ERROR(kInvalid, "not a directory", run(files));
  options.output = "";
  EXPECT_ERROR(kInvalid, "no output directory", run(files));
}

TEST_F(QuantizeRefuses, BadNumbers) {
  const auto files = write(TinyCheckpoint());
  options.threads = -1;
  EXPECT_ERROR(kInvalid, "threads is -1", run(files));
  options.threads = 0, options.max_shard_bytes = 0;
  EXPECT_ERROR(kInvalid, "max_shard_bytes is 0", run(files));
}

TEST_F(QuantizeRefuses, CheckpointsThatDoNotFit) {
  TinyCheckpoint quantized, lacking, lying;
  quantized.config()["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  EXPECT_ERROR(ErrorCode::unsupported, "already quantized (quant_method 'gptq')", run(quantized));
  lacking.remove("model.layers.1.mlp.up_proj.weight");
  EXPECT_ERROR(ErrorCode::not_found, "model.layers.1.mlp.up_proj.weight", run(lacking));
  lying.config()["intermediate_size"] = 128;
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "has shape (96, 64), config.json says (128, 64)", run(lying));
  EXPECT_FALSE(fs::exists(options.output));
}

TEST_F(QuantizeStopped, ByABadWeightLeavesNothing) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    TinyCheckpoint checkpoint;
    checkpoint.values("model.layers.1.mlp.up_proj.weight")[64 * 7 + 40] = bad;
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, "model.layers.1.mlp.up_proj: output 7, group 1", run(checkpoint));
    EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in"}));
  }
}

TEST_F(QuantizeStopped, ByAScaleThatOverflowsF16LeavesNothing) {
  TinyCheckpoint checkpoint({.dtype = DType::f32});
  checkpoint.values("model.layers.0.self_attn.v_proj.weight")[0] = 1e7f;
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "model.layers.0.self_attn.v_proj: output 0, group 0", run(checkpoint));
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in"}));
}

TEST_F(QuantizeStopped, ByTheSinkLeavesNothing) {
  struct Sink : QuantizeSink {
    void progress(const QuantizeProgress& p) override {
      if (p.layer == 1) throw Error(ErrorCode::cancelled, "enough");
    }
  } sink;
  EXPECT_ERROR(ErrorCode::cancelled, "enough", quantize(write(TinyCheckpoint()), options, sink));
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in"}));
}

TEST_F(QuantizeStopped, ByKillLeavesNoOutputAndTheNextRunSucceedsAndTellsOfIt) {
  const auto files = write(TinyCheckpoint());
  const pid_t child = fork();
  if (child == 0) {
    struct Sink : QuantizeSink {
      void progress(const QuantizeProgress& p) override {
        if (p.layer == 1) ::kill(getpid(), SIGKILL);
      }
    } sink;
    quantize(files, options, sink);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_FALSE(fs::exists(options.output));
  const fs::path left = options.output.string() + ".partial-" + std::to_string(child);
  ASSERT_TRUE(fs::exists(left));
  EXPECT_FALSE(fs::exists(left / "config.json"));  // no program takes it for a model
  EXPECT_EQ(run(files).plan.leftovers, std::vector<fs::path>{left});
  EXPECT_TRUE(fs::exists(options.output / "config.json"));
}

struct QuantizeAwq : Fixture {
  QuantizeAwq() {
    options.algorithm = "awq";
    options.calibration.name = "test";
    options.calibration.search_tokens = 24;
    for (int s = 0; s < 4; ++s) {
      std::vector<std::int32_t> ids;
      for (int i = 0; i < 16; ++i) ids.push_back((s * 7 + i * 5) % 32);
      options.calibration.sequences.push_back(std::move(ids));
    }
  }
};

TEST_F(QuantizeAwq, LosesNoMoreThanRoundToNearestOnItsOwnTokens) {
  const QuantizeReport report = run(TinyCheckpoint());
  ASSERT_EQ(report.linears.size(), 14u);
  double before = 0, after = 0;
  for (const LinearReport& linear : report.linears) {
    EXPECT_GE(linear.loss_before, 0) << linear.name;
    EXPECT_GE(linear.loss_after, 0) << linear.name;
    before += linear.loss_before;
    after += linear.loss_after;
  }
  EXPECT_LT(after, before);
  EXPECT_EQ(report.plan.calibration_tokens, 64);
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in", "out"}));
}

TEST_F(QuantizeAwq, AKilledRunGoesOnAfterItsLastLayerAndWritesTheSameBytes) {
  const auto files = write(TinyCheckpoint());
  run(files);
  const std::string expected = read_text(options.output / "model.safetensors");
  fs::remove_all(options.output);
  const pid_t child = fork();
  if (child == 0) {
    struct Sink : QuantizeSink {
      void progress(const QuantizeProgress& p) override {
        if (p.layer == 1) ::kill(getpid(), SIGKILL);
      }
    } sink;
    quantize(files, options, sink);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(fs::exists(dir.path() / "out.resume"));
  const QuantizeReport report = run(files);
  EXPECT_EQ(report.resumed_layers, 1);
  EXPECT_EQ(report.linears.size(), 14u);
  EXPECT_EQ(read_text(options.output / "model.safetensors"), expected);
  EXPECT_FALSE(fs::exists(dir.path() / "out.resume"));
}

TEST_F(QuantizeAwq, TheStateOfAnotherJobIsRefused) {
  struct Sink : QuantizeSink {
    void progress(const QuantizeProgress& p) override {
      if (p.layer == 1) throw Error(ErrorCode::cancelled, "enough");
    }
  } sink;
  const auto files = write(TinyCheckpoint());
  EXPECT_ERROR(ErrorCode::cancelled, "enough", quantize(files, options, sink));
  options.calibration.sequences[0][0] ^= 1;
  EXPECT_ERROR(kInvalid, "state of another quantization", run(files));
  options.calibration.sequences[0][0] ^= 1;
  EXPECT_EQ(run(files).resumed_layers, 1);
}

TEST_F(QuantizeAwq, DeadChannelsAreReportedAndDoNotPoison) {
  TinyCheckpoint checkpoint({.dtype = DType::f32});
  checkpoint.values("model.layers.0.input_layernorm.weight")[3] = 0;
  const QuantizeReport report = run(checkpoint);
  EXPECT_NE(report.linears[0].notes.find("1 input channels are zero"), std::string::npos) << report.linears[0].notes;
  for (const LinearReport& linear : report.linears) EXPECT_TRUE(std::isfinite(linear.loss_after)) << linear.name;
}

TEST_F(QuantizeAwq, GroupsWithASkippedLinearAreNotScaled) {
  options.skip = {"gate_proj"};
  for (const LinearReport& linear : run(TinyCheckpoint()).linears) {
    const bool shares = linear.name.ends_with("up_proj");
    EXPECT_EQ(linear.notes.find("shares the input") != std::string::npos, shares) << linear.name;
  }
}

TEST_F(QuantizeAwq, CalibrationIsNeededAndOnlyWhereItIs) {
  const auto files = write(TinyCheckpoint());
  Calibration kept = std::move(options.calibration);
  options.calibration = {};
  EXPECT_ERROR(kInvalid, "needs calibration data", run(files));
  options.calibration = std::move(kept), options.algorithm = "rtn";
  EXPECT_ERROR(kInvalid, "looks at no data", run(files));
  options.algorithm = "awq", options.calibration.sequences[0][0] = 1 << 20;
  EXPECT_ERROR(kInvalid, "outside the vocabulary", run(files));
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
