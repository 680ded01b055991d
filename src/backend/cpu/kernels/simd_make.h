// simd_make.h: the names by which simd_pair.h finds the half it doubles. Nothing is defined here.
// A vector header includes it, specializes the templates for its register type, and only then includes simd_pair.h,
// because unqualified calls on register types are looked up where the pair is defined.
#pragma once

namespace bittern::cpu {
namespace {

template <class T>
struct LanesOf;  // value: floats in T
template <class I>
struct FloatOf;  // type: the float vector with as many lanes as the dword vector I
template <class T>
struct Make;  // static functions that make a T from memory
template <class I>
struct MakeBits;  // the same for dwords

}  // namespace
}  // namespace bittern::cpu
