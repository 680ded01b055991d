// The pool with sources that load nothing: who waits, who is pushed out, what is refused, and that the cap holds.
#include "server/model_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "server/after_load.h"

namespace bittern::server {
namespace {

using namespace std::chrono_literals;

/// Memory that all fakes hold together, and the most it ever was.
struct Ledger {
  std::atomic<std::int64_t> held{0}, peak{0};
  void add(std::int64_t bytes) {
    const std::int64_t now = held += bytes;
    std::int64_t before = peak;
    while (now > before && !peak.compare_exchange_weak(before, now)) {
    }
  }
};

/// A gate that loads wait at.
class Gate {
 public:
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

struct Script {
  std::int64_t memory = 100;
  std::shared_ptr<Gate> gate;
  std::atomic<int> loads{0};
  std::atomic<bool> fails{false};
};

class FakeSource final : public ModelSource {
 public:
  FakeSource(Script& script, Ledger& ledger) : script_(script), ledger_(ledger) {}

  ModelNeeds plan(std::int64_t limit) override {
    if (script_.memory > limit) throw Error(ErrorCode::out_of_memory, "larger than the cap alone");
    return {script_.memory, 64};
  }

  SourcedModel load(const std::function<void(double)>& progress) override {
    ++script_.loads;
    progress(0.5);
    if (script_.gate) script_.gate->pass();
    if (script_.fails) throw Error(ErrorCode::invalid_checkpoint, "a shard is missing");
    ledger_.add(script_.memory);
    const std::int64_t bytes = script_.memory;
    const std::shared_ptr<int> owner(new int(0), [this, bytes](const int* value) {
      ledger_.add(-bytes);
      delete value;
    });
    // The pool never looks into a model, so any address that lives as long does for one.
    return {std::shared_ptr<LoadedModel>(owner, reinterpret_cast<LoadedModel*>(owner.get())), {bytes, 64}};
  }

 private:
  Script& script_;
  Ledger& ledger_;
};

class ModelPoolTest : public ::testing::Test {
 protected:
  std::unique_ptr<ModelPool> make(std::vector<std::string> names, PoolOptions options = {}) {
    std::vector<PoolEntry> entries;
    for (const std::string& name : names) {
      entries.push_back({name, std::make_unique<FakeSource>(scripts_[name], ledger_)});
    }
    return make_model_pool(std::move(entries), options);
  }

  static PoolOptions capped(std::int64_t memory) {
    PoolOptions options;
    options.memory = memory;
    options.room_wait = 20ms;
    return options;
  }

  static ModelCard card(const ModelPool& pool, const std::string& name) {
    for (const ModelCard& card : pool.list()) {
      if (card.name == name) return card;
    }
    throw std::logic_error("no card for " + name);
  }

  static std::optional<Error> error_of(const std::function<void()>& act) {
    try {
      act();
    } catch (const Error& error) {
      return error;
    }
    return std::nullopt;
  }

  Ledger ledger_;
  std::map<std::string, Script> scripts_;
};

TEST_F(ModelPoolTest, LoadsOnDemandAndOnce) {
  const auto pool = make({"a", "b"});
  EXPECT_EQ(card(*pool, "a").status, ModelStatus::unloaded);
  EXPECT_THROW(pool->acquire("a"), ModelLoading);
  pool->load("a");
  EXPECT_NE(pool->acquire("a"), nullptr);
  EXPECT_EQ(pool->acquire(""), pool->acquire("a")) << "the first is the default";
  EXPECT_EQ(scripts_["a"].loads, 1);
  EXPECT_EQ(scripts_["b"].loads, 0);
  EXPECT_EQ(card(*pool, "a").memory, 100);
  EXPECT_EQ(pool->loaded().size(), 1U);
}

TEST_F(ModelPoolTest, UnknownNamesListTheKnownOnes) {
  const auto pool = make({"a", "b"});
  const auto error = error_of([&] { pool->acquire("c"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::not_found);
  EXPECT_NE(std::string(error->what()).find("a, b"), std::string::npos);
}

TEST_F(ModelPoolTest, RefusesTwoOfOneName) {
  EXPECT_THROW(make({"a", "a"}), Error);
  EXPECT_THROW(make({""}), Error);
  EXPECT_THROW(make({}), Error);
}

TEST_F(ModelPoolTest, OthersAreServedWhileOneLoads) {
  scripts_["slow"].gate = std::make_shared<Gate>();
  const auto pool = make({"quick", "slow"});
  pool->load("quick");
  pool->start_load("slow");
  for (int i = 0; i < 100; ++i) EXPECT_NE(pool->acquire("quick"), nullptr);
  EXPECT_THROW(pool->acquire("slow"), ModelLoading);
  EXPECT_EQ(error_of([&] { pool->unload("slow"); })->code(), ErrorCode::invalid_argument);
  scripts_["slow"].gate->open();
  pool->load("slow");
  EXPECT_NE(pool->acquire("slow"), nullptr);
}

TEST_F(ModelPoolTest, ConcurrentRequestsWaitForOneLoad) {
  scripts_["a"].gate = std::make_shared<Gate>();
  PoolOptions options;
  options.max_waiting = 8;
  const auto pool = make({"a"}, options);
  pool->start_load("a");
  std::atomic<int> settled{0};
  for (int i = 0; i < 8; ++i) pool->when_settled("a", [&] { ++settled; });
  EXPECT_EQ(error_of([&] { pool->when_settled("a", [] {}); })->code(), ErrorCode::overloaded);
  EXPECT_EQ(settled, 0);
  std::vector<std::thread> loaders;
  for (int i = 0; i < 4; ++i) loaders.emplace_back([&] { pool->load("a"); });
  scripts_["a"].gate->open();
  for (std::thread& loader : loaders) loader.join();
  while (settled < 8) std::this_thread::yield();
  EXPECT_EQ(scripts_["a"].loads, 1);
}

TEST_F(ModelPoolTest, KeepsTheErrorOfAFailedLoad) {
  scripts_["a"].fails = true;
  const auto pool = make({"a"});
  EXPECT_EQ(error_of([&] { pool->load("a"); })->code(), ErrorCode::invalid_checkpoint);
  EXPECT_EQ(card(*pool, "a").status, ModelStatus::failed);
  EXPECT_NE(card(*pool, "a").error.find("a shard is missing"), std::string::npos);
  EXPECT_EQ(error_of([&] { pool->acquire("a"); })->code(), ErrorCode::invalid_checkpoint);
  EXPECT_EQ(scripts_["a"].loads, 1) << "a request does not try again at once";
  scripts_["a"].fails = false;
  pool->load("a");  // but somebody who asks for the load does
  EXPECT_NE(pool->acquire("a"), nullptr);
  EXPECT_EQ(card(*pool, "a").error, "");
}

TEST_F(ModelPoolTest, PushesOutTheLeastRecentlyUsed) {
  const auto pool = make({"a", "b", "c"}, capped(200));
  pool->load("a");
  pool->load("b");
  pool->acquire("a");  // b is now the older one
  pool->load("c");
  EXPECT_TRUE(card(*pool, "a").loaded);
  EXPECT_FALSE(card(*pool, "b").loaded);
  EXPECT_TRUE(card(*pool, "c").loaded);
  EXPECT_LE(ledger_.peak, 200);
}

TEST_F(ModelPoolTest, RefusesRatherThanPushOutWhatIsInUse) {
  const auto pool = make({"a", "b", "c"}, capped(200));
  pool->load("a");
  pool->load("b");
  const auto first = pool->acquire("a");
  auto second = pool->acquire("b");
  const auto error = error_of([&] { pool->load("c"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::out_of_memory);
  EXPECT_NE(std::string(error->what()).find("a (0.0 MiB), b (0.0 MiB)"), std::string::npos) << error->what();
  second.reset();
  pool->load("c");
  EXPECT_TRUE(card(*pool, "a").loaded);
  EXPECT_FALSE(card(*pool, "b").loaded);
  EXPECT_LE(ledger_.peak, 200);
}

TEST_F(ModelPoolTest, PushesOutNothingInVain) {
  scripts_["large"].memory = 180;
  const auto pool = make({"a", "b", "large"}, capped(200));
  pool->load("a");
  pool->load("b");
  const auto user = pool->acquire("a");
  EXPECT_EQ(error_of([&] { pool->load("large"); })->code(), ErrorCode::out_of_memory);
  EXPECT_TRUE(card(*pool, "b").loaded) << "its going would not have been enough";
}

TEST_F(ModelPoolTest, AModelLargerThanTheCapIsRefused) {
  scripts_["a"].memory = 300;
  const auto pool = make({"a"}, capped(200));
  EXPECT_EQ(error_of([&] { pool->load("a"); })->code(), ErrorCode::out_of_memory);
  EXPECT_EQ(scripts_["a"].loads, 0) << "refused by its plan";
}

TEST_F(ModelPoolTest, AnUnloadedModelLivesAndCountsUntilItsLastUser) {
  const auto pool = make({"a", "b"}, capped(150));
  pool->load("a");
  auto user = pool->acquire("a");
  pool->unload("a");
  EXPECT_FALSE(card(*pool, "a").loaded);
  EXPECT_EQ(ledger_.held, 100);
  const auto error = error_of([&] { pool->load("b"); });
  ASSERT_TRUE(error);
  EXPECT_NE(std::string(error->what()).find("in use: a ("), std::string::npos) << error->what();
  user.reset();
  EXPECT_EQ(ledger_.held, 0);
  pool->load("b");
  EXPECT_LE(ledger_.peak, 150);
}

TEST_F(ModelPoolTest, EndsWhileRequestsWait) {
  scripts_["a"].gate = std::make_shared<Gate>();
  auto pool = make({"a", "b"});
  std::atomic<int> settled{0};
  pool->start_load("a");
  pool->start_load("b");
  pool->when_settled("b", [&] { ++settled; });
  std::thread opener([gate = scripts_["a"].gate] {
    std::this_thread::sleep_for(20ms);
    gate->open();
  });
  pool.reset();
  opener.join();
  EXPECT_EQ(settled, 1);
}

TEST_F(ModelPoolTest, TheCapHoldsUnderManyThreads) {
  const auto pool = make({"a", "b", "c", "d"}, capped(250));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const std::string name(1, static_cast<char>('a' + (i * 7 + t * 3) % 4));
        try {
          const auto model = pool->acquire(name);
          if (i % 5 == 0) pool->unload(name);
          EXPECT_NE(model, nullptr);
        } catch (const ModelLoading&) {
          std::promise<void> settled;
          pool->when_settled(name, [&] { settled.set_value(); });
          settled.get_future().wait();
        } catch (const Error& error) {
          EXPECT_TRUE(error.code() == ErrorCode::out_of_memory || error.code() == ErrorCode::invalid_argument)
              << error.what();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(ledger_.peak, 250);
  EXPECT_GT(ledger_.peak, 0);
}

// --- Requests that wait for their model ---

class AfterLoadTest : public ModelPoolTest {
 protected:
  static HttpReply wait_for(HttpReply reply) {
    if (!reply.later) return reply;
    std::promise<void> woken;
    std::atomic<bool> once{false};
    reply.later->start([&] {
      if (!once.exchange(true)) woken.set_value();
    });
    woken.get_future().wait();
    return *reply.later->poll();
  }
};

TEST_F(AfterLoadTest, RunsTheHandlerOnceTheModelIsThere) {
  const auto pool = make({"a"});
  const Handler handler = after_load(*pool, [&](const HttpRequest& request) {
    pool->acquire(request.body);
    HttpReply reply;
    reply.body = "answered";
    return reply;
  });
  HttpRequest request;
  request.body = "a";
  HttpReply first = handler(request);
  EXPECT_TRUE(first.later);
  EXPECT_EQ(wait_for(std::move(first)).body, "answered");
  EXPECT_FALSE(handler(request).later) << "the model is there now";
}

TEST_F(AfterLoadTest, TellsTheErrorOfTheLoad) {
  scripts_["a"].fails = true;
  const auto pool = make({"a"});
  const Handler handler = after_load(*pool, [&](const HttpRequest&) {
    pool->acquire("a");
    return HttpReply();
  });
  EXPECT_EQ(error_of([&] { wait_for(handler(HttpRequest())); })->code(), ErrorCode::invalid_checkpoint);
}

TEST_F(AfterLoadTest, AClientThatLeftIsNotAnswered) {
  scripts_["a"].gate = std::make_shared<Gate>();
  const auto pool = make({"a"});
  std::atomic<int> answered{0};
  const Handler handler = after_load(*pool, [&](const HttpRequest&) {
    pool->acquire("a");
    ++answered;
    return HttpReply();
  });
  handler(HttpRequest()).later.reset();
  scripts_["a"].gate->open();
  pool->load("a");
  pool->acquire("a");
  EXPECT_EQ(answered, 0);
}

}  // namespace
}  // namespace bittern::server
