// Backend: the one seam between models and hardware, about 25 coarse operations on Tensors, virtual at the grain of an
// operation so that the call costs nothing beside the work. A backend owns its packings, its KV layout and its device
// types; nothing above this header knows them. There is no graph and no operator registry here: a model calls these
// functions in order.
//
// Conventions. Activations are rank-2 Tensors (tokens, width) in `activation_dtype()`, rows possibly strided. Outputs
// never alias inputs except where "in place" is said. Functions may be asynchronous until synchronize(). Shapes that do
// not fit are bugs of the caller (BITTERN_CHECK), never errors of the user.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/kv_params.h"
#include "tensor/saved_packing.h"
#include "tensor/tensor.h"
#include "tensor/weight.h"

namespace bittern {

/// How keys and values are stored in the pool (design.md section 4).
/// int8 and int4 take their scales from each token as it is stored; int8_static ("int8-static") from calibration.
enum class KvFormat : std::uint8_t { f32, f16, bf16, int8, int4, int8_static };
std::string_view kv_format_name(KvFormat format);

/// Geometry of the KV cache of one model.
struct KvSpec {
  KvFormat format = KvFormat::bf16;
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int block_tokens = 64;                                          // tokens of one block
  std::shared_ptr<const KvStaticParams> static_params = nullptr;  // int8_static only, which cannot do without
};

/// Device memory for `blocks` blocks of a KvSpec; its layout is private to the backend that made it.
class KvPool {
 public:
  KvPool(KvSpec spec, std::int64_t blocks) : spec_(spec), blocks_(blocks) {}
  virtual ~KvPool() = default;
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;
  const KvSpec& spec() const { return spec_; }
  std::int64_t blocks() const { return blocks_; }

 private:
  KvSpec spec_;
  std::int64_t blocks_;
};

/// A linear weight or table in the private layout of the backend that prepared it.
class PackedWeight {
 public:
  PackedWeight(Format format, std::int64_t out, std::int64_t in) : format_(format), out_(out), in_(in) {}
  virtual ~PackedWeight() = default;
  PackedWeight(const PackedWeight&) = delete;
  PackedWeight& operator=(const PackedWeight&) = delete;
  const Format& format() const { return format_; }
  std::int64_t out() const { return out_; }
  std::int64_t in() const { return in_; }
  /// Bytes resident for this weight.
  virtual std::int64_t bytes() const = 0;
  /// Whether those bytes are a mapped file, which processes share and the kernel may drop, and not memory of its own.
  virtual bool mapped() const { return false; }

 private:
  Format format_;
  std::int64_t out_, in_;
};

/// Owned device memory; `data` may be dereferenced on the host only for host backends.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual void* data() const = 0;
  virtual std::int64_t bytes() const = 0;
};

/// The ragged batch of one step, as arrays the attention operations read. Sequences lie one after another:
/// sequence s owns rows [q_start[s], q_start[s+1]) of every activation. Host memory, valid during the step.
struct BatchView {
  int tokens = 0;
  int sequences = 0;
  std::span<const std::int32_t> token_ids;     // (tokens)
  std::span<const std::int32_t> positions;     // (tokens) position of each token in its sequence, 0-based
  std::span<const std::int32_t> q_start;       // (sequences + 1)
  std::span<const std::int32_t> context;       // (sequences) tokens in the KV cache once this step has stored its own
  std::span<const std::int32_t> rope_length;   // (sequences) length that length-dependent rope scaling uses
  std::span<const std::int32_t> block_tables;  // (sequences, max_blocks) block ids
  int max_blocks = 0;
};

/// q, k, v are (tokens, heads, head_dim) views; k and v have kv_heads heads.
struct RopeStoreArgs {
  Tensor q, k, v;
  Tensor cos, sin;  // f32 (tokens, rotary_dim / 2), already scaled by the attention factor; rank 0: no rotation
  bool interleaved = false;  // pairs (2i, 2i+1) instead of (i, i + rotary_dim/2)
  int layer = 0;
};

struct AttentionArgs {
  Tensor q;    // (tokens, q_heads, head_dim), rotated
  Tensor out;  // (tokens, q_heads, head_dim)
  int layer = 0;
  float scale = 0;    // multiplies q.k
  float softcap = 0;  // 0: none; otherwise scores become softcap * tanh(score / softcap)
  int window = 0;     // 0: all; otherwise a query sees itself and the window-1 tokens before it
};

enum class Activation : std::uint8_t { silu, gelu_tanh, gelu_erf };

/// How activations are rounded for a weight whose format says int8_activations (W8A8): per row of x, over the whole
/// row, scale = max|x| / 127 and q = round(x * (127 / max|x|)) to nearest even, both computed in f32; the row then
/// counts as q * scale. A row whose max|x| is at most this counts as zeros; one with an infinity or a NaN gives NaN
/// throughout.
inline constexpr float kSmallestRoundedActivation = 1e-30f;

/// What was chosen, for `bittern env` and logs.
struct KernelChoice {
  std::string operation;  // "linear int4 g128"
  std::string kernel;     // "w4_fma_avx512"
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;    // "ref", "cpu", "cuda"
  virtual std::string description() const = 0;  // "cpu (avx512, 2 threads)"
  virtual std::vector<KernelChoice> kernel_choices() const = 0;
  virtual DType activation_dtype() const { return DType::f32; }
  /// True when device memory may be read by the host directly.
  virtual bool host_memory() const { return true; }

  // --- memory ---
  virtual std::unique_ptr<DeviceBuffer> allocate(std::int64_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device, std::int64_t bytes) = 0;
  virtual void copy_to_device(void* device, const void* host, std::int64_t bytes) = 0;
  virtual void synchronize() {}

  // --- weights ---
  /// Packs a weight for `linear`. Any Format must work; may run in parallel and release the source afterwards.
  virtual std::unique_ptr<PackedWeight> prepare(const Weight& weight) = 0;
  /// Packs a table for `embed`. With `also_linear` the same packing serves as a tied output head.
  virtual std::unique_ptr<PackedWeight> prepare_table(const Weight& weight, bool also_linear) = 0;
  /// A vector (norm weight, bias) as f32 on the device, `offset` added to every element (Gemma's 1 + w).
  virtual std::unique_ptr<DeviceBuffer> prepare_vector(const Weight& weight, float offset) = 0;

  // --- saved packings ---
  /// The layout this backend packs in, when it can save packings; otherwise its name is empty.
  virtual PackingLayout packing_layout() const { return {}; }
  /// The packing as bytes, valid while `weight` lives; nullopt for a weight whose codes the packing does not hold (it
  /// was decoded), which must be saved in canonical form.
  virtual std::optional<SavedPacking> save_packing(const PackedWeight& weight) const;
  /// A weight over the saved bytes, which are not copied; `keep` is held. `for_linear`: it will be used by linear, not
  /// by embed alone. Error(invalid_checkpoint) when the parts do not fit each other; null when the packing is of
  /// another layout or of no use here, and must be unpacked and prepared anew.
  virtual std::unique_ptr<PackedWeight> adopt_packing(const SavedPacking& saved, bool for_linear);

  // --- KV cache ---
  /// True when the pool can store this spec (any head_dim is expected to work).
  virtual bool supports(const KvSpec& spec) const = 0;
  /// Bytes one block takes over all layers, parameters of quantized formats included.
  virtual std::int64_t kv_block_bytes(const KvSpec& spec) const = 0;
  /// Error(invalid_argument) when int8_static has no parameters that fit (check_kv_params).
  virtual std::unique_ptr<KvPool> make_kv_pool(const KvSpec& spec, std::int64_t blocks) = 0;

  // --- operations ---
  /// out[i] = table row ids[i] * scale.
  virtual void embed(Tensor out, const PackedWeight& table, std::span<const std::int32_t> ids, float scale) = 0;
  /// out (tokens, w.out) = x (tokens, w.in) . w^T + bias. bias: f32 (out) or null. out may be strided.
  virtual void linear(Tensor out, Tensor x, const PackedWeight& w, const DeviceBuffer* bias) = 0;
  /// Normalizes the last dimension of x (rank 2 or 3) into out, which may be x itself.
  virtual void rms_norm(Tensor out, Tensor x, const DeviceBuffer& weight, float eps) = 0;
  /// residual += x (in place), then out = rms_norm(residual). Composed by default; backends fuse it.
  virtual void add_rms_norm(Tensor out, Tensor residual, Tensor x, const DeviceBuffer& weight, float eps);
  /// x += y, in place.
  virtual void add(Tensor x, Tensor y) = 0;
  /// out = act(gate) * up; gate and up are (tokens, width) views, out may alias neither.
  virtual void gated_activation(Tensor out, Tensor gate, Tensor up, Activation activation) = 0;
  /// x = cap * tanh(x / cap), in place.
  virtual void softcap(Tensor x, float cap) = 0;
  /// x *= factor, in place.
  virtual void scale(Tensor x, float factor) = 0;
  /// out[i] = x[rows[i]].
  virtual void gather_rows(Tensor out, Tensor x, std::span<const std::int32_t> rows) = 0;
  /// Rotates q and k in place and stores k, v of every token at its position in the pool, quantizing as the pool says.
  virtual void rope_store(const RopeStoreArgs& args, const BatchView& batch, KvPool& pool) = 0;
  /// Causal attention of every query token over its sequence's blocks in the pool (which already hold this step's k,
  /// v).
  virtual void attention(const AttentionArgs& args, const BatchView& batch, const KvPool& pool) = 0;
  /// Reads back the first `tokens` cached k and v of a sequence, dequantized: f32 (tokens, kv_heads, head_dim) on the
  /// host. For tests and for measuring KV error; not on the hot path.
  virtual void read_kv(const KvPool& pool, int layer, std::span<const std::int32_t> blocks, std::int64_t tokens,
                       float* k, float* v) const = 0;
};

struct BackendOptions {
  int threads = 0;             // 0: the cores this process may use
  std::string isa;             // cpu: "" best, or "generic", "avx2", "avx512", "avx512vnni", "avx512bf16" to force down
  bool deterministic = false;  // only kernels whose result for a row does not depend on the rest of the batch
  std::string kernel_pin;      // "gemm=NAME", as BITTERN_KERNEL
  std::string compute;         // "" or "auto": activations keep 32 bits, but are rounded to 8 for weights whose format
                               // says so; "f32": always kept. cpu only: "bf16": rounded to bf16 for many rows (with
                               // avx512bf16); "int8": to 8 bits per group for integer codes (with avx512vnni)
};

/// The format `--kv-cache` names: f32, f16, bf16, int8, int4, int8-static, or auto: bf16, and f32 on ref, which is the
/// oracle. Error(invalid_argument) lists them for another name.
KvFormat parse_kv_format(std::string_view name, const Backend& backend);

/// The canonical weight in a saved packing: equal, code by code and scale by scale, to what prepare() was given.
/// Error(unsupported) names a layout that no backend of this build has; Error(invalid_checkpoint) as adopt_packing().
Weight unpack(const SavedPacking& saved, std::string name);
/// The layout of a CPU level ("avx512"), whether this machine has it or not; empty: of the best level here.
/// Error(invalid_argument) lists the levels.
PackingLayout cpu_packing_layout(const std::string& level);
/// The name of the best CPU level of this machine.
std::string best_cpu_level();

/// "ref", "cpu" or "cuda". Error(unsupported) names what is available when the backend is absent or the ISA is not
/// there; Error(invalid_argument) lists the names for an unknown one.
std::unique_ptr<Backend> make_backend(std::string_view name, const BackendOptions& options);

}  // namespace bittern
