// Linear of the CPU backend: equal to the reference at every instruction set, format and awkward shape; a row's bits
// the same alone and in any batch, by every exact kernel; pins and levels refused by name.
#include <algorithm>

#include "cpu_fixture.h"

namespace bittern {
namespace {

struct Case {
  std::string name;
  Weight weight;
};

std::vector<Case> cases(std::int64_t out, std::int64_t in) {
  std::vector<Case> all;
  for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    all.push_back({std::string(dtype_name(dtype)), random_dense(dtype, out, in, 1)});
  }
  for (std::int64_t group : {std::int64_t{32}, std::int64_t{128}, std::int64_t{20}, in}) {
    for (bool f16 : {true, false}) {
      all.push_back({"int4 g" + std::to_string(group) + (f16 ? " f16" : " f32"), random_int4(group, f16, out, in, 2)});
    }
  }
  return all;
}

Matrix run_linear(Backend& backend, const PackedWeight& w, Matrix x, const DeviceBuffer* bias) {
  Matrix out(x.rows, w.out(), 3);
  std::fill(out.data.begin(), out.data.end(), 77.0f);
  backend.linear(out.view(), x.view(), w, bias);
  for (std::int64_t r = 0; r < out.rows; ++r) {  // what lies between the rows belongs to somebody else
    for (std::int64_t c = out.cols; c < out.stride; ++c) EXPECT_EQ(out.at(r, c), 77.0f);
  }
  return out;
}

std::unique_ptr<DeviceBuffer> random_bias(Backend& backend, std::int64_t out) {
  return backend.prepare_vector(random_dense(DType::f32, out, 1, 9), 0.0f);
}

TEST(CpuLinear, EqualsReference) {
  const auto ref = make_backend("ref", {});
  for (const auto& [out, in] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{17, 33}, {1, 1}, {200, 300}, {64, 257}}) {
    for (const Case& c : cases(out, in)) {
      const auto ref_weight = ref->prepare(c.weight);
      for (const std::string& isa : isa_levels()) {
        const auto cpu = cpu_backend(isa);
        const auto cpu_weight = cpu->prepare(c.weight);
        for (std::int64_t rows : {1, 3, 8, 9, 31}) {
          Matrix x(rows, in, 5);
          fill_random(x.data, 3);
          const Matrix expected = run_linear(*ref, *ref_weight, x, random_bias(*ref, out).get());
          const Matrix got = run_linear(*cpu, *cpu_weight, x, random_bias(*cpu, out).get());
          EXPECT_LT(relative_error(expected, got), 3e-6)
              << c.name << " " << out << "x" << in << " rows " << rows << " " << isa;
        }
      }
    }
  }
}

TEST(CpuLinear, RowIsTheSameAloneAndInABatch) {
  const std::int64_t out = 150, in = 333;
  for (const Case& c : cases(out, in)) {
    for (const std::string& isa : isa_levels()) {
      const auto cpu = cpu_backend(isa);
      const auto w = cpu->prepare(c.weight);
      Matrix x(300, in);
      fill_random(x.data, 4);
      const Matrix all = run_linear(*cpu, *w, x, nullptr);
      for (std::int64_t rows : {1, 2, 5, 8, 12, 40}) {
        Matrix some(rows, in);
        std::copy_n(x.data.begin() + 7 * in, rows * in, some.data.begin());
        const Matrix got = run_linear(*cpu, *w, some, nullptr);
        for (std::int64_t r = 0; r < rows; ++r) {
          EXPECT_TRUE(same_bits(all, 7 + r, got, r)) << c.name << " " << isa << " rows " << rows << " row " << r;
        }
      }
    }
  }
}

TEST(CpuLinear, EveryKernelAgrees) {
  const auto ref = make_backend("ref", {});
  Matrix x(12, 272);
  fill_random(x.data, 5);
  for (const std::string& isa : isa_levels()) {
    try {
      cpu_backend(isa, 1, false, "gemm=no_such_kernel");
      FAIL() << "an unknown kernel was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      const std::string hint = error.hint();
      for (std::size_t at = hint.find("gemm="); at != std::string::npos; at = hint.find("gemm=", at + 1)) {
        const std::string pin = hint.substr(at, hint.find(',', at) - at);
        const auto cpu = cpu_backend(isa, 2, false, pin);
        for (const Case& c : cases(80, 272)) {
          const Matrix expected = run_linear(*ref, *ref->prepare(c.weight), x, nullptr);
          const Matrix got = run_linear(*cpu, *cpu->prepare(c.weight), x, nullptr);
          // Kernels that round activations say so in their name.
          const double bar = pin.find("int8") != std::string::npos      ? 2e-2
                             : pin.find("bf16dot") != std::string::npos ? 6e-3
                                                                        : 3e-6;
          EXPECT_LT(relative_error(expected, got), bar) << pin << " " << c.name;
        }
      }
    }
  }
}

TEST(CpuLinear, Int8ComputeRoundsActivationsAndIsTheSameAloneAndInABatch) {
  const std::vector<std::string> levels = isa_levels();
  BackendOptions options;
  options.compute = "int8";
  options.isa = "avx2";
  if (levels.size() > 1) {
    EXPECT_THROW(make_backend("cpu", options), Error);
  }
  EXPECT_THROW(make_backend("ref", options), Error);
  options.isa = "avx512vnni";
  if (std::find(levels.begin(), levels.end(), options.isa) == levels.end()) GTEST_SKIP() << "no AVX512-VNNI here";
  const auto cpu = make_backend("cpu", options), ref = make_backend("ref", {});
  for (std::int64_t in : {256, 333}) {
    for (const Case& c : cases(150, in)) {
      const auto w = cpu->prepare(c.weight);
      Matrix x(21, in);
      fill_random(x.data, 5);
      const Matrix all = run_linear(*cpu, *w, x, random_bias(*cpu, 150).get());
      const Matrix expected = run_linear(*ref, *ref->prepare(c.weight), x, random_bias(*ref, 150).get());
      const double error = relative_error(expected, all);
      EXPECT_LT(error, 2e-2) << c.name;
      // Codes are computed in 8 bits, also where a group of 20 makes them bytes, and nothing else is.
      const bool rounded = c.name.starts_with("int4");
      EXPECT_EQ(error > 1e-4, rounded) << c.name << " " << error;
      Matrix one(1, in);
      std::copy_n(x.data.begin() + 7 * in, in, one.data.begin());
      EXPECT_TRUE(same_bits(all, 7, run_linear(*cpu, *w, one, random_bias(*cpu, 150).get()), 0)) << c.name;
    }
  }
}

TEST(CpuLinear, TiedTableServesEmbedAndLinear) {
  const auto ref = make_backend("ref", {});
  const std::vector<std::int32_t> ids = {0, 16, 40, 39, 5};
  for (const Case& c : cases(41, 48)) {
    for (const std::string& isa : isa_levels()) {
      const auto cpu = cpu_backend(isa);
      for (bool tied : {false, true}) {
        Matrix expected(5, 48), got(5, 48);
        ref->embed(expected.view(), *ref->prepare_table(c.weight, tied), ids, 1.5f);
        const auto table = cpu->prepare_table(c.weight, tied);
        cpu->embed(got.view(), *table, ids, 1.5f);
        EXPECT_EQ(expected.data, got.data) << c.name << " " << isa;
        if (!tied) continue;
        Matrix x(2, 48);
        fill_random(x.data, 6);
        EXPECT_LT(
            relative_error(run_linear(*ref, *ref->prepare(c.weight), x, nullptr), run_linear(*cpu, *table, x, nullptr)),
            3e-6);
      }
    }
  }
}

TEST(CpuBackendOptions, RefusesUnknownLevels) {
  try {
    cpu_backend("avx9000");
    FAIL() << "an unknown instruction set was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(error.hint().find("avx512bf16"), std::string::npos);
  }
}

TEST(CpuBackendOptions, ReportsTheLevelItWasForcedTo) {
  for (const std::string& isa : isa_levels()) {
    EXPECT_NE(cpu_backend(isa)->description().find("(" + isa + ","), std::string::npos);
  }
}

TEST(CpuWeight, BytesStayNearTheFormat) {
  const auto cpu = cpu_backend("");
  const Weight w = random_int4(128, true, 512, 1024, 8);
  // Half a byte per weight, and 64 bytes for every group of sixteen outputs.
  EXPECT_EQ(cpu->prepare(w)->bytes(), 512 * 1024 / 2 + 512 / 16 * 8 * 64);
  // Other codes: their own width, and a header of 64 or (f32 scales, offsets) 128 bytes.
  const auto bytes = [&](Format format, Weight::Shift shift) {
    Weight other = Weight::allocate("test", format, 512, 1024, shift);
    std::fill_n(other.scales.as<float>(), other.scales.size(), 0.5f);
    if (format.group_size == 64) other.allocate_input_order();  // an order does not change the tiles
    return cpu->prepare(other)->bytes();
  };
  const auto kZeros = Weight::Shift::zeros, kOffsets = Weight::Shift::offsets;
  EXPECT_EQ(bytes(Format::grouped(8, 1024), kZeros), 512 * 1024 + 512 / 16 * 64);
  EXPECT_EQ(bytes(Format::grouped(6, 16), kZeros), 512 * 1024 + 512 / 16 * 64 * 64);
  EXPECT_EQ(bytes(Format::grouped(8, 64), kZeros), 512 * 1024 + 512 / 16 * 16 * 64);
  EXPECT_EQ(bytes(Format::grouped(4, 32), kOffsets), 512 * 1024 / 2 + 512 / 16 * 32 * 128);
  EXPECT_EQ(bytes(Format::grouped(4, 32, Codes::e2m1), kZeros), 512 * 1024 / 2 + 512 / 16 * 32 * 64);
  EXPECT_EQ(bytes(Format::grouped(8, 128, Codes::e4m3), kZeros), 512 * 1024 + 512 / 16 * 8 * 64);
  EXPECT_EQ(cpu->prepare_table(random_dense(DType::bf16, 512, 1024, 8), true)->bytes(), 512 * 1024 * 2);
}

}  // namespace
}  // namespace bittern
