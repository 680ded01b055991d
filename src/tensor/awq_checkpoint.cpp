// AWQ in front of a plain checkpoint. Which linears are quantized is decided by what is stored; the list
// modules_to_not_convert decides only where both forms are present.
#include "tensor/awq_checkpoint.h"

#include <bittern/error.h>

#include <algorithm>

#include "base/strings.h"
#include "tensor/awq.h"

namespace bittern {
namespace {

constexpr std::uint64_t kMaxGroup = std::uint64_t{1} << 30;

// The value of the first of `keys` that is present (AutoAWQ and transformers spell them differently), or null.
const Json* find_any(const Json& config, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const auto found = config.find(key);
    if (found != config.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

[[noreturn]] void wrong_type(const char* key, const char* expected, const Json& found) {
  throw Error(ErrorCode::invalid_checkpoint,
              std::string("quantization_config.") + key + " must be " + expected + ", found " + describe_json(found));
}

[[noreturn]] void unsupported(const char* key, const Json& found, const char* accepted) {
  throw Error(ErrorCode::unsupported, std::string("AWQ: quantization_config.") + key + " is " + describe_json(found) +
                                          "; Bittern reads " + accepted);
}

void check_version(const Json& config) {
  const Json* version = find_any(config, {"version"});
  if (!version) return;  // transformers' default is gemm
  if (!version->is_string()) wrong_type("version", "a string", *version);
  if (to_lower(version->get_ref<const std::string&>()) != "gemm") unsupported("version", *version, "\"gemm\"");
}

void check_bits(const Json& config) {
  const Json* bits = find_any(config, {"bits", "w_bit"});
  if (!bits) return;
  if (!bits->is_number_integer()) wrong_type("bits", "an integer", *bits);
  if (*bits != 4) unsupported("bits", *bits, "4");
}

void check_zero_point(const Json& config) {
  const Json* zero_point = find_any(config, {"zero_point"});
  if (!zero_point) return;
  if (!zero_point->is_boolean()) wrong_type("zero_point", "true or false", *zero_point);
  if (!zero_point->get<bool>()) unsupported("zero_point", *zero_point, "true");
}

std::int64_t read_group_size(const Json& config) {
  const Json* size = find_any(config, {"group_size", "q_group_size"});
  if (!size) return AwqConfig{}.group_size;
  if (!size->is_number_integer()) wrong_type("group_size", "an integer", *size);
  // A value above 2^63 must not wrap around to -1.
  const std::int64_t value =
      size->is_number_unsigned() && size->get<std::uint64_t>() > kMaxGroup ? 0 : size->get<std::int64_t>();
  const bool fits = value == -1 || (value > 0 && value <= static_cast<std::int64_t>(kMaxGroup));
  if (!fits) unsupported("group_size", *size, "-1 or a positive number");
  return value;
}

std::vector<std::string> read_exceptions(const Json& config) {
  std::vector<std::string> names;
  const Json* list = find_any(config, {"modules_to_not_convert"});
  if (!list) return names;
  if (!list->is_array()) wrong_type("modules_to_not_convert", "a list of names", *list);
  for (const Json& name : *list) {
    if (!name.is_string()) wrong_type("modules_to_not_convert", "a list of names", *list);
    names.push_back(name.get<std::string>());
  }
  return names;
}

class AwqCheckpoint final : public Checkpoint {
 public:
  AwqCheckpoint(std::unique_ptr<Checkpoint> plain, AwqConfig config)
      : plain_(std::move(plain)), config_(std::move(config)) {}

  const std::vector<TensorEntry>& entries() const override { return plain_->entries(); }
  bool contains(std::string_view tensor) const override { return plain_->contains(tensor); }
  Weight dense(std::string_view tensor) const override { return plain_->dense(tensor); }
  bool has_linear(std::string_view module) const override {
    return contains(std::string(module) + ".qweight") || plain_->has_linear(module);
  }

  Weight linear(std::string_view module, std::vector<std::string>& used) const override {
    return is_quantized(module) ? quantized(std::string(module), used) : plain_->linear(module, used);
  }

 private:
  bool is_quantized(std::string_view module) const {
    if (!contains(std::string(module) + ".qweight")) return false;
    return !plain_->has_linear(module) || !is_exception(module);
  }

  bool is_exception(std::string_view module) const {
    const auto& names = config_.modules_to_not_convert;
    return std::any_of(names.begin(), names.end(), [&](const auto& name) { return module.find(name) != module.npos; });
  }

  Weight quantized(const std::string& module, std::vector<std::string>& used) const {
    AwqTensors tensors;
    const auto take = [&](const char* part) {
      const std::string key = module + part;
      Weight weight = plain_->dense(key);
      used.push_back(key);
      tensors.keep.insert(tensors.keep.end(), weight.keep.begin(), weight.keep.end());
      return weight.data;
    };
    tensors.qweight = take(".qweight");
    tensors.qzeros = take(".qzeros");
    tensors.scales = take(".scales");
    const std::int64_t in = tensors.qweight.rows();
    return unpack_awq(module, tensors, config_.group_size == -1 ? std::max<std::int64_t>(in, 1) : config_.group_size);
  }

  std::unique_ptr<Checkpoint> plain_;
  AwqConfig config_;
};

}  // namespace

AwqConfig parse_awq_config(const Json& quantization_config) {
  check_version(quantization_config);
  check_bits(quantization_config);
  check_zero_point(quantization_config);
  return {read_group_size(quantization_config), read_exceptions(quantization_config)};
}

std::unique_ptr<Checkpoint> open_awq_checkpoint(std::unique_ptr<Checkpoint> plain, AwqConfig config) {
  return std::make_unique<AwqCheckpoint>(std::move(plain), std::move(config));
}

}  // namespace bittern
