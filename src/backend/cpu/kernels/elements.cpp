// Norms and elementwise operations over rows of floats. Sums run in sixteen lanes and are folded in one fixed order,
// so a row's result depends on its own values alone. Compiled once per instruction set.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/kernels.h"
#include "backend/cpu/kernels/simd.h"

namespace bittern::cpu {
namespace {

BITTERN_INLINE float inverse_rms(V sum_squares, Index width, float eps) {
  const float mean = sum_lanes(sum_squares) / static_cast<float>(width);
  return 1.0f / __builtin_sqrtf(mean + eps);
}

BITTERN_INLINE void normalize(float* out, const float* x, const float* weight, Index width, float factor) {
  for (Index i = 0; i < width; i += kLanes) {
    const Index left = width - i;
    const V y = mul(load_upto(x + i, left), set1(factor));
    store_upto(out + i, mul(y, load_upto(weight + i, left)), left);
  }
}

void rms_norm(const RowArgs* args) {
  const RowArgs& a = *args;
  for (Index r = 0; r < a.rows; ++r) {
    const float* x = a.a + r * a.a_stride;
    V squares = zero();
    for (Index i = 0; i < a.width; i += kLanes) {
      const V v = load_upto(x + i, a.width - i);
      squares = fma(v, v, squares);
    }
    normalize(a.out + r * a.out_stride, x, a.weight, a.width, inverse_rms(squares, a.width, a.value));
  }
}

/// a: residual (rows of a_stride, updated in place), b: what is added, out: the norm.
void add_rms_norm(const RowArgs* args) {
  const RowArgs& a = *args;
  for (Index r = 0; r < a.rows; ++r) {
    float* residual = const_cast<float*>(a.a) + r * a.a_stride;
    const float* x = a.b + r * a.b_stride;
    V squares = zero();
    for (Index i = 0; i < a.width; i += kLanes) {
      const Index left = a.width - i;
      const V v = add(load_upto(residual + i, left), load_upto(x + i, left));
      store_upto(residual + i, v, left);
      squares = fma(v, v, squares);
    }
    normalize(a.out + r * a.out_stride, residual, a.weight, a.width, inverse_rms(squares, a.width, a.value));
  }
}

template <class Op>
BITTERN_INLINE void each(const RowArgs& a, Op op) {
  for (Index r = 0; r < a.rows; ++r) {
    float* out = a.out + r * a.out_stride;
    for (Index i = 0; i < a.width; i += kLanes) store_upto(out + i, op(r, i, a.width - i), a.width - i);
  }
}

struct Add {
  const RowArgs& a;
  V operator()(Index r, Index i, Index left) const {
    return add(load_upto(a.out + r * a.out_stride + i, left), load_upto(a.a + r * a.a_stride + i, left));
  }
};
struct Scale {
  const RowArgs& a;
  V operator()(Index r, Index i, Index left) const {
    return mul(load_upto(a.out + r * a.out_stride + i, left), set1(a.value));
  }
};
struct Softcap {
  const RowArgs& a;
  V operator()(Index r, Index i, Index left) const {
    const V x = load_upto(a.out + r * a.out_stride + i, left);
    return mul(set1(a.value), tanh(div(x, set1(a.value))));
  }
};

struct Silu {
  BITTERN_INLINE V of(V x) { return div(x, add(set1(1.0f), exp(sub(zero(), x)))); }
};
struct GeluTanh {
  BITTERN_INLINE V of(V x) {
    const V inner = mul(set1(0.7978845608028654f), mul(x, fma(mul(x, x), set1(0.044715f), set1(1.0f))));
    const V half = mul(set1(0.5f), x);
    return fma(half, tanh(inner), half);
  }
};
struct GeluErf {
  /// x/2 (1 + erf(x/sqrt 2)); erf by the complementary form 1 - t(...) e^(-z^2), t = 1/(1 + pz) (coefficients fitted
  /// to 6e-08 relative), which keeps the small left tail accurate too.
  BITTERN_INLINE V of(V x) {
    const V z = mul(abs(x), set1(0.7071067811865476f));
    const V t = div(set1(1.0f), fma(set1(kErfP), z, set1(1.0f)));
    V p = set1(kErf[kErfTerms - 1]);
    for (int i = kErfTerms - 2; i >= 0; --i) p = fma(p, t, set1(kErf[i]));
    const V complement = mul(mul(p, t), exp(sub(zero(), mul(z, z))));  // erfc(z), z >= 0
    const V half = mul(set1(0.5f), x);
    const V positive = sub(x, mul(half, complement));
    return select(less(x, zero()), mul(half, complement), positive);
  }
  static constexpr int kErfTerms = 8;
  static constexpr float kErfP = 0.320000000f;
  static constexpr float kErf[kErfTerms] = {1.814736142e-01f, 1.669478503e-01f,  2.564587444e-01f, -1.460646882e-01f,
                                            7.651550816e-01f, -7.427600518e-01f, 6.938339018e-01f, -1.750444377e-01f};
};

template <class Act>
struct Gated {
  const RowArgs& a;
  V operator()(Index r, Index i, Index left) const {
    const V gate = load_upto(a.a + r * a.a_stride + i, left);
    return mul(Act::of(gate), load_upto(a.b + r * a.b_stride + i, left));
  }
};

void add_rows(const RowArgs* a) { each(*a, Add{*a}); }
void scale_rows(const RowArgs* a) { each(*a, Scale{*a}); }
void softcap_rows(const RowArgs* a) { each(*a, Softcap{*a}); }
template <class Act>
void gated_rows(const RowArgs* a) {
  each(*a, Gated<Act>{*a});
}

}  // namespace

void BITTERN_ISA_NAME(fill_elements)(ElementTable* table) {
  table->rms_norm = rms_norm;
  table->add_rms_norm = add_rms_norm;
  table->add = add_rows;
  table->scale = scale_rows;
  table->softcap = softcap_rows;
  table->gated[0] = gated_rows<Silu>;
  table->gated[1] = gated_rows<GeluTanh>;
  table->gated[2] = gated_rows<GeluErf>;
}

}  // namespace bittern::cpu
