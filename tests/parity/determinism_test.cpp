// The CPU backend gives a token the same bits whatever surrounds it: alone or in a batch, in one piece or token by
// token, with any number of threads. These are equalities of bits, on every instruction set.
#include <gtest/gtest.h>

#include "parity/attention_problem.h"
#include "parity/targets.h"

namespace bittern::parity {
namespace {

class Determinism : public IsaFixture<std::string> {
 protected:
  std::unique_ptr<Backend> deterministic(int threads) {
    return make_backend("cpu", cpu_options(GetParam(), threads, true));
  }
};

void expect_same_row(const Matrix& a, std::int64_t row_a, const Matrix& b, std::int64_t row_b) {
  ASSERT_EQ(a.cols(), b.cols());
  for (std::int64_t i = 0; i < a.cols(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(a.at(row_a, i)), std::bit_cast<std::uint32_t>(b.at(row_b, i)))
        << "column " << i << ": " << a.at(row_a, i) << " and " << b.at(row_b, i);
  }
}

Matrix linear_rows(Backend& backend, const PackedWeight& w, const DeviceBuffer* bias, Matrix& x, std::int64_t begin,
                   std::int64_t count) {
  Matrix out(count, w.out(), false);
  backend.linear(out.tensor(), x.tensor().slice(begin, count), w, bias);
  return out;
}

TEST_P(Determinism, LinearRowsDoNotDependOnTheBatch) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam(), 2, true)));
  if (!cpu) return;
  for (const WeightCase& kind : weight_cases()) {
    for (const auto& [in, out] : {std::pair{256, 96}, {172, 65}, {33, 17}, {1000, 24}}) {
      SCOPED_TRACE(kind.name() + " " + std::to_string(in) + " -> " + std::to_string(out));
      Random random(static_cast<std::uint64_t>(in));
      Matrix x = Matrix::random(300, in, false, random);
      const auto w = cpu->prepare(random_weight(kind, out, in, random));
      const auto bias = cpu->prepare_vector(random_vector(out, random), 0);
      const Matrix all = linear_rows(*cpu, *w, bias.get(), x, 0, 300);
      for (const auto& [begin, count] :
           {std::pair{0, 1}, {299, 1}, {7, 2}, {8, 3}, {100, 7}, {50, 8}, {51, 9}, {200, 33}, {3, 257}}) {
        const Matrix some = linear_rows(*cpu, *w, bias.get(), x, begin, count);
        for (int r = 0; r < count; ++r) {
          expect_same_row(some, r, all, begin + r);
          ASSERT_FALSE(HasFatalFailure()) << "row " << r << " of " << count << " from " << begin;
        }
      }
    }
  }
}

TEST_P(Determinism, LinearDoesNotDependOnThreads) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam(), 1, true)));
  if (!cpu) return;
  for (const WeightCase& kind : weight_cases()) {
    SCOPED_TRACE(kind.name());
    for (const std::int64_t rows : {1, 5, 70}) {
      Random random(5);
      Matrix x = Matrix::random(rows, 200, false, random);
      const Weight weight = random_weight(kind, 150, 200, random);
      const Matrix one = linear_rows(*cpu, *cpu->prepare(weight), nullptr, x, 0, rows);
      for (const int threads : {2, 3}) {
        const auto other = deterministic(threads);
        const Matrix many = linear_rows(*other, *other->prepare(weight), nullptr, x, 0, rows);
        for (std::int64_t r = 0; r < rows; ++r)
          ASSERT_NO_FATAL_FAILURE(expect_same_row(one, r, many, r)) << threads << " threads";
      }
    }
  }
}

// Every token of every sequence, from one prefill of all sequences together.
std::vector<Matrix> prefill(Backend& backend, const AttentionProblem& problem) {
  const auto pool = problem.make_pool(backend);
  const Step step = problem.step(std::vector<int>(problem.c.sequences.size(), 0), problem.ends());
  const Matrix all = problem.run(backend, *pool, step, problem.everyone());
  std::vector<Matrix> result;
  std::int64_t row = 0;
  for (const int tokens : problem.ends()) {
    Matrix one(tokens, all.cols(), false);
    for (int t = 0; t < tokens; ++t, ++row) {
      for (std::int64_t i = 0; i < all.cols(); ++i) one.at(t, i) = all.at(row, i);
    }
    result.push_back(std::move(one));
  }
  return result;
}

// Sequence `s` alone, in pieces of `chunk` tokens.
void expect_same_in_chunks(Backend& backend, const AttentionProblem& problem, int s, int chunk,
                           const Matrix& expected) {
  const auto pool = problem.make_pool(backend);
  const int tokens = problem.ends()[static_cast<std::size_t>(s)];
  for (int begin = 0; begin < tokens; begin += chunk) {
    const int end = std::min(tokens, begin + chunk);
    const Matrix found = problem.run(backend, *pool, problem.step_alone(s, begin, end), {s});
    for (int t = begin; t < end; ++t)
      ASSERT_NO_FATAL_FAILURE(expect_same_row(found, t - begin, expected, t)) << "token " << t;
  }
}

std::vector<AttentionCase> determinism_cases() {
  return {{4, 2, 64, 64, {{0, 150}, {0, 37}, {0, 1}}, 0, 0, 64},
          {3, 1, 33, 16, {{0, 70}, {0, 20}}, 0, 0, 32},
          {8, 1, 48, 16, {{0, 90}}, 19, 20.0f, 48},
          {14, 2, 64, 32, {{0, 300}}, 0, 0, 64}};
}

TEST_P(Determinism, AttentionDoesNotDependOnChunks) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam(), 2, true)));
  if (!cpu) return;
  for (const KvFormat format : kv_formats()) {
    for (const AttentionCase& c : determinism_cases()) {
      const AttentionProblem problem(c, format);
      const std::vector<Matrix> whole = prefill(*cpu, problem);
      for (int s = 0; s < problem.sequence_count(); ++s) {
        for (const int chunk : {1, 7, 64}) {
          SCOPED_TRACE(std::string(kv_format_name(format)) + ", " + c.name() + ", sequence " + std::to_string(s) +
                       " in chunks of " + std::to_string(chunk));
          ASSERT_NO_FATAL_FAILURE(expect_same_in_chunks(*cpu, problem, s, chunk, whole[static_cast<std::size_t>(s)]));
        }
      }
    }
  }
}

TEST_P(Determinism, AttentionDoesNotDependOnThreads) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam(), 1, true)));
  if (!cpu) return;
  const std::unique_ptr<Backend> others[] = {deterministic(2), deterministic(3)};
  for (const KvFormat format : kv_formats()) {
    for (const AttentionCase& c : determinism_cases()) {
      SCOPED_TRACE(std::string(kv_format_name(format)) + ", " + c.name());
      const AttentionProblem problem(c, format);
      const Matrix one = problem.run_all(*cpu, *problem.make_pool(*cpu));
      for (const auto& other : others) {
        const Matrix many = problem.run_all(*other, *problem.make_pool(*other));
        for (std::int64_t t = 0; t < one.rows(); ++t) {
          ASSERT_NO_FATAL_FAILURE(expect_same_row(one, t, many, t)) << other->description();
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Determinism, ::testing::ValuesIn(all_isas()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace bittern::parity
