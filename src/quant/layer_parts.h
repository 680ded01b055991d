// LayerParts: what a long quantization has finished, on disk, one decoder layer at a time, so that a run that was
// killed goes on after its last layer. A part counts when its report is there, which is written last; everything is
// renamed into place whole. The parts are assembled into the checkpoint and removed at the end.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "base/json.h"
#include "tensor/safetensors.h"

namespace bittern::quant {

class LayerParts {
 public:
  /// Opens the state in `directory`, or makes it. `job` says everything the parts depend on; Error(invalid_argument)
  /// when the state there is of another job, Error(io) when it cannot be read or written.
  LayerParts(std::filesystem::path directory, const Json& job);

  /// Layers 0 to finished() - 1 are done.
  int finished() const { return finished_; }
  /// What finish() was given for a finished layer.
  Json report(int layer) const;
  SafetensorsFile open(int layer) const;
  /// Hidden states after the last finished layer. Error(invalid_checkpoint) when the file has another size.
  std::vector<float> hidden(std::size_t size) const;

  /// Where to write the tensors of the next layer; finish its writer before finish().
  std::filesystem::path next_file() const { return tensors(finished_); }
  void finish(const Json& report, std::span<const float> hidden);
  void remove();

  const std::filesystem::path& directory() const { return directory_; }

 private:
  std::filesystem::path tensors(int layer) const;
  std::filesystem::path report_file(int layer) const;
  std::filesystem::path hidden_file(int layer) const;

  std::filesystem::path directory_;
  int finished_ = 0;
};

}  // namespace bittern::quant
