// What the readers of quantized checkpoints share: a plain checkpoint below, from which one linear's parts are taken by
// name, and the keys of quantization_config read with errors that name them. A reader says which linears are quantized
// and how one is put together; everything else is passed through.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/checkpoint.h"

namespace bittern {

/// The stored parts of one linear. take() records what was used, for the accounting of keys.
class LinearParts {
 public:
  LinearParts(const Checkpoint& plain, std::string module, std::vector<std::string>& used)
      : plain_(plain), module_(std::move(module)), used_(used) {}

  const std::string& module() const { return module_; }
  std::string key(std::string_view part) const { return module_ + "." + std::string(part); }
  bool has(std::string_view part) const { return plain_.contains(key(part)); }
  /// The tensor "<module>.<part>"; Error(invalid_checkpoint) when it is missing.
  Tensor take(std::string_view part);
  /// The same, or a tensor of rank 0 when it is missing.
  Tensor take_if(std::string_view part) { return has(part) ? take(part) : Tensor{}; }
  /// Marks a part as used that needs no reading.
  void skip(std::string_view part) { used_.push_back(key(part)); }
  /// Owners of all that was taken.
  const std::vector<std::shared_ptr<const void>>& keep() const { return keep_; }

 private:
  const Checkpoint& plain_;
  std::string module_;
  std::vector<std::string>& used_;
  std::vector<std::shared_ptr<const void>> keep_;
};

class QuantizedCheckpoint : public Checkpoint {
 public:
  explicit QuantizedCheckpoint(std::unique_ptr<Checkpoint> plain) : plain_(std::move(plain)) {}

  const std::vector<TensorEntry>& entries() const override { return plain_->entries(); }
  bool contains(std::string_view tensor) const override { return plain_->contains(tensor); }
  Weight dense(std::string_view tensor) const override { return plain_->dense(tensor); }
  bool has_linear(std::string_view module) const override {
    return is_quantized(std::string(module)) || plain_->has_linear(module);
  }
  /// A linear that is not quantized must be stored in a float type: Error(invalid_checkpoint).
  Weight linear(std::string_view module, std::vector<std::string>& used) const override;

 protected:
  virtual bool is_quantized(const std::string& module) const = 0;
  virtual Weight quantized(LinearParts& parts) const = 0;

 private:
  std::unique_ptr<Checkpoint> plain_;
};

/// The entry of a tensor, or null.
const TensorEntry* find_entry(const Checkpoint& checkpoint, std::string_view name);

// --- keys of quantization_config; `where` is "quantization_config" or a path into it ---

/// The value of `key`, or null when it is absent or null.
const Json* config_value(const Json& config, const std::string& key);
/// Error(invalid_checkpoint) "<where>.<key> must be <expected>, found ...".
[[noreturn]] void config_wrong_type(const std::string& where, const std::string& key, const char* expected,
                                    const Json& found);
/// Error(unsupported) "<where>.<key> is ...; Bittern reads <accepted>".
[[noreturn]] void config_unsupported(const std::string& where, const std::string& key, const Json& found,
                                     const std::string& accepted);
/// Values of a type, or the fallback when absent; a value of another type is Error(invalid_checkpoint). Integers lie
/// within +-2^30.
bool config_bool(const Json& config, const std::string& where, const std::string& key, bool fallback);
std::int64_t config_int(const Json& config, const std::string& where, const std::string& key, std::int64_t fallback);
std::string config_string(const Json& config, const std::string& where, const std::string& key,
                          const std::string& fallback);
std::vector<std::string> config_names(const Json& config, const std::string& where, const std::string& key);

/// Whether the Python expression `pattern` matches `name` from its start. It is read as ECMAScript, which agrees on
/// what checkpoints use; Error(unsupported) naming it when it is not valid as such.
bool matches_pattern(const std::string& pattern, const std::string& name);

}  // namespace bittern
