// simd_pair.h: a vector made of two vectors of half the width, every function applied to both halves.
// AVX2 gets its sixteen lanes as one pair, plain SSE (or any 128-bit set) as a pair of pairs. The functions of the
// half come from the header that includes this one, before it does; nothing here knows an instruction.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd_make.h"

namespace bittern::cpu {
namespace {

template <class H>
struct Pair {
  H lo, hi;
};

template <class H>
struct LanesOf<Pair<H>> {
  static constexpr int value = 2 * LanesOf<H>::value;
};

// Loads and constants name the type they make; Make<V>::load(p) and so on.
template <class H>
struct Make<Pair<H>> {
  static constexpr int kHalf = LanesOf<H>::value;
  using P = Pair<H>;
  using MH = Make<H>;
  BITTERN_INLINE P set1(float x) { return {MH::set1(x), MH::set1(x)}; }
  BITTERN_INLINE P load(const float* p) { return {MH::load(p), MH::load(p + kHalf)}; }
  BITTERN_INLINE P load_bf16(const std::uint16_t* p) { return {MH::load_bf16(p), MH::load_bf16(p + kHalf)}; }
  BITTERN_INLINE P load_f16(const std::uint16_t* p) { return {MH::load_f16(p), MH::load_f16(p + kHalf)}; }
  BITTERN_INLINE P load_e4m3(const std::uint8_t* p) { return {MH::load_e4m3(p), MH::load_e4m3(p + kHalf)}; }
  BITTERN_INLINE P load_u8(const std::uint8_t* p) { return {MH::load_u8(p), MH::load_u8(p + kHalf)}; }
};
template <class H>
struct MakeBits<Pair<H>> {
  BITTERN_INLINE Pair<H> load(const void* p) {
    const char* c = static_cast<const char*>(p);
    return {MakeBits<H>::load(c), MakeBits<H>::load(c + sizeof(H))};
  }
  BITTERN_INLINE Pair<H> set1(std::int32_t x) { return {MakeBits<H>::set1(x), MakeBits<H>::set1(x)}; }
  BITTERN_INLINE Pair<H> load_u8(const std::uint8_t* p) {
    return {MakeBits<H>::load_u8(p), MakeBits<H>::load_u8(p + sizeof(H) / 4)};
  }
};

#define BITTERN_PAIR_1(name)               \
  template <class H>                       \
  BITTERN_INLINE Pair<H> name(Pair<H> a) { \
    return {name(a.lo), name(a.hi)};       \
  }
#define BITTERN_PAIR_2(name)                          \
  template <class H>                                  \
  BITTERN_INLINE Pair<H> name(Pair<H> a, Pair<H> b) { \
    return {name(a.lo, b.lo), name(a.hi, b.hi)};      \
  }
#define BITTERN_PAIR_3(name)                                     \
  template <class H>                                             \
  BITTERN_INLINE Pair<H> name(Pair<H> a, Pair<H> b, Pair<H> c) { \
    return {name(a.lo, b.lo, c.lo), name(a.hi, b.hi, c.hi)};     \
  }
BITTERN_PAIR_1(abs)
BITTERN_PAIR_1(round)
BITTERN_PAIR_2(add)
BITTERN_PAIR_2(sub)
BITTERN_PAIR_2(mul)
BITTERN_PAIR_2(div)
BITTERN_PAIR_2(max)
BITTERN_PAIR_2(min)
BITTERN_PAIR_2(copy_sign)
BITTERN_PAIR_2(scale_by_power)
BITTERN_PAIR_2(add_int)
BITTERN_PAIR_2(sub_int)
BITTERN_PAIR_2(mul_int)
BITTERN_PAIR_3(dot_bytes)
BITTERN_PAIR_3(fma)
BITTERN_PAIR_3(fnma)
#undef BITTERN_PAIR_1
#undef BITTERN_PAIR_2
#undef BITTERN_PAIR_3

template <class H>
BITTERN_INLINE auto less(Pair<H> a, Pair<H> b) -> Pair<decltype(less(a.lo, b.lo))> {
  return {less(a.lo, b.lo), less(a.hi, b.hi)};
}
template <class MH, class H>
BITTERN_INLINE Pair<H> select(Pair<MH> m, Pair<H> yes, Pair<H> no) {
  return {select(m.lo, yes.lo, no.lo), select(m.hi, yes.hi, no.hi)};
}
template <class H>
BITTERN_INLINE void store(float* p, Pair<H> v) {
  store(p, v.lo);
  store(p + LanesOf<H>::value, v.hi);
}
// The halves meet first, so that every instruction set adds in the same order.
template <class H>
BITTERN_INLINE float sum_lanes(Pair<H> v) {
  return sum_lanes(add(v.lo, v.hi));
}
template <class H>
BITTERN_INLINE float max_lanes(Pair<H> v) {
  return max_lanes(max(v.lo, v.hi));
}
// Of dwords of bits to floats: F is the float vector that goes with the bits.
template <class H>
struct FloatOf<Pair<H>> {
  using type = Pair<typename FloatOf<H>::type>;
};
template <class H>
BITTERN_INLINE typename FloatOf<Pair<H>>::type bf16_low(Pair<H> w) {
  return {bf16_low(w.lo), bf16_low(w.hi)};
}
template <class H>
BITTERN_INLINE typename FloatOf<Pair<H>>::type bf16_high(Pair<H> w) {
  return {bf16_high(w.lo), bf16_high(w.hi)};
}
template <class H>
BITTERN_INLINE typename FloatOf<Pair<H>>::type to_float(Pair<H> w) {
  return {to_float(w.lo), to_float(w.hi)};
}
template <int i, class H>
BITTERN_INLINE typename FloatOf<Pair<H>>::type nibble_signed(Pair<H> w) {
  return {nibble_signed<i>(w.lo), nibble_signed<i>(w.hi)};
}
template <int j, class H>
BITTERN_INLINE typename FloatOf<Pair<H>>::type byte_signed(Pair<H> w) {
  return {byte_signed<j>(w.lo), byte_signed<j>(w.hi)};
}
template <int i, class H>
BITTERN_INLINE typename FloatOf<Pair<H>>::type lookup_nibble(Pair<H> w, const LookupTable& t) {
  return {lookup_nibble<i>(w.lo, t), lookup_nibble<i>(w.hi, t)};
}
template <int i, class H>
BITTERN_INLINE typename FloatOf<Pair<H>>::type nibble_unsigned(Pair<H> w) {
  return {nibble_unsigned<i>(w.lo), nibble_unsigned<i>(w.hi)};
}

}  // namespace
}  // namespace bittern::cpu
