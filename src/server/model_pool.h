// ModelPool: the models a server answers with, by name: which are loaded, which can be, and which must go when memory
// runs short. Whoever answers a request holds a shared pointer, so a model is torn down only when nobody uses it; what
// is in use is never pushed out. It does not know how a model is loaded: a ModelSource does.
#pragma once

#include <bittern/error.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/loaded_model.h"

namespace bittern::server {

enum class ModelStatus : std::uint8_t { unloaded, loading, loaded, failed };
std::string_view model_status_name(ModelStatus status);

/// A model of the pool as a client sees it.
struct ModelCard {
  std::string name;
  std::int64_t created = 0;  // seconds since 1970: when the server learned of it
  bool loaded = false;
  std::int64_t memory = 0;   // bytes of weights, KV cache and step while loaded; 0 while unknown
  std::int64_t context = 0;  // longest sequence; 0 while unknown
  ModelStatus status = ModelStatus::unloaded;
  double progress = 0;  // of loading, in [0, 1]
  std::string error;    // status failed: why
};

/// Thrown by acquire() for a model that is on its way. Routes leave it to after_load() (after_load.h).
class ModelLoading : public Error {
 public:
  explicit ModelLoading(const std::string& name)
      : Error(ErrorCode::overloaded, "the model '" + name + "' is being loaded", "try again in a moment"),
        name_(name) {}
  const std::string& name() const noexcept { return name_; }

 private:
  std::string name_;
};

class ModelPool {
 public:
  virtual ~ModelPool() = default;
  /// The model called `name`; an empty name is the default model (the first). Never blocks: of a model that is not
  /// loaded it starts the load and throws ModelLoading. Error(not_found) lists the names there are. A load that failed
  /// a short while ago is not tried again: its error is thrown, among them Error(out_of_memory) naming what is in use.
  virtual std::shared_ptr<LoadedModel> acquire(std::string_view name) = 0;
  virtual std::vector<ModelCard> list() const = 0;
  /// Starts loading, unless it is loaded or under way; an earlier failure is forgotten.
  virtual void start_load(std::string_view name) = 0;
  /// Calls `settled` once, on another thread or at once, when no load of the model is under way any more.
  /// Error(overloaded) when too many wait for it already.
  virtual void when_settled(std::string_view name, std::function<void()> settled) = 0;
  /// start_load(), and waits. Throws what the load throws.
  virtual void load(std::string_view name) = 0;
  /// Requests that run end undisturbed; the next one loads the model anew. Error(invalid_argument) while it loads.
  virtual void unload(std::string_view name) = 0;
  /// Those that are loaded, for metrics.
  virtual std::vector<std::pair<std::string, std::shared_ptr<LoadedModel>>> loaded() const = 0;
};

/// The name that an empty one stands for, or `name`.
std::string served_name(const ModelPool& models, std::string name);

/// What a model takes, in bytes of everything and tokens of the longest sequence.
struct ModelNeeds {
  std::int64_t memory = 0;
  std::int64_t context = 0;
};

struct SourcedModel {
  std::shared_ptr<LoadedModel> model;
  ModelNeeds needs;  // as measured
};

/// How one model is loaded. Its functions are called on the pool's loading thread, one at a time.
class ModelSource {
 public:
  virtual ~ModelSource() = default;
  /// What load() will take, not less than it will, and at most `limit` bytes if that is not 0: a KV cache whose size is
  /// left open is planned smaller. Error(out_of_memory) when it cannot be done with so much.
  virtual ModelNeeds plan(std::int64_t limit) = 0;
  /// Loads as planned. `progress` is told the part that is done.
  virtual SourcedModel load(const std::function<void(double)>& progress) = 0;
};

struct PoolEntry {
  std::string name;
  std::unique_ptr<ModelSource> source;
};

struct PoolOptions {
  std::int64_t memory = 0;                         // bytes that all loaded models may take together; 0: no cap
  int max_waiting = 256;                           // requests that wait for one model's load
  std::chrono::milliseconds retry_failed{30'000};  // until a request tries a failed load again
  std::chrono::milliseconds room_wait{1'000};      // for models in use to become idle, before a load is refused
};

/// Loads nothing yet. Error(invalid_argument) for no entries, an empty name, or two of one name.
std::unique_ptr<ModelPool> make_model_pool(std::vector<PoolEntry> entries, const PoolOptions& options);

}  // namespace bittern::server
