// What every fuzz test of checkpoints does with one input: open it, read it to the end, and accept no failure but an
// Error that blames the input. Making inputs is mutate.h.
#pragma once

#include <bittern/error.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/memory_files.h"
#include "tensor/checkpoint.h"

namespace bittern::fuzz {

using Files = std::map<std::string, std::string, std::less<>>;

struct Tally {
  int accepted = 0, refused = 0;
};

inline bool blames_the_input(ErrorCode code) {
  return code == ErrorCode::invalid_checkpoint || code == ErrorCode::unsupported || code == ErrorCode::not_found ||
         code == ErrorCode::invalid_argument;
}

// Runs `body`, which may throw an Error that blames the input and nothing else.
template <class Body>
void attempt(Tally& tally, const std::string& input, Body body) {
  try {
    body();
    ++tally.accepted;
  } catch (const Error& error) {
    ++tally.refused;
    EXPECT_TRUE(blames_the_input(error.code())) << error.what() << "\ninput: " << input.substr(0, 2000);
    EXPECT_FALSE(error.message().empty());
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not a bittern::Error: " << error.what() << "\ninput: " << input.substr(0, 2000);
  }
}

// Touches every byte of every tensor that can be read, as dense and as linear.
inline void read_everything(const Checkpoint& checkpoint) {
  double sum = 0;
  for (const TensorEntry& entry : checkpoint.entries()) {
    if (!entry.dtype) continue;
    const Weight weight = to_f32(checkpoint.dense(entry.name));
    for (std::int64_t i = 0; i < weight.data.size(); ++i) sum += weight.data.as<float>()[i];
    const std::string module = entry.name.substr(0, entry.name.rfind('.'));
    std::vector<std::string> used;
    if (checkpoint.has_linear(module)) to_f32(checkpoint.linear(module, used));
  }
  volatile double sink = sum;
  static_cast<void>(sink);
}

inline void open_and_read(Files files, const Json& quantization) {
  const auto checkpoint = open_checkpoint(testing::memory_files(std::move(files)), quantization);
  read_everything(*checkpoint);
}

}  // namespace bittern::fuzz
