// Reading and binding, leaf by leaf.
#include "models/weight_loader.h"

#include <bittern/error.h>

#include <algorithm>

#include "nn/linear.h"

namespace bittern {
namespace {

void expect(const std::string& name, const Weight& weight, std::int64_t out, std::int64_t in) {
  if (weight.out == out && weight.in == in) return;
  const auto shape = [](std::int64_t a, std::int64_t b) {
    return "(" + std::to_string(a) + ", " + std::to_string(b) + ")";
  };
  throw Error(ErrorCode::invalid_checkpoint, "weight '" + name + "' has shape " + shape(weight.out, weight.in) +
                                                 ", but config.json asks for " + shape(out, in));
}

}  // namespace

WeightLoader::WeightLoader(const Checkpoint& checkpoint, Backend& backend, const LoadOptions& options)
    : checkpoint_(checkpoint), backend_(backend), options_(options) {
  for (const TensorEntry& entry : checkpoint.entries()) total_ += static_cast<std::int64_t>(entry.bytes);
}

void WeightLoader::linear(const std::string& name, nn::Linear& linear) {
  std::vector<std::string> used;
  Weight weight = checkpoint_.linear(name, used);
  expect(name, weight, linear.out(), linear.in());
  if (!linear.row_order().empty()) weight = reorder_rows(weight, linear.row_order());
  std::unique_ptr<DeviceBuffer> bias;
  if (linear.has_bias()) bias = bind_bias(name + ".bias", linear, used);
  linear.bind(backend_.prepare(weight), std::move(bias));
  finish(used, weight);
}

void WeightLoader::norm(const std::string& name, nn::RmsNorm& norm) {
  const Weight weight = vector(name + ".weight", norm.width());
  norm.bind(backend_.prepare_vector(weight, norm.offset()));
  finish({name + ".weight"}, weight);
}

void WeightLoader::embedding(const std::string& name, nn::Embedding& embedding) {
  std::vector<std::string> used;
  const Weight weight = checkpoint_.table(name, used);
  expect(name, weight, embedding.vocab(), embedding.width());
  embedding.bind(backend_.prepare_table(weight, embedding.tied()));
  finish(used, weight);
}

Weight WeightLoader::vector(const std::string& key, std::int64_t width) const {
  Weight weight = checkpoint_.dense(key);
  expect(key, weight, width, 1);
  return weight;
}

std::unique_ptr<DeviceBuffer> WeightLoader::bind_bias(const std::string& key, const nn::Linear& linear,
                                                      std::vector<std::string>& used) {
  Weight bias = vector(key, linear.out());
  if (!linear.row_order().empty()) bias = reorder_rows(bias, linear.row_order());
  used.push_back(key);
  return backend_.prepare_vector(bias, 0.0F);
}

void WeightLoader::finish(const std::vector<std::string>& keys, const Weight& weight) {
  used_.insert(keys.begin(), keys.end());
  done_ += weight.bytes();
  if (options_.progress) options_.progress(std::min(done_, total_), total_);
}

void WeightDropper::linear(const std::string&, nn::Linear& linear) { linear.bind(nullptr, nullptr); }
void WeightDropper::norm(const std::string&, nn::RmsNorm& norm) { norm.bind(nullptr); }
void WeightDropper::embedding(const std::string&, nn::Embedding& embedding) { embedding.bind(nullptr); }

}  // namespace bittern
