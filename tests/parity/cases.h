// The table of problems that every backend must solve like the reference: operations x formats x shapes, as plain data.
// Shapes are chosen to meet the edges of any kernel: one row, odd sizes, one more and one less than a vector or a tile,
// ragged last groups. The same rows can be timed. It holds no inputs (problems.h makes them) and no tolerances.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.h"

namespace bittern::parity {

/// out (rows, outputs) = x (rows, inputs) . w^T.
struct LinearCase {
  std::int64_t rows, inputs, outputs;
  bool bias = false;
  bool strided = false;  // x and out are column slices of wider rows

  std::string name() const {
    return std::to_string(rows) + " x " + std::to_string(inputs) + " -> " + std::to_string(outputs) +
           (bias ? " bias" : "") + (strided ? " strided" : "");
  }
  double flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(inputs) * static_cast<double>(outputs);
  }
};

/// How the weight of a LinearCase is stored; group_size -1 makes all inputs one group.
struct WeightCase {
  Format format;
  bool f16_scales = true;  // grouped: scales that f16 holds exactly, as checkpoints store them
  Weight::Shift shift = Weight::Shift::zeros;
  bool reordered = false;  // grouped: columns in another order than the inputs

  std::string name() const {
    if (format.kind == FormatKind::dense) return format.name();
    const std::string codes =
        format.codes == Codes::integer ? "int" + std::to_string(format.bits) : std::string(codes_name(format.codes));
    return codes + "_g" + (format.group_size < 0 ? "all" : std::to_string(format.group_size)) +
           (f16_scales ? "" : "_f32scales") + (shift == Weight::Shift::offsets ? "_offsets" : "") +
           (reordered ? "_reordered" : "") + (format.int8_activations ? "_a8" : "");
  }
};

/// The same format, made for activations rounded to 8 bits.
inline Format with_int8_activations(Format format) {
  format.int8_activations = true;
  return format;
}

inline std::vector<WeightCase> weight_cases() {
  constexpr Weight::Shift kOffsets = Weight::Shift::offsets;
  return {{Format::dense(DType::f32)},
          {Format::dense(DType::f16)},
          {Format::dense(DType::bf16)},
          {Format::int4(32)},
          {Format::int4(64), false},
          {Format::int4(128)},
          {Format::int4(-1)},
          {Format::int4(20)},        // groups that end inside a byte boundary of any kernel
          {Format::int4(7), false},  // odd groups: a group begins in a high nibble
          {Format::int4(32), true, Weight::Shift::zeros, true},
          {Format::int4(32), true, kOffsets},
          {Format::grouped(2, 16)},
          {Format::grouped(3, 64), false},
          {Format::grouped(5, 32), true, kOffsets},
          {Format::grouped(6, 16)},
          {Format::grouped(8, -1)},
          {Format::grouped(8, 32), false},
          {Format::grouped(8, 300), true},  // longer than a panel
          {Format::grouped(8, 64), false, Weight::Shift::zeros, true},
          {Format::grouped(8, 3)},
          {Format::grouped(4, 32, Codes::e2m1), false},
          {Format::grouped(4, 32, Codes::iq4_nl)},
          {Format::grouped(8, 128, Codes::e4m3)},
          {Format::grouped(8, -1, Codes::e4m3), false},
          {with_int8_activations(Format::grouped(8, -1)), false},
          {with_int8_activations(Format::grouped(8, 32)), true, Weight::Shift::zeros, true},
          {with_int8_activations(Format::grouped(6, 64)), false},
          {with_int8_activations(Format::int4(32))},  // rounds, but has no integer kernel
          {with_int8_activations(Format::grouped(8, 128)), true, kOffsets}};
}

inline std::vector<LinearCase> linear_cases() {
  return {
      {1, 128, 64},
      {1, 256, 200, true},
      {1, 64, 1},
      {1, 1, 17},
      {1, 172, 64, true},
      {1, 129, 33, false, true},
      {2, 100, 48, true},
      {3, 96, 31},
      {5, 160, 16},
      {7, 255, 65, true, true},
      {8, 128, 128},
      {9, 300, 15, true},
      {10, 33, 7},
      {15, 64, 257},
      {16, 512, 96},
      {17, 172, 100, true, true},
      {31, 40, 24},
      {33, 256, 80, true},
      {64, 136, 112},
      {65, 31, 49, false, true},
      {130, 129, 70},
      {257, 96, 36, true},
      {300, 64, 130, true, true},
  };
}

/// Operations that look at one row of `width` values at a time.
enum class RowOp {
  rms_norm,
  rms_norm_in_place,
  rms_norm_heads,
  add_rms_norm,
  add,
  silu,
  gelu_tanh,
  gelu_erf,
  softcap,
  scale,
  gather
};

inline const char* row_op_name(RowOp op) {
  constexpr const char* kNames[] = {"rms_norm",  "rms_norm_in_place", "rms_norm_heads", "add_rms_norm", "add",   "silu",
                                    "gelu_tanh", "gelu_erf",          "softcap",        "scale",        "gather"};
  return kNames[static_cast<int>(op)];
}

inline std::vector<RowOp> row_ops() {
  return {RowOp::rms_norm, RowOp::rms_norm_in_place, RowOp::rms_norm_heads, RowOp::add_rms_norm, RowOp::add,
          RowOp::silu,     RowOp::gelu_tanh,         RowOp::gelu_erf,       RowOp::softcap,      RowOp::scale,
          RowOp::gather};
}

struct RowCase {
  std::int64_t rows, width;
  bool strided = false;

  std::string name() const {
    return std::to_string(rows) + " x " + std::to_string(width) + (strided ? " strided" : "");
  }
};

inline std::vector<RowCase> row_cases() {
  return {{1, 1},   {1, 15, true}, {1, 64},        {2, 16, true}, {3, 17},          {5, 33, true},
          {8, 256}, {9, 100},      {33, 31, true}, {64, 896},     {130, 129, true}, {1, 4096}};
}

/// One sequence of a step: `past` tokens are already in the cache, `fresh` ones arrive in this step.
struct SequenceCase {
  int past, fresh;
};

struct AttentionCase {
  int q_heads, kv_heads, head_dim;
  int block_tokens;
  std::vector<SequenceCase> sequences;
  int window = 0;
  float softcap = 0;
  int rotary_dim = 0;  // 0: no rotation
  bool interleaved = false;

  std::string name() const {
    std::string text = std::to_string(q_heads) + "/" + std::to_string(kv_heads) + " heads of " +
                       std::to_string(head_dim) + ", blocks of " + std::to_string(block_tokens) + ", sequences";
    for (const SequenceCase& s : sequences) text += " " + std::to_string(s.past) + "+" + std::to_string(s.fresh);
    if (window) text += ", window " + std::to_string(window);
    if (softcap > 0) text += ", softcap";
    if (rotary_dim) text += ", rotary " + std::to_string(rotary_dim) + (interleaved ? " interleaved" : "");
    return text;
  }
};

inline std::vector<AttentionCase> attention_cases() {
  return {
      {1, 1, 16, 16, {{0, 1}}},
      {4, 2, 64, 64, {{0, 33}}, 0, 0, 64},
      {4, 2, 64, 64, {{70, 1}, {0, 1}, {127, 1}, {128, 1}}, 0, 0, 64},
      {8, 8, 80, 16, {{5, 1}, {0, 17}, {40, 9}}, 0, 0, 32},  // partial rotation
      {8, 1, 128, 64, {{300, 1}, {63, 2}, {64, 3}}, 0, 0, 128},
      {14, 2, 64, 32, {{100, 7}, {31, 1}}, 0, 0, 64},    // Qwen2 0.5B's ratio of 7
      {6, 3, 33, 16, {{20, 5}, {0, 16}}, 0, 0, 32},      // odd head_dim
      {3, 1, 20, 8, {{0, 9}, {30, 1}}, 0, 0, 20, true},  // interleaved pairs
      {4, 4, 1, 16, {{3, 4}}},
      {4, 2, 96, 64, {{0, 130}}, 0, 0, 96},
      {2, 1, 256, 64, {{90, 3}, {200, 1}}, 0, 50.0f, 256},  // Gemma2: soft cap
      {4, 1, 112, 16, {{50, 20}, {10, 1}}, 16, 0, 112},     // window inside a block and across
      {4, 2, 64, 64, {{200, 1}, {0, 150}, {63, 66}}, 65, 30.0f, 64},
      {2, 2, 48, 16, {{40, 4}}, 1},                         // a window of the token itself
      {8, 1, 128, 64, {{511, 1}, {515, 2}}, 4096, 0, 128},  // window longer than the context
      {1, 1, 17, 4, {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {0, 5}, {7, 2}}, 3},
  };
}

inline std::vector<KvFormat> kv_formats() {
  return {KvFormat::f32, KvFormat::f16, KvFormat::bf16, KvFormat::int8, KvFormat::int4, KvFormat::int8_static};
}

}  // namespace bittern::parity
