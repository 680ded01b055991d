// ModelPool: the models a server answers with, by name: which are loaded, which can be, and which must go when memory
// runs short. Whoever answers a request holds a shared pointer, so a model is torn down only when nobody uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/loaded_model.h"

namespace bittern::server {

/// A model of the pool as a client sees it.
struct ModelCard {
  std::string name;
  std::int64_t created = 0;  // seconds since 1970: when the server learned of it
  bool loaded = false;
  std::int64_t memory = 0;   // bytes of weights, KV cache and step while loaded, else what loading would take
  std::int64_t context = 0;  // longest sequence; 0 while unknown
};

class ModelPool {
 public:
  virtual ~ModelPool() = default;
  /// The model called `name`, loaded if it is not, which takes seconds; an empty name is the default model (the first).
  /// Error(not_found) lists the names there are; Error(out_of_memory) when it does not fit beside models in use.
  virtual std::shared_ptr<LoadedModel> acquire(std::string_view name) = 0;
  virtual std::vector<ModelCard> list() const = 0;
  virtual void load(std::string_view name) = 0;
  /// Error(invalid_argument) for the only model. Requests that run end undisturbed.
  virtual void unload(std::string_view name) = 0;
  /// Those that are loaded, for metrics.
  virtual std::vector<std::pair<std::string, std::shared_ptr<LoadedModel>>> loaded() const = 0;
};

}  // namespace bittern::server
