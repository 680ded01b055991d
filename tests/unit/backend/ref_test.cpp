// The reference backend against values worked out by hand: it is the oracle of every parity test, so nothing else
// vouches for it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <vector>

#include "backend/backend.h"
#include "base/half.h"
#include "support/expect_error.h"

namespace bittern {
namespace {

using Floats = std::vector<float>;

Tensor view(Floats& values, std::int64_t rows) {
  return Tensor::of(values.data(), DType::f32, rows, static_cast<std::int64_t>(values.size()) / rows);
}

Weight dense(std::int64_t out, std::int64_t in, const Floats& values) {
  Weight w = Weight::allocate("w", Format::dense(DType::f32), out, in);
  std::copy(values.begin(), values.end(), w.data.as<float>());
  return w;
}

class RefTest : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> ref = make_backend("ref", {});
};

TEST_F(RefTest, LinearWithBiasIntoASlice) {
  const auto w = ref->prepare(dense(2, 3, {1, 2, 3, -1, 0, 1}));
  const auto bias = ref->prepare_vector(dense(2, 1, {10, 20}), 0);
  Floats x = {1, 1, 1, 2, 0, 1}, out(8, -7);
  ref->linear(view(out, 2).columns(1, 2), view(x, 2), *w, bias.get());
  EXPECT_EQ(out, (Floats{-7, 16, 20, -7, -7, 15, 19, -7}));
}

TEST_F(RefTest, LinearRefusesIntegerWeightsByName) {
  Weight w = Weight::allocate("model.q_proj", Format::dense(DType::i32), 1, 1);
  EXPECT_ERROR(ErrorCode::unsupported, "weight 'model.q_proj' is stored as i32", ref->prepare(w));
}

TEST_F(RefTest, LinearRoundsActivationsWhereTheFormatSaysSo) {
  Format format = Format::grouped(8, 3);
  format.int8_activations = true;
  Weight w = Weight::allocate("w", format, 1, 3);
  w.scales.as<float>()[0] = 0.5f;
  w.zeros.as<std::uint8_t>()[0] = 128;
  for (int i = 0; i < 3; ++i) w.set_code(0, i, static_cast<std::uint8_t>(129 + i));  // 0.5, 1, 1.5
  // max 254, so a code is worth 2: 3 is 1.5 codes, rounded to the even 2; -1 is half a code, rounded to 0.
  Floats x = {254, 3, -1, 0, 0, 0, 1, std::numeric_limits<float>::infinity(), 1}, out(3);
  ref->linear(view(out, 3), view(x, 3), *ref->prepare(w), nullptr);
  EXPECT_FLOAT_EQ(out[0], 0.5f * 254 + 1 * 4);
  EXPECT_EQ(out[1], 0);
  EXPECT_TRUE(std::isnan(out[2])) << "an infinity has no scale";
  BackendOptions keep;
  keep.compute = "f32";
  const auto keeping = make_backend("ref", keep);
  keeping->linear(view(out, 3), view(x, 3), *keeping->prepare(w), nullptr);
  EXPECT_FLOAT_EQ(out[0], 0.5f * 254 + 3 - 1.5f);
}

TEST_F(RefTest, EmbedScalesRows) {
  const auto table = ref->prepare_table(dense(3, 2, {1, 2, 3, 4, 5, 6}), true);
  Floats out(4);
  const std::int32_t ids[] = {2, 0};
  ref->embed(view(out, 2), *table, ids, 0.5f);
  EXPECT_EQ(out, (Floats{2.5, 3, 0.5, 1}));
}

TEST_F(RefTest, RmsNormOfRowsAndHeads) {
  const auto weight = ref->prepare_vector(dense(2, 1, {1, 1}), 1.0f);  // stored w of 1 + w
  Floats x = {3, 4, 0, 0}, out(4);
  ref->rms_norm(view(out, 2), view(x, 2), *weight, 0.0f);
  EXPECT_FLOAT_EQ(out[0], 2 * 3 / std::sqrt(12.5f));
  EXPECT_FLOAT_EQ(out[1], 2 * 4 / std::sqrt(12.5f));
  EXPECT_TRUE(std::isnan(out[2])) << "0/0 without eps";
  ref->rms_norm(view(x, 1).heads(2, 2), view(x, 1).heads(2, 2), *weight, 12.5f);
  EXPECT_FLOAT_EQ(x[0], 2 * 3 / 5.0f) << "each head by itself, in place";
  EXPECT_EQ(x[2], 0.0f);
}

TEST_F(RefTest, AddRmsNormUpdatesTheResidual) {
  const auto weight = ref->prepare_vector(dense(2, 1, {1, 1}), 0);
  Floats residual = {1, 1}, x = {2, 3}, out(2);
  ref->add_rms_norm(view(out, 1), view(residual, 1), view(x, 1), *weight, 0.0f);
  EXPECT_EQ(residual, (Floats{3, 4}));
  EXPECT_FLOAT_EQ(out[1], 4 / std::sqrt(12.5f));
}

TEST_F(RefTest, Activations) {
  const auto activate = [&](Activation activation, float gate) {
    Floats g = {gate}, up = {2}, out(1);
    ref->gated_activation(view(out, 1), view(g, 1), view(up, 1), activation);
    return out[0];
  };
  EXPECT_FLOAT_EQ(activate(Activation::silu, 1), 2 * 0.7310585786f);
  EXPECT_FLOAT_EQ(activate(Activation::gelu_erf, 1), 2 * 0.8413447461f);
  EXPECT_FLOAT_EQ(activate(Activation::gelu_tanh, 1), 2 * 0.8411919906f);
  EXPECT_EQ(activate(Activation::silu, -1000), 0.0f) << "no overflow on the way";
}

TEST_F(RefTest, SoftcapScaleAddAndGather) {
  Floats x = {0, 50, -1e9f}, y = {1, 2, 3};
  ref->softcap(view(x, 1), 50);
  EXPECT_FLOAT_EQ(x[1], 50 * std::tanh(1.0f));
  EXPECT_FLOAT_EQ(x[2], -50);
  ref->scale(view(y, 1), -2);
  EXPECT_EQ(y, (Floats{-2, -4, -6}));
  ref->add(view(y, 1), view(y, 1));
  EXPECT_EQ(y, (Floats{-4, -8, -12}));
  Floats out(2);
  const std::int32_t rows[] = {2, 0};
  ref->gather_rows(view(out, 2), view(y, 3), rows);
  EXPECT_EQ(out, (Floats{-12, -4}));
}

// --- keys and values ---

// One sequence of `tokens` tokens in blocks of 4, in reverse order of blocks so that the table matters.
struct OneSequence {
  OneSequence(Backend& backend, KvSpec kv, std::int32_t tokens) : spec(kv), count(tokens) {
    for (std::int32_t i = (tokens + spec.block_tokens - 1) / spec.block_tokens; i-- > 0;) table.push_back(i);
    pool = backend.make_kv_pool(spec, static_cast<std::int64_t>(table.size()));
    positions.resize(static_cast<std::size_t>(tokens));
    std::iota(positions.begin(), positions.end(), 0);
    q_start = {0, tokens};
    context = {tokens};
    batch.tokens = tokens;
    batch.sequences = 1;
    batch.positions = positions;
    batch.q_start = q_start;
    batch.context = context;
    batch.rope_length = context;
    batch.block_tables = table;
    batch.max_blocks = static_cast<int>(table.size());
  }

  Tensor heads(Floats& values) {
    return view(values, count).heads(static_cast<std::int64_t>(values.size()) / count / spec.head_dim, spec.head_dim);
  }

  void store(Backend& backend, Floats& q, Floats& k, Floats& v) {
    RopeStoreArgs args;
    args.q = heads(q);
    args.k = heads(k);
    args.v = heads(v);
    backend.rope_store(args, batch, *pool);
  }

  Floats attend(Backend& backend, Floats& q, float scale, float softcap = 0, int window = 0) {
    Floats out(q.size());
    AttentionArgs args;
    args.q = heads(q);
    args.out = heads(out);
    args.scale = scale;
    args.softcap = softcap;
    args.window = window;
    backend.attention(args, batch, *pool);
    return out;
  }

  KvSpec spec;
  std::int32_t count;
  std::vector<std::int32_t> positions, q_start, context, table;
  BatchView batch;
  std::unique_ptr<KvPool> pool;
};

// Keys and values of one token, stored and read back.
std::pair<Floats, Floats> stored(Backend& backend, KvFormat format, Floats k, Floats v) {
  OneSequence s(backend, {format, 1, 1, static_cast<int>(k.size()), 4}, 1);
  Floats q(k.size());
  s.store(backend, q, k, v);
  Floats k_back(k.size()), v_back(v.size());
  backend.read_kv(*s.pool, 0, s.table, 1, k_back.data(), v_back.data());
  return {k_back, v_back};
}

TEST_F(RefTest, FloatKvRounds) {
  const Floats x = {1.0f / 3, -1e-7f, 70000, 0};
  EXPECT_EQ(stored(*ref, KvFormat::f32, x, x).first, x);
  const Floats bf16 = stored(*ref, KvFormat::bf16, x, x).second;
  const Floats f16 = stored(*ref, KvFormat::f16, x, x).first;
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(bf16[i], to_f32(to_bf16(x[i])));
    EXPECT_EQ(f16[i], to_f32(to_f16(x[i])));
  }
  EXPECT_TRUE(std::isinf(f16[2])) << "beyond f16";
}

TEST_F(RefTest, QuantizedKvFollowsItsDefinition) {
  // range 3, so scale = 3/255 and 3/15 = 0.2; 0.29 is code 6.45 of int4 from -1.
  const Floats x = {-1, 2, 0.29f}, v = {5, 5, 5};
  const auto [k8, v8] = stored(*ref, KvFormat::int8, x, v);
  EXPECT_FLOAT_EQ(k8[0], -1);
  EXPECT_FLOAT_EQ(k8[1], 2);
  EXPECT_FLOAT_EQ(k8[2], -1 + 110 * 3.0f / 255);  // 109.65 rounds to 110
  EXPECT_EQ(v8, v) << "equal values are exact";
  const auto [k4, v4] = stored(*ref, KvFormat::int4, x, v);
  EXPECT_FLOAT_EQ(k4[0], -1);
  EXPECT_FLOAT_EQ(k4[1], 2);
  EXPECT_FLOAT_EQ(k4[2], -1 + 6 * 0.2f);
  EXPECT_EQ(v4, v);
}

TEST_F(RefTest, QuantizedKvOfNonFiniteValuesIsNaN) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (KvFormat format : {KvFormat::int8, KvFormat::int4}) {
      const Floats k = stored(*ref, format, {1, bad, 2}, {1, 2, 3}).first;
      for (float value : k) EXPECT_TRUE(std::isnan(value));
    }
  }
}

// A pool of one head with one scale and zero per channel, and what one token reads back as.
std::pair<Floats, Floats> stored_static(Backend& backend, const KvStaticParams& params, Floats k, Floats v) {
  KvSpec spec{KvFormat::int8_static, params.layers, params.kv_heads, params.head_dim, 4};
  spec.static_params = std::make_shared<const KvStaticParams>(params);
  OneSequence s(backend, spec, 1);
  Floats q(k.size()), k_back(k.size()), v_back(v.size());
  s.store(backend, q, k, v);
  backend.read_kv(*s.pool, 0, s.table, 1, k_back.data(), v_back.data());
  return {k_back, v_back};
}

TEST_F(RefTest, StaticKvFollowsItsDefinition) {
  const KvStaticParams params{1, 1, 4, {0.5f, 0.5f, 0.5f, 0}, {0, 10, -1, 3}, {1, 2, 4, 1}, {0, 0, 0, 0}};
  // Ties go to even codes; 1000 is beyond code 127; a scale of 0 reads back as the zero.
  const auto [k, v] = stored_static(*ref, params, {0.75f, 10.6f, 1000, 7}, {-2.5f, -1000, 5, -128.4f});
  EXPECT_EQ(k, (Floats{1.0f, 10.5f, 62.5f, 3}));
  EXPECT_EQ(v, (Floats{-2, -256, 4, -128}));
}

TEST_F(RefTest, StaticKvRefusesMissingOrUnfitParameters) {
  KvSpec spec{KvFormat::int8_static, 1, 1, 2, 4};
  EXPECT_ERROR(ErrorCode::invalid_argument, "there are none", ref->make_kv_pool(spec, 1));
  const auto with = [&](KvStaticParams p) {
    spec.static_params = std::make_shared<const KvStaticParams>(std::move(p));
    return ref->make_kv_pool(spec, 1);
  };
  const KvStaticParams good{1, 1, 2, {1, 1}, {0, 0}, {1, 1}, {0, 0}};
  EXPECT_NE(with(good), nullptr);
  KvStaticParams bad = good;
  bad.kv_heads = 2;
  EXPECT_ERROR(ErrorCode::invalid_argument, "1 layers of 2 KV heads", with(bad));
  bad = good;
  bad.v_zero = {0};
  EXPECT_ERROR(ErrorCode::invalid_argument, "V zero", with(bad));
  bad = good;
  bad.k_scale[1] = -1;
  EXPECT_ERROR(ErrorCode::invalid_argument, "K scale number 1", with(bad));
}

TEST_F(RefTest, KvBytes) {
  const auto bytes = [&](KvFormat format) { return ref->kv_block_bytes({format, 2, 3, 5, 4}); };
  EXPECT_EQ(bytes(KvFormat::f32), 2 * 2 * 3 * 4 * 20);
  EXPECT_EQ(bytes(KvFormat::bf16), 2 * 2 * 3 * 4 * 10);
  EXPECT_EQ(bytes(KvFormat::int8), 2 * 2 * 3 * 4 * (8 + 5));
  EXPECT_EQ(bytes(KvFormat::int4), 2 * 2 * 3 * 4 * (8 + 3));
  EXPECT_EQ(bytes(KvFormat::int8_static), 2 * 2 * 3 * 4 * 5);
}

// --- rotation ---

Floats rotated(Backend& backend, Floats k, Floats angles, bool interleaved) {
  OneSequence s(backend, {KvFormat::f32, 1, 1, static_cast<int>(k.size()), 4}, 1);
  Floats q = k, v = k, cos, sin;
  for (float angle : angles) {
    cos.push_back(std::cos(angle));
    sin.push_back(std::sin(angle));
  }
  RopeStoreArgs args;
  args.q = s.heads(q);
  args.k = s.heads(k);
  args.v = s.heads(v);
  args.cos = view(cos, 1);
  args.sin = view(sin, 1);
  args.interleaved = interleaved;
  backend.rope_store(args, s.batch, *s.pool);
  Floats k_back(k.size()), v_back(k.size());
  backend.read_kv(*s.pool, 0, s.table, 1, k_back.data(), v_back.data());
  EXPECT_EQ(q, k_back) << "q turns like k";
  EXPECT_EQ(v_back, v) << "v does not turn";
  return k_back;
}

TEST_F(RefTest, RopePairings) {
  const float quarter = std::numbers::pi_v<float> / 2;
  const auto expect_near = [](const Floats& a, const Floats& b) {
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6f) << i;
  };
  expect_near(rotated(*ref, {1, 2, 3, 4, 5}, {quarter, 0}, false), {-3, 2, 1, 4, 5});
  expect_near(rotated(*ref, {1, 2, 3, 4, 5}, {quarter, 0}, true), {-2, 1, 3, 4, 5});
  expect_near(rotated(*ref, {1, 2, 3, 4}, {quarter}, false), {-2, 1, 3, 4});
}

// --- attention ---

TEST_F(RefTest, AttentionIsCausalAndWeighted) {
  // Equal scores: each query takes the mean of the values so far.
  OneSequence s(*ref, {KvFormat::f32, 1, 1, 1, 4}, 6);
  Floats q(6, 0), k(6, 1), v = {1, 2, 3, 4, 5, 6};
  s.store(*ref, q, k, v);
  EXPECT_EQ(s.attend(*ref, q, 1), (Floats{1, 1.5, 2, 2.5, 3, 3.5}));
  EXPECT_EQ(s.attend(*ref, q, 1, 0, 2), (Floats{1, 1.5, 2.5, 3.5, 4.5, 5.5})) << "a window of 2: itself and one before";
  EXPECT_EQ(s.attend(*ref, q, 1, 0, 1), v);
}

TEST_F(RefTest, AttentionScoresAreScaledAndCapped) {
  OneSequence s(*ref, {KvFormat::f32, 1, 1, 2, 4}, 2);
  Floats q = {0, 0, 1, 2}, k = {1, 1, 0, 0}, v = {1, 0, 0, 1};
  s.store(*ref, q, k, v);
  const auto first_weight = [](float a) { return std::exp(a) / (std::exp(a) + 1); };  // scores a and 0
  EXPECT_FLOAT_EQ(s.attend(*ref, q, 0.5f)[2], first_weight(1.5f));
  EXPECT_FLOAT_EQ(s.attend(*ref, q, 0.5f, 2.0f)[2], first_weight(2 * std::tanh(1.5f / 2)));
  const Floats far = s.attend(*ref, q, 1e4f);
  EXPECT_EQ(far[2], 1.0f) << "large scores do not overflow";
}

TEST_F(RefTest, GroupedQueriesShareTheirHead) {
  OneSequence s(*ref, {KvFormat::f32, 1, 2, 1, 4}, 1);
  Floats q(6, 1), k = {1, 1}, v = {7, 9};
  s.store(*ref, q, k, v);
  EXPECT_EQ(s.attend(*ref, q, 1), (Floats{7, 7, 7, 9, 9, 9}));
}

}  // namespace
}  // namespace bittern
