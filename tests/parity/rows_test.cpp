// Norms, activations and the other operations on rows, of every instruction set against the reference.
#include <gtest/gtest.h>

#include <algorithm>

#include "parity/problems.h"
#include "parity/targets.h"
#include "parity/tolerance.h"

namespace bittern::parity {
namespace {

constexpr float kCap = 30.0f;
constexpr float kNormEps = 1e-5f;

struct RowParam {
  std::string isa;
  RowOp op;
};
void PrintTo(const RowParam& p, std::ostream* out) { *out << p.isa << ' ' << row_op_name(p.op); }

struct RowProblem {
  RowProblem(const RowCase& c, RowOp op)
      : random(static_cast<std::uint64_t>(c.rows * 7919 + c.width * 31 + static_cast<int>(op))),
        a(Matrix::random(c.rows, width_of(c, op), c.strided, random)),
        b(Matrix::random(c.rows, width_of(c, op), c.strided, random)),
        weight(random_vector(c.width, random, 1)) {
    // Exponentials and tanh must hold for more than the usual range.
    for (std::int64_t i = 0; i < a.cols(); i += 3) a.at(0, i) *= 20;
  }

  static std::int64_t width_of(const RowCase& c, RowOp op) {
    return op == RowOp::rms_norm_heads ? 3 * c.width : c.width;
  }

  Random random;
  Matrix a, b;
  Weight weight;
};

Matrix fresh(const Matrix& like, bool strided) { return Matrix(like.rows(), like.cols(), strided); }

/// Everything the operation wrote: its output, then what it changed in place.
std::vector<Matrix> run(RowOp op, RowProblem p, Backend& backend, bool strided) {
  Matrix out = fresh(p.a, strided);
  const auto weight = backend.prepare_vector(p.weight, 0.25f);
  const Tensor a = p.a.tensor(), b = p.b.tensor(), o = out.tensor();
  switch (op) {
    case RowOp::rms_norm: backend.rms_norm(o, a, *weight, kNormEps); break;
    case RowOp::rms_norm_in_place: backend.rms_norm(a, a, *weight, kNormEps); return {p.a};
    case RowOp::rms_norm_heads:
      backend.rms_norm(a.heads(3, a.cols() / 3), a.heads(3, a.cols() / 3), *weight, kNormEps);
      return {p.a};
    case RowOp::add_rms_norm: backend.add_rms_norm(o, a, b, *weight, kNormEps); return {out, p.a};
    case RowOp::add: backend.add(a, b); return {p.a};
    case RowOp::silu: backend.gated_activation(o, a, b, Activation::silu); break;
    case RowOp::gelu_tanh: backend.gated_activation(o, a, b, Activation::gelu_tanh); break;
    case RowOp::gelu_erf: backend.gated_activation(o, a, b, Activation::gelu_erf); break;
    case RowOp::softcap: backend.softcap(a, kCap); return {p.a};
    case RowOp::scale: backend.scale(a, -0.37f); return {p.a};
    case RowOp::gather: {
      std::vector<std::int32_t> rows;
      for (std::int64_t r = 0; r < out.rows(); ++r) rows.push_back(static_cast<std::int32_t>((r * 7 + 2) % out.rows()));
      backend.gather_rows(o, a, rows);
    }
  }
  return {out};
}

// Tolerance of the element with inputs a and b.
double tolerance(RowOp op, double a, double b, double expected, std::int64_t width) {
  switch (op) {
    case RowOp::add:
    case RowOp::scale:
    case RowOp::gather:
      return 0;  // one exact rounding, or none
    // A sum of squares has no cancellation: its relative error grows with sqrt(width) at most, half of it after the
    // root.
    case RowOp::rms_norm:
    case RowOp::rms_norm_in_place:
    case RowOp::rms_norm_heads:
    case RowOp::add_rms_norm: return kEps * (kSlack + std::sqrt(static_cast<double>(width))) * std::abs(expected);
    // act(g) is g times a factor in [0, 1] whose absolute error is some roundings.
    case RowOp::silu:
    case RowOp::gelu_tanh:
    case RowOp::gelu_erf: return 2 * kSlack * kEps * std::abs(a * b) + 1e-37;
    // tanh in [-1, 1] with an absolute error of some roundings.
    case RowOp::softcap: return 2 * kSlack * kEps * std::min(std::abs(a), double{kCap}) + 1e-37;
  }
  return 0;
}

class RowParity : public IsaFixture<RowParam> {};

TEST_P(RowParity, MatchesTheReference) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  for (const RowCase& c : row_cases()) {
    SCOPED_TRACE(c.name());
    const RowProblem problem(c, GetParam().op);
    const std::vector<Matrix> found = run(GetParam().op, problem, *cpu, c.strided);
    const std::vector<Matrix> expected = run(GetParam().op, problem, *ref, c.strided);
    for (std::size_t part = 0; part < found.size(); ++part) {
      for (std::int64_t r = 0; r < found[part].rows(); ++r) {
        for (std::int64_t i = 0; i < found[part].cols(); ++i) {
          const double want = expected[part].at(r, i);
          const double allowed =
              part == 1 ? 0 : tolerance(GetParam().op, problem.a.at(r, i), problem.b.at(r, i), want, c.width);
          ASSERT_NEAR(found[part].at(r, i), want, allowed) << "row " << r << ", element " << i << ", part " << part;
        }
      }
      EXPECT_TRUE(!c.strided || found[part].gaps_untouched()) << "wrote outside its columns";
    }
  }
}

TEST_P(RowParity, ARowAloneEqualsTheRowInABatch) {
  ASSERT_NO_FATAL_FAILURE(start(cpu_options(GetParam().isa)));
  if (!cpu) return;
  if (GetParam().op == RowOp::gather) GTEST_SKIP() << "gather mixes rows by definition";
  const RowProblem problem({37, 100}, GetParam().op);
  const std::vector<Matrix> all = run(GetParam().op, problem, *cpu, false);
  for (const std::int64_t r : {0, 1, 17, 36}) {
    RowProblem alone({1, 100}, GetParam().op);
    alone.weight = problem.weight;
    for (std::int64_t i = 0; i < alone.a.cols(); ++i) {
      alone.a.at(0, i) = problem.a.at(r, i);
      alone.b.at(0, i) = problem.b.at(r, i);
    }
    const std::vector<Matrix> one = run(GetParam().op, alone, *cpu, false);
    for (std::size_t part = 0; part < one.size(); ++part) {
      for (std::int64_t i = 0; i < one[part].cols(); ++i)
        ASSERT_EQ(one[part].at(0, i), all[part].at(r, i)) << r << ' ' << i;
    }
  }
}

std::vector<RowParam> all_params() {
  std::vector<RowParam> list;
  for (const std::string& isa : all_isas()) {
    for (const RowOp op : row_ops()) list.push_back({isa, op});
  }
  return list;
}

INSTANTIATE_TEST_SUITE_P(Cpu, RowParity, ::testing::ValuesIn(all_params()),
                         [](const auto& test) { return test.param.isa + "_" + row_op_name(test.param.op); });

}  // namespace
}  // namespace bittern::parity
