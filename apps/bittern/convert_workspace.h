// The part of `bittern convert` that deals with workspaces: writing one, and checking one's checksums.
#pragma once

#include <string>

namespace bittern::cli {

struct ConvertWorkspaceOptions {
  std::string model, output, level;
  int threads = 0;
  bool overwrite = false;
  bool dry_run = false;
  bool json = false;
};

/// Both print their report, as text or JSON, and return the exit status.
int convert_to_workspace(const ConvertWorkspaceOptions& options);
/// Error(invalid_checkpoint) lists what is not what was written; Error(invalid_argument) when `dir` is no workspace.
int verify_workspace(const std::string& dir, int threads, bool json);

}  // namespace bittern::cli
