// The step arena and passes that only measure.
#include "backend/arena.h"

#include <gtest/gtest.h>

#include "backend/measure.h"
#include "support/expect_error.h"

namespace bittern {
namespace {

// Any sequence of takes and releases, as a layer makes them.
std::int64_t walk(Arena& arena) {
  arena.reset();
  arena.take(DType::f32, 3, 5);
  for (int layer = 0; layer < 3; ++layer) {
    const std::int64_t mark = arena.mark();
    arena.take(DType::bf16, 7, 33);
    arena.take(DType::f32, 100);
    arena.release(mark);
  }
  arena.take(DType::i64, 1);
  return arena.peak();
}

TEST(ArenaTest, MeasuredPassIsTheMemoryPlan) {
  const auto backend = make_backend("ref", {});
  Arena counting;
  const std::int64_t bytes = walk(counting);
  EXPECT_EQ(bytes, 64 + 512 + 448) << "each tensor rounded up to cache lines; a released layer is used again";
  Arena arena(*backend, bytes);
  EXPECT_EQ(walk(arena), bytes);
  EXPECT_EQ(walk(arena), bytes) << "the second step reuses the first one's memory";
  EXPECT_EQ(arena.capacity(), bytes);
}

TEST(ArenaTest, TensorsAreAlignedAndApart) {
  const auto backend = make_backend("ref", {});
  Arena arena(*backend, 256);
  const Tensor a = arena.take(DType::f32, 1, 3), b = arena.take(DType::f32, 5);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.data) % 64, 0u);
  EXPECT_EQ(b.as<std::byte>() - a.as<std::byte>(), 64);
  EXPECT_EQ(a.rank, 2);
  EXPECT_EQ(b.rank, 1);
}

TEST(ArenaDeathTest, RunningPastTheEndIsNamed) {
  const auto backend = make_backend("ref", {});
  Arena arena(*backend, 128);
  arena.take(DType::f32, 32);
  EXPECT_DEATH(arena.take(DType::f32, 1), "the step needs 192 bytes of activations, its plan has 128");
}

TEST(MeasureBackendTest, HasSizesAndNoMemory) {
  const auto real = make_backend("ref", {});
  MeasureBackend measure(*real);
  EXPECT_EQ(measure.activation_dtype(), real->activation_dtype());
  const KvSpec spec{KvFormat::int8, 2, 3, 20, 16};
  EXPECT_EQ(measure.kv_block_bytes(spec), real->kv_block_bytes(spec));
  EXPECT_EQ(measure.allocate(100)->data(), nullptr);
  EXPECT_EQ(measure.allocate(100)->bytes(), 100);
  const Weight weight = Weight::allocate("w", Format::int4(32), 8, 64);
  const auto packed = measure.prepare(weight);
  EXPECT_EQ(packed->bytes(), weight.bytes());
  EXPECT_EQ(packed->out(), 8);
  // Operations on views of nothing touch nothing.
  Arena arena;
  const Tensor x = arena.take(DType::f32, 4, 64), y = arena.take(DType::f32, 4, 8);
  measure.linear(y, x, *packed, nullptr);
  measure.add_rms_norm(x, x, x, *measure.prepare_vector(Weight::allocate("n", Format::dense(DType::f32), 64, 1), 0),
                       1e-5f);
}

TEST(BackendFactoryTest, NamesAreChecked) {
  EXPECT_EQ(make_backend("ref", {})->name(), "ref");
  EXPECT_ERROR(ErrorCode::invalid_argument, "there is no backend 'gpu' (the backends are cpu, cuda, ref)",
               make_backend("gpu", {}));
  EXPECT_ERROR(ErrorCode::unsupported, "no CUDA backend", make_backend("cuda", {}));
  EXPECT_ERROR(ErrorCode::invalid_argument, "'avx2' was asked for", make_backend("ref", {0, "avx2", false, "", ""}));
  BackendOptions int8;
  int8.compute = "int8";
  EXPECT_ERROR(ErrorCode::invalid_argument, "compute mode 'int8'", make_backend("ref", int8));
  EXPECT_ERROR(ErrorCode::invalid_argument, "no kernels to choose", make_backend("ref", {0, "", false, "gemm=x", ""}));
}

TEST(KvFormatTest, NamesReadBack) {
  const auto ref = make_backend("ref", {});
  for (KvFormat format :
       {KvFormat::f32, KvFormat::f16, KvFormat::bf16, KvFormat::int8, KvFormat::int4, KvFormat::int8_static}) {
    EXPECT_EQ(parse_kv_format(kv_format_name(format), *ref), format);
  }
  EXPECT_EQ(parse_kv_format("auto", *ref), KvFormat::f32);
  EXPECT_ERROR(ErrorCode::invalid_argument, "'fp8'", parse_kv_format("fp8", *ref));
}

}  // namespace
}  // namespace bittern
