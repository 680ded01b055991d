// WeightLoader: the Visitor that reads a leaf's weights from a checkpoint and binds them, packed, to the leaf. Loading
// a model visits all leaves with it, a layer-wise pass those of one layer. Which keys must exist is checked elsewhere.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "models/model.h"

namespace bittern {

class WeightLoader final : public nn::Visitor {
 public:
  /// All three must outlive it.
  WeightLoader(const Checkpoint& checkpoint, Backend& backend, const LoadOptions& options);

  /// Error(invalid_checkpoint) naming the weight when its shape is not the leaf's; those of Checkpoint.
  void linear(const std::string& name, nn::Linear& linear) override;
  void norm(const std::string& name, nn::RmsNorm& norm) override;
  void embedding(const std::string& name, nn::Embedding& embedding) override;

  /// Keys read so far.
  const std::set<std::string>& used() const { return used_; }

 private:
  std::unique_ptr<PackedWeight> adopt(const std::string& name, std::int64_t out, std::int64_t in, bool for_linear,
                                      std::vector<std::string>& used);
  Weight vector(const std::string& key, std::int64_t width) const;
  std::unique_ptr<DeviceBuffer> bind_bias(const std::string& key, const nn::Linear& linear,
                                          std::vector<std::string>& used);
  void tell_of_repacking(const PackingLayout& layout);
  void finish(const std::vector<std::string>& keys, std::int64_t bytes);

  const Checkpoint& checkpoint_;
  Backend& backend_;
  const LoadOptions& options_;
  std::set<std::string> used_;
  std::int64_t done_ = 0, total_ = 0;
  bool told_of_repacking_ = false;
};

/// Gives back the weights of every leaf it visits.
class WeightDropper final : public nn::Visitor {
 public:
  void linear(const std::string& name, nn::Linear& linear) override;
  void norm(const std::string& name, nn::RmsNorm& norm) override;
  void embedding(const std::string& name, nn::Embedding& embedding) override;
};

}  // namespace bittern
