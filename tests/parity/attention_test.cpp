// Storing keys and values, and attention over them, in every KV format and on every instruction set.
// The two are judged apart. What a backend stored is compared with what the reference stores. Its attention is compared
// with the reference's over the very numbers it stored, so that a code rounded the other way does not blur the result.
#include <gtest/gtest.h>

#include <algorithm>

#include "parity/attention_problem.h"
#include "parity/targets.h"
#include "parity/tolerance.h"

namespace bittern::parity {
namespace {

struct KvParam {
  std::string isa;
  KvFormat format;
};
void PrintTo(const KvParam& p, std::ostream* out) { *out << p.isa << ' ' << kv_format_name(p.format); }

std::vector<KvParam> all_params() {
  std::vector<KvParam> list;
  for (const std::string& isa : all_isas()) {
    for (const KvFormat format : kv_formats()) list.push_back({isa, format});
  }
  return list;
}

// --- what is stored ---

double float_step(KvFormat format) {
  if (format == KvFormat::f16) return 0x1p-11;
  return format == KvFormat::bf16 ? 0x1p-8 : 0;
}

struct StoreCount {
  int elements = 0;
  int other_code = 0;  // quantized to a neighbouring code
};

// The distance between codes of each channel of the head, where it is fixed.
using Steps = const float*;

// One head of one token. `exact` says that no arithmetic came before the storing (values, unrotated keys).
void compare_row(KvFormat format, bool exact, const float* found, const float* expected, int dim, Steps steps,
                 StoreCount& count) {
  const auto [low, high] = std::minmax_element(expected, expected + dim);
  const double range = *high - *low, size = std::max(std::abs(*low), std::abs(*high));
  const double token_step = format == KvFormat::int8 ? range / 255 : format == KvFormat::int4 ? range / 15 : 0;
  for (int i = 0; i < dim; ++i) {
    const double step = steps ? steps[i] : token_step;
    const double error = std::abs(static_cast<double>(found[i]) - expected[i]);
    // Rotation rounds twice; a float format may then round to the next number.
    const double rotation = exact ? 0 : 4 * kEps * size + 2 * float_step(format) * std::abs(expected[i]);
    const double decoding = step > 0 ? 8 * kEps * (size + range) : 0;
    ++count.elements;
    if (error > rotation + decoding) ++count.other_code;
    ASSERT_LE(error, rotation + decoding + 1.0001 * step)
        << "element " << i << ": " << found[i] << " instead of " << expected[i];
  }
}

class KvParity : public IsaFixture<KvParam> {};

TEST_P(KvParity, StoresTheSame) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  StoreCount count;
  for (const AttentionCase& c : attention_cases()) {
    SCOPED_TRACE(c.name());
    const AttentionProblem problem(c, GetParam().format);
    const auto found_pool = problem.make_pool(*cpu), expected_pool = problem.make_pool(*ref);
    problem.store_step(*cpu, *found_pool, problem.step(std::vector<int>(c.sequences.size(), 0), problem.ends()));
    problem.store_step(*ref, *expected_pool, problem.step(std::vector<int>(c.sequences.size(), 0), problem.ends()));
    for (int s = 0; s < problem.sequence_count(); ++s) {
      const int tokens = problem.ends()[static_cast<std::size_t>(s)];
      auto [fk, fv] = problem.cached(*cpu, *found_pool, s, tokens);
      auto [ek, ev] = problem.cached(*ref, *expected_pool, s, tokens);
      for (std::int64_t row = 0; row < std::int64_t{tokens} * c.kv_heads; ++row) {
        const std::int64_t at = row * c.head_dim;
        const KvStaticParams* p = problem.static_params.get();
        const std::size_t channel = p ? p->head(1, row % c.kv_heads) : 0;
        compare_row(GetParam().format, c.rotary_dim == 0, fk.tensor().as<float>() + at, ek.tensor().as<float>() + at,
                    c.head_dim, p ? p->k_scale.data() + channel : nullptr, count);
        compare_row(GetParam().format, true, fv.tensor().as<float>() + at, ev.tensor().as<float>() + at, c.head_dim,
                    p ? p->v_scale.data() + channel : nullptr, count);
        ASSERT_FALSE(HasFatalFailure()) << "sequence " << s << ", row " << row;
      }
    }
  }
  // Ties that f32 arithmetic breaks the other way are rare; anything systematic is not.
  EXPECT_LE(count.other_code, count.elements / 1000) << "of " << count.elements;
}

TEST_P(KvParity, RotatesQueriesInPlace) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  for (const AttentionCase& c : attention_cases()) {
    SCOPED_TRACE(c.name());
    const AttentionProblem problem(c, GetParam().format);
    const Step step = problem.step_alone(0, 0, problem.ends()[0]);
    AttentionProblem::Qkv found = problem.gather(step.view(), {0}), expected = problem.gather(step.view(), {0});
    problem.store(*cpu, *problem.make_pool(*cpu), step.view(), found);
    problem.store(*ref, *problem.make_pool(*ref), step.view(), expected);
    for (std::int64_t t = 0; t < found.rows.rows(); ++t) {
      for (std::int64_t i = 0; i < found.rows.cols(); ++i) {
        ASSERT_NEAR(found.rows.at(t, i), expected.rows.at(t, i), 32 * kEps) << "token " << t << ", column " << i;
      }
    }
    EXPECT_TRUE(found.rows.gaps_untouched());
  }
}

// --- attention ---

// A pool of the reference that holds exactly what `cpu` stored, as f32.
std::unique_ptr<KvPool> copy_pool(Backend& cpu, const KvPool& from, Backend& ref, const AttentionProblem& problem) {
  AttentionProblem plain = problem;
  plain.kv_format = KvFormat::f32;
  plain.c.rotary_dim = 0;
  auto pool = plain.make_pool(ref);
  for (int s = 0; s < problem.sequence_count(); ++s) {
    const int tokens = problem.ends()[static_cast<std::size_t>(s)];
    std::tie(plain.k[static_cast<std::size_t>(s)], plain.v[static_cast<std::size_t>(s)]) =
        problem.cached(cpu, from, s, tokens);
    const Step whole = plain.step_alone(s, 0, tokens);
    plain.store(ref, *pool, whole.view(), plain.gather(whole.view(), {s}));
  }
  return pool;
}

double largest(Matrix& m) {
  const float* values = m.tensor().as<float>();
  double most = 0;
  for (std::int64_t i = 0; i < m.rows() * m.cols(); ++i)
    most = std::max(most, std::abs(static_cast<double>(values[i])));
  return most;
}

struct Bounds {
  double k_norm = 0, v_max = 0;
};

// Quantized formats may be summed as scale * (q . codes) + zero * sum(q), whose two parts are larger than their sum.
Bounds bounds_of(const Backend& backend, const KvPool& pool, const AttentionProblem& problem) {
  Bounds b;
  for (int s = 0; s < problem.sequence_count(); ++s) {
    auto [k, v] = problem.cached(backend, pool, s, problem.ends()[static_cast<std::size_t>(s)]);
    b.k_norm = std::max(b.k_norm, largest(k) * std::sqrt(static_cast<double>(problem.c.head_dim)));
    b.v_max = std::max(b.v_max, largest(v));
  }
  if (const KvStaticParams* p = problem.static_params.get()) {  // codes up to 255 times a scale, and their zero terms
    const float k = *std::max_element(p->k_scale.begin(), p->k_scale.end());
    const float v = *std::max_element(p->v_scale.begin(), p->v_scale.end());
    return {b.k_norm + 512 * k * std::sqrt(static_cast<double>(problem.c.head_dim)), b.v_max + 512 * v};
  }
  const bool quantized = problem.kv_format == KvFormat::int8 || problem.kv_format == KvFormat::int4;
  return quantized ? Bounds{3 * b.k_norm, 3 * b.v_max} : b;
}

void expect_attention(const AttentionProblem& problem, const Matrix& found, const Matrix& expected, const Matrix& q,
                      Bounds bounds) {
  const std::int64_t dim = problem.c.head_dim;
  double worst = 0;
  std::string where;
  for (std::int64_t t = 0; t < found.rows(); ++t) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
    const double error =
        attention_weight_error(q.norm(t) / std::sqrt(problem.c.q_heads) * 2, bounds.k_norm, dim, scale);
    const double tolerance = attention_tolerance(error, problem.max_tokens, bounds.v_max);
    for (std::int64_t i = 0; i < found.cols(); ++i) {
      ASSERT_FALSE(std::isnan(found.at(t, i))) << "token " << t << ", column " << i;
      const double ratio = std::abs(static_cast<double>(found.at(t, i)) - expected.at(t, i)) / tolerance;
      if (ratio <= worst) continue;
      worst = ratio;
      where = "token " + std::to_string(t) + " column " + std::to_string(i) + ": " + std::to_string(found.at(t, i)) +
              " instead of " + std::to_string(expected.at(t, i));
    }
  }
  EXPECT_LE(worst, 1.0) << "times the tolerance, at " << where;
  EXPECT_TRUE(found.gaps_untouched());
}

void check_case(const AttentionProblem& problem, Backend& cpu, Backend& ref, KvPool& pool) {
  const Step fresh = problem.step(problem.pasts(), problem.ends());
  AttentionProblem::Qkv qkv{Matrix(0, 0, false), {}, {}, {}};
  const Matrix found = problem.run_all(cpu, pool, &qkv);
  Matrix expected(found.rows(), found.cols(), true), queries(found.rows(), found.cols(), false);
  for (std::int64_t t = 0; t < found.rows(); ++t) {
    for (std::int64_t i = 0; i < found.cols(); ++i) queries.at(t, i) = qkv.rows.at(t, i);
  }
  const auto copy = copy_pool(cpu, pool, ref, problem);
  problem.attend(ref, *copy, fresh.view(), queries.tensor().heads(problem.c.q_heads, problem.c.head_dim), expected);
  expect_attention(problem, found, expected, queries, bounds_of(cpu, pool, problem));
}

TEST_P(KvParity, Attends) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  for (const AttentionCase& c : attention_cases()) {
    SCOPED_TRACE(c.name());
    const AttentionProblem problem(c, GetParam().format);
    check_case(problem, *cpu, *ref, *problem.make_pool(*cpu));
  }
}

// Large scores must not overflow, and a peaked softmax must find its peak.
TEST_P(KvParity, AttendsWithLargeScores) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  for (const float size : {0.0f, 10.0f, 200.0f}) {
    SCOPED_TRACE("queries times " + std::to_string(size));
    AttentionProblem problem({4, 2, 64, 16, {{40, 5}, {0, 20}}}, GetParam().format);
    for (Matrix& q : problem.q) {
      for (std::int64_t i = 0; i < q.rows() * q.cols(); ++i) q.tensor().as<float>()[i] *= size;
    }
    check_case(problem, *cpu, *ref, *problem.make_pool(*cpu));
  }
}

// Blocks come back from the pool with what was in them. Slots past the end and tokens outside the window may hold NaN,
// whose product with a weight of zero would still be NaN.
TEST_P(KvParity, StaleBlocksDoNotMatter) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  const AttentionCase shapes[] = {{4, 2, 48, 16, {{20, 3}, {0, 1}}}, {2, 1, 64, 64, {{70, 2}, {5, 40}}, 7}};
  for (const AttentionCase& c : shapes) {
    SCOPED_TRACE(c.name());
    const AttentionProblem problem(c, GetParam().format);
    const auto pool = problem.make_pool(*cpu);
    AttentionProblem stale = problem;
    for (std::size_t s = 0; s < stale.c.sequences.size(); ++s) {
      stale.c.sequences[s] = {0, (problem.max_tokens + c.block_tokens - 1) / c.block_tokens * c.block_tokens};
    }
    stale = AttentionProblem(stale.c, stale.kv_format);
    stale.max_tokens = problem.max_tokens;
    for (Matrix* m : {&stale.k[0], &stale.k[1], &stale.v[0], &stale.v[1]}) {
      std::fill_n(m->tensor().as<float>(), m->rows() * m->cols(), std::numeric_limits<float>::quiet_NaN());
    }
    stale.store_step(*cpu, *pool, stale.step({0, 0}, stale.ends()));
    check_case(problem, *cpu, *ref, *pool);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, KvParity, ::testing::ValuesIn(all_params()), [](const auto& test) {
  std::string name = test.param.isa + "_" + std::string(kv_format_name(test.param.format));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace bittern::parity
