// Quantization: a Hugging Face checkpoint in, the same model with weights of fewer bits out, streamed layer by layer so
// that memory is bounded by one layer and not by the model. plan_quantize() says what will happen, what it takes and
// what cannot be done before any work starts; quantize() does it, reports the loss of every linear, and compares what
// it wrote with the original on text, layer by layer too. KV precision is chosen at run time, not here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bittern {
class ModelFiles;
}

namespace bittern::quant {

/// What algorithms that look at activations look at.
struct Calibration {
  std::string name;                                  // of the data, for the report
  std::string sha256;                                // of the data
  std::vector<std::vector<std::int32_t>> sequences;  // token ids
  /// Tokens that searches run again for every candidate: the first so many. Statistics take all tokens.
  std::int64_t search_tokens = 512;

  std::int64_t tokens() const;
};

/// Text on which the written model is compared with the original, once it is written.
struct Evaluation {
  std::string name;                // of the text, for the report
  std::string sha256;              // of the text
  std::vector<std::int32_t> text;  // token ids of all of it; empty: nothing is measured
  std::string absent;              // why nothing is, for the report
  std::int32_t bos = -1;           // opens each window where the tokenizer adds one; -1: none
  std::int64_t context = 512;      // tokens of a window; a model made for fewer gets fewer
  /// Tokens to run, in whole windows, as far as the text goes; 0: 2,048 to 8,192 by the size of the model.
  std::int64_t tokens = 0;
};

/// Another scheme for some of the linears.
struct SchemeOverride {
  std::string pattern;  // as QuantizeOptions::skip
  std::string scheme;   // a name of schemes(), or bits: "8"; "16" keeps them as they are
};

struct GptqOptions {
  /// Added to the diagonal of H, as a part of its mean; multiplied by 10 until the factorization succeeds.
  double damping = 0.01;
  /// Columns in descending order of H's diagonal, with every group's scale and zero fixed beforehand; otherwise in
  /// their own order, and a group gets scale and zero when its first column comes.
  bool act_order = true;
};

/// How small the result must be. The bits of every linear are then chosen by what its rounding changes in the model's
/// answers, measured on calibration tokens; one of the first two must be given.
struct Budget {
  double bits_per_weight = 0;  // over the quantized linears, scales and zeros included
  std::int64_t bytes = 0;      // of all that the running model takes: weights, KV cache and the memory of a step
  /// What KV cache and step take with a KV precision that may be chosen; with `bytes` at least one, the best first.
  struct Serving {
    std::string kv_cache;  // "bf16"
    std::int64_t kv_bytes = 0, step_bytes = 0;
  };
  std::vector<Serving> serving;
  std::vector<int> bits = {3, 4, 5, 6, 8};
  /// Linears that take the same activation get the same bits: programs that join q, k and v, or gate and up, need it.
  bool shared_inputs_alike = false;
  std::int64_t tokens = 0;  // of the calibration to measure on; 0: 64 to 2,048 by the size of the model
};

struct QuantizeOptions {
  /// How numbers are stored: a name of schemes(), or what the next three say together. What contradicts is refused.
  std::string scheme;
  int bits = 0;                   // 0: as the scheme says, or 4
  bool symmetric = false;         // the scheme must be symmetric
  std::string format;             // on disk: "awq", "gptq", "compressed-tensors"; empty: the first that has the scheme
  std::string algorithm = "rtn";  // a name of algorithms()
  /// Chooses the bits, so that scheme and bits must be left out; overridden linears keep theirs and count.
  std::optional<Budget> budget;
  /// Later ones win. Needs the format compressed-tensors, which is then the one that is chosen.
  std::vector<SchemeOverride> overrides;
  std::optional<double> damping;  // GptqOptions of algorithms that read them; others refuse them
  std::optional<bool> act_order;
  std::int64_t group_size = 128;  // inputs that share a scale: 32, 64, 128, or -1 for one group per output row
  /// Linears to leave as they are. "down_proj", "mlp.down_proj" or "model.layers.0": every linear whose name has these
  /// components in a row. "re:REGEX": every linear whose name the ECMAScript expression matches from its start.
  std::vector<std::string> skip;
  std::filesystem::path output;                  // directory to make
  bool overwrite = false;                        // replace `output` when it is a checkpoint
  std::int64_t max_shard_bytes = 5'000'000'000;  // larger checkpoints are cut into files of about this size
  Calibration calibration;  // for algorithms that need_calibration(); ignored by none: others refuse it
  Evaluation evaluation;
  int threads = 0;  // 0: the cores this process may use
};

/// A row of the tables of schemes and algorithms, for help texts.
struct Choice {
  std::string name;
  std::string summary;
};
/// How numbers are stored: "w4a16".
std::vector<Choice> schemes();
/// How those numbers are found: "rtn".
std::vector<Choice> algorithms();

/// The linears that one scheme stores.
struct SchemeShare {
  std::string scheme;
  int linears = 0;
  std::int64_t parameters = 0, output_bytes = 0;
};

/// What a budget came to.
struct BudgetPlan {
  struct Linear {
    std::string name;
    int layer = 0;
    int bits = 0;
    double loss = 0;  // expected KL divergence of its rounding alone, nats per token
  };
  /// All linears that were free to choose with the same bits.
  struct Uniform {
    int bits = 0;
    double bits_per_weight = 0;
    double loss = 0;
  };
  double bits_per_weight = 0;  // the limits that were given
  std::int64_t bytes = 0;
  std::int64_t tokens = 0;      // that losses were measured on
  std::vector<Linear> linears;  // that were free to choose, in the order of the model
  std::vector<Uniform> uniform;
  double loss = 0;  // sum over linears and the KV cache
  // With a limit of bytes: what was chosen, and what all of it takes in memory.
  std::string kv_cache;
  double kv_loss = 0;
  std::int64_t weight_bytes = 0, kv_bytes = 0, step_bytes = 0;
  std::int64_t total_bytes() const { return weight_bytes + kv_bytes + step_bytes; }
};

/// What will happen, before it does.
struct QuantizePlan {
  std::string scheme, algorithm;  // scheme: "mixed" where linears differ
  std::vector<SchemeShare> shares;
  std::optional<BudgetPlan> budget;
  std::int64_t sensitivity_tokens = 0;      // that a budget's measurement runs
  std::int64_t sensitivity_disk_bytes = 0;  // in OUTPUT.resume meanwhile
  std::int64_t group_size = 0;
  std::string source;  // where the model comes from
  std::filesystem::path output;
  std::string architecture;
  int layers = 0;
  int linears = 0;                // that will be quantized
  std::vector<std::string> kept;  // modules that stay as they are: head, embeddings and --skip
  std::int64_t parameters = 0;    // of the whole checkpoint
  std::int64_t quantized_parameters = 0;
  std::int64_t source_bytes = 0;                                        // tensors on disk now
  std::int64_t output_bytes = 0;                                        // tensors on disk afterwards
  std::int64_t quantized_source_bytes = 0, quantized_output_bytes = 0;  // the part of the quantized linears
  std::string calibration_name;                                         // of the data, "" where none is used
  std::int64_t calibration_tokens = 0, search_tokens = 0;
  std::string evaluation_name;                                  // of the text of the evaluation, "" where none is made
  std::int64_t evaluation_windows = 0, evaluation_context = 0;  // that both models run, tokens of each
  std::int64_t evaluation_disk_bytes = 0;                       // of the original's logits, kept meanwhile
  /// Most memory resident at once, beside the program itself: the largest step of the stream, mapped files included.
  std::int64_t peak_bytes = 0;
  std::string peak_at;               // the layer or tensor that needs it
  std::int64_t free_disk_bytes = 0;  // where the output goes
  /// Directories that runs to the same output left when they were killed (or are writing now); safe to delete if none
  /// is.
  std::vector<std::filesystem::path> leftovers;

  /// Bits stored per quantized weight, scales and zeros included.
  double bits_per_weight() const;
  /// The same over all parameters of the checkpoint.
  double bits_per_parameter() const;
};

struct QuantizeProgress {
  std::string_view stage;     // the linear or tensor just finished
  int layer = 0, layers = 0;  // decoder layers finished, of all
  std::int64_t done = 0;      // bytes of the source handled
  std::int64_t total = 0;
};

/// Receives what happens; the defaults ignore it. An exception thrown here stops the work and leaves no output.
class QuantizeSink {
 public:
  virtual ~QuantizeSink() = default;
  /// Once, before the first byte is written.
  virtual void plan(const QuantizePlan&) {}
  /// After each linear and each tensor that is kept.
  virtual void progress(const QuantizeProgress&) {}
  /// With a budget, before its measurement: the plan with 4 bits everywhere, whose memory and disk hold for any bits.
  virtual void draft(const QuantizePlan&) {}
  /// While the sensitivity of linears is measured for a budget: layers done, of all. Comes before plan().
  virtual void measuring(int /*layers_done*/, int /*layers*/) {}
  /// While the written model is compared with the original: steps done, of all.
  virtual void evaluating(std::int64_t /*done*/, std::int64_t /*total*/) {}
};

/// What quantizing one linear lost: the weights compared with their decoded codes.
struct LinearReport {
  std::string name;
  int layer = 0;
  std::int64_t out = 0, in = 0;
  std::string scheme;
  double nmse = 0;     // sum (w - w')^2 / sum w^2
  double cosine = 1;   // of w and w' as one vector each
  double max_abs = 0;  // max |w - w'|
  /// Algorithms with calibration: relative squared error of the linear's output on the search tokens, rounded to
  /// nearest as it was, and as it is now. Negative: not measured.
  double loss_before = -1, loss_after = -1;
  std::string notes;  // what was guarded or left out, or ""
  std::int64_t source_bytes = 0, output_bytes = 0;
};

/// What the written model lost against the original, measured on text (llama.cpp's protocol; KV
/// cache in f32 on both sides).
struct QualityReport {
  std::string name, sha256;  // of the text
  std::int64_t context = 0, windows = 0;
  std::int32_t bos = -1;
  std::int64_t tokens = 0;  // scored
  double reference_perplexity = 0, reference_perplexity_error = 0;
  double perplexity = 0, perplexity_error = 0;
  double kl = 0, kl_error = 0, kl_max = 0;  // nats per position, KL(original || written)
  struct Percentile {
    double percent = 0, kl = 0;
  };
  std::vector<Percentile> kl_percentiles;   // ascending
  double same_top = 1, same_top_error = 0;  // positions with the same most likely token
  double seconds = 0;
};

struct QuantizeReport {
  QuantizePlan plan;
  std::vector<LinearReport> linears;  // in the order of the model
  double nmse = 0;                    // over all quantized weights together
  std::string worst;                  // the linear with the largest nmse
  std::optional<QualityReport> quality;
  std::string quality_absent;      // why `quality` was not measured
  double seconds = 0;              // of all, the evaluation included
  int resumed_layers = 0;          // taken over from a run that was stopped
  std::vector<std::string> files;  // written into the output, sorted
};

/// Whether the algorithm needs QuantizeOptions::calibration. Error(invalid_argument) for an unknown name.
bool needs_calibration(std::string_view algorithm);

/// Checks everything that can be known from headers. Errors name the thing, the reason and what to do:
/// invalid_argument (unknown scheme or algorithm, group size, skip pattern that matches nothing, output in the way),
/// unsupported (an already quantized checkpoint; linears whose shape the scheme's format cannot hold),
/// not_found (a tensor the architecture needs), io (not enough disk space). With a budget this measures, which takes
/// minutes for large models; `sink` may be null. out_of_memory: the budget cannot be reached, and what can.
QuantizePlan plan_quantize(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options,
                           QuantizeSink* sink = nullptr);

/// Writes the quantized checkpoint: config.json with quantization_config, safetensors, and the tokenizer, template and
/// generation files as they are. `output` appears complete or not at all: a failed run leaves nothing, a killed one a
/// directory OUTPUT.partial-PID beside it, which can be deleted. Algorithms with calibration also keep OUTPUT.resume,
/// one file for each finished layer: the same call goes on after the last one and removes it at its end.
/// Errors: those of plan_quantize; invalid_checkpoint naming the tensor whose weights are not finite or too large.
QuantizeReport quantize(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options,
                        QuantizeSink& sink);

}  // namespace bittern::quant
