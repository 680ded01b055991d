// A checkpoint written as one GGUF file that other programs run: metadata from the resolved configuration, tokenizer
// and chat template, tensors under GGUF's names with the permutation and the shifts that GGUF asks for. What the file
// could not say is refused by name before anything is written. Quantizing here is by blocks alone, without calibration.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tensor/gguf_blocks.h"
#include "tensor/model_files.h"

namespace bittern {

struct GgufExportOptions {
  /// Of the matrices; vectors are F32. With a 4-bit type, embedding and output head become Q8_0, since they decide the
  /// logits directly; rows that are not whole blocks become Q8_0 too, or F16.
  GgufType type = GgufType::f16;
  int threads = 0;  // 0: the cores this process may use
  /// Called with values encoded so far and in all. May be null.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
  bool dry_run = false;  // check and report, write nothing
};

struct GgufExportReport {
  std::string architecture;            // general.architecture
  std::map<std::string, int> tensors;  // type name -> how many
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;  // of tensors
};

/// Writes `path` atomically. Error(unsupported) for architectures and settings without a place in GGUF, and for
/// checkpoints that are quantized already (a GGUF file may be: its weights are decoded and encoded again).
GgufExportReport export_gguf(const std::shared_ptr<const ModelFiles>& files, const std::filesystem::path& path,
                             const GgufExportOptions& options);

}  // namespace bittern
