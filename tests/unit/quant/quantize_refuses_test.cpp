// What quantize() refuses before it writes a byte, and that it names the reason.
#include "quantize_fixture.h"

namespace bittern::quant {
namespace {

using QuantizeRefuses = QuantizeFixture;

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

}  // namespace
}  // namespace bittern::quant
