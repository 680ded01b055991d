// The calibration run: resuming gives the bits of an undisturbed run, and states and models that do not fit are
// refused. That the numbers are right is tests/golden/statistics_test.cpp's matter.
#include "quant/calibrate.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <limits>

#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tiny_checkpoint.h"

namespace bittern::quant {
namespace {

struct Killed {};

class CalibrateTest : public ::testing::Test {
 protected:
  CalibrateTest() {
    for (std::int32_t sample = 0; sample < 3; ++sample) {
      auto& ids = data_.samples.emplace_back();
      for (std::int32_t i = 0; i < 9 + 5 * sample; ++i) ids.push_back((sample * 7 + i * 3) % 40);
    }
    data_.name = "numbers";
  }
  CalibrateOptions options(const std::string& name) const {
    CalibrateOptions result;
    result.kv = true;
    result.output = dir_.path() / name;
    return result;
  }
  CalibrateResult run(const CalibrateOptions& calibrate_options) {
    return calibrate(ModelFiles::from_directory(model_), *backend_, data_, calibrate_options);
  }
  std::string bytes(const std::string& name) const {
    std::ifstream file(dir_.path() / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  bool exists(const std::string& name) const { return std::filesystem::exists(dir_.path() / name); }
  // Runs until a sample of `layer` is reached.
  void kill_in(const std::string& name, int layer) {
    CalibrateOptions killed = options(name);
    killed.progress = [layer](int at, int, std::int64_t, std::int64_t) {
      if (at == layer) throw Killed();
    };
    EXPECT_THROW(run(killed), Killed);
  }

  testing::TempDir dir_;
  std::filesystem::path model_ = dir_.path() / "model";
  std::unique_ptr<Backend> backend_ = make_backend("ref", {});
  CalibrationData data_;
};

TEST_F(CalibrateTest, ResumesAfterTheLastFinishedLayer) {
  testing::TinyCheckpoint({.layers = 3}).write(model_);
  EXPECT_EQ(run(options("whole")).resumed_layers, 0);
  EXPECT_FALSE(exists("whole.state"));
  kill_in("resumed", 2);
  EXPECT_FALSE(exists("resumed"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "2 layers done", run(options("resumed")));
  CalibrateOptions resume = options("resumed");
  resume.resume = true;
  int first = -1;
  resume.progress = [&](int layer, int, std::int64_t, std::int64_t) { first = first < 0 ? layer : first; };
  EXPECT_EQ(run(resume).resumed_layers, 2);
  EXPECT_EQ(first, 2) << "finished layers are not run again";
  EXPECT_EQ(bytes("resumed"), bytes("whole"));
  EXPECT_FALSE(exists("resumed.state"));
}

TEST_F(CalibrateTest, RefusesTheStateOfAnotherRun) {
  testing::TinyCheckpoint checkpoint;
  checkpoint.write(model_);
  kill_in("s", 1);
  CalibrateOptions resume = options("s");
  resume.resume = true;
  resume.kv = false;
  EXPECT_ERROR(ErrorCode::invalid_argument, "its kv is true, now it is false", run(resume));
  resume.kv = true;
  data_.samples[1][2] = 39;
  EXPECT_ERROR(ErrorCode::invalid_argument, "samples_sha256", run(resume));
  data_.samples[1][2] = (7 + 2 * 3) % 40;
  checkpoint.values("model.norm.weight")[0] = 3;
  checkpoint.write(model_);
  EXPECT_ERROR(ErrorCode::invalid_argument, "model_fingerprint", run(resume));
}

TEST_F(CalibrateTest, NamesAnInputThatIsNotFinite) {
  testing::TinyCheckpoint checkpoint;
  checkpoint.values("model.layers.1.mlp.up_proj.weight")[0] = std::numeric_limits<float>::infinity();
  checkpoint.write(model_);
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "model.layers.1.mlp.down_proj", run(options("s")));
}

TEST_F(CalibrateTest, GathersKvOnlyWhenAsked) {
  testing::TinyCheckpoint().write(model_);
  CalibrateOptions without = options("s");
  without.kv = false;
  const Statistics statistics = run(without).statistics;
  EXPECT_FALSE(statistics.has_kv());
  EXPECT_EQ(statistics.layers.size(), 2u);
  EXPECT_EQ(statistics.layers[1].inputs.size(), 7u);
  EXPECT_EQ(statistics.provenance.tokens, 9 + 14 + 19);
  EXPECT_FALSE(Statistics::load(dir_.path() / "s").has_kv());
}

}  // namespace
}  // namespace bittern::quant
