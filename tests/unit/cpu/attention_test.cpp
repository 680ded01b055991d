// Attention and the KV cache of the CPU backend: equal to the reference for every format, odd head sizes, grouped
// heads, windows and caps; the same bits in prefill, token by token, in a batch, and on any number of threads.
#include <numeric>

#include "cpu_fixture.h"

namespace bittern {
namespace {

struct Shape {
  int q_heads, kv_heads, head_dim, block_tokens;
  int window = 0;
  float softcap = 0;
  bool rotate = true;
};

/// One sequence's q, k and v for `tokens` tokens, and the running of it through a backend in steps.
struct Sequence {
  Shape shape;
  int tokens;
  Matrix q, k, v;
  Sequence(Shape s, int n, unsigned seed)
      : shape(s),
        tokens(n),
        q(n, s.q_heads * s.head_dim),
        k(n, s.kv_heads * s.head_dim),
        v(n, s.kv_heads * s.head_dim) {
    fill_random(q.data, seed);
    fill_random(k.data, seed + 1);
    fill_random(v.data, seed + 2);
  }
};

struct Step {
  std::vector<std::int32_t> ids, positions, q_start{0}, context, rope_length, tables;
  int max_blocks;
  BatchView view() const {
    BatchView b;
    b.tokens = static_cast<int>(positions.size());
    b.sequences = static_cast<int>(context.size());
    b.token_ids = ids;
    b.positions = positions;
    b.q_start = q_start;
    b.context = context;
    b.rope_length = rope_length;
    b.block_tables = tables;
    b.max_blocks = max_blocks;
    return b;
  }
};

/// Runs tokens [begin, end) of each sequence as one step; sequence i uses blocks i, i + n, i + 2n, ... of the pool.
void run_step(Backend& backend, KvPool& pool, std::vector<Sequence*> sequences,
              const std::vector<std::pair<int, int>>& ranges, int max_blocks, std::vector<Matrix*> outs) {
  const Shape& s = sequences[0]->shape;
  Step step;
  step.max_blocks = max_blocks;
  const int n = static_cast<int>(sequences.size());
  for (int i = 0; i < n; ++i) {
    for (int t = ranges[i].first; t < ranges[i].second; ++t) step.positions.push_back(t);
    step.q_start.push_back(static_cast<int>(step.positions.size()));
    step.context.push_back(ranges[i].second);
    for (int b = 0; b < max_blocks; ++b) step.tables.push_back(i + n * b);
  }
  step.ids.assign(step.positions.size(), 0);
  step.rope_length = step.context;
  const BatchView batch = step.view();
  Matrix q(batch.tokens, s.q_heads * s.head_dim), k(batch.tokens, s.kv_heads * s.head_dim), v(k), out(q);
  for (int i = 0; i < n; ++i) {
    const auto take = [&](const Matrix& from, Matrix& to) {
      std::copy(from.data.begin() + ranges[i].first * from.cols, from.data.begin() + ranges[i].second * from.cols,
                to.data.begin() + step.q_start[i] * to.cols);
    };
    take(sequences[i]->q, q);
    take(sequences[i]->k, k);
    take(sequences[i]->v, v);
  }
  const int half = s.head_dim / 4;  // rotates a part of the head
  Matrix cos(batch.tokens, half), sin(batch.tokens, half);
  for (int t = 0; t < batch.tokens; ++t) {
    for (int d = 0; d < half; ++d) {
      const float angle = static_cast<float>(batch.positions[t]) * std::pow(0.7f, static_cast<float>(d));
      cos.data[t * half + d] = std::cos(angle);
      sin.data[t * half + d] = std::sin(angle);
    }
  }
  RopeStoreArgs store{q.view().heads(s.q_heads, s.head_dim),
                      k.view().heads(s.kv_heads, s.head_dim),
                      v.view().heads(s.kv_heads, s.head_dim),
                      cos.view(),
                      sin.view(),
                      s.q_heads % 2 == 1,
                      1};
  if (half == 0 || !s.rotate) store.cos = store.sin = {};
  backend.rope_store(store, batch, pool);
  AttentionArgs args{q.view().heads(s.q_heads, s.head_dim),
                     out.view().heads(s.q_heads, s.head_dim),
                     1,
                     1.0f / std::sqrt(static_cast<float>(s.head_dim)),
                     s.softcap,
                     s.window};
  backend.attention(args, batch, pool);
  for (int i = 0; i < n; ++i) {
    std::copy(out.data.begin() + step.q_start[i] * out.cols, out.data.begin() + step.q_start[i + 1] * out.cols,
              outs[i]->data.begin() + ranges[i].first * out.cols);
  }
}

std::unique_ptr<KvPool> make_pool(Backend& backend, const Shape& s, KvFormat format, int blocks) {
  KvSpec spec;
  spec.format = format;
  spec.layers = 2;
  spec.kv_heads = s.kv_heads;
  spec.head_dim = s.head_dim;
  spec.block_tokens = s.block_tokens;
  return backend.make_kv_pool(spec, blocks);
}

/// All tokens of a sequence in chunks of `chunk`, alone.
Matrix run_alone(Backend& backend, Sequence& sequence, KvFormat format, int chunk) {
  const int blocks = (sequence.tokens + sequence.shape.block_tokens - 1) / sequence.shape.block_tokens;
  const auto pool = make_pool(backend, sequence.shape, format, blocks);
  Matrix out(sequence.tokens, sequence.shape.q_heads * sequence.shape.head_dim);
  for (int t = 0; t < sequence.tokens; t += chunk) {
    run_step(backend, *pool, {&sequence}, {{t, std::min(sequence.tokens, t + chunk)}}, blocks, {&out});
  }
  return out;
}

const std::vector<KvFormat> kFormats = {KvFormat::f32, KvFormat::f16, KvFormat::bf16, KvFormat::int8, KvFormat::int4};
const std::vector<Shape> kShapes = {{4, 2, 64, 64}, {3, 3, 40, 16},        {7, 1, 80, 32, 0, 20.0f}, {8, 2, 96, 64, 33},
                                    {2, 2, 100, 8}, {14, 2, 128, 64, 300}, {6, 2, 17, 5, 9, 5.0f},   {40, 1, 32, 512}};

TEST(CpuAttention, EqualsReference) {
  const auto ref = make_backend("ref", {});
  for (Shape shape : kShapes) {
    for (KvFormat format : kFormats) {
      // Where a last bit of the rotation differs, what is stored may round the other way and drown what is tested here.
      shape.rotate = format == KvFormat::f32;
      Sequence sequence(shape, 270, 11);
      const Matrix expected = run_alone(*ref, sequence, format, 270);
      for (const std::string& isa : isa_levels()) {
        const auto cpu = cpu_backend(isa);
        EXPECT_LT(relative_error(expected, run_alone(*cpu, sequence, format, 270)), 2e-5)
            << shape.q_heads << "/" << shape.kv_heads << "x" << shape.head_dim << " " << kv_format_name(format) << " "
            << isa;
      }
    }
  }
}

TEST(CpuAttention, PrefillEqualsTokenByTokenBitForBit) {
  for (const Shape& shape : kShapes) {
    for (KvFormat format : kFormats) {
      Sequence sequence(shape, 290, 21);
      const auto one = cpu_backend("", 1), two = cpu_backend("", 2);
      const Matrix prefill = run_alone(*two, sequence, format, 290);
      for (int chunk : {1, 37}) {
        const Matrix stepped = run_alone(*two, sequence, format, chunk);
        EXPECT_EQ(prefill.data, stepped.data) << shape.head_dim << " " << kv_format_name(format) << " chunk " << chunk;
      }
      EXPECT_EQ(prefill.data, run_alone(*one, sequence, format, 290).data) << "threads change the result";
    }
  }
}

TEST(CpuAttention, LongContextIsTheSameSplitOrWhole) {
  const Shape shape{4, 2, 64, 64};
  Sequence sequence(shape, 1700, 31);
  const auto one = cpu_backend("", 1), three = cpu_backend("", 3);
  const int blocks = 27;
  for (KvFormat format : {KvFormat::bf16, KvFormat::int8}) {
    Matrix a(1700, 256), b(1700, 256), c(1700, 256);
    const auto pool_a = make_pool(*one, shape, format, blocks), pool_b = make_pool(*three, shape, format, blocks);
    run_step(*one, *pool_a, {&sequence}, {{0, 1699}}, blocks, {&a});
    run_step(*one, *pool_a, {&sequence}, {{1699, 1700}}, blocks, {&a});
    run_step(*three, *pool_b, {&sequence}, {{0, 1699}}, blocks, {&b});
    run_step(*three, *pool_b, {&sequence}, {{1699, 1700}}, blocks, {&b});
    EXPECT_EQ(a.data, b.data);
    run_step(*three, *pool_b, {&sequence}, {{0, 1700}}, blocks, {&c});
    EXPECT_EQ(a.data, c.data);
  }
}

TEST(CpuAttention, BatchedEqualsAlone) {
  for (const Shape& shape : kShapes) {
    for (KvFormat format : kFormats) {
      Sequence a(shape, 120, 41), b(shape, 75, 51);
      const auto cpu = cpu_backend("");
      const Matrix alone_a = run_alone(*cpu, a, format, 120), alone_b = run_alone(*cpu, b, format, 75);
      const int blocks = (120 + shape.block_tokens - 1) / shape.block_tokens;
      const auto pool = make_pool(*cpu, shape, format, 2 * blocks);
      Matrix out_a(120, alone_a.cols), out_b(75, alone_b.cols);
      run_step(*cpu, *pool, {&a, &b}, {{0, 119}, {0, 40}}, blocks, {&out_a, &out_b});
      run_step(*cpu, *pool, {&a, &b}, {{119, 120}, {40, 75}}, blocks, {&out_a, &out_b});
      EXPECT_EQ(out_a.data, alone_a.data) << shape.head_dim << " " << kv_format_name(format);
      EXPECT_EQ(out_b.data, alone_b.data) << shape.head_dim << " " << kv_format_name(format);
    }
  }
}

TEST(CpuKvPool, ReadsBackWhatTheReferenceReads) {
  const auto ref = make_backend("ref", {});
  const auto cpu = cpu_backend("");
  for (const Shape& shape : kShapes) {
    for (KvFormat format : kFormats) {
      Sequence sequence(shape, 50, 61);
      const int blocks = (50 + shape.block_tokens - 1) / shape.block_tokens;
      std::vector<std::int32_t> table(static_cast<std::size_t>(blocks));
      std::iota(table.begin(), table.end(), 0);
      Matrix out(50, shape.q_heads * shape.head_dim);
      const std::int64_t width = shape.kv_heads * shape.head_dim;
      Matrix k[2] = {{50, width}, {50, width}}, v[2] = {{50, width}, {50, width}};
      Backend* backends[2] = {ref.get(), cpu.get()};
      for (int i = 0; i < 2; ++i) {
        const auto pool = make_pool(*backends[i], shape, format, blocks);
        run_step(*backends[i], *pool, {&sequence}, {{0, 50}}, blocks, {&out});
        backends[i]->read_kv(*pool, 1, table, 50, k[i].data.data(), v[i].data.data());
      }
      // A rounding of the rotation may move a code or a last bit here and there; values are never rotated.
      EXPECT_LT(relative_error(k[0], k[1]), format == KvFormat::int4 ? 5e-3 : 5e-4)
          << shape.head_dim << " " << kv_format_name(format);
      EXPECT_LT(relative_error(v[0], v[1]), 1e-6) << shape.head_dim << " " << kv_format_name(format);
    }
  }
}

TEST(CpuKvPool, BlockBytesFollowTheFormat) {
  const auto cpu = cpu_backend("");
  KvSpec spec{KvFormat::bf16, 3, 2, 64, 64};
  EXPECT_EQ(cpu->kv_block_bytes(spec), 3 * 2 * 64 * 2 * 64 * 2);
  spec.format = KvFormat::int8;
  EXPECT_EQ(cpu->kv_block_bytes(spec), 3 * 2 * 64 * (2 * 64 + 16));
  spec.format = KvFormat::int4;
  EXPECT_EQ(cpu->kv_block_bytes(spec), 3 * 2 * 64 * (64 + 16));
  spec.format = KvFormat::int8_static;
  EXPECT_EQ(cpu->kv_block_bytes(spec), 3 * 2 * 64 * 2 * 64);
  EXPECT_THROW(cpu->make_kv_pool(spec, 1), Error);
}

}  // namespace
}  // namespace bittern
