// A workspace as a model: the directory `bittern convert` writes, whose weights are packed for a backend and mapped
// where they lie. Its files are a checkpoint's own; config.json is handed out with the changes that weights/config.ini
// asks for. It does not understand packings: a PackingReader, which the backends supply, turns one back into a Weight.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mmap_file.h"
#include "tensor/checkpoint.h"
#include "tensor/run_settings.h"
#include "tensor/safetensors.h"
#include "tensor/workspace_manifest.h"

namespace bittern {

struct PackingReader {
  PackingLayout layout;  // the one that unpack() understands
  std::function<Weight(const SavedPacking& saved, std::string name)> unpack;
};

/// Whether `dir` holds weights/manifest.json or weights/packed.safetensors (one without the other is damaged).
bool is_workspace(const std::filesystem::path& dir);

class WorkspaceFiles final : public ModelFiles {
 public:
  /// Reads manifest and config.ini and maps the weights. Checked here: the manifest's checksum, the file's size, its
  /// header against the manifest, config.ini. Not the checksums of the weights: see verify(). Errors: not_found,
  /// invalid_checkpoint, those of ConfigIni, and unsupported for another version or layout, with the command that makes
  /// the workspace anew.
  WorkspaceFiles(const std::filesystem::path& dir, PackingReader reader);

  const std::string& origin() const override { return files_->origin(); }
  /// The model's files; the workspace's own are not among them.
  std::vector<std::string> list() const override;
  std::optional<FileBytes> find(std::string_view name) const override;
  const RunSettings* run_settings() const override { return &settings_; }

  const WorkspaceManifest& manifest() const { return manifest_; }
  /// config.ini as it is now.
  const ConfigIni& config_ini() const { return config_ini_; }
  const PackingReader& reader() const { return reader_; }
  /// The tensor of packed.safetensors; Error(invalid_checkpoint) when there is none.
  const SafetensorsEntry& tensor(const std::string& name) const;
  /// The same, or null.
  const SafetensorsEntry* find_tensor(const std::string& name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : found->second;
  }
  const std::shared_ptr<MmapFile>& mapping() const { return mapping_; }
  /// Tells the kernel that the bytes will be read soon.
  void will_need(std::span<const std::byte> bytes) const;

  /// Recomputes every checksum, on `threads` threads. `progress` gets bytes done and in all; may be null. Returns the
  /// names of files and tensors that are not what they were, empty when all is well.
  std::vector<std::string> verify(int threads,
                                  const std::function<void(std::int64_t done, std::int64_t total)>& progress) const;

 private:
  void read_manifest();
  void map_weights();
  void check_tensors() const;
  std::size_t expect(const std::string& name, std::string_view dtype, const std::vector<std::int64_t>& shape) const;
  std::size_t check_orders(const std::string& name, const WorkspaceWeight& weight) const;
  std::size_t check_packing(const std::string& name, const WorkspaceWeight& weight) const;
  std::size_t check_canonical(const std::string& name, const WorkspaceWeight& weight) const;
  void read_config_ini();
  void patch_config();

  std::filesystem::path dir_;
  PackingReader reader_;
  std::shared_ptr<const ModelFiles> files_;
  WorkspaceManifest manifest_;
  std::map<std::string, std::string, std::less<>> checksums_;  // SHA256SUMS: file -> digest
  std::shared_ptr<MmapFile> mapping_;
  SafetensorsFile weights_;
  std::map<std::string_view, const SafetensorsEntry*> index_;
  std::map<std::string, std::shared_ptr<const std::string>, std::less<>> patched_;  // files changed by config.ini
  ConfigIni config_ini_;
  RunSettings settings_;
};

/// The weights: packing() as they lie, linear() and table() unpacked, in the checkpoint's order of rows.
std::unique_ptr<Checkpoint> open_workspace_checkpoint(std::shared_ptr<const WorkspaceFiles> files);

}  // namespace bittern
