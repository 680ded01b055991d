// Checks and an estimate first, then weight after weight: the part outside the layers, then each layer from a mapping
// of its own, so that pages of the source do not pile up.
#include "models/workspace_export.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/atomic_file.h"
#include "base/strings.h"
#include "models/model.h"
#include "models/workspace_config.h"
#include "nn/linear.h"
#include "tensor/workspace.h"
#include "tensor/workspace_writer.h"

namespace bittern {
namespace {

namespace fs = std::filesystem;

// --- the output ---

[[noreturn]] void refuse(const fs::path& output, const std::string& reason, std::string hint) {
  throw Error(ErrorCode::invalid_argument, "cannot write to " + output.string() + ": " + reason, std::move(hint));
}

bool contains(const fs::path& outer, const fs::path& inner) {
  const fs::path relative = fs::weakly_canonical(inner).lexically_relative(fs::weakly_canonical(outer));
  return !relative.empty() && *relative.begin() != "..";
}

void check_output(const fs::path& output, const ModelFiles& files, bool overwrite) {
  const fs::path source = files.origin();
  if (fs::exists(source) && (contains(source, output) || contains(output, source))) {
    refuse(output, "it overlaps the model that is read, " + source.string(), "choose another output");
  }
  if (!fs::exists(output)) return;
  if (!fs::is_directory(output)) refuse(output, "it exists and is not a directory", "choose another output");
  if (fs::is_empty(output)) return;
  if (!overwrite) refuse(output, "it exists and is not empty", "choose another output, or give --overwrite");
  // What is overwritten is deleted, so it had better be what the user takes it for.
  if (!is_workspace(output)) refuse(output, "it exists and is not a workspace", "choose another output");
}

std::int64_t free_disk(fs::path path) {
  path = fs::absolute(path);
  while (!fs::exists(path) && path.has_relative_path()) path = path.parent_path();
  return static_cast<std::int64_t>(fs::space(path).available);
}

void check_space(const WorkspaceReport& report, const fs::path& output) {
  if (report.bytes + report.bytes / 50 <= report.free_disk_bytes) return;
  throw Error(ErrorCode::io,
              "the workspace takes about " + human_bytes(static_cast<std::uint64_t>(report.bytes)) + ", the disk of " +
                  output.string() + " has " + human_bytes(static_cast<std::uint64_t>(report.free_disk_bytes)) + " free",
              "make room or choose an output on another disk");
}

// Everything but weights, which are packed, and what belongs to another workspace.
bool travels(const std::string& name) {
  if (name == "kv_params.safetensors") return true;
  if (name.ends_with(".index.json") || name.starts_with(".")) return false;
  const std::string extension = to_lower(fs::path(name).extension().string());
  constexpr std::array kTexts = {".json", ".jinja", ".model", ".txt", ".md", ".tiktoken"};
  const bool is_text = std::find(kTexts.begin(), kTexts.end(), extension) != kTexts.end();
  return is_text || name.starts_with("LICENSE") || name.starts_with("NOTICE");
}

void copy_files(const ModelFiles& files, const std::vector<std::string>& names, const fs::path& dir) {
  for (const std::string& name : names) {
    const FileBytes file = files.require(name);
    write_file_atomically(dir / name, file.text());
  }
}

// --- leaves ---

struct Leaf {
  std::string name;
  bool is_table = false;
  bool tied = false;
  const nn::Linear* linear = nullptr;  // else a table or a norm
};

// The leaves of the model outside its layers (-1) or in one of them, in order.
class LeafList final : public nn::Visitor {
 public:
  void linear(const std::string& name, nn::Linear& linear) override { add(name, &linear, linear.has_bias(), false); }
  void norm(const std::string& name, nn::RmsNorm&) override { vectors.push_back(name + ".weight"); }
  void embedding(const std::string& name, nn::Embedding& table) override {
    leaves.push_back({name, true, table.tied(), nullptr});
  }

  std::vector<Leaf> leaves;
  std::vector<std::string> vectors;

 private:
  void add(const std::string& name, const nn::Linear* linear, bool bias, bool tied) {
    leaves.push_back({name, false, tied, linear});
    if (bias) vectors.push_back(name + ".bias");
  }
};

LeafList leaves_of(Model& model, int layer) {
  LeafList list;
  if (layer >= 0) {
    model.visit_layer(list, layer);
    return list;
  }
  model.visit(list);
  std::set<std::string> inside;
  for (int i = 0; i < model.config().layers; ++i) {
    const LeafList one = leaves_of(model, i);
    for (const Leaf& leaf : one.leaves) inside.insert(leaf.name);
    inside.insert(one.vectors.begin(), one.vectors.end());
  }
  std::erase_if(list.leaves, [&](const Leaf& leaf) { return inside.contains(leaf.name); });
  std::erase_if(list.vectors, [&](const std::string& name) { return inside.contains(name); });
  return list;
}

std::int64_t stored_bytes(const Checkpoint& checkpoint, const std::string& module) {
  std::int64_t bytes = 0;
  for (const TensorEntry& entry : checkpoint.entries()) {
    if (entry.name.starts_with(module + ".")) bytes += static_cast<std::int64_t>(entry.bytes);
  }
  return bytes;
}

bool is_float(const Checkpoint& checkpoint, const std::string& tensor) {
  for (const TensorEntry& entry : checkpoint.entries()) {
    if (entry.name == tensor)
      return entry.dtype == DType::f32 || entry.dtype == DType::f16 || entry.dtype == DType::bf16;
  }
  return false;
}

// --- writing ---

class Exporter {
 public:
  Exporter(std::shared_ptr<const ModelFiles> files, const WorkspaceOptions& options)
      : files_(std::move(files)), options_(options), model_(build_model(load_config(*files_))) {
    report_.level = options.level.empty() ? best_cpu_level() : options.level;
    report_.layout = cpu_packing_layout(report_.level);
    BackendOptions device;
    device.threads = options.threads;
    backend_ = make_backend("cpu", device);
    if (backend_->packing_layout() != report_.layout) {
      throw Error(ErrorCode::unsupported, "level " + report_.level + " packs as " + report_.layout.describe() +
                                              ", and this machine's as " + backend_->packing_layout().describe());
    }
    for (const std::string& name : files_->list()) {
      if (travels(name)) report_.files.push_back(name);
    }
  }

  WorkspaceReport run() {
    check_output(options_.output, *files_, options_.overwrite);
    report_.free_disk_bytes = free_disk(options_.output);
    report_.bytes = estimate();
    check_space(report_, options_.output);
    if (options_.dry_run) return report_;
    AtomicDirectory directory(
        options_.output, options_.overwrite ? AtomicDirectory::Existing::replace : AtomicDirectory::Existing::refuse);
    copy_files(*files_, report_.files, directory.partial());
    write_weights(directory.partial());
    directory.commit();
    return report_;
  }

 private:
  Weight source(const Checkpoint& checkpoint, const Leaf& leaf) const {
    std::vector<std::string> used;
    if (leaf.is_table) return checkpoint.table(leaf.name, used);
    return checkpoint.linear(leaf.name, used);
  }
  std::unique_ptr<PackedWeight> pack(const Weight& weight, const Leaf& leaf) const {
    if (leaf.is_table) return backend_->prepare_table(weight, leaf.tied);
    const std::vector<std::int64_t>& order = leaf.linear->row_order();
    return backend_->prepare(order.empty() ? weight : reorder_rows(weight, order));
  }

  std::int64_t estimate();
  std::int64_t estimate(const Checkpoint& checkpoint, const Leaf& leaf, const std::string& kind);
  std::vector<std::string> all_names();
  void write_weights(const fs::path& dir);
  void write_part(int part, WorkspaceWriter& writer);
  void write_leaf(const Checkpoint& checkpoint, const Leaf& leaf, WorkspaceWriter& writer);
  void advance(std::int64_t bytes) {
    done_ += bytes;
    if (options_.progress) options_.progress(std::min(done_, total_), total_);
  }

  std::shared_ptr<const ModelFiles> files_;
  const WorkspaceOptions& options_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Backend> backend_;
  WorkspaceReport report_;
  std::map<std::string, double> growth_;  // packed bytes of a kind of leaf, over those of the source
  std::map<std::string, Format> formats_;
  std::int64_t done_ = 0, total_ = 0;
};

// Dense weights keep their size, up to a whole tile; of others the first of each kind is packed to see.
std::int64_t Exporter::estimate(const Checkpoint& checkpoint, const Leaf& leaf, const std::string& kind) {
  const std::int64_t bytes = stored_bytes(checkpoint, leaf.name);
  if (is_float(checkpoint, leaf.name + ".weight")) return bytes;
  if (!growth_.contains(kind)) {
    const auto packed = pack(source(checkpoint, leaf), leaf);
    growth_[kind] = bytes > 0 ? static_cast<double>(packed->bytes()) / static_cast<double>(bytes) : 1.0;
  }
  return static_cast<std::int64_t>(static_cast<double>(bytes) * growth_[kind]);
}

std::int64_t Exporter::estimate() {
  const auto checkpoint = open_checkpoint(files_, model_->config().quantization);
  std::int64_t bytes = 0;
  for (const TensorEntry& entry : checkpoint->entries()) total_ += static_cast<std::int64_t>(entry.bytes);
  for (int part = -1; part < model_->config().layers; ++part) {
    for (const Leaf& leaf : leaves_of(*model_, part).leaves) {
      bytes += estimate(*checkpoint, leaf, leaf.name.substr(leaf.name.rfind('.') + 1));
    }
  }
  return bytes;
}

std::vector<std::string> Exporter::all_names() {
  LeafList all;
  model_->visit(all);
  std::vector<std::string> names = all.vectors;
  for (const Leaf& leaf : all.leaves) names.push_back(leaf.name);
  return names;
}

void Exporter::write_leaf(const Checkpoint& checkpoint, const Leaf& leaf, WorkspaceWriter& writer) {
  const Weight weight = source(checkpoint, leaf);
  const std::vector<std::int64_t> order = leaf.linear ? leaf.linear->row_order() : std::vector<std::int64_t>();
  const std::unique_ptr<PackedWeight> packed = pack(weight, leaf);
  if (const std::optional<SavedPacking> saved = backend_->save_packing(*packed)) {
    writer.add_packing(leaf.name, *saved, order);
  } else {
    writer.add_canonical(leaf.name, order.empty() ? weight : reorder_rows(weight, order), order);
  }
  formats_.emplace(leaf.name, weight.format);
  ++report_.formats[weight.format.name()];
  report_.parameters += weight.out * weight.in;
  advance(weight.bytes());
}

void Exporter::write_part(int part, WorkspaceWriter& writer) {
  const auto checkpoint = open_checkpoint(files_, model_->config().quantization);
  const LeafList list = leaves_of(*model_, part);
  for (const Leaf& leaf : list.leaves) write_leaf(*checkpoint, leaf, writer);
  for (const std::string& name : list.vectors) {
    const Weight vector = checkpoint->dense(name);
    writer.add_vector(name, vector, {vector.out * vector.in});
  }
}

void Exporter::write_weights(const fs::path& dir) {
  WorkspaceWriter writer(dir, all_names());
  for (int part = -1; part < model_->config().layers; ++part) write_part(part, writer);
  report_.bytes = writer.bytes();
  advance(total_);
  WorkspaceManifest manifest;
  manifest.source = files_->origin();
  manifest.level = report_.level;
  manifest.layout = report_.layout;
  manifest.config_ini = describe_model(*files_, model_->config(), formats_);
  const ConfigIni config_ini = with_run_settings(manifest.config_ini, files_->run_settings());
  writer.finish(std::move(manifest), config_ini, report_.files);
}

}  // namespace

WorkspaceReport export_workspace(const std::shared_ptr<const ModelFiles>& files, const WorkspaceOptions& options) {
  try {
    return Exporter(files, options).run();
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorCode::io, "cannot write to " + options.output.string() + ": " + error.code().message());
  }
}

std::shared_ptr<const ModelFiles> open_workspace(const fs::path& dir) {
  return std::make_shared<WorkspaceFiles>(dir, PackingReader{cpu_packing_layout(""), unpack});
}

}  // namespace bittern
