// The pool behind one mutex, and one thread that loads: a load uses all cores anyway, so loads take turns. The mutex is
// never held while a model is loaded or torn down. Memory is counted from the plan of a load until the last user of the
// model is gone, so the sum never passes the cap.
#include "server/model_pool.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/strings.h"
#include "server/api_error.h"

namespace bittern::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRoomPoll = std::chrono::milliseconds(10);
// What is in use changes with every request, so a refusal for want of room holds only for those that waited for it.
constexpr auto kRetryNoRoom = std::chrono::milliseconds(500);

std::string mebibytes(std::int64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }

struct Entry {
  std::string name;
  std::unique_ptr<ModelSource> source;
  ModelStatus status = ModelStatus::unloaded;
  std::shared_ptr<LoadedModel> model;
  ModelNeeds needs;
  std::uint64_t last_use = 0;
  std::atomic<double> progress{0};
  std::optional<Error> error;
  Clock::time_point retry_at;
  std::vector<std::function<void()>> waiting;
};

// A model that was unloaded while requests used it, and holds its memory until they end.
struct Leaving {
  std::weak_ptr<LoadedModel> model;
  std::string name;
  std::int64_t memory = 0;
};

class Pool final : public ModelPool {
 public:
  Pool(std::vector<PoolEntry> entries, const PoolOptions& options) : options_(options) {
    for (PoolEntry& given : entries) {
      entries_.push_back(std::make_unique<Entry>());
      entries_.back()->name = std::move(given.name);
      entries_.back()->source = std::move(given.source);
    }
    loader_ = std::thread([this] { run(); });
  }

  ~Pool() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    loader_.join();
  }

  std::shared_ptr<LoadedModel> acquire(std::string_view name) override {
    std::lock_guard lock(mutex_);
    Entry& entry = find(name);
    if (entry.status == ModelStatus::loaded) {
      entry.last_use = ++uses_;
      return entry.model;
    }
    if (entry.status == ModelStatus::failed && Clock::now() < entry.retry_at) throw Error(*entry.error);
    enqueue(entry);
    throw ModelLoading(entry.name);
  }

  std::vector<ModelCard> list() const override {
    std::lock_guard lock(mutex_);
    std::vector<ModelCard> cards;
    for (const auto& entry : entries_) cards.push_back(card(*entry));
    return cards;
  }

  void start_load(std::string_view name) override {
    std::lock_guard lock(mutex_);
    Entry& entry = find(name);
    if (entry.status != ModelStatus::loaded) enqueue(entry);
  }

  void when_settled(std::string_view name, std::function<void()> settled) override {
    {
      std::lock_guard lock(mutex_);
      Entry& entry = find(name);
      if (entry.status == ModelStatus::loading) {
        if (entry.waiting.size() >= static_cast<std::size_t>(options_.max_waiting)) {
          throw Error(ErrorCode::overloaded,
                      fmt::format("the model '{}' is being loaded, and {} requests wait for it", entry.name,
                                  entry.waiting.size()),
                      "try again later");
        }
        return entry.waiting.push_back(std::move(settled));
      }
    }
    settled();
  }

  void load(std::string_view name) override {
    std::unique_lock lock(mutex_);
    Entry& entry = find(name);
    if (entry.status == ModelStatus::loaded) return;
    enqueue(entry);
    settled_.wait(lock, [&] { return entry.status != ModelStatus::loading; });
    if (entry.status == ModelStatus::failed) throw Error(*entry.error);
  }

  void unload(std::string_view name) override {
    std::shared_ptr<LoadedModel> model;  // torn down after the lock
    std::lock_guard lock(mutex_);
    Entry& entry = find(name);
    if (entry.status == ModelStatus::loading) {
      throw ApiError(ErrorCode::invalid_argument, "model", "the model '" + entry.name + "' is being loaded",
                     "unload it when it is there");
    }
    model = take(entry);
  }

  std::vector<std::pair<std::string, std::shared_ptr<LoadedModel>>> loaded() const override {
    std::lock_guard lock(mutex_);
    std::vector<std::pair<std::string, std::shared_ptr<LoadedModel>>> result;
    for (const auto& entry : entries_) {
      if (entry->model) result.emplace_back(entry->name, entry->model);
    }
    return result;
  }

 private:
  // --- With the mutex held ---

  Entry& find(std::string_view name) const {
    if (name.empty()) return *entries_.front();
    const auto found = std::ranges::find(entries_, name, [](const auto& entry) { return entry->name; });
    if (found != entries_.end()) return **found;
    std::vector<std::string> names;
    for (const auto& entry : entries_) names.push_back(entry->name);
    throw ApiError(ErrorCode::not_found, "model", fmt::format("the model '{}' does not exist", name),
                   "this server has " + join(names, ", "), "model_not_found");
  }

  ModelCard card(const Entry& entry) const {
    ModelCard card;
    card.name = entry.name;
    card.created = created_;
    card.status = entry.status;
    card.loaded = entry.status == ModelStatus::loaded;
    card.memory = card.loaded ? entry.needs.memory : 0;
    card.context = entry.needs.context;
    card.progress = card.loaded ? 1 : entry.progress.load();
    if (entry.status == ModelStatus::failed) card.error = entry.error->what();
    return card;
  }

  void enqueue(Entry& entry) {
    if (entry.status == ModelStatus::loading) return;
    entry.status = ModelStatus::loading;
    entry.progress = 0;
    queue_.push_back(&entry);
    work_.notify_one();
  }

  // Unloads; whoever gets the pointer lets it go without the lock.
  std::shared_ptr<LoadedModel> take(Entry& entry) {
    if (entry.status == ModelStatus::loaded) leaving_.push_back({entry.model, entry.name, entry.needs.memory});
    entry.status = ModelStatus::unloaded;
    entry.error.reset();
    return std::move(entry.model);
  }

  static bool in_use(const Entry& entry) { return entry.model && entry.model.use_count() > 1; }

  std::int64_t memory_held() {
    std::erase_if(leaving_, [](const Leaving& gone) { return gone.model.expired(); });
    std::int64_t bytes = 0;
    for (const Leaving& leaving : leaving_) bytes += leaving.memory;
    for (const auto& entry : entries_) bytes += entry->model ? entry->needs.memory : 0;
    return bytes;
  }

  std::int64_t memory_idle() const {
    std::int64_t bytes = 0;
    for (const auto& entry : entries_) bytes += entry->model && !in_use(*entry) ? entry->needs.memory : 0;
    return bytes;
  }

  Entry* least_recently_used() const {
    Entry* oldest = nullptr;
    for (const auto& entry : entries_) {
      if (entry->model && !in_use(*entry) && (!oldest || entry->last_use < oldest->last_use)) oldest = entry.get();
    }
    return oldest;
  }

  [[noreturn]] void refuse(const Entry& entry, std::int64_t bytes) const {
    std::vector<std::string> users;
    for (const Leaving& leaving : leaving_) users.push_back(leaving.name + " (" + mebibytes(leaving.memory) + ")");
    for (const auto& other : entries_) {
      if (in_use(*other)) users.push_back(other->name + " (" + mebibytes(other->needs.memory) + ")");
    }
    throw Error(ErrorCode::out_of_memory,
                fmt::format("the model '{}' takes {}, which does not fit into {} beside the models in use: {}",
                            entry.name, mebibytes(bytes), mebibytes(options_.memory), join(users, ", ")),
                "try again when their requests have ended, or raise --models-memory");
  }

  // --- The loading thread ---

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Entry& entry = *queue_.front();
      queue_.pop_front();
      const bool cancelled = stopping_;
      lock.unlock();
      if (cancelled) {
        fail(entry, Error(ErrorCode::cancelled, "the server is shutting down"));
      } else {
        load_guarded(entry);
      }
      lock.lock();
    }
  }

  void load_guarded(Entry& entry) {
    try {
      finish(entry, load_now(entry));
    } catch (const Error& error) {
      fail(entry, error);
    } catch (const std::bad_alloc&) {
      fail(entry, Error(ErrorCode::out_of_memory, "loading '" + entry.name + "' ran out of memory"));
    } catch (const std::exception& error) {
      fail(entry, Error(ErrorCode::internal, "loading '" + entry.name + "' failed: " + error.what()));
    }
  }

  SourcedModel load_now(Entry& entry) {
    if (options_.memory == 0) return entry.source->load([&](double part) { entry.progress = part; });
    make_room(entry, entry.source->plan(options_.memory).memory);
    SourcedModel loaded = entry.source->load([&](double part) { entry.progress = part; });
    make_room(entry, loaded.needs.memory);  // the plan is an upper bound, so this only guards it
    return loaded;
  }

  void make_room(const Entry& entry, std::int64_t bytes) {
    const auto deadline = Clock::now() + options_.room_wait;
    std::unique_lock lock(mutex_);
    while (memory_held() + bytes > options_.memory) {
      const bool enough = memory_held() - memory_idle() + bytes <= options_.memory;
      if (Entry* oldest = enough ? least_recently_used() : nullptr) {
        push_out(*oldest, lock);
      } else if (stopping_ || Clock::now() >= deadline) {
        refuse(entry, bytes);
      } else {
        work_.wait_for(lock, kRoomPoll);
      }
    }
  }

  void push_out(Entry& entry, std::unique_lock<std::mutex>& lock) {
    std::shared_ptr<LoadedModel> model = take(entry);
    lock.unlock();
    model.reset();
    log_info("unloaded the model '{}', used least recently, to make room", entry.name);
    lock.lock();
  }

  void finish(Entry& entry, SourcedModel loaded) {
    const std::shared_ptr<LoadedModel> pin = loaded.model;  // in use until those who waited have it
    settle(entry, [&] {
      entry.model = std::move(loaded.model);
      entry.needs = loaded.needs;
      entry.error.reset();
      entry.last_use = ++uses_;
      entry.status = ModelStatus::loaded;
    });
  }

  void fail(Entry& entry, const Error& error) {
    log_error("the model '{}' could not be loaded: {}", entry.name, error.what());
    settle(entry, [&] {
      entry.error = error;
      const bool no_room = error.code() == ErrorCode::out_of_memory;
      entry.retry_at = Clock::now() + (no_room ? std::min(kRetryNoRoom, options_.retry_failed) : options_.retry_failed);
      entry.status = ModelStatus::failed;
    });
  }

  template <class Change>
  void settle(Entry& entry, const Change& change) {
    std::vector<std::function<void()>> waiting;
    {
      std::lock_guard lock(mutex_);
      change();
      waiting.swap(entry.waiting);
    }
    settled_.notify_all();
    for (const auto& settled : waiting) settled();
  }

  const PoolOptions options_;
  const std::int64_t created_ = static_cast<std::int64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  std::vector<std::unique_ptr<Entry>> entries_;  // the vector never changes
  mutable std::mutex mutex_;
  std::condition_variable work_, settled_;
  std::deque<Entry*> queue_;
  std::vector<Leaving> leaving_;
  std::uint64_t uses_ = 0;
  bool stopping_ = false;
  std::thread loader_;
};

void check(const std::vector<PoolEntry>& entries) {
  if (entries.empty()) throw Error(ErrorCode::invalid_argument, "there is no model to serve");
  for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
    if (entry->name.empty()) throw Error(ErrorCode::invalid_argument, "a model to serve has an empty name");
    const auto same = [&](const PoolEntry& other) { return other.name == entry->name; };
    if (std::any_of(entries.begin(), entry, same)) {
      throw Error(ErrorCode::invalid_argument, "two models to serve are called '" + entry->name + "'",
                  "give each its own name: NAME=MODEL");
    }
  }
}

}  // namespace

std::string_view model_status_name(ModelStatus status) {
  switch (status) {
    case ModelStatus::unloaded: return "unloaded";
    case ModelStatus::loading: return "loading";
    case ModelStatus::loaded: return "loaded";
    case ModelStatus::failed: return "failed";
  }
  return "unknown";
}

std::string served_name(const ModelPool& models, std::string name) {
  return name.empty() ? models.list().front().name : name;
}

std::unique_ptr<ModelPool> make_model_pool(std::vector<PoolEntry> entries, const PoolOptions& options) {
  check(entries);
  return std::make_unique<Pool>(std::move(entries), options);
}

}  // namespace bittern::server
