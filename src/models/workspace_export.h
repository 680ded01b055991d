// A model written as a workspace (docs/workspace.md): its weights packed for a level of the CPU backend, config.ini,
// and the files that tokenizer, templates and KV cache need. One weight is in memory at a time; the directory appears
// whole or not at all. Any checkpoint that can be loaded can be converted, a workspace or an LMDeploy workspace among
// them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "tensor/model_files.h"

namespace bittern {

struct WorkspaceOptions {
  std::filesystem::path output;
  std::string level;       // of the CPU backend; empty: the best of this machine
  int threads = 0;         // 0: the cores this process may use
  bool overwrite = false;  // an older workspace at `output`
  bool dry_run = false;    // check and estimate, write nothing
  /// Called with bytes of the source read so far and in all. May be null.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

struct WorkspaceReport {
  std::string level;
  PackingLayout layout;
  std::map<std::string, int> formats;  // of linears and tables: name -> how many
  std::int64_t parameters = 0;         // of linears and tables
  std::int64_t bytes = 0;              // of the weights' file; estimated from the first layer in a dry run
  std::int64_t free_disk_bytes = 0;    // before writing
  std::vector<std::string> files;      // that travel with the weights
};

/// Error(invalid_argument) for an unknown level, an output that exists (unless `overwrite`, and then only an older
/// workspace) or overlaps the model; Error(io) when the disk has too little room; those of loading.
WorkspaceReport export_workspace(const std::shared_ptr<const ModelFiles>& files, const WorkspaceOptions& options);

/// Opens a workspace for the backends of this build: WorkspaceFiles with their PackingReader.
std::shared_ptr<const ModelFiles> open_workspace(const std::filesystem::path& dir);

}  // namespace bittern
