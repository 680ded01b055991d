// A block of random numbers is drawn once and repeated: its length is a prime, so that no two rows or groups in reach
// of each other are alike, and copying is as fast as memory.
#include "models/random_weights.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.h"
#include "base/random.h"
#include "nn/linear.h"

namespace bittern {
namespace {

constexpr std::size_t kBlock = 262139;  // the largest prime below 2^18

const std::vector<float>& normal_block() {
  static const std::vector<float> block = [] {
    std::vector<float> values(kBlock);
    Random random(1);
    for (float& value : values) value = static_cast<float>(random.next_normal());
    return values;
  }();
  return block;
}

template <class T>
void repeat(const std::vector<T>& block, T* to, std::int64_t count) {
  for (std::int64_t done = 0; done < count; done += static_cast<std::int64_t>(block.size())) {
    const std::int64_t part = std::min(count - done, static_cast<std::int64_t>(block.size()));
    std::memcpy(to + done, block.data(), static_cast<std::size_t>(part) * sizeof(T));
  }
}

template <class T, class Convert>
void fill_dense(Tensor data, float deviation, Convert convert) {
  std::vector<T> block(kBlock);
  for (std::size_t i = 0; i < kBlock; ++i) block[i] = convert(normal_block()[i] * deviation);
  repeat(block, data.as<T>(), data.size());
}

void fill_dense(const Weight& weight, float deviation) {
  switch (weight.format.dtype) {
    case DType::f32: return fill_dense<float>(weight.data, deviation, [](float x) { return x; });
    case DType::f16: return fill_dense<std::uint16_t>(weight.data, deviation, [](float x) { return to_f16(x).bits; });
    default: return fill_dense<std::uint16_t>(weight.data, deviation, [](float x) { return to_bf16(x).bits; });
  }
}

// Codes spread evenly over their range, around a zero in its middle; scales that 16 bits hold, as checkpoints have.
void fill_grouped(const Weight& weight, float deviation) {
  const int levels = 1 << weight.format.bits;
  std::vector<std::uint8_t> codes(kBlock);
  Random random(2);
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.next_u32());
  if (weight.format.bits > 4) {
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(code % levels);
  }
  repeat(codes, weight.data.as<std::uint8_t>(), weight.data.size());
  const float spread = static_cast<float>(levels) / std::sqrt(12.0f);
  std::vector<float> scales(8191);
  for (float& scale : scales) {
    scale = to_f32(to_f16(deviation / spread * (0.75f + 0.5f * random.next_float())));
  }
  repeat(scales, weight.scales.as<float>(), weight.scales.size());
  std::memset(weight.zeros.as<std::uint8_t>(), levels / 2, static_cast<std::size_t>(weight.zeros.size()));
}

class RandomBinder final : public nn::Visitor {
 public:
  RandomBinder(Backend& backend, const RandomWeights& weights, std::string head)
      : backend_(backend), weights_(weights), head_(std::move(head)) {}

  void linear(const std::string& name, nn::Linear& linear) override {
    const Format format = name == head_ ? weights_.head : weights_.linears;
    auto packed = backend_.prepare(random_weight(name, format, linear.out(), linear.in()));
    linear.bind(std::move(packed), linear.has_bias() ? vector(name + ".bias", linear.out(), 0) : nullptr);
  }
  void norm(const std::string& name, nn::RmsNorm& norm) override {
    norm.bind(vector(name, norm.width(), 1 - norm.offset()));
  }
  void embedding(const std::string& name, nn::Embedding& embedding) override {
    const Format format = embedding.tied() ? weights_.head : weights_.table;
    const Weight table = random_weight(name, format, embedding.vocab(), embedding.width());
    embedding.bind(backend_.prepare_table(table, embedding.tied()));
  }

 private:
  std::unique_ptr<DeviceBuffer> vector(const std::string& name, std::int64_t width, float value) {
    Weight weight = Weight::allocate(name, Format::dense(DType::f32), width, 1);
    std::fill_n(weight.data.as<float>(), width, value);
    return backend_.prepare_vector(weight, 0.0f);
  }

  Backend& backend_;
  const RandomWeights& weights_;
  std::string head_;
};

}  // namespace

Format parse_weight_format(const std::string& name, std::int64_t group_size) {
  if (name == "f32") return Format::dense(DType::f32);
  if (name == "f16") return Format::dense(DType::f16);
  if (name == "bf16") return Format::dense(DType::bf16);
  if (name == "w4a16") return Format::int4(group_size);
  if (name == "w8a16") return Format::grouped(8, group_size);
  if (name == "w8a8") {
    Format format = Format::grouped(8, 0);
    format.int8_activations = true;
    return format;
  }
  throw Error(ErrorCode::invalid_argument, "there are no weights of the format '" + name + "'",
              "the formats are f32, f16, bf16, w4a16, w8a16, w8a8");
}

Weight random_weight(std::string name, Format format, std::int64_t out, std::int64_t in) {
  if (format.kind == FormatKind::grouped && format.group_size == 0) format.group_size = in;
  Weight weight = Weight::allocate(std::move(name), format, out, in);
  const float deviation = 1.0f / std::sqrt(static_cast<float>(in));
  format.kind == FormatKind::dense ? fill_dense(weight, deviation) : fill_grouped(weight, deviation);
  return weight;
}

std::unique_ptr<Model> random_model(const ModelConfig& config, Backend& backend, const RandomWeights& weights) {
  std::unique_ptr<Model> model = build_model(config);
  RandomBinder binder(backend, weights, model->head_name());
  model->visit(binder);
  return model;
}

}  // namespace bittern
