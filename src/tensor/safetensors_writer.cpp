// Streaming writers: the header is known before the first byte of data, so files of any size are written front to back
// through one small buffer, and become visible only when complete.
#include <bittern/error.h>

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/json.h"
#include "tensor/safetensors.h"

namespace bittern {
namespace {

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

void check_specs(const std::vector<TensorSpec>& tensors) {
  std::set<std::string_view> names;
  for (const TensorSpec& tensor : tensors) {
    if (!names.insert(tensor.name).second || tensor.name == "__metadata__") {
      throw Error(ErrorCode::invalid_argument, "safetensors: the name '" + tensor.name + "' cannot be used (again)");
    }
    for (std::int64_t dimension : tensor.shape) {
      if (dimension < 0)
        throw Error(ErrorCode::invalid_argument, "safetensors: '" + tensor.name + "' has a negative dimension");
    }
  }
}

// Length and JSON, padded with spaces so that the data starts at a multiple of 8.
std::string make_header(const std::vector<TensorSpec>& tensors, const std::map<std::string, std::string>& metadata) {
  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    const std::int64_t end = offset + tensor.bytes();
    header[tensor.name] = {
        {"dtype", safetensors_dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  return bytes + text;
}

[[noreturn]] void misused(const std::string& message) {
  throw Error(ErrorCode::internal, "safetensors writer: " + message);
}

// Splits in order; a tensor larger than the limit gets a shard of its own.
std::vector<std::vector<TensorSpec>> plan_shards(std::vector<TensorSpec> tensors, std::int64_t max_bytes) {
  std::vector<std::vector<TensorSpec>> shards(1);
  std::int64_t used = 0;
  for (TensorSpec& tensor : tensors) {
    const std::int64_t bytes = tensor.bytes();
    if (!shards.back().empty() && used + bytes > max_bytes) {
      shards.emplace_back();
      used = 0;
    }
    used += bytes;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return std::string(kSingle);
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

}  // namespace

std::int64_t TensorSpec::bytes() const {
  std::int64_t bytes = static_cast<std::int64_t>(dtype_size(dtype));
  for (std::int64_t dimension : shape) bytes *= dimension;
  return bytes;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : tensors_((check_specs(tensors), std::move(tensors))), file_(path) {
  file_.write(make_header(tensors_, metadata));
}

void SafetensorsWriter::append(std::span<const std::byte> data) {
  file_.write(data);
  std::int64_t left = static_cast<std::int64_t>(data.size());
  while (left > 0) {
    if (next_ == tensors_.size()) misused(std::to_string(left) + " bytes more than declared");
    const std::int64_t taken = std::min(left, tensors_[next_].bytes() - in_next_);
    left -= taken;
    in_next_ += taken;
    if (in_next_ == tensors_[next_].bytes()) {
      ++next_;
      in_next_ = 0;
    }
  }
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> data) {
  if (next_ == tensors_.size()) misused("'" + std::string(name) + "' was not declared");
  const TensorSpec& expected = tensors_[next_];
  if (in_next_ != 0 || expected.name != name) {
    misused("'" + std::string(name) + "' given where '" + expected.name + "' was to follow");
  }
  if (static_cast<std::int64_t>(data.size()) != expected.bytes()) {
    misused("'" + expected.name + "' has " + std::to_string(data.size()) + " bytes, declared " +
            std::to_string(expected.bytes()));
  }
  if (data.empty()) {
    ++next_;
  } else {
    append(data);
  }
}

void SafetensorsWriter::finish() {
  while (next_ < tensors_.size() && tensors_[next_].bytes() == 0) ++next_;
  if (next_ != tensors_.size()) misused("'" + tensors_[next_].name + "' is not completely written");
  file_.commit();
}

ShardedSafetensorsWriter::ShardedSafetensorsWriter(const std::filesystem::path& dir, std::vector<TensorSpec> tensors,
                                                   std::int64_t max_bytes)
    : dir_(dir) {
  check_specs(tensors);
  for (const TensorSpec& tensor : tensors) total_bytes_ += tensor.bytes();
  shards_ = plan_shards(std::move(tensors), max_bytes);
  for (std::size_t i = 0; i < shards_.size(); ++i) files_.push_back(shard_name(i, shards_.size()));
  if (shards_.size() > 1) files_.emplace_back(kIndex);
  open_shard();
}

void ShardedSafetensorsWriter::open_shard() {
  written_in_shard_ = 0;
  writer_ = std::make_unique<SafetensorsWriter>(dir_ / files_[shard_], shards_[shard_]);
}

void ShardedSafetensorsWriter::write(std::string_view name, std::span<const std::byte> data) {
  if (written_in_shard_ == shards_[shard_].size() && shard_ + 1 < shards_.size()) {
    writer_->finish();
    ++shard_;
    open_shard();
  }
  writer_->write(name, data);
  ++written_in_shard_;
}

void ShardedSafetensorsWriter::finish() {
  if (shard_ + 1 != shards_.size()) misused("only " + std::to_string(shard_) + " shards are complete");
  writer_->finish();
  if (shards_.size() == 1) return;
  Json map = Json::object();
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    for (const TensorSpec& tensor : shards_[i]) map[tensor.name] = files_[i];
  }
  const OrderedJson index = {{"metadata", {{"total_size", total_bytes_}}}, {"weight_map", map}};
  write_file_atomically(dir_ / kIndex, index.dump(2) + "\n");
}

}  // namespace bittern
