// Linear and embed of every backend and kernel against the reference.
#include <gtest/gtest.h>

#include "parity/problems.h"
#include "parity/targets.h"
#include "parity/tolerance.h"

namespace bittern::parity {
namespace {

struct LinearParam {
  std::string isa;
  WeightCase weight;
};
void PrintTo(const LinearParam& p, std::ostream* out) { *out << p.isa << ' ' << p.weight.name(); }

std::vector<LinearParam> all_params() {
  std::vector<LinearParam> list;
  for (const std::string& isa : all_isas()) {
    for (const WeightCase& weight : weight_cases()) list.push_back({isa, weight});
  }
  return list;
}

struct LinearProblem {
  LinearProblem(const LinearCase& c, const WeightCase& kind)
      : random(static_cast<std::uint64_t>(c.rows * 1000003 + c.inputs * 1009 + c.outputs)),
        weight(random_weight(kind, c.outputs, c.inputs, random)),
        bias(random_vector(c.outputs, random)),
        x(Matrix::random(c.rows, c.inputs, c.strided, random)),
        has_bias(c.bias),
        strided(c.strided) {}

  Matrix run(Backend& backend) {
    const auto packed = backend.prepare(weight);
    EXPECT_GT(packed->bytes(), 0);
    const auto packed_bias = has_bias ? backend.prepare_vector(bias, 0) : nullptr;
    Matrix out(x.rows(), weight.out, strided);
    backend.linear(out.tensor(), x.tensor(), *packed, packed_bias.get());
    backend.synchronize();
    return out;
  }

  Random random;
  Weight weight, bias;
  Matrix x;
  bool has_bias, strided;
};

// What the kernel does to activations before it multiplies.
enum class Rounding { none, bf16, int8 };

// Groups that a backend keeps as nibbles with integer zeros or real offsets.
bool is_w4(const Weight& weight) {
  const Format& f = weight.format;
  if (f.kind != FormatKind::grouped || f.codes != Codes::integer || f.bits > 4) return false;
  return f.group_size % 8 == 0 || weight.groups() == 1;
}

// Codes of 5 to 8 bits, or nibbles in groups that nibbles cannot end; not made for 8-bit activations.
bool is_w8(const Weight& weight) {
  const Format& f = weight.format;
  if (f.kind != FormatKind::grouped || f.codes != Codes::integer || is_w4(weight) || f.int8_activations) return false;
  return f.group_size % 4 == 0 || weight.groups() == 1;
}

// The bf16 dot product kernel takes bf16 and 4-bit weights; the int8 kernel 4- and 8-bit weights with zeros. They run
// only when asked for.
Rounding rounding_of(const std::string& kernel, const Weight& weight) {
  if (kernel.starts_with("int8dot") && (is_w4(weight) || is_w8(weight)) && weight.offsets.rank == 0)
    return Rounding::int8;
  const bool takes = is_w4(weight) || weight.format == Format::dense(DType::bf16);
  return kernel.starts_with("bf16dot") && takes ? Rounding::bf16 : Rounding::none;
}

double rounding_tolerance(Rounding rounding, const LinearProblem& p, const Weight& decoded, std::int64_t r,
                          std::int64_t n) {
  if (rounding == Rounding::bf16) return bf16_rounding(p.x.norm(r), summed_norm(p.weight, decoded, n));
  if (rounding == Rounding::none) return 0;
  std::vector<float> x(static_cast<std::size_t>(p.x.cols()));
  for (std::int64_t i = 0; i < p.x.cols(); ++i) x[static_cast<std::size_t>(i)] = p.x.at(r, i);
  return int8_rounding(p.weight, decoded, n, x.data());
}

// Reports the worst output only: one line per case that fails.
void expect_close(const Matrix& found, const Matrix& expected, const LinearProblem& problem,
                  Rounding rounding = Rounding::none) {
  const Weight decoded = to_f32(problem.weight);
  double worst = 0;
  std::string where;
  for (std::int64_t n = 0; n < found.cols(); ++n) {
    const double w_norm = summed_norm(problem.weight, decoded, n);
    for (std::int64_t r = 0; r < found.rows(); ++r) {
      const double bias = problem.has_bias ? std::abs(problem.bias.data.as<float>()[n]) : 0;
      const double tolerance = linear_tolerance(problem.x.norm(r), w_norm, problem.weight.in) + 2 * kEps * bias +
                               rounding_tolerance(rounding, problem, decoded, r, n);
      const double error = std::abs(static_cast<double>(found.at(r, n)) - expected.at(r, n)) / tolerance;
      if (error <= worst) continue;
      worst = error;
      where = "row " + std::to_string(r) + " output " + std::to_string(n) + ": " + std::to_string(found.at(r, n)) +
              " instead of " + std::to_string(expected.at(r, n));
    }
    for (std::int64_t r = 0; r < found.rows(); ++r)
      ASSERT_FALSE(std::isnan(found.at(r, n))) << "row " << r << " output " << n;
  }
  EXPECT_LE(worst, 1.0) << "times the tolerance, at " << where;
  EXPECT_TRUE(!problem.strided || found.gaps_untouched()) << "wrote outside its columns";
}

class LinearParity : public IsaFixture<LinearParam> {};

TEST_P(LinearParity, ChosenKernels) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  for (const LinearCase& c : linear_cases()) {
    SCOPED_TRACE(c.name());
    LinearProblem problem(c, GetParam().weight);
    Rounding rounding = Rounding::none;
    for (const std::string& kernel : linear_kernels(*cpu))
      rounding = std::max(rounding, rounding_of(kernel, problem.weight));
    expect_close(problem.run(*cpu), problem.run(*ref), problem, rounding);
  }
}

// The kernels that round activations run only when asked for.
TEST_P(LinearParity, KernelsThatRoundActivations) {
  struct Row {
    const char *isa, *kernel, *compute;
  };
  bool ran = false;
  for (const Row& row :
       {Row{"avx512bf16", "bf16dot_avx512bf16", ""}, Row{"avx512vnni", "int8dot_avx512vnni", "int8"}}) {
    if (GetParam().isa != row.isa) continue;
    ran = true;
    BackendOptions options = cpu_options(row.isa);
    options.kernel_pin = std::string("gemm=") + row.kernel;
    options.compute = row.compute;
    ASSERT_NO_FATAL_FAILURE(start(options));
    if (!cpu) return;
    for (const LinearCase& c : linear_cases()) {
      SCOPED_TRACE(std::string(row.kernel) + ": " + c.name());
      LinearProblem problem(c, GetParam().weight);
      expect_close(problem.run(*cpu), problem.run(*ref), problem, rounding_of(row.kernel, problem.weight));
    }
  }
  if (!ran) GTEST_SKIP() << GetParam().isa << " has no kernel that rounds activations";
}

// Compute mode int8: a row's bits are those it has alone, whichever kernel the number of rows chooses; what is not
// finite stays so.
TEST_P(LinearParity, Int8RowsDoNotDependOnTheBatch) {
  if (GetParam().isa != "avx512vnni") GTEST_SKIP() << "compute mode int8 needs avx512vnni";
  BackendOptions options = cpu_options(GetParam().isa);
  options.compute = "int8";
  ASSERT_NO_FATAL_FAILURE(start(options));
  if (!cpu) return;
  for (const std::int64_t rows : {2, 3, 4, 5, 6, 7, 8, 9, 13, 31, 300}) {
    LinearProblem all({rows, 300, 85}, GetParam().weight);
    all.x.at(rows - 1, 7) = std::numeric_limits<float>::infinity();
    const Matrix together = all.run(*cpu);
    const auto packed = cpu->prepare(all.weight);
    for (std::int64_t r = 0; r<rows; r += rows> 31 ? 37 : 1) {
      Matrix x(1, 300, false), out(1, 85, false);
      for (std::int64_t i = 0; i < 300; ++i) x.at(0, i) = all.x.at(r, i);
      cpu->linear(out.tensor(), x.tensor(), *packed, nullptr);
      for (std::int64_t n = 0; n < 85; ++n) {
        const float alone = out.at(0, n), found = together.at(r, n);
        ASSERT_TRUE(alone == found || (std::isnan(alone) && std::isnan(found)))
            << "row " << r << " of " << rows << " output " << n << ": " << found << " instead of " << alone;
      }
    }
    for (std::int64_t n = 0; n < 85; ++n) ASSERT_FALSE(std::isfinite(together.at(rows - 1, n))) << n;
  }
}

// Weights made for 8-bit activations: kept in 32 bits on demand, by ref and cpu alike, which is another result.
TEST_P(LinearParity, ActivationsCanBeKept) {
  if (!GetParam().weight.format.int8_activations) GTEST_SKIP() << "a format that keeps activations anyway";
  BackendOptions options = cpu_options(GetParam().isa), ref_options;
  options.compute = ref_options.compute = "f32";
  ASSERT_NO_FATAL_FAILURE(start(options));
  if (!cpu) return;
  const auto keeping_ref = make_backend("ref", ref_options);
  for (const LinearCase& c : {LinearCase{1, 172, 40, true}, {9, 129, 33}, {40, 100, 17, false, true}}) {
    SCOPED_TRACE(c.name());
    LinearProblem problem(c, GetParam().weight);
    const Matrix kept = problem.run(*keeping_ref), rounded = problem.run(*ref);
    expect_close(problem.run(*cpu), kept, problem);
    double difference = 0;
    for (std::int64_t n = 0; n < kept.cols(); ++n) difference += std::abs(kept.at(0, n) - rounded.at(0, n));
    EXPECT_GT(difference, 0) << "the reference did not round";
  }
}

// Integer sums and unfused scaling: not a bit depends on the instruction set.
TEST_P(LinearParity, IntegerKernelsGiveTheSameBitsEverywhere) {
  const WeightCase& kind = GetParam().weight;
  if (!kind.format.int8_activations || kind.format.bits <= 4 || kind.shift == Weight::Shift::offsets) {
    GTEST_SKIP() << "not computed in integers";
  }
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  const auto generic = make_backend("cpu", cpu_options("generic"));
  for (const LinearCase& c : linear_cases()) {
    SCOPED_TRACE(c.name());
    LinearProblem problem(c, kind);
    const Matrix found = problem.run(*cpu), expected = problem.run(*generic);
    for (std::int64_t r = 0; r < found.rows(); ++r) {
      for (std::int64_t n = 0; n < found.cols(); ++n) ASSERT_EQ(found.at(r, n), expected.at(r, n)) << r << ' ' << n;
    }
  }
}

// Rows of zeros, of numbers too small to divide by, and the largest codes of both sides, which fill the sums most.
TEST_P(LinearParity, ExtremeRows) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  LinearProblem problem({4, 300, 33}, GetParam().weight);
  for (std::int64_t i = 0; i < 300; ++i) {
    problem.x.at(0, i) = 0;
    problem.x.at(1, i) = 1e-38f;
    problem.x.at(2, i) = -3.0f;
    problem.x.at(3, i) = i == 7 ? 1000.0f : 0.001f;
  }
  if (problem.weight.format.kind == FormatKind::grouped && problem.weight.format.codes == Codes::integer) {
    for (std::int64_t n = 0; n < 33; ++n) {
      for (std::int64_t i = 0; i < 300; ++i) {
        problem.weight.set_code(n, i, static_cast<std::uint8_t>((1 << problem.weight.format.bits) - 1));
      }
    }
  }
  expect_close(problem.run(*cpu), problem.run(*ref), problem);
}

TEST_P(LinearParity, EveryKernelPinned) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  for (const std::string& kernel : linear_kernels(*cpu)) {
    BackendOptions options = cpu_options(GetParam().isa);
    options.kernel_pin = "gemm=" + kernel;
    const auto pinned = make_backend("cpu", options);
    for (const LinearCase& c :
         {LinearCase{1, 172, 40, true}, {3, 129, 33}, {9, 64, 100, false, true}, {40, 100, 17}, {300, 72, 65, true}}) {
      SCOPED_TRACE(kernel + ": " + c.name());
      LinearProblem problem(c, GetParam().weight);
      expect_close(problem.run(*pinned), problem.run(*ref), problem, rounding_of(kernel, problem.weight));
    }
  }
}

TEST_P(LinearParity, Embed) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  for (const bool also_linear : {false, true}) {
    for (const std::int64_t width : {1, 31, 64, 100, 172}) {
      SCOPED_TRACE("width " + std::to_string(width) + (also_linear ? " tied" : ""));
      Random random(static_cast<std::uint64_t>(width));
      const Weight table = random_weight(GetParam().weight, 37, width, random);
      const std::int32_t ids[] = {36, 0, 5, 5, 16};
      Matrix expected(5, width, true), found(5, width, true);
      ref->embed(expected.tensor(), *ref->prepare_table(table, also_linear), ids, 1.5f);
      cpu->embed(found.tensor(), *cpu->prepare_table(table, also_linear), ids, 1.5f);
      for (std::int64_t r = 0; r < 5; ++r) {
        for (std::int64_t i = 0; i < width; ++i) {
          ASSERT_NEAR(found.at(r, i), expected.at(r, i), 4 * kEps * std::abs(expected.at(r, i))) << r << ' ' << i;
        }
      }
      EXPECT_TRUE(found.gaps_untouched());
    }
  }
}

// A tied head multiplies with the packing that embed reads.
TEST_P(LinearParity, TiedHead) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  LinearProblem problem({4, 96, 50}, GetParam().weight);
  Matrix found(4, 50, false);
  cpu->linear(found.tensor(), problem.x.tensor(), *cpu->prepare_table(problem.weight, true), nullptr);
  expect_close(found, problem.run(*ref), problem);
}

TEST_P(LinearParity, RowsDoNotTouchEachOther) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  for (const std::int64_t rows : {4, 9, 40}) {
    LinearProblem problem({rows, 100, 33}, GetParam().weight);
    const Matrix clean = problem.run(*cpu);
    for (std::int64_t i = 0; i < 100; ++i) problem.x.at(2, i) = std::numeric_limits<float>::quiet_NaN();
    const Matrix found = problem.run(*cpu);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t n = 0; n < 33; ++n) {
        if (r == 2) {
          ASSERT_TRUE(std::isnan(found.at(r, n))) << "NaN must not vanish";
        } else {
          ASSERT_EQ(found.at(r, n), clean.at(r, n)) << "row " << r << " of " << rows;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, LinearParity, ::testing::ValuesIn(all_params()),
                         [](const auto& test) { return test.param.isa + "_" + test.param.weight.name(); });

}  // namespace
}  // namespace bittern::parity
