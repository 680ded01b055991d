// Every golden case on every backend: logits and greedy ids equal the reference's, and a token's logits do not depend
// on how its sequence was cut into steps or on what else was in the batch: bit for bit in deterministic mode.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <set>

#include "golden/golden_case.h"
#include "golden/step_runner.h"

namespace bittern::golden {
namespace {

constexpr double kTolerance = 1e-4;

using Param = std::tuple<std::string, BackendChoice>;

std::string param_name(const ::testing::TestParamInfo<Param>& info) {
  return std::get<0>(info.param) + "_" + std::get<1>(info.param).label();
}

// Both measures within tolerance; the figures are kept in the test's report.
void expect_close(const std::string& what, std::span<const float> actual, std::span<const float> expected) {
  const Distance d = distance(actual, expected);
  ::testing::Test::RecordProperty(what, std::to_string(d.norm) + " " + std::to_string(d.largest));
  EXPECT_LE(d.norm, kTolerance) << what;
  EXPECT_LE(d.largest, kTolerance) << what;
}

// Bit equality, and where it first fails.
::testing::AssertionResult same_bits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " values, not " << b.size();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) == 0) continue;
    return ::testing::AssertionFailure() << "value " << i << ": " << a[i] << " is not " << b[i];
  }
  return ::testing::AssertionSuccess();
}

void expect_same(const BackendChoice& choice, const std::string& what, std::span<const float> a,
                 std::span<const float> b) {
  if (choice.deterministic) {
    EXPECT_TRUE(same_bits(a, b)) << what;
  } else {
    expect_close(what, a, b);
  }
}

class GoldenModel : public ::testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    const auto& [name, choice] = GetParam();
    const std::string reason = reason_to_skip(choice);
    if (!reason.empty()) GTEST_SKIP() << reason;
    prompts_ = load_prompts(name);
  }

  Bench bench() const {
    const auto& [name, choice] = GetParam();
    return Bench(ModelFiles::from_directory(models_folder() / name), choice);
  }

  std::size_t longest() const {
    std::size_t best = 0;
    for (std::size_t i = 0; i < prompts_.size(); ++i) {
      if (prompts_[i].ids.size() > prompts_[best].ids.size()) best = i;
    }
    return best;
  }

  std::vector<Prompt> prompts_;
};

std::int32_t length_of(const Prompt& prompt) { return static_cast<std::int32_t>(prompt.ids.size()); }

TEST_P(GoldenModel, OnePassEqualsReference) {
  Bench b = bench();
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    const Prompt& prompt = prompts_[i];
    Sequence sequence = b.sequence();
    const std::vector<float> logits = b.step(sequence, prompt.ids);
    expect_close("logits_" + std::to_string(i), logits, prompt.logits);
    EXPECT_EQ(b.greedy(sequence, b.last_row(logits), prompt.generate.size()), prompt.generate) << "prompt " << i;
  }
}

TEST_P(GoldenModel, TokenByTokenEqualsReference) {
  Bench b = bench();
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    const Prompt& prompt = prompts_[i];
    Sequence sequence = b.sequence();
    const std::vector<float> logits = b.feed(sequence, prompt.ids, 1);
    expect_close("step_logits_" + std::to_string(i), logits, prompt.step_logits);
    EXPECT_EQ(b.greedy(sequence, b.last_row(logits), prompt.greedy.size()), prompt.greedy) << "prompt " << i;
  }
}

TEST_P(GoldenModel, ChunksEqualOnePass) {
  Bench b = bench();
  const Prompt& prompt = prompts_[longest()];
  Sequence whole = b.sequence(length_of(prompt));
  const std::vector<float> expected = b.step(whole, prompt.ids);
  for (const std::size_t chunk : {1, 5, 16}) {
    Sequence cut = b.sequence(length_of(prompt));
    const std::vector<float> logits = b.feed(cut, prompt.ids, chunk);
    expect_same(std::get<1>(GetParam()), "chunks_of_" + std::to_string(chunk), logits, expected);
  }
}

// Which tokens of three sequences run in each step: they join at different times, the second is cut in two, and
// decoding shares steps with prefill.
using Counts = std::array<std::size_t, 3>;
constexpr std::size_t kDecoded = 2;

std::vector<Counts> ragged_schedule(const Counts& prompt) {
  return {{prompt[0], (prompt[1] + 1) / 2, 0}, {1, prompt[1] / 2, prompt[2]}, {1, 1, 1}, {0, 1, 1}};
}

// A prompt and the first tokens of its continuation.
std::vector<std::int32_t> continued(const Prompt& prompt) {
  std::vector<std::int32_t> ids = prompt.ids;
  ids.insert(ids.end(), prompt.greedy.begin(), prompt.greedy.begin() + kDecoded);
  return ids;
}

// Logits of a sequence that has the model for itself: its prompt in one pass, then token by token.
std::vector<float> run_alone(Bench& bench, const Prompt& prompt) {
  Sequence sequence = bench.sequence(length_of(prompt));
  const std::vector<std::int32_t> ids = continued(prompt);
  std::vector<float> logits = bench.step(sequence, prompt.ids);
  const std::vector<float> decoded = bench.feed(sequence, std::span(ids).last(kDecoded), 1);
  logits.insert(logits.end(), decoded.begin(), decoded.end());
  return logits;
}

// Logits of each of three sequences that share steps by the ragged schedule.
std::array<std::vector<float>, 3> run_batched(Bench& bench, const std::array<const Prompt*, 3>& prompts) {
  std::vector<Sequence> sequences;
  std::array<std::vector<std::int32_t>, 3> ids;
  std::array<std::vector<float>, 3> logits;
  for (std::size_t s = 0; s < 3; ++s) {
    sequences.push_back(bench.sequence(length_of(*prompts[s])));
    ids[s] = continued(*prompts[s]);
  }
  Counts fed{};
  for (const Counts& counts :
       ragged_schedule({prompts[0]->ids.size(), prompts[1]->ids.size(), prompts[2]->ids.size()})) {
    std::vector<Piece> pieces;
    for (std::size_t s = 0; s < 3; ++s) {
      if (counts[s] > 0) pieces.push_back({sequences[s], std::span(ids[s]).subspan(fed[s], counts[s])});
    }
    const std::vector<float> rows = bench.step(pieces);
    auto next = rows.begin();
    for (std::size_t s = 0; s < 3; ++s) {
      const auto count = static_cast<std::ptrdiff_t>(counts[s]) * bench.config().vocab;
      logits[s].insert(logits[s].end(), next, next + count);
      next += count;
      fed[s] += counts[s];
    }
  }
  return logits;
}

TEST_P(GoldenModel, BatchedEqualsAlone) {
  const std::array<const Prompt*, 3> three = {&prompts_[0], &prompts_[1], &prompts_.back()};
  Bench alone = bench(), many = bench();
  const std::array<std::vector<float>, 3> batched = run_batched(many, three);
  for (std::size_t s = 0; s < 3; ++s) {
    const std::string what = "sequence_" + std::to_string(s);
    expect_same(std::get<1>(GetParam()), what, batched[s], run_alone(alone, *three[s]));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenModel,
                         ::testing::Combine(::testing::ValuesIn(case_names()), ::testing::ValuesIn(backend_choices())),
                         param_name);

TEST(GoldenCases, EveryArchitectureIsRecorded) {
  std::set<std::string> recorded;
  for (const std::string& name : case_names()) {
    recorded.insert(load_config(*ModelFiles::from_directory(models_folder() / name)).architecture);
  }
  for (const std::string& architecture : supported_architectures()) {
    EXPECT_TRUE(recorded.contains(architecture)) << architecture << " has no case in tests/golden/models";
  }
}

}  // namespace
}  // namespace bittern::golden
