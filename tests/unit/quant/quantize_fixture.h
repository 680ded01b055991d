// What the tests of quantize() share: a folder with a small checkpoint and options that write beside it.
#pragma once

#include <bittern/quantize.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <memory>

#include "base/sysinfo.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tensor/checkpoint.h"
#include "tensor/model_files.h"
#include "tiny_checkpoint.h"

namespace bittern::quant {

namespace fs = std::filesystem;
using bittern::testing::TempDir;
using bittern::testing::TinyCheckpoint;
using bittern::testing::TinyShape;

inline constexpr auto kInvalid = ErrorCode::invalid_argument;

inline std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::vector<std::string> names_in(const fs::path& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

struct QuantizeFixture : ::testing::Test {
  QuantizeFixture() { options.output = dir.path() / "out", options.group_size = 32; }

  std::shared_ptr<const ModelFiles> write(const TinyCheckpoint& checkpoint) {
    checkpoint.write(dir.path() / "in");
    return ModelFiles::from_directory(dir.path() / "in");
  }
  QuantizeReport run(const TinyCheckpoint& checkpoint) { return run(write(checkpoint)); }
  QuantizeReport run(const std::shared_ptr<const ModelFiles>& files) {
    QuantizeSink ignore;
    return quantize(files, options, ignore);
  }
  /// Bytes that a process of its own grows by while it quantizes: its peak counter is fresh.
  std::int64_t growth_of_a_run(const std::shared_ptr<const ModelFiles>& files) {
    int channel[2];
    EXPECT_EQ(pipe(channel), 0);
    malloc_trim(0);  // no free memory of this process for the child to reuse
    const pid_t child = fork();
    if (child == 0) {
      const auto before = static_cast<std::int64_t>(resident_bytes());
      run(files);
      const std::int64_t grown = static_cast<std::int64_t>(peak_resident_bytes()) - before;
      _exit(::write(channel[1], &grown, sizeof grown) == sizeof grown ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    std::int64_t grown = -1;
    EXPECT_EQ(::read(channel[0], &grown, sizeof grown), static_cast<ssize_t>(sizeof grown));
    close(channel[0]), close(channel[1]);
    return grown;
  }
  /// Quantizes in a process that is killed once the first layer is done; its id.
  pid_t run_killed_after_a_layer(const std::shared_ptr<const ModelFiles>& files) {
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
    EXPECT_TRUE(WIFSIGNALED(status));
    return child;
  }
  std::unique_ptr<Checkpoint> open_output() {
    const Json config = read_json_file(options.output / "config.json");
    return open_checkpoint(ModelFiles::from_directory(options.output), config["quantization_config"]);
  }

  TempDir dir;
  QuantizeOptions options;
};

/// Four sequences of 16 tokens, AWQ.
struct QuantizeAwqFixture : QuantizeFixture {
  QuantizeAwqFixture() {
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

}  // namespace bittern::quant
