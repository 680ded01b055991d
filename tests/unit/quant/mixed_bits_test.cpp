// Schemes that differ from linear to linear: what options mean together, what is written and read back, and what a
// budget chooses and refuses.
#include <bittern/quantize.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "models/runner.h"
#include "quant/job.h"
#include "quant/quality.h"
#include "quant/report.h"
#include "quant/rtn.h"
#include "quant/scheme_choice.h"
#include "quant/sensitivity.h"
#include "quantize_fixture.h"

namespace bittern::quant {
namespace {

Calibration calibration() {
  Calibration result;
  result.name = "test";
  result.search_tokens = 24;
  for (int s = 0; s < 6; ++s) {
    std::vector<std::int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back((s * 7 + i * (5 + s)) % 32);
    result.sequences.push_back(std::move(ids));
  }
  return result;
}

struct Fixture : QuantizeFixture {
  Fixture() { options.overwrite = true; }

  Json written_config() { return read_json_file(options.output / "config.json")["quantization_config"]; }
  void set_budget(double bits_per_weight) {
    options.calibration = calibration();
    options.budget.emplace();
    options.budget->bits_per_weight = bits_per_weight;
  }
};

using SchemeChoice = Fixture;
using Overrides = Fixture;
using WithinBudget = Fixture;

TEST_F(SchemeChoice, PutsBitsSymmetryAndFormatTogether) {
  const auto name = [&](bool mixed = false) { return std::string(resolve_scheme(options, mixed).name); };
  EXPECT_EQ(name(), "w4a16");
  EXPECT_EQ(name(true), "w4a16-compressed-tensors");
  options.bits = 8, options.symmetric = true;
  EXPECT_EQ(name(), "w8a16-sym");
  options.format = "gptq";
  EXPECT_EQ(name(), "w8a16-sym-gptq");
  options.scheme = "w8a16-sym";
  EXPECT_EQ(name(), "w8a16-sym-gptq");
  options = {}, options.scheme = "w4a16", options.format = "compressed-tensors";
  EXPECT_EQ(name(), "w4a16-compressed-tensors");
}

TEST_F(SchemeChoice, RefusesWhatContradicts) {
  options.scheme = "w4a16", options.bits = 8;
  EXPECT_ERROR(kInvalid, "--bits 8 contradicts --scheme w4a16", resolve_scheme(options, false));
  options.bits = 4, options.symmetric = true;
  EXPECT_ERROR(kInvalid, "the symmetric one is w4a16-sym", resolve_scheme(options, false));
  options = {}, options.bits = 2;
  EXPECT_ERROR(kInvalid, "--bits: 2 bits are not written", resolve_scheme(options, false));
  options.bits = 5, options.format = "gptq";
  EXPECT_ERROR(kInvalid, "it can be written as compressed-tensors", resolve_scheme(options, false));
  options = {}, options.format = "awq";
  EXPECT_ERROR(kInvalid, "use --format compressed-tensors", resolve_scheme(options, true));
  options = {}, options.scheme = "w4a16-gptq";
  EXPECT_ERROR(kInvalid, "the format 'gptq' has one scheme for all linears", resolve_scheme(options, true));
  options = {}, options.budget.emplace(), options.scheme = "w4a16";
  EXPECT_ERROR(kInvalid, "--scheme contradicts the budget", resolve_scheme(options, true));
  options.scheme = "", options.bits = 4;
  EXPECT_ERROR(kInvalid, "--bits contradicts the budget", resolve_scheme(options, true));
}

TEST_F(SchemeChoice, GivesGptqOptionsToGptqAlone) {
  const Algorithm &gptq = find_algorithm("gptq"), &awq = find_algorithm("awq");
  EXPECT_EQ(gptq_options(gptq, options).damping, 0.01);
  EXPECT_TRUE(gptq_options(gptq, options).act_order);
  options.damping = 0.1, options.act_order = false;
  EXPECT_EQ(gptq_options(gptq, options).damping, 0.1);
  EXPECT_FALSE(gptq_options(gptq, options).act_order);
  EXPECT_ERROR(kInvalid, "--damp is for gptq", gptq_options(awq, options));
  options.damping.reset();
  EXPECT_ERROR(kInvalid, "--act-order is for gptq", gptq_options(awq, options));
  for (const double bad : {0.0, -1.0, 2.0, std::nan("")}) {
    options.damping = bad;
    EXPECT_ERROR(kInvalid, "above 0 and at most 1", gptq_options(gptq, options));
  }
}

TEST_F(SchemeChoice, GptqOptionsChangeWhatIsWritten) {
  const auto files = write(TinyCheckpoint());
  options.algorithm = "gptq", options.calibration = calibration();
  run(files);
  const std::string usual = read_text(options.output / "model.safetensors");
  options.act_order = false;
  run(files);
  EXPECT_NE(read_text(options.output / "model.safetensors"), usual);
  options.act_order = true, options.damping = 0.5;
  const QuantizeReport report = run(files);
  EXPECT_NE(read_text(options.output / "model.safetensors"), usual);
  EXPECT_NE(report.linears[0].notes.find("damping 0.5"), std::string::npos) << report.linears[0].notes;
}

TEST_F(Overrides, AreWrittenAndReadBackEachInItsOwnBits) {
  const auto files = write(TinyCheckpoint());
  options.overrides = {{"down_proj", "8"},
                       {"re:.*layers\\.1\\..*v_proj", "w6a16-sym"},
                       {"q_proj", "3"},
                       {"model.layers.1.self_attn.q_proj", "5"},
                       {"k_proj", "16"}};
  const QuantizeReport report = run(files);
  EXPECT_EQ(report.plan.scheme, "mixed");
  EXPECT_EQ(report.linears.size(), 12u);  // both k_proj are kept
  const std::map<std::string, std::pair<int, bool>> expected = {{"model.layers.0.mlp.down_proj", {8, false}},
                                                                {"model.layers.1.self_attn.v_proj", {6, true}},
                                                                {"model.layers.0.self_attn.v_proj", {4, false}},
                                                                {"model.layers.0.self_attn.q_proj", {3, false}},
                                                                {"model.layers.1.self_attn.q_proj", {5, false}}};
  const auto source = open_checkpoint(files, Json()), output = open_output();
  ThreadPool pool(1);
  for (const auto& [name, stored] : expected) {
    SCOPED_TRACE(name);
    std::vector<std::string> used;
    const Weight weight =
        rtn(to_f32(source->dense(name + ".weight")), {stored.first, 32, stored.second, DType::bf16, false}, pool);
    const Weight read = output->linear(name, used);
    EXPECT_EQ(read.format, Format::grouped(stored.first, 32));
    const Weight a = to_f32(weight), b = to_f32(read);
    EXPECT_EQ(std::memcmp(a.data.data, b.data.data, static_cast<std::size_t>(a.data.size()) * sizeof(float)), 0);
  }
  std::vector<std::string> used;
  EXPECT_EQ(output->linear("model.layers.0.self_attn.k_proj", used).format, Format::dense(DType::bf16));
  std::int64_t linears = 0, bytes = 0;
  for (const SchemeShare& share : report.plan.shares) linears += share.linears, bytes += share.output_bytes;
  EXPECT_EQ(linears, 12);
  EXPECT_EQ(bytes, report.plan.quantized_output_bytes);
  const auto backend = make_backend("cpu", {});
  EXPECT_GT(weight_bytes(*load_model(ModelFiles::from_directory(options.output), *backend)), 0);
}

TEST_F(Overrides, ThatChangeNothingLeaveOneGroup) {
  options.overrides = {{"down_proj", "4"}};
  run(write(TinyCheckpoint()));
  EXPECT_EQ(written_config()["config_groups"].size(), 1u);
  EXPECT_EQ(written_config()["config_groups"]["group_0"]["targets"], Json({"Linear"}));
}

TEST_F(Overrides, AreRefusedWhenTheyDoNothingOrCannotBeStored) {
  const auto files = write(TinyCheckpoint());
  options.overrides = {{"down_prj", "8"}};
  EXPECT_ERROR(kInvalid, "--override 'down_prj' matches no linear", run(files));
  options.overrides = {{"down_proj", "9"}};
  EXPECT_ERROR(kInvalid, "9 bits are not written", run(files));
  options.overrides = {{"down_proj", "w8"}};
  EXPECT_ERROR(kInvalid, "there is no scheme 'w8'", run(files));
  options.overrides = {{"lm_head", "8"}};
  EXPECT_ERROR(kInvalid, "matches no linear", run(files));
  options.overrides = {{"down_proj", "w8a8"}};
  EXPECT_ERROR(kInvalid, "group size 32 is not one of scheme w8a8", run(files));
  options.overrides = {{"down_proj", "8"}}, options.format = "awq";
  EXPECT_ERROR(kInvalid, "has one scheme for all linears", run(files));
  EXPECT_FALSE(fs::exists(options.output));
}

TEST_F(Overrides, WorkWithEveryAlgorithm) {
  const auto files = write(TinyCheckpoint());
  options.calibration = calibration();
  options.overrides = {{"v_proj", "8"}, {"up_proj", "3"}};
  for (const char* algorithm : {"awq", "gptq"}) {
    options.algorithm = algorithm;
    const QuantizeReport report = run(files);
    double of[9] = {};
    for (const LinearReport& linear : report.linears) {
      const int bits = linear.scheme[1] - '0';
      of[bits] = std::max(of[bits], linear.nmse);
    }
    EXPECT_LT(of[8], 0.05 * of[4]) << algorithm;
    EXPECT_LT(of[4], 0.5 * of[3]) << algorithm;
  }
}

/// Mean KL divergence over all positions of the calibration's sequences, by whole forward passes.
double divergence(const std::shared_ptr<const ModelFiles>& a, const std::shared_ptr<const ModelFiles>& b,
                  const Calibration& calibration, const char* kv = "f32") {
  const auto backend = make_backend("cpu", {});
  const auto logits = [&](const std::shared_ptr<const ModelFiles>& files, const char* kv_cache) {
    const auto model = load_model(files, *backend);
    Runner runner(*model, *backend, model->kv_spec(parse_kv_format(kv_cache, *backend), 64), 2, {64, 1, 64});
    SingleSequence sequence(runner);
    std::vector<std::vector<float>> rows;
    for (const auto& ids : calibration.sequences) {
      sequence.reset();
      sequence.feed(ids, std::vector<bool>(ids.size(), true),
                    [&](std::int64_t, std::span<const float> row) { rows.emplace_back(row.begin(), row.end()); });
    }
    return rows;
  };
  const auto p = logits(a, "f32"), q = logits(b, kv);
  double sum = 0;
  for (std::size_t r = 0; r < p.size(); ++r) {
    double zp = 0, zq = 0;
    for (std::size_t i = 0; i < p[r].size(); ++i) {
      zp += std::exp(static_cast<double>(p[r][i]));
      zq += std::exp(static_cast<double>(q[r][i]));
    }
    for (std::size_t i = 0; i < p[r].size(); ++i) {
      const double lp = p[r][i] - std::log(zp), lq = q[r][i] - std::log(zq);
      sum += std::exp(lp) * (lp - lq);
    }
  }
  return sum / static_cast<double>(p.size());
}

TEST_F(WithinBudget, SensitivityIsTheDivergenceOfTheModelWithOneLinearRounded) {
  const auto files = write(TinyCheckpoint());
  const Scheme& probe = find_scheme("w3a16");
  std::vector<LinearTask> linears;
  for (const LayerJob& layer : make_job(files, options).layers)
    linears.insert(linears.end(), layer.linears.begin(), layer.linears.end());
  const Calibration data = calibration();
  SensitivityOptions s;
  s.probe = &probe;
  s.schemes = {&probe, &find_scheme("w4a16-compressed-tensors"), &find_scheme("w8a16")};
  s.group_size = 32;
  s.kv_caches = {"int8", "int4"};
  s.state = dir.path() / "state";
  const Sensitivity sensitivity = measure_sensitivity(files, linears, data, s);
  EXPECT_EQ(sensitivity.tokens, data.tokens());
  ASSERT_EQ(sensitivity.linears.size(), 14u);
  for (const LinearSensitivity& linear : sensitivity.linears) {
    SCOPED_TRACE(linear.name);
    options.scheme = "w3a16", options.skip.clear();
    for (const LinearTask& other : linears) {
      if (other.name != linear.name) options.skip.push_back(other.name);
    }
    run(files);
    const double direct = divergence(files, ModelFiles::from_directory(options.output), data);
    EXPECT_NEAR(linear.kl, direct, 1e-3 * direct + 1e-9);
    EXPECT_DOUBLE_EQ(linear.loss(0), linear.kl);
    EXPECT_LT(linear.loss(1), 0.5 * linear.loss(0));
    EXPECT_LT(linear.loss(2), 0.01 * linear.loss(0));
  }
  EXPECT_EQ(sensitivity.linears[0].shared_input, sensitivity.linears[2].shared_input);  // q and v
  EXPECT_NE(sensitivity.linears[0].shared_input, sensitivity.linears[3].shared_input);  // q and o
  for (const char* kv : {"int8", "int4"}) {
    const double direct = divergence(files, files, data, kv);
    EXPECT_NEAR(sensitivity.kv.at(kv), direct, 1e-2 * direct + 1e-9) << kv;
  }
}

TEST_F(WithinBudget, KeepsToTheBitsAndUsesThem) {
  const auto files = write(TinyCheckpoint());
  double before = INFINITY;
  for (const double bits : {3.7, 4.3, 5.1, 6.0, 9.0}) {
    set_budget(bits);
    const QuantizeReport report = run(files);
    ASSERT_TRUE(report.plan.budget);
    EXPECT_LE(report.plan.bits_per_weight(), bits);
    if (bits < 8) {
      EXPECT_GT(report.plan.bits_per_weight(), bits - 0.3);
    }
    EXPECT_EQ(report.plan.budget->linears.size(), 14u);
    EXPECT_LT(report.plan.budget->loss, before);
    before = report.plan.budget->loss;
    for (const auto& uniform : report.plan.budget->uniform) {
      if (uniform.bits_per_weight <= bits) {
        EXPECT_LE(report.plan.budget->loss, uniform.loss * (1 + 1e-12));
      }
    }
    std::int64_t bytes = 0;
    const auto output = open_output();
    for (const TensorEntry& entry : output->entries()) {
      if (entry.name.find("_proj.") != std::string::npos) bytes += static_cast<std::int64_t>(entry.bytes);
    }
    EXPECT_EQ(bytes, report.plan.quantized_output_bytes);
    EXPECT_FALSE(fs::exists(dir.path() / "out.resume"));
  }
}

TEST_F(WithinBudget, OverriddenLinearsKeepTheirBitsAndCount) {
  set_budget(5.2);
  options.overrides = {{"down_proj", "8"}};
  const QuantizeReport report = run(write(TinyCheckpoint()));
  EXPECT_LE(report.plan.bits_per_weight(), 5.2);
  EXPECT_EQ(report.plan.budget->linears.size(), 12u);
  for (const LinearReport& linear : report.linears) {
    if (linear.name.ends_with("down_proj")) {
      EXPECT_EQ(linear.scheme, "w8a16");
    }
  }
}

TEST_F(WithinBudget, SharedInputsAlike) {
  set_budget(4.8);
  options.budget->shared_inputs_alike = true;
  const QuantizeReport report = run(write(TinyCheckpoint()));
  std::map<std::string, int> bits;
  for (const auto& linear : report.plan.budget->linears) bits[linear.name] = linear.bits;
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string at = layer;
    EXPECT_EQ(bits[at + "self_attn.q_proj"], bits[at + "self_attn.k_proj"]);
    EXPECT_EQ(bits[at + "self_attn.q_proj"], bits[at + "self_attn.v_proj"]);
    EXPECT_EQ(bits[at + "mlp.gate_proj"], bits[at + "mlp.up_proj"]);
  }
}

TEST_F(WithinBudget, TheAlgorithmThenFindsTheCodes) {
  const auto files = write(TinyCheckpoint());
  for (const char* algorithm : {"awq", "gptq"}) {
    set_budget(4.5);
    options.algorithm = algorithm;
    const QuantizeReport report = run(files);
    EXPECT_LE(report.plan.bits_per_weight(), 4.5);
    EXPECT_GT(report.linears[0].loss_after, 0);
    EXPECT_FALSE(fs::exists(dir.path() / "out.resume"));
  }
}

TEST_F(WithinBudget, StoppedWhileMeasuringGoesOnAndEndsTheSame) {
  struct Stop : QuantizeSink {
    void measuring(int done, int) override {
      if (done == 1) throw Error(ErrorCode::cancelled, "enough");
    }
  } stop;
  struct Count : QuantizeSink {
    void measuring(int, int) override { ++layers; }
    int layers = 0;
  } count;
  const auto files = write(TinyCheckpoint());
  set_budget(4.4);
  const QuantizeReport whole = run(files);
  const std::string expected = read_text(options.output / "model.safetensors");
  EXPECT_ERROR(ErrorCode::cancelled, "enough", quantize(files, options, stop));
  const double bits = options.budget->bits_per_weight;
  options.skip = {"o_proj"};
  EXPECT_ERROR(kInvalid, "for another quantization", run(files));
  options.skip.clear();
  const QuantizeReport resumed = quantize(files, options, count);
  EXPECT_EQ(count.layers, 1);  // the second of two
  EXPECT_EQ(read_text(options.output / "model.safetensors"), expected);
  EXPECT_EQ(resumed.plan.budget->loss, whole.plan.budget->loss);
  EXPECT_EQ(bits, 4.4);
  EXPECT_FALSE(fs::exists(dir.path() / "out.resume"));
}

TEST_F(WithinBudget, StoppedWhileQuantizingDoesNotMeasureAgain) {
  struct Stop : QuantizeSink {
    void progress(const QuantizeProgress& p) override {
      if (p.layer == 1) throw Error(ErrorCode::cancelled, "enough");
    }
  } stop;
  struct Count : QuantizeSink {
    void measuring(int, int) override { ++layers; }
    int layers = 0;
  } count;
  const auto files = write(TinyCheckpoint());
  set_budget(4.4);
  options.algorithm = "gptq";
  run(files);
  const std::string expected = read_text(options.output / "model.safetensors");
  EXPECT_ERROR(ErrorCode::cancelled, "enough", quantize(files, options, stop));
  EXPECT_EQ(quantize(files, options, count).resumed_layers, 1);
  EXPECT_EQ(count.layers, 0);
  EXPECT_EQ(read_text(options.output / "model.safetensors"), expected);
  EXPECT_FALSE(fs::exists(dir.path() / "out.resume"));
}

TEST_F(WithinBudget, GivesTheSameChoiceWithAnyNumberOfThreads) {
  const auto files = write(TinyCheckpoint());
  set_budget(4.4);
  options.threads = 1;
  run(files);
  const std::string first = read_text(options.output / "model.safetensors");
  options.threads = 3;
  run(files);
  EXPECT_EQ(read_text(options.output / "model.safetensors"), first);
}

TEST_F(WithinBudget, PlansWithoutWriting) {
  const auto files = write(TinyCheckpoint());
  set_budget(4.4);
  const QuantizePlan plan = plan_quantize(files, options);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);  // in
  EXPECT_EQ(to_json(plan)["budget"]["linears"].size(), 14u);
  EXPECT_EQ(to_json(run(files).plan)["budget"], to_json(plan)["budget"]);
}

TEST_F(WithinBudget, HoldsTheMemoryItPlanned) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers have memory of their own";
#endif
  const auto files =
      write(TinyCheckpoint({.layers = 8, .hidden = 512, .ffn = 1024, .heads = 8, .kv_heads = 8, .vocab = 64}));
  set_budget(4.7);
  const QuantizePlan plan = make_job(files, options).plan;
  ASSERT_EQ(plan.peak_at, "the measurement of sensitivity");
  ASSERT_LT(plan.peak_bytes, plan.source_bytes);  // 56 streams and eight layers are not in it
  const std::int64_t grown = growth_of_a_run(files);
  EXPECT_LE(grown, plan.peak_bytes + (4 << 20)) << "beside the plan: thread stacks, code pages and the allocator";
  EXPECT_GE(grown, plan.peak_bytes / 2) << "the plan promises far more than is used";
}

TEST_F(WithinBudget, RefusesWhatCannotBeReachedAndSaysWhatCan) {
  const auto files = write(TinyCheckpoint());
  set_budget(3.2);
  EXPECT_ERROR(ErrorCode::out_of_memory, "with 3 bits everywhere it is 3.6", run(files));
  set_budget(0);
  EXPECT_ERROR(kInvalid, "one of them", run(files));
  set_budget(4), options.budget->bytes = 5;
  EXPECT_ERROR(kInvalid, "one of them", run(files));
  set_budget(4), options.budget->bits = {2, 4};
  EXPECT_ERROR(kInvalid, "3 to 8 bits, and 2 is not", run(files));
  set_budget(4.5), options.overrides = {{"re:.*", "4"}};
  EXPECT_ERROR(kInvalid, "names every linear", run(files));
  set_budget(4.5), options.overrides.clear(), options.calibration = {};
  EXPECT_ERROR(kInvalid, "needs calibration data", run(files));
}

TEST_F(WithinBudget, FitsWhatTheEngineWillHold) {
  TinyCheckpoint checkpoint({.layers = 3, .hidden = 256, .ffn = 512, .heads = 4, .kv_heads = 2});
  for (int layer = 0; layer < 3; ++layer) {  // rows that are almost zero: their scales fit no 16 bits
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                             "mlp.gate_proj", "mlp.up_proj"}) {
      auto& values = checkpoint.values("model.layers." + std::to_string(layer) + "." + name + ".weight");
      std::fill_n(values.begin(), 256, 1e-9F);
    }
  }
  const auto files = write(checkpoint);
  const auto backend = make_backend("cpu", {});
  options.bits = 8;
  run(files);
  const std::int64_t eight = weight_bytes(*load_model(ModelFiles::from_directory(options.output), *backend));
  options.bits = 0;
  set_budget(0);
  options.budget->serving = {{"bf16", 400'000, 10'000}, {"int8", 220'000, 10'000}, {"int4", 120'000, 10'000}};
  std::string last;
  for (const std::int64_t room : {eight + 500'000, eight, eight * 3 / 4}) {
    options.budget->bytes = room;
    const QuantizeReport report = run(files);
    const BudgetPlan& plan = *report.plan.budget;
    const auto model = load_model(ModelFiles::from_directory(options.output), *backend);
    EXPECT_LE(weight_bytes(*model), plan.weight_bytes);
    EXPECT_GT(weight_bytes(*model), plan.weight_bytes * 9 / 10);
    EXPECT_LE(plan.total_bytes(), room);
    EXPECT_GT(plan.total_bytes(), room - 200'000);
    if (room > eight) {
      EXPECT_EQ(plan.kv_cache, "bf16");
    }
    last = plan.kv_cache;
  }
  EXPECT_NE(last, "bf16");
  options.budget->bytes = 500'000;
  EXPECT_ERROR(ErrorCode::out_of_memory, "in int4", run(files));
}

}  // namespace
}  // namespace bittern::quant
