// Reading and binding, leaf by leaf.
#include "models/weight_loader.h"

#include <bittern/error.h>

#include <algorithm>

#include "base/log.h"
#include "nn/linear.h"

namespace bittern {
namespace {

void expect(const std::string& name, std::int64_t found_out, std::int64_t found_in, std::int64_t out, std::int64_t in) {
  if (found_out == out && found_in == in) return;
  const auto shape = [](std::int64_t a, std::int64_t b) {
    return "(" + std::to_string(a) + ", " + std::to_string(b) + ")";
  };
  throw Error(ErrorCode::invalid_checkpoint, "weight '" + name + "' has shape " + shape(found_out, found_in) +
                                                 ", but config.json asks for " + shape(out, in));
}

}  // namespace

WeightLoader::WeightLoader(const Checkpoint& checkpoint, Backend& backend, const LoadOptions& options)
    : checkpoint_(checkpoint), backend_(backend), options_(options) {
  for (const TensorEntry& entry : checkpoint.entries()) total_ += static_cast<std::int64_t>(entry.bytes);
}

void WeightLoader::linear(const std::string& name, nn::Linear& linear) {
  std::vector<std::string> used;
  std::unique_ptr<PackedWeight> packed = adopt(name, linear.out(), linear.in(), true, used);
  std::int64_t bytes = packed ? packed->bytes() : 0;
  if (!packed) {
    Weight weight = checkpoint_.linear(name, used);
    expect(name, weight.out, weight.in, linear.out(), linear.in());
    if (!linear.row_order().empty()) weight = reorder_rows(weight, linear.row_order());
    packed = backend_.prepare(weight);
    bytes = weight.bytes();
  }
  std::unique_ptr<DeviceBuffer> bias;
  if (linear.has_bias()) bias = bind_bias(name + ".bias", linear, used);
  linear.bind(std::move(packed), std::move(bias));
  finish(used, bytes);
}

void WeightLoader::norm(const std::string& name, nn::RmsNorm& norm) {
  const Weight weight = vector(name + ".weight", norm.width());
  norm.bind(backend_.prepare_vector(weight, norm.offset()));
  finish({name + ".weight"}, weight.bytes());
}

void WeightLoader::embedding(const std::string& name, nn::Embedding& embedding) {
  std::vector<std::string> used;
  if (auto packed = adopt(name, embedding.vocab(), embedding.width(), embedding.tied(), used)) {
    const std::int64_t bytes = packed->bytes();
    embedding.bind(std::move(packed));
    return finish(used, bytes);
  }
  const Weight weight = checkpoint_.table(name, used);
  expect(name, weight.out, weight.in, embedding.vocab(), embedding.width());
  embedding.bind(backend_.prepare_table(weight, embedding.tied()));
  finish(used, weight.bytes());
}

// A packing that the checkpoint holds ready for this backend; null when there is none.
std::unique_ptr<PackedWeight> WeightLoader::adopt(const std::string& name, std::int64_t out, std::int64_t in,
                                                  bool for_linear, std::vector<std::string>& used) {
  std::vector<std::string> keys;
  const std::optional<SavedPacking> saved = checkpoint_.packing(name, keys);
  if (!saved) return nullptr;
  expect(name, saved->out, saved->in, out, in);
  std::unique_ptr<PackedWeight> packed = backend_.adopt_packing(*saved, for_linear);
  if (packed) {
    used = std::move(keys);
  } else {
    tell_of_repacking(saved->layout);
  }
  return packed;
}

void WeightLoader::tell_of_repacking(const PackingLayout& layout) {
  if (told_of_repacking_) return;
  told_of_repacking_ = true;
  const std::string message = "the workspace is packed as " + layout.describe() + ", which " + backend_.description() +
                              " does not use: its weights are packed anew in memory";
  if (options_.notice) {
    options_.notice(message);
  } else {
    log_warn("{}", message);
  }
}

Weight WeightLoader::vector(const std::string& key, std::int64_t width) const {
  Weight weight = checkpoint_.dense(key);
  expect(key, weight.out, weight.in, width, 1);
  return weight;
}

std::unique_ptr<DeviceBuffer> WeightLoader::bind_bias(const std::string& key, const nn::Linear& linear,
                                                      std::vector<std::string>& used) {
  Weight bias = vector(key, linear.out());
  if (!linear.row_order().empty()) bias = reorder_rows(bias, linear.row_order());
  used.push_back(key);
  return backend_.prepare_vector(bias, 0.0F);
}

void WeightLoader::finish(const std::vector<std::string>& keys, std::int64_t bytes) {
  used_.insert(keys.begin(), keys.end());
  done_ += bytes;
  if (options_.progress) options_.progress(std::min(done_, total_), total_);
}

void WeightDropper::linear(const std::string&, nn::Linear& linear) { linear.bind(nullptr, nullptr); }
void WeightDropper::norm(const std::string&, nn::RmsNorm& norm) { norm.bind(nullptr); }
void WeightDropper::embedding(const std::string&, nn::Embedding& embedding) { embedding.bind(nullptr); }

}  // namespace bittern
