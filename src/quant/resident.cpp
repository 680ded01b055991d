// Sizes by packing zeros, a few rows at a time.
#include "quant/resident.h"

#include <algorithm>
#include <set>

#include "nn/linear.h"

namespace bittern::quant {
namespace {

constexpr std::int64_t kRun = 64;  // rows: a multiple of every backend's run of outputs
// Backends may keep scales in 16 bits where they fit, which depends on the weights: this one does not, so that sizes
// are never more than what was counted.
constexpr float kLeastScale = 1e-9F;
constexpr int kLinear = 0, kTable = 1, kTiedTable = 2;

/// Counts the leaves that are not quantized.
class Beside final : public nn::Visitor {
 public:
  Beside(const Job& job, const Checkpoint& checkpoint, ResidentSizes& sizes) : checkpoint_(checkpoint), sizes_(sizes) {
    for (const LayerJob& layer : job.layers) {
      for (const LinearTask& linear : layer.linears) quantized_.insert(linear.name);
    }
  }

  void linear(const std::string& name, nn::Linear& leaf) override {
    if (leaf.has_bias()) bytes += sizes_.vector(leaf.out());
    if (!quantized_.contains(name)) bytes += sizes_.linear(stored(name), leaf.out(), leaf.in());
  }
  void norm(const std::string&, nn::RmsNorm& leaf) override { bytes += sizes_.vector(leaf.width()); }
  void embedding(const std::string& name, nn::Embedding& leaf) override {
    bytes += sizes_.table(stored(name), leaf.vocab(), leaf.width(), leaf.tied());
  }

  std::int64_t bytes = 0;

 private:
  Format stored(const std::string& name) const {
    const auto entries = checkpoint_.entries();
    const auto found = std::ranges::find(entries, name + ".weight", &TensorEntry::name);
    return Format::dense(found == entries.end() || !found->dtype ? DType::f32 : *found->dtype);
  }

  const Checkpoint& checkpoint_;
  ResidentSizes& sizes_;
  std::set<std::string, std::less<>> quantized_;
};

}  // namespace

std::int64_t ResidentSizes::measure(const Format& format, std::int64_t out, std::int64_t in, int use) {
  const auto [known, fresh] = known_.try_emplace({format.name(), out, in, use}, 0);
  if (!fresh) return known->second;
  const auto packed = [&](std::int64_t rows) {
    const Weight weight = Weight::allocate("rows", format, rows, in);
    if (weight.scales.rank != 0) std::fill_n(weight.scales.as<float>(), weight.scales.size(), kLeastScale);
    return use == kLinear ? backend_.prepare(weight)->bytes()
                          : backend_.prepare_table(weight, use == kTiedTable)->bytes();
  };
  if (out <= 2 * kRun) return known->second = packed(out);
  const std::int64_t one = packed(kRun), run = packed(2 * kRun) - one, rest = out % kRun;
  return known->second = one + (out / kRun - 1) * run + (rest > 0 ? packed(kRun + rest) - one : 0);
}

std::int64_t ResidentSizes::linear(const Format& format, std::int64_t out, std::int64_t in) {
  return measure(format, out, in, kLinear);
}

std::int64_t ResidentSizes::table(const Format& format, std::int64_t out, std::int64_t in, bool tied) {
  return measure(format, out, in, tied ? kTiedTable : kTable);
}

std::int64_t ResidentSizes::vector(std::int64_t width) {
  return backend_.prepare_vector(Weight::allocate("vector", Format::dense(DType::f32), width, 1), 0.0F)->bytes();
}

Format format_of(const LinearTask& linear, const Scheme& scheme, std::int64_t group_size) {
  Format format = Format::grouped(scheme.bits, group_inputs(linear, group_size));
  format.int8_activations = scheme.int8_activations;
  return format;
}

std::int64_t resident_beside_linears(const Job& job, Model& model, const Checkpoint& checkpoint, ResidentSizes& sizes) {
  Beside beside(job, checkpoint, sizes);
  model.visit(beside);
  return beside.bytes;
}

}  // namespace bittern::quant
