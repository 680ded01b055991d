// Saved packings: every format and tile kind saved, adopted over foreign bytes, and unpacked again, all to the bit, at
// every instruction set; what does not fit its format refused; and digests that change only with the layout's version.
#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "backend/cpu/weight.h"
#include "base/half.h"
#include "base/sha256.h"
#include "cpu_fixture.h"
#include "support/expect_error.h"

namespace bittern {
namespace {

struct Case {
  std::string name;
  Format format;
  Weight::Shift shift = Weight::Shift::zeros;
  bool f16_scales = true;
  bool ordered = false;
  const char* kind = "";  // of the tiles; "" when the codes are decoded and the packing cannot be saved
};

Format with_int8_activations(Format format) {
  format.int8_activations = true;
  return format;
}

std::vector<Case> cases() {
  const auto offsets = Weight::Shift::offsets;
  const auto zeros = Weight::Shift::zeros;
  return {
      {"f32", Format::dense(DType::f32), zeros, true, false, "f32"},
      {"f16", Format::dense(DType::f16), zeros, true, false, "f16"},
      {"bf16", Format::dense(DType::bf16), zeros, true, false, "bf16"},
      {"int4 g128", Format::int4(128), zeros, true, false, "w4"},
      {"int4 g32 f32 scales", Format::int4(32), zeros, false, false, "w4"},
      {"int4 g32 offsets", Format::int4(32), offsets, true, false, "w4"},
      {"int4 one group", Format::int4(1 << 20), zeros, true, false, "w4"},
      {"int4 g64 ordered", Format::int4(64), zeros, true, true, "w4"},
      {"int2 g16", Format::grouped(2, 16), zeros, true, false, "w4"},
      {"int3 g8", Format::grouped(3, 8), zeros, true, false, "w4"},
      {"int4 g4", Format::int4(4), zeros, true, false, "w8"},
      {"int5 g32 offsets", Format::grouped(5, 32), offsets, true, false, "w8"},
      {"int6 g16", Format::grouped(6, 16), zeros, true, false, "w8"},
      {"int8 g64 f32 scales", Format::grouped(8, 64), zeros, false, false, "w8"},
      {"int8 a8", with_int8_activations(Format::grouped(8, 128)), zeros, true, false, "w8"},
      {"e2m1 g32", Format::grouped(4, 32, Codes::e2m1), zeros, true, false, "t4"},
      {"iq4_nl g32", Format::grouped(4, 32, Codes::iq4_nl), zeros, false, false, "t4"},
      {"e4m3 g128", Format::grouped(8, 128, Codes::e4m3), zeros, true, false, "e4m3"},
      {"e4m3 g20", Format::grouped(8, 20, Codes::e4m3), zeros, false, false, "e4m3"},
      {"int4 g6, decoded", Format::int4(6), zeros, true, false, ""},
      {"int8 g10, decoded", Format::grouped(8, 10), offsets, true, false, ""},
  };
}

Weight make(const Case& c, std::int64_t out, std::int64_t in, unsigned seed) {
  if (c.format.kind == FormatKind::dense) return random_dense(c.format.dtype, out, in, seed);
  std::mt19937 random(seed);
  Weight weight = Weight::allocate("test", c.format, out, in, c.shift);
  for (std::int64_t r = 0; r < out; ++r) {
    for (std::int64_t i = 0; i < in; ++i) {
      auto q = static_cast<std::uint8_t>(random() % (1u << c.format.bits));
      if (c.format.codes == Codes::e4m3 && (q & 0x7f) == 0x7f) q = 0x7e;  // NaN codes are decoded
      weight.set_code(r, i, q);
    }
    for (std::int64_t g = 0; g < weight.groups(); ++g) {
      const float scale = 0.001f + static_cast<float>(random() % 4096) * 0x1p-14f + (c.f16_scales ? 0.0f : 0x1p-23f);
      weight.scales.row<float>(r)[g] = c.f16_scales ? to_f32(to_f16(scale)) : scale;
      if (weight.zeros.rank)
        weight.zeros.row<std::uint8_t>(r)[g] = static_cast<std::uint8_t>(random() % (1u << c.format.bits));
      if (weight.offsets.rank) weight.offsets.row<float>(r)[g] = static_cast<float>(random() % 1000) * 0.001f - 0.5f;
    }
  }
  if (c.ordered) {
    std::int32_t* order = weight.allocate_input_order();
    std::iota(order, order + in, 0);
    std::shuffle(order, order + in, random);
  }
  return weight;
}

bool same_tensor(const Tensor& a, const Tensor& b) {
  if (a.rank != b.rank || a.shape != b.shape || a.dtype != b.dtype) return false;
  return a.rank == 0 || std::memcmp(a.data, b.data, static_cast<std::size_t>(a.size()) * dtype_size(a.dtype)) == 0;
}

void expect_same_weight(const Weight& a, const Weight& b, const std::string& name) {
  EXPECT_EQ(a.format, b.format) << name;
  EXPECT_EQ(a.out, b.out) << name;
  EXPECT_EQ(a.in, b.in) << name;
  EXPECT_TRUE(same_tensor(a.data, b.data)) << name << " data";
  EXPECT_TRUE(same_tensor(a.scales, b.scales)) << name << " scales";
  EXPECT_TRUE(same_tensor(a.zeros, b.zeros)) << name << " zeros";
  EXPECT_TRUE(same_tensor(a.offsets, b.offsets)) << name << " offsets";
  EXPECT_TRUE(same_tensor(a.input_order, b.input_order)) << name << " input order";
}

/// The packing moved to memory of its own, as a file would hold it.
struct Stored {
  explicit Stored(const SavedPacking& saved) : packing(saved) {
    bytes = AlignedBuffer(std::max<std::size_t>(saved.bytes.size(), 1));
    std::copy(saved.bytes.begin(), saved.bytes.end(), bytes.data());
    order.assign(saved.input_order.begin(), saved.input_order.end());
    packing.bytes = {bytes.data(), saved.bytes.size()};
    packing.input_order = order;
    packing.keep = std::make_shared<int>(0);
  }
  AlignedBuffer bytes;
  std::vector<std::int32_t> order;
  SavedPacking packing;
};

std::vector<float> multiply(Backend& backend, const PackedWeight& w, std::int64_t rows) {
  Matrix x(rows, w.in(), 2), out(rows, w.out(), 1);
  fill_random(x.data, 11);
  backend.linear(out.view(), x.view(), w, nullptr);
  return out.data;
}

TEST(SavedWeight, SavedAndUnpackedIsTheWeightItself) {
  for (const auto& [out, in] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{17, 44}, {1, 1}, {48, 256}, {33, 129}}) {
    for (const Case& c : cases()) {
      const Weight weight = make(c, out, in, 5);
      const auto cpu = cpu_backend("generic");
      const auto packed = cpu->prepare(weight);
      const std::optional<SavedPacking> saved = cpu->save_packing(*packed);
      const std::string name = c.name + " " + std::to_string(out) + "x" + std::to_string(in);
      const bool one_group = c.format.kind == FormatKind::grouped && weight.groups() == 1;
      if (*c.kind == '\0' && !one_group) {
        EXPECT_FALSE(saved) << name << ": its codes were decoded";
        continue;
      }
      ASSERT_TRUE(saved) << name;
      if (*c.kind != '\0' && !one_group) {
        EXPECT_EQ(saved->parameters.at("kind"), c.kind) << name;
      }
      const Stored stored(*saved);
      expect_same_weight(unpack(stored.packing, "test"), weight, name);
    }
  }
}

TEST(SavedWeight, AdoptedMultipliesAsPreparedAtEveryLevel) {
  for (const std::string& isa : isa_levels()) {
    const auto cpu = cpu_backend(isa);
    for (const Case& c : cases()) {
      const auto packed = cpu->prepare(make(c, 70, 136, 6));
      const std::optional<SavedPacking> saved = cpu->save_packing(*packed);
      if (!saved) continue;
      const Stored stored(*saved);
      const auto adopted = cpu->adopt_packing(stored.packing, true);
      ASSERT_TRUE(adopted) << c.name;
      EXPECT_TRUE(adopted->mapped());
      EXPECT_FALSE(packed->mapped());
      EXPECT_EQ(adopted->bytes(), packed->bytes());
      for (const std::int64_t rows : {1, 20}) {
        EXPECT_EQ(multiply(*cpu, *packed, rows), multiply(*cpu, *adopted, rows)) << c.name << " " << isa;
      }
      // Packed by one level, used by another: all share the layout.
      const auto other = cpu_backend("generic");
      EXPECT_EQ(other->packing_layout(), cpu->packing_layout());
      EXPECT_EQ(multiply(*other, *other->adopt_packing(stored.packing, true), 3), multiply(*other, *packed, 3));
    }
  }
}

TEST(SavedWeight, RepackedForAnotherBackendDecodesTheSame) {
  const auto cpu = cpu_backend("generic");
  const auto ref = make_backend("ref", {});
  for (const Case& c : cases()) {
    const Weight weight = make(c, 40, 128, 7);
    const auto packed = cpu->prepare(weight);
    const std::optional<SavedPacking> saved = cpu->save_packing(*packed);
    if (!saved) continue;
    EXPECT_EQ(ref->adopt_packing(*saved, true), nullptr) << "the layout is the CPU backend's own";
    const auto repacked = ref->prepare(unpack(*saved, "test"));
    EXPECT_EQ(multiply(*ref, *repacked, 2), multiply(*ref, *ref->prepare(weight), 2)) << c.name;
  }
}

TEST(SavedWeight, TablesOfRows) {
  const auto cpu = cpu_backend("generic");
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const Weight weight = random_dense(dtype, 19, 36, 8);
    const auto packed = cpu->prepare_table(weight, false);
    const std::optional<SavedPacking> saved = cpu->save_packing(*packed);
    ASSERT_TRUE(saved);
    const Stored stored(*saved);
    expect_same_weight(unpack(stored.packing, "test"), weight, std::string(dtype_name(dtype)));
    const auto adopted = cpu->adopt_packing(stored.packing, false);
    ASSERT_TRUE(adopted);
    EXPECT_EQ(cpu->adopt_packing(stored.packing, true), nullptr) << "linear cannot use rows";
    const std::vector<std::int32_t> ids = {3, 18, 0};
    Matrix a(3, 36), b(3, 36);
    cpu->embed(a.view(), *packed, ids, 1.0f);
    cpu->embed(b.view(), *adopted, ids, 1.0f);
    EXPECT_EQ(a.data, b.data);
  }
}

TEST(SavedWeight, WhatDoesNotFitItsFormatIsRefused) {
  const auto cpu = cpu_backend("generic");
  const auto packed = cpu->prepare(make(cases()[3], 32, 256, 9));
  const SavedPacking good = *cpu->save_packing(*packed);
  const auto refused = [&](const std::function<void(SavedPacking&)>& damage, const char* text) {
    SavedPacking bad = good;
    damage(bad);
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, text, cpu->adopt_packing(bad, true));
  };
  refused([](SavedPacking& s) { s.bytes = s.bytes.first(s.bytes.size() - 64); }, "bytes where int4 g128 needs");
  refused([](SavedPacking& s) { s.bytes = {s.bytes.data() + 1, s.bytes.size()}; }, "misaligned");
  refused([](SavedPacking& s) { s.parameters["kind"] = "w9"; }, "kind is 'w9'");
  refused([](SavedPacking& s) { s.parameters["kind"] = "bf16"; }, "do not hold int4 g128");
  refused([](SavedPacking& s) { s.parameters["header"] = "none"; }, "header is 'none'");
  refused([](SavedPacking& s) { s.format = Format::int4(36); }, "do not hold int4 g36");
  refused([](SavedPacking& s) { s.format.bits = 8; }, "do not hold int8 g128");
  refused([](SavedPacking& s) { s.format.group_size = 0; }, "do not hold");
  refused([](SavedPacking& s) { s.out = -1; }, "impossible");
  std::vector<std::int32_t> order(256, 0);
  order[7] = 256;
  refused([&](SavedPacking& s) { s.input_order = order; }, "input order");
}

TEST(SavedWeight, AnotherLayoutIsNotAdoptedAndNotUnpacked) {
  const auto cpu = cpu_backend("generic");
  const auto packed = cpu->prepare(make(cases()[3], 32, 256, 9));
  SavedPacking saved = *cpu->save_packing(*packed);
  ++saved.layout.version;
  EXPECT_EQ(cpu->adopt_packing(saved, true), nullptr);
  EXPECT_ERROR(ErrorCode::unsupported, "cpu-tiles16 version 2", unpack(saved, "test"));
}

TEST(SavedWeight, LevelsAreNamed) {
  EXPECT_EQ(cpu_packing_layout("avx2"), cpu_packing_layout("avx512bf16"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "avx512vnni", cpu_packing_layout("sse9"));
}

/// When this fails, the bytes of a packing have changed: workspaces on people's disks hold the old ones. Raise the
/// version in CpuWeight::layout(), and record the new digests.
TEST(SavedWeight, TheLayoutIsVersionOne) {
  ASSERT_EQ(cpu::CpuWeight::layout(), (PackingLayout{"cpu-tiles16", 1}));
  const auto cpu = cpu_backend("generic");
  Sha256 sum;
  for (const Case& c : cases()) {
    Weight weight = make(c, 35, 132, 0);
    // The generator's normal numbers differ between libraries; bytes that do not are enough for a digest.
    if (c.format.kind == FormatKind::dense) {
      auto* bytes = weight.data.as<std::uint8_t>();
      const auto size = static_cast<std::size_t>(weight.data.size()) * dtype_size(weight.data.dtype);
      for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 37 % 120);
    }
    if (c.ordered) std::iota(weight.input_order.as<std::int32_t>(), weight.input_order.as<std::int32_t>() + 132, 0);
    const auto packed = cpu->prepare(weight);
    if (const auto saved = cpu->save_packing(*packed)) sum.update(saved->bytes);
  }
  EXPECT_EQ(sum.finish(), "06746b5bd83ea3a768840f761e0034975dd6cc847c1438c8a880d03db771e36a");
}

}  // namespace
}  // namespace bittern
