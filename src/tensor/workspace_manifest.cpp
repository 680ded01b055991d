// The manifest to and from JSON.
#include "tensor/workspace_manifest.h"

#include <bittern/error.h>

#include <array>

#include "base/strings.h"

namespace bittern {
namespace {

constexpr std::array kCodes = {Codes::integer, Codes::e2m1, Codes::iq4_nl, Codes::e4m3};

Json weight_to_json(const WorkspaceWeight& weight) {
  Json json = {{"format", format_to_json(weight.format)}, {"out", weight.out}, {"in", weight.in}};
  if (weight.packed) json["packing"] = {{"bytes", weight.bytes}, {"parameters", weight.parameters}};
  if (weight.input_order) json["input_order"] = true;
  if (weight.row_order) json["row_order"] = true;
  return json;
}

WorkspaceWeight weight_from_json(const Json& json, const std::string& what) {
  WorkspaceWeight weight;
  weight.format = format_from_json(require<Json>(json, "format", what), what + ".format");
  weight.out = require<std::int64_t>(json, "out", what);
  weight.in = require<std::int64_t>(json, "in", what);
  constexpr std::int64_t kMaxWidth = std::int64_t{1} << 31;
  if (weight.out < 1 || weight.in < 1 || weight.out > kMaxWidth || weight.in > kMaxWidth) {
    throw Error(ErrorCode::invalid_argument, what + " has an impossible shape");
  }
  weight.input_order = get_or<bool>(json, "input_order", false, what);
  weight.row_order = get_or<bool>(json, "row_order", false, what);
  weight.packed = json.contains("packing");
  if (!weight.packed) return weight;
  const Json packing = require<Json>(json, "packing", what);
  weight.bytes = require<std::int64_t>(packing, "bytes", what + ".packing");
  weight.parameters = require<Json>(packing, "parameters", what + ".packing");
  return weight;
}

void read_maps(const Json& json, WorkspaceManifest& manifest) {
  const Json weights = require<Json>(json, "weights");
  if (!weights.is_object()) detail::throw_json_type("weights", "an object", weights);
  for (const auto& [name, weight] : weights.items()) manifest.weights[name] = weight_from_json(weight, name);
  manifest.vectors = require<std::vector<std::string>>(json, "vectors");
  const Json sums = require<Json>(json, "sha256");
  if (!sums.is_object()) detail::throw_json_type("sha256", "an object", sums);
  for (const auto& [name, sum] : sums.items()) manifest.sha256[name] = json_as<std::string>(sum, name);
  const Json ini = require<Json>(json, "config_ini");
  if (!ini.is_object()) detail::throw_json_type("config_ini", "an object", ini);
  for (const auto& [key, value] : ini.items()) manifest.config_ini.set(key, json_as<std::string>(value, key));
}

}  // namespace

Json format_to_json(const Format& format) {
  if (format.kind == FormatKind::dense) return {{"dtype", dtype_name(format.dtype)}};
  Json json = {{"codes", codes_name(format.codes)}, {"bits", format.bits}, {"group_size", format.group_size}};
  if (format.int8_activations) json["int8_activations"] = true;
  return json;
}

Format format_from_json(const Json& json, std::string_view what) {
  if (json.contains("dtype")) {
    const auto name = require<std::string>(json, "dtype", what);
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      if (name == dtype_name(dtype)) return Format::dense(dtype);
    }
    throw Error(ErrorCode::invalid_argument, std::string(what) + ".dtype is '" + name + "'");
  }
  Format format = Format::grouped(require<int>(json, "bits", what), require<std::int64_t>(json, "group_size", what));
  format.int8_activations = get_or<bool>(json, "int8_activations", false, what);
  const auto name = require<std::string>(json, "codes", what);
  for (const Codes codes : kCodes) {
    if (name != codes_name(codes)) continue;
    format.codes = codes;
    if (format.bits >= 2 && format.bits <= 8 && format.group_size >= 1) return format;
    throw Error(ErrorCode::invalid_argument, std::string(what) + " has impossible bits or groups");
  }
  throw Error(ErrorCode::invalid_argument, std::string(what) + ".codes is '" + name + "'");
}

Json WorkspaceManifest::to_json() const {
  Json json = {{"workspace", kVersion},
               {"program", program},
               {"source", source},
               {"layout", {{"name", layout.name}, {"version", layout.version}}},
               {"level", level},
               {"file_bytes", file_bytes},
               {"weights", Json::object()},
               {"vectors", vectors},
               {"sha256", sha256},
               {"config_ini", config_ini.values()}};
  for (const auto& [name, weight] : weights) json["weights"][name] = weight_to_json(weight);
  return json;
}

WorkspaceManifest WorkspaceManifest::from_json(const Json& json, const std::string& path) {
  try {
    const int version = require<int>(json, "workspace");
    if (version != kVersion) {
      throw Error(ErrorCode::unsupported,
                  path + ": this is a workspace of version " + std::to_string(version) +
                      "; this program reads version " + std::to_string(kVersion),
                  "make it anew: bittern convert " + get_or<std::string>(json, "source", "MODEL") + " -o DIR");
    }
    WorkspaceManifest manifest;
    manifest.program = require<std::string>(json, "program");
    manifest.source = require<std::string>(json, "source");
    const Json layout = require<Json>(json, "layout");
    manifest.layout = {require<std::string>(layout, "name", "layout"), require<int>(layout, "version", "layout")};
    manifest.level = require<std::string>(json, "level");
    manifest.file_bytes = require<std::int64_t>(json, "file_bytes");
    read_maps(json, manifest);
    return manifest;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::unsupported) throw;
    throw Error(ErrorCode::invalid_checkpoint, path + ": " + error.message(),
                "the manifest is damaged; make the workspace anew: bittern convert MODEL -o DIR");
  }
}

}  // namespace bittern
