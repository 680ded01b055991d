// The weights of a workspace through the Checkpoint interface: packings as they lie in the mapping, canonical weights
// made from them for whoever asks (another backend, quantization, show).
#include <bittern/error.h>

#include <algorithm>
#include <set>

#include "base/check.h"
#include "tensor/quote_name.h"
#include "tensor/workspace.h"

namespace bittern {
namespace {

constexpr std::string_view kWeight = ".weight";

class WorkspaceCheckpoint final : public Checkpoint {
 public:
  explicit WorkspaceCheckpoint(std::shared_ptr<const WorkspaceFiles> files) : files_(std::move(files)) {
    for (const auto& [name, weight] : files_->manifest().weights) add_weight(name, weight);
    for (const std::string& name : files_->manifest().vectors) entries_.push_back(files_->tensor(name));
    std::sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  }

  const std::vector<TensorEntry>& entries() const override { return entries_; }
  bool contains(std::string_view tensor) const override {
    const auto place =
        std::lower_bound(entries_.begin(), entries_.end(), tensor,
                         [](const TensorEntry& entry, std::string_view name) { return entry.name < name; });
    return place != entries_.end() && place->name == tensor;
  }
  bool has_linear(std::string_view module) const override { return files_->manifest().weights.contains(module); }

  Weight dense(std::string_view tensor) const override;
  Weight linear(std::string_view module, std::vector<std::string>& used) const override;
  Weight table(std::string_view module, std::vector<std::string>& used) const override { return linear(module, used); }
  std::optional<SavedPacking> packing(std::string_view module, std::vector<std::string>& used) const override;

 private:
  void add_weight(const std::string& name, const WorkspaceWeight& weight) {
    TensorEntry entry;
    entry.name = name + std::string(kWeight);
    entry.dtype_name = weight.format.name();
    if (weight.format.kind == FormatKind::dense) {
      entry.dtype = weight.format.dtype;
      entry.dtype_name = safetensors_dtype_name(weight.format.dtype);
    }
    entry.shape = {weight.out, weight.in};
    entry.file = files_->mapping()->path().string();
    for (const char* part : {".packed", ".data", ".scales", ".zeros", ".offsets"}) {
      if (const SafetensorsEntry* tensor = files_->find_tensor(name + part)) entry.bytes += tensor->bytes;
    }
    entries_.push_back(std::move(entry));
  }
  SavedPacking saved(const std::string& name, const WorkspaceWeight& weight) const;
  Weight canonical(const std::string& name, const WorkspaceWeight& weight) const;
  Tensor view(const std::string& name, std::int64_t rows, std::int64_t columns) const;

  std::shared_ptr<const WorkspaceFiles> files_;
  std::vector<TensorEntry> entries_;
};

Tensor WorkspaceCheckpoint::view(const std::string& name, std::int64_t rows, std::int64_t columns) const {
  const SafetensorsEntry& entry = files_->tensor(name);
  return Tensor::of(const_cast<std::byte*>(entry.data.data()), *entry.dtype, rows, columns);
}

SavedPacking WorkspaceCheckpoint::saved(const std::string& name, const WorkspaceWeight& weight) const {
  SavedPacking saved;
  saved.layout = files_->manifest().layout;
  saved.format = weight.format;
  saved.out = weight.out;
  saved.in = weight.in;
  saved.parameters = weight.parameters;
  saved.bytes = files_->tensor(name + ".packed").data.first(static_cast<std::size_t>(weight.bytes));
  saved.keep = files_->mapping();
  if (weight.input_order) {
    const SafetensorsEntry& order = files_->tensor(name + ".input_order");
    saved.input_order = {reinterpret_cast<const std::int32_t*>(order.data.data()), static_cast<std::size_t>(weight.in)};
  }
  return saved;
}

std::optional<SavedPacking> WorkspaceCheckpoint::packing(std::string_view module,
                                                         std::vector<std::string>& used) const {
  const auto found = files_->manifest().weights.find(module);
  if (found == files_->manifest().weights.end() || !found->second.packed) return std::nullopt;
  used.push_back(std::string(module) + std::string(kWeight));
  SavedPacking result = saved(found->first, found->second);
  files_->will_need(result.bytes);
  return result;
}

// Stored in canonical form because its packing does not hold its codes.
Weight WorkspaceCheckpoint::canonical(const std::string& name, const WorkspaceWeight& weight) const {
  Weight result;
  result.name = name;
  result.format = weight.format;
  result.out = weight.out;
  result.in = weight.in;
  result.data = view(name + ".data", weight.out, weight.format.bits > 4 ? weight.in : (weight.in + 1) / 2);
  result.scales = view(name + ".scales", weight.out, result.groups());
  if (files_->find_tensor(name + ".zeros")) result.zeros = view(name + ".zeros", weight.out, result.groups());
  if (files_->find_tensor(name + ".offsets")) result.offsets = view(name + ".offsets", weight.out, result.groups());
  result.keep.push_back(files_->mapping());
  if (!weight.input_order) return result;
  const SafetensorsEntry& order = files_->tensor(name + ".input_order");
  const auto* first = reinterpret_cast<const std::int32_t*>(order.data.data());
  const auto in_range = [&](std::int32_t i) { return i >= 0 && i < weight.in; };
  if (!std::all_of(first, first + weight.in, in_range)) {
    throw Error(ErrorCode::invalid_checkpoint, order.file + ": " + quote_name(order.name) + " is damaged");
  }
  std::copy(first, first + weight.in, result.allocate_input_order());
  return result;
}

// row_order[i] is the checkpoint's row that lies at i; this gives the place of each of the checkpoint's rows.
std::vector<std::int64_t> inverse(const SafetensorsEntry& order, std::int64_t rows) {
  const auto* from = reinterpret_cast<const std::int32_t*>(order.data.data());
  std::vector<std::int64_t> places(static_cast<std::size_t>(rows), -1);
  for (std::int64_t i = 0; i < rows; ++i) {
    if (from[i] < 0 || from[i] >= rows || places[static_cast<std::size_t>(from[i])] >= 0) {
      throw Error(ErrorCode::invalid_checkpoint, order.file + ": " + quote_name(order.name) + " is damaged");
    }
    places[static_cast<std::size_t>(from[i])] = i;
  }
  return places;
}

Weight WorkspaceCheckpoint::linear(std::string_view module, std::vector<std::string>& used) const {
  const auto found = files_->manifest().weights.find(module);
  if (found == files_->manifest().weights.end()) {
    throw Error(ErrorCode::not_found, "the workspace has no weight " + quote_name(module));
  }
  const auto& [name, weight] = *found;
  used.push_back(name + std::string(kWeight));
  Weight result = weight.packed ? files_->reader().unpack(saved(name, weight), name) : canonical(name, weight);
  return weight.row_order ? reorder_rows(result, inverse(files_->tensor(name + ".row_order"), weight.out)) : result;
}

Weight WorkspaceCheckpoint::dense(std::string_view tensor) const {
  if (tensor.ends_with(kWeight) && has_linear(tensor.substr(0, tensor.size() - kWeight.size()))) {
    std::vector<std::string> used;
    Weight weight = linear(tensor.substr(0, tensor.size() - kWeight.size()), used);
    weight.name = std::string(tensor);
    return weight.format.kind == FormatKind::dense ? weight : to_f32(weight);
  }
  if (!contains(tensor)) throw Error(ErrorCode::not_found, "the workspace has no tensor " + quote_name(tensor));
  const SafetensorsEntry& entry = files_->tensor(std::string(tensor));
  if (!entry.dtype)
    throw Error(ErrorCode::unsupported, entry.file + ": " + quote_name(tensor) + " has an unknown type");
  Weight weight;
  weight.name = entry.name;
  weight.format = Format::dense(*entry.dtype);
  weight.out = entry.shape.empty() ? 1 : entry.shape[0];
  weight.in = 1;
  for (std::size_t i = 1; i < entry.shape.size(); ++i) weight.in *= entry.shape[i];
  weight.data = view(entry.name, weight.out, weight.in);
  weight.keep.push_back(files_->mapping());
  return weight;
}

}  // namespace

std::unique_ptr<Checkpoint> open_workspace_checkpoint(std::shared_ptr<const WorkspaceFiles> files) {
  return std::make_unique<WorkspaceCheckpoint>(std::move(files));
}

}  // namespace bittern
