// config.ini: every key's type, range and role; unknown keys with the nearest spelling; what settings come of it.
#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "tensor/config_ini.h"

namespace bittern {
namespace {

ConfigIni parse(const std::string& lines) { return ConfigIni::parse("[llama]\n" + lines, "dir/config.ini"); }

TEST(ConfigIni, ReadsValuesCommentsAndSpaces) {
  const ConfigIni ini =
      parse("; a comment\nhead_num = 32\nrope_theta=1e6\n  norm_eps = 1e-05 ; another\nmodel_name = my model\n");
  EXPECT_EQ(ini.integer("head_num", 0), 32);
  EXPECT_EQ(ini.real("rope_theta", 0), 1e6);
  EXPECT_EQ(ini.real("norm_eps", 0), 1e-5);
  EXPECT_EQ(ini.text("model_name"), "my model");
  EXPECT_EQ(ini.integer("session_len", 77), 77);
  EXPECT_FALSE(ini.has("session_len"));
}

TEST(ConfigIni, AnUnknownKeyNamesTheNearest) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "did you mean 'session_len'", parse("sesion_len = 2048\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "dir/config.ini: there is no key 'colour'", parse("colour = red\n"));
}

TEST(ConfigIni, ABadValueNamesTheKey) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "session_len is 'long'", parse("session_len = long\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "session_len is '20.5'", parse("session_len = 20.5\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "session_len is 0", parse("session_len = 0\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "rope_theta is '1e999'", parse("rope_theta = 1e999\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "rope_theta is -1", parse("rope_theta = -1\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "quant_policy is 5", parse("quant_policy = 5\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "model_name is empty", parse("model_name =\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "head_num is given twice", parse("head_num = 4\nhead_num = 4\n"));
}

TEST(ConfigIni, WhatIsNoIniFileNamesTheLine) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "line 3 is neither", parse("head_num = 4\nnonsense\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "section [lama]", ConfigIni::parse("[lama]\nhead_num = 4\n", "x"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "no keys", ConfigIni::parse("", "x"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "line 2 is longer", parse("model_name = " + std::string(300, 'x') + "\n"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "zero bytes", parse(std::string("model_name = a\0b\n", 17)));
}

TEST(ConfigIni, KnobsWithoutCounterpartMayOnlyBeNeutral) {
  EXPECT_NO_THROW(parse("cache_chunk_size = -1\nuse_context_fmha = 0\nstep_length = 1\nuse_logn_attn = 0\n"));
  EXPECT_ERROR(ErrorCode::unsupported, "use_logn_attn is 1", parse("use_logn_attn = 1\n"));
  EXPECT_ERROR(ErrorCode::unsupported, "max_prefill_iters is 4", parse("max_prefill_iters = 4\n"));
}

TEST(ConfigIni, FactsMayNotBeEdited) {
  const ConfigIni written = parse("head_num = 4\nnorm_eps = 1e-5\nweight_type = bf16\n");
  EXPECT_NO_THROW(parse("head_num = 4\nnorm_eps = 2e-5\n").check_facts(written));
  EXPECT_ERROR(ErrorCode::invalid_argument, "head_num is 8, but the weights have 4",
               parse("head_num = 8\n").check_facts(written));
  EXPECT_ERROR(ErrorCode::invalid_argument, "weight_type is int4", parse("weight_type = int4\n").check_facts(written));
}

TEST(ConfigIni, SettingsOfTheRun) {
  const ConfigIni written = parse("session_len = 2048\n");
  const RunSettings run =
      parse(
          "session_len = 1024\nmax_batch_size = 8\ncache_block_seq_len = 32\nnum_tokens_per_iter = 128\n"
          "cache_max_entry_count = 0.25\nquant_policy = 8\n")
          .run_settings(written, false);
  EXPECT_EQ(run.context, 1024);
  EXPECT_EQ(run.max_sequences, 8);
  EXPECT_EQ(run.block_tokens, 32);
  EXPECT_EQ(run.max_step_tokens, 128);
  EXPECT_EQ(run.kv_cache_share, 0.25);
  EXPECT_FALSE(run.kv_cache_blocks);
  EXPECT_EQ(run.kv_cache, "int8");
  EXPECT_TRUE(run.notices.empty());
}

TEST(ConfigIni, TheModelsOwnLengthAndZerosSettleNothing) {
  const RunSettings run = parse("session_len = 2048\nnum_tokens_per_iter = 0\nquant_policy = 0\n")
                              .run_settings(parse("session_len = 2048\n"), true);
  EXPECT_FALSE(run.context || run.max_step_tokens || run.kv_cache || run.max_sequences || run.kv_cache_share);
}

TEST(ConfigIni, CacheEntriesFromOneOnAreBlocks) {
  EXPECT_EQ(parse("cache_max_entry_count = 48\n").run_settings({}, false).kv_cache_blocks, 48);
  EXPECT_ERROR(ErrorCode::invalid_argument, "cache_max_entry_count is 1.5",
               parse("cache_max_entry_count = 1.5\n").run_settings({}, false));
}

TEST(ConfigIni, PolicyFourIsEightBitsAndSaysSo) {
  const RunSettings online = parse("quant_policy = 4\n").run_settings({}, false);
  EXPECT_EQ(online.kv_cache, "int8");
  ASSERT_EQ(online.notices.size(), 1U);
  EXPECT_NE(online.notices[0].find("8 bits"), std::string::npos);
  const RunSettings calibrated = parse("quant_policy = 4\n").run_settings({}, true);
  EXPECT_EQ(calibrated.kv_cache, "int8-static");
  EXPECT_NE(calibrated.notices.at(0).find("int8-static"), std::string::npos);
}

TEST(ConfigIni, WhatIsWrittenReadsBack) {
  ConfigIni ini;
  ini.set("head_num", "12");
  ini.set("norm_eps", "1e-06");
  ini.set("model_name", "a name");
  const ConfigIni again = ConfigIni::parse(ini.format(), "again");
  EXPECT_EQ(again.values(), ini.values());
  EXPECT_ERROR(ErrorCode::invalid_argument, "there is no key 'x'", ini.set("x", "1"));
}

}  // namespace
}  // namespace bittern
