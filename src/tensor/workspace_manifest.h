// The manifest of a workspace, weights/manifest.json: which weights lie in packed.safetensors, in which form, with
// which checksums, and what `bittern convert` wrote into config.ini. Reading checks every value's type and every name;
// whether the bytes fit what it says is checked where they are used (tensor/workspace.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tensor/config_ini.h"
#include "tensor/format.h"
#include "tensor/saved_packing.h"

namespace bittern {

/// Where things are in a workspace.
inline constexpr std::string_view kWorkspaceFolder = "weights";
inline constexpr std::string_view kManifestFile = "manifest.json";
inline constexpr std::string_view kConfigIniFile = "config.ini";
inline constexpr std::string_view kPackedFile = "packed.safetensors";
/// At the top, as sha256sum writes and checks it: the manifest and every file that is not config.ini or weights.
inline constexpr std::string_view kChecksumFile = "SHA256SUMS";

/// One linear or table. Its tensors in the file are "<name>.<part>".
struct WorkspaceWeight {
  Format format;
  std::int64_t out = 0;
  std::int64_t in = 0;
  bool packed = false;       // part "packed"; otherwise the canonical "data", "scales", "zeros" or "offsets"
  std::int64_t bytes = 0;    // of the packing
  Json parameters;           // of the packing
  bool input_order = false;  // part "input_order": Weight::input_order
  bool row_order = false;    // part "row_order": row i of the packing is row row_order[i] of the checkpoint
};

struct WorkspaceManifest {
  /// Of the manifest's own form and of the file around the packings.
  static constexpr int kVersion = 1;

  std::string program;  // that wrote it, "bittern 0.1.0"
  std::string source;   // what it was made from
  PackingLayout layout;
  std::string level;  // "avx512bf16"
  std::int64_t file_bytes = 0;
  std::map<std::string, WorkspaceWeight, std::less<>> weights;
  std::vector<std::string> vectors;  // tensors stored as the checkpoint has them: norms and biases
  std::map<std::string, std::string, std::less<>> sha256;  // of every tensor in the file
  ConfigIni config_ini;  // what holds of the weights and the model, whatever the file is edited to

  Json to_json() const;
  /// `path` names it in errors. Error(unsupported) for another version, Error(invalid_checkpoint) for what is damaged.
  static WorkspaceManifest from_json(const Json& json, const std::string& path);
};

Json format_to_json(const Format& format);
/// Error(invalid_argument) names the key that is wrong.
Format format_from_json(const Json& json, std::string_view what);

}  // namespace bittern
