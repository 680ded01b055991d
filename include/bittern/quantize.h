// Quantization: a Hugging Face checkpoint in, the same model with weights of fewer bits out, streamed layer by layer so
// that memory is bounded by one layer and not by the model. plan_quantize() says what will happen, what it takes and
// what cannot be done before any work starts; quantize() does it and reports the loss of every linear. It does not run
// the model: quality on text is measured in src/quant/quality.h, KV precision is chosen at run time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
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

struct QuantizeOptions {
  std::string scheme = "w4a16";   // a name of schemes()
  std::string algorithm = "rtn";  // a name of algorithms()
  std::int64_t group_size = 128;  // inputs that share a scale: 32, 64, 128, or -1 for one group per output row
  /// Linears to leave as they are. "down_proj", "mlp.down_proj" or "model.layers.0": every linear whose name has these
  /// components in a row. "re:REGEX": every linear whose name the ECMAScript expression matches from its start.
  std::vector<std::string> skip;
  std::filesystem::path output;                  // directory to make
  bool overwrite = false;                        // replace `output` when it is a checkpoint
  std::int64_t max_shard_bytes = 5'000'000'000;  // larger checkpoints are cut into files of about this size
  Calibration calibration;  // for algorithms that need_calibration(); ignored by none: others refuse it
  int threads = 0;          // 0: the cores this process may use
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

/// What will happen, before it does.
struct QuantizePlan {
  std::string scheme, algorithm;
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
};

/// What quantizing one linear lost: the weights compared with their decoded codes.
struct LinearReport {
  std::string name;
  int layer = 0;
  std::int64_t out = 0, in = 0;
  double nmse = 0;     // sum (w - w')^2 / sum w^2
  double cosine = 1;   // of w and w' as one vector each
  double max_abs = 0;  // max |w - w'|
  /// Algorithms with calibration: relative squared error of the linear's output on the search tokens, rounded to
  /// nearest as it was, and as it is now. Negative: not measured.
  double loss_before = -1, loss_after = -1;
  std::string notes;  // what was guarded or left out, or ""
  std::int64_t source_bytes = 0, output_bytes = 0;
};

struct QuantizeReport {
  QuantizePlan plan;
  std::vector<LinearReport> linears;  // in the order of the model
  double nmse = 0;                    // over all quantized weights together
  std::string worst;                  // the linear with the largest nmse
  double seconds = 0;
  int resumed_layers = 0;          // taken over from a run that was stopped
  std::vector<std::string> files;  // written into the output, sorted
};

/// Whether the algorithm needs QuantizeOptions::calibration. Error(invalid_argument) for an unknown name.
bool needs_calibration(std::string_view algorithm);

/// Checks everything that can be known from headers. Errors name the thing, the reason and what to do:
/// invalid_argument (unknown scheme or algorithm, group size, skip pattern that matches nothing, output in the way),
/// unsupported (an already quantized checkpoint; linears whose shape the scheme's format cannot hold),
/// not_found (a tensor the architecture needs), io (not enough disk space).
QuantizePlan plan_quantize(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options);

/// Writes the quantized checkpoint: config.json with quantization_config, safetensors, and the tokenizer, template and
/// generation files as they are. `output` appears complete or not at all: a failed run leaves nothing, a killed one a
/// directory OUTPUT.partial-PID beside it, which can be deleted. Algorithms with calibration also keep OUTPUT.resume,
/// one file for each finished layer: the same call goes on after the last one and removes it at its end.
/// Errors: those of plan_quantize; invalid_checkpoint naming the tensor whose weights are not finite or too large.
QuantizeReport quantize(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options,
                        QuantizeSink& sink);

}  // namespace bittern::quant
