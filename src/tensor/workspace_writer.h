// WorkspaceWriter: the files of a workspace, weight after weight, so that memory holds one and not the model. Sizes of
// packings depend on their numbers, so the header of packed.safetensors is written last, into room left for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "tensor/safetensors.h"
#include "tensor/weight.h"
#include "tensor/workspace_manifest.h"

namespace bittern {

class WorkspaceWriter {
 public:
  /// Starts DIR/weights/packed.safetensors. `names`: of all weights and vectors that will follow, which bound the
  /// header. Error(io) when it cannot be written, here and below.
  WorkspaceWriter(std::filesystem::path dir, const std::vector<std::string>& names);
  ~WorkspaceWriter();
  WorkspaceWriter(const WorkspaceWriter&) = delete;
  WorkspaceWriter& operator=(const WorkspaceWriter&) = delete;

  /// A packing; row_order as WorkspaceWeight::row_order, empty for none.
  void add_packing(const std::string& name, const SavedPacking& saved, const std::vector<std::int64_t>& row_order);
  /// A weight whose packing cannot be saved, as it is.
  void add_canonical(const std::string& name, const Weight& weight, const std::vector<std::int64_t>& row_order);
  /// A norm or a bias, as the checkpoint has it.
  void add_vector(const std::string& name, const Weight& weight, const std::vector<std::int64_t>& shape);
  /// Bytes of the weights' file so far.
  std::int64_t bytes() const { return position_; }

  /// Completes the weights' file, writes manifest and config.ini, and then SHA256SUMS over the manifest and `others`,
  /// files of the directory that are there already. Of `manifest`, what is not known here must be filled in.
  void finish(WorkspaceManifest manifest, const ConfigIni& config_ini, const std::vector<std::string>& others);

 private:
  void add_tensor(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                  std::span<const std::byte> data, std::int64_t alignment);
  void add_order(const std::string& name, std::span<const std::int32_t> order);
  void add_row_order(const std::string& name, const std::vector<std::int64_t>& row_order);
  void write(std::span<const std::byte> data);
  void write_header();

  std::filesystem::path dir_;
  std::filesystem::path path_;
  int fd_ = -1;
  std::int64_t header_bytes_ = 0;  // room for length and JSON
  std::int64_t position_ = 0;
  std::vector<TensorSpec> tensors_;
  WorkspaceManifest manifest_;  // weights, vectors and digests so far
};

}  // namespace bittern
