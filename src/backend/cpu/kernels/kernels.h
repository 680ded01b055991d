// kernels.h: what the ISA files and the rest of the CPU backend share: plain argument structs and one table of
// function pointers per instruction set. ISA files include nothing else of ours but simd.h, so no code compiled for one
// instruction set can be linked in place of code for another. Shapes are checked by the callers, never here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bittern::cpu {

using Index = std::int64_t;

/// How a tile of sixteen outputs is laid out. A tile is `in` rounded up to whole steps of 64 bytes, one after another;
/// outputs lie in lanes, so a sum runs along memory and never across lanes.
enum class TileKind : std::uint8_t {
  f32,   // step = 1 input:  16 x f32
  bf16,  // step = 2 inputs: 16 x (input 2s, input 2s+1)
  f16,   // step = 2 inputs: 16 x input 2s, then 16 x input 2s+1
  // Grouped kinds: every group opens with a header (GroupHeader) and starts on a step.
  w4,    // step = 8 inputs: 16 dwords of 8 nibbles, each q - 8 in two's complement
  t4,    // step = 8 inputs: 16 dwords of 8 nibbles, each an index into a table of sixteen numbers
  w8,    // step = 4 inputs: 16 dwords of 4 bytes, each q - center in two's complement
  e4m3,  // step = 4 inputs: 16 bytes of input 4s, then 16 of each of the next three; scales are 256 times the format's
};
constexpr int kTileKinds = 7;

constexpr int kTileOutputs = 16;
constexpr int kStepBytes = 64;

/// What opens a group of sixteen outputs, padded to whole 64 bytes. Scales are f16 where that loses nothing.
enum class GroupHeader : std::uint8_t {
  f16_zeros,    // 16 scales as f16, 16 zeros as u8
  f32_zeros,    // 16 scales as f32, 16 zeros as u8
  f32_offsets,  // 16 scales, then 16 offsets, as f32
};

constexpr Index kPanelInputs = 128;   // inputs of one dequantized panel
constexpr Index kPanelMaxRows = 256;  // rows of x one panel call may take
constexpr Index kPanelMaxTiles = 4;
/// Scratch of one panel call, in floats: the panel and two accumulators per output.
constexpr Index kPanelScratch = kPanelInputs * kPanelMaxTiles * 16 + 2 * kPanelMaxRows * kPanelMaxTiles * 16;

/// rows [row_begin, row_end) of x times tiles [tile_begin, tile_end) of w, plus bias.
struct LinearArgs {
  const float* x;
  Index x_stride;  // floats from row to row; every row is readable to `in` rounded up to a step, zero there
  float* out;
  Index out_stride;
  const float* bias;  // (outputs) or null
  const std::uint8_t* tiles;
  Index tile_bytes;
  Index inputs, outputs;
  Index group, groups;  // grouped, as are the next four
  GroupHeader header;
  float center;                 // what was taken off every code: w = (stored + center - zero) * scale
  const float* table;           // t4: sixteen numbers
  const float* group_sums;      // (rows, groups) sums of x over each group
  const std::uint16_t* x_bf16;  // bf16 dot kernels: x rounded, rows of x_bf16_stride
  Index x_bf16_stride;
  const std::int8_t* x_int8;  // rows of x, zeros from inputs to a whole step; for w4 of every 8 the even ones first
  Index x_int8_stride;
  const float* x_scales;       // int8 kernels: (rows, groups); w8a8: (rows)
  const std::int32_t* x_sums;  // (rows, groups) sums of x_int8; int8 kernels: as their round_row writes them
  Index row_begin, row_end, tile_begin, tile_end;
  float* scratch;  // kPanelScratch floats, 64-byte aligned; panel kernels only
};
using LinearFn = void (*)(const LinearArgs*);

/// The linear kernels of one instruction set, indexed by TileKind.
struct LinearTable {
  LinearFn direct[kTileKinds];  // reads the packing as it goes: best for a few rows
  LinearFn panel[kTileKinds];   // dequantizes a panel once and multiplies it with many rows
  void (*group_sums)(const float* x, Index inputs, Index group, float* sums);
  int direct_tiles, panel_tiles;  // tiles a call takes at once: the unit in which work is split
};

/// Elementwise operations and norms on `rows` rows of `width` floats.
struct RowArgs {
  float* out;
  Index out_stride;
  const float* a;
  Index a_stride;
  const float* b;
  Index b_stride;
  const float* weight;
  Index rows, width;
  float value;  // eps, factor or cap
};
using RowFn = void (*)(const RowArgs*);

struct ElementTable {
  RowFn rms_norm;      // out = a / rms(a) * weight
  RowFn add_rms_norm;  // a += b in place (a is the residual), then out = norm of a
  RowFn add;           // out += a
  RowFn scale;         // out *= value
  RowFn softcap;       // out = value * tanh(out / value)
  RowFn gated[3];      // out = act(a) * b, indexed by Activation: silu, gelu_tanh, gelu_erf
};

/// How keys and values of one head lie in a block (offsets: CpuKvPool in kv_pool.h).
/// int8_static codes are q + 128; its scales and zeros per channel never reach a kernel: those of K are folded into q
/// and q_sums, those of V applied to the finished row.
enum class KvKind : std::uint8_t { f32, f16, bf16, int8, int4, int8_static };

struct KvGeometry {
  KvKind kind;
  Index head_dim;
  Index padded_dim;  // head_dim rounded up to 16
  Index block_tokens;
  Index groups;        // ceil(block_tokens / 16)
  Index head_bytes;    // one head of one block: K, V, parameters
  Index v_offset;      // within a head
  Index param_offset;  // within a head: K scale, K zero, V scale, V zero, each f32 (groups * 16)
  Index v_token_bytes;
  Index k_group_bytes;  // sixteen tokens of K
};

/// One task of attention: some query rows of one KV head against chunks [chunk_begin, chunk_end) of the context.
struct AttendArgs {
  KvGeometry kv;
  const std::uint8_t* layer;   // this layer's part of block 0, first head
  Index block_stride;          // bytes from block to block
  Index head_offset;           // bytes to this KV head within a block
  const std::int32_t* blocks;  // block table of the sequence
  Index chunk_tokens;          // a multiple of block_tokens, the same for every task
  Index chunk_begin, chunk_end;
  Index rows;                 // query rows of this task, at most kAttendMaxRows
  const float* q;             // (rows, padded_dim) scaled, zero padded
  const float* q_sums;        // (rows) for quantized K: sums of q; for static K what q . zero adds to every score
  const std::int32_t* begin;  // (rows) first visible position
  const std::int32_t* end;    // (rows) one past the last visible position
  float softcap;
  float* state;    // (rows, kStateHead + padded_dim): running max, sum, then weighted V
  float* scores;   // scratch (rows, chunk_tokens / block_tokens * groups * 16)
  float* partial;  // scratch (rows, padded_dim)
};
constexpr Index kAttendMaxRows = 32;
constexpr Index kStateHead = 16;  // floats before the values of a state: max, sum, padding

struct AttendTable {
  /// Starts from an empty state and folds the chunks in, in order.
  void (*attend)(const AttendArgs*);
  /// into = into merged with from, for `rows` states.
  void (*merge)(float* into, const float* from, Index rows, Index padded_dim);
  /// out[0, head_dim) of one row = its values divided by its sum.
  void (*finish)(float* out, const float* state, Index head_dim);
};

/// What a machine can do at most, for benchmarks.
struct LimitTable {
  /// Reads all floats once in 1, 2, 4 or 8 parallel streams; returns their sum, so that nothing is left out.
  float (*read_memory)(const float* data, Index floats, int streams);
  /// `rounds` times flops_per_round floating point operations in registers.
  float (*multiply_add)(Index rounds);
  Index flops_per_round;
};

/// Likewise for the dot products that some machines have.
struct DotLimit {
  /// `rounds` times operations_per_round multiplications and additions in registers; the result depends on all.
  float (*run)(Index rounds);
  Index operations_per_round;
};

struct KernelTable {
  const char* isa;
  LinearTable linear;
  ElementTable element;
  AttendTable attend;
  LimitTable limit;
};

/// Kernels that only AVX512-BF16 has.
struct Bf16DotTable {
  LinearFn dense, w4;  // panel kernels over x_bf16
  void (*round_row)(const float* x, Index inputs, std::uint16_t* to);
  int tiles;  // the unit in which outputs are split
};

/// Kernels that only AVX512-VNNI has, over x_int8, x_scales and x_sums.
struct Int8DotTable {
  LinearFn w4, w8;
  /// x to codes, symmetric per group, to nearest even: codes up to a whole step of w4 (`nibbles`) or w8 tiles; scales
  /// and sums one per group. The scale of a group that is not finite is NaN.
  void (*round_row)(const float* x, Index inputs, Index group, bool nibbles, std::int8_t* codes, float* scales,
                    std::int32_t* sums);
  int tiles;  // the unit in which outputs are split
};

/// Inputs of a group whose sum of products these can open: 128 * 32767 over 127.
constexpr Index kInt8MaxGroup = 32768;

/// Rows whose largest size is at most this round to zeros: 127 divided by less may overflow.
constexpr float kSmallestRounded = 1e-30f;

/// Integer arithmetic over w8 tiles, the same bits on every instruction set.
struct W8A8Table {
  LinearFn run;  // over x_int8, x_scales and x_sums
  /// x to codes, symmetric, to nearest even; returns the scale: largest |x| / 127, or NaN for a row that is not finite.
  float (*round_row)(const float* x, Index inputs, std::int8_t* codes);
  int tiles;  // the unit in which outputs are split
};
/// Inputs of a group whose sum of products (255 * 127 at most) an int32 holds.
constexpr Index kW8A8MaxGroup = 65536;

const KernelTable* kernel_table_generic();
const KernelTable* kernel_table_avx2();
const KernelTable* kernel_table_avx512();
const Bf16DotTable* linear_bf16dot_table();
const Int8DotTable* linear_int8dot_table();
const DotLimit* bf16_dot_limit();  // AVX512-BF16
const DotLimit* int8_dot_limit();  // AVX512-VNNI
const W8A8Table* w8a8_table_generic();
const W8A8Table* w8a8_table_avx2();
const W8A8Table* w8a8_table_avx512();
const W8A8Table* w8a8_table_avx512vnni();

}  // namespace bittern::cpu
