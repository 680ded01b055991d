// The embedded model behind the routes, without sockets: requests go to the handler whose row matches, errors come back
// as they were thrown, and replies that come later or bit by bit are awaited.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/api_error.h"
#include "server/checkpoint_source.h"
#include "server/model_pool.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"
#include "server/server_metrics.h"

namespace bittern::server::testing {

/// Metrics that count nothing.
class NoMetrics final : public ServerMetrics {
 public:
  std::unique_ptr<RequestTimer> start(std::string_view) override {
    struct NoTimer final : RequestTimer {
      void prompt(std::int64_t, std::int64_t) override {}
      void token() override {}
      void finish(std::string_view) override {}
    };
    return std::make_unique<NoTimer>();
  }
  void http(std::string_view, int, double) override {}
  void disconnected(std::string_view) override {}
  std::string render(const ModelPool&) override { return {}; }
};

/// Counts wakes, so that a waiting test sleeps until there is something to read.
class Bell {
 public:
  Wake wake() {
    return [state = state_] {
      std::lock_guard lock(state->mutex);
      ++state->rung;
      state->changed.notify_all();
    };
  }
  void wait() {
    std::unique_lock lock(state_->mutex);
    state_->changed.wait(lock, [&] { return state_->rung > seen_; });
    seen_ = state_->rung;
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    int rung = 0;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
  int seen_ = 0;
};

inline std::unique_ptr<ModelPool> mini_pool() {
  std::vector<PoolEntry> entries;
  entries.push_back({"mini", make_checkpoint_source([] {
                       OpenedModel opened;
                       opened.files = ModelFiles::from_directory(std::string(BITTERN_SOURCE_DIR) + "/models/mini");
                       opened.options.device.threads = 1;
                       opened.options.engine.max_sequences = 4;
                       return opened;
                     })});
  return make_model_pool(std::move(entries), {});
}

class RouteTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    pool_ = mini_pool().release();
    pool_->load("mini");
  }
  static void TearDownTestSuite() {
    delete pool_;
    pool_ = nullptr;
  }

  /// The whole reply: a streamed body is read to its end.
  HttpReply send(const std::string& method, const std::string& path, const std::string& body = {}) {
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.body = body;
    request.id = "request-1";
    HttpReply reply = route(method, path).handler(request);
    Bell bell;
    if (reply.later) {
      const auto later = std::move(reply.later);
      later->start(bell.wake());
      std::optional<HttpReply> ready;
      while (!(ready = later->poll())) bell.wait();
      reply = std::move(*ready);
    }
    if (reply.source) {
      reply.source->start(bell.wake());
      while (!reply.source->poll(reply.body)) bell.wait();
      reply.source.reset();
    }
    return reply;
  }
  OrderedJson post(const std::string& path, const OrderedJson& body) {
    return OrderedJson::parse(send("POST", path, body.dump()).body);
  }
  OrderedJson get(const std::string& path) { return OrderedJson::parse(send("GET", path).body); }

  /// The field and message of the error that a request must end with.
  ApiError refused(const std::string& path, const OrderedJson& body) {
    try {
      send("POST", path, body.dump());
    } catch (const ApiError& error) {
      return error;
    } catch (const Error& error) {
      return ApiError(error.code(), "", error.message(), error.hint());
    }
    ADD_FAILURE() << path << " took " << body.dump();
    return ApiError(ErrorCode::internal, "", "no error");
  }

  const Route& route(const std::string& method, const std::string& path) {
    for (const Route& row : routes_) {
      const std::string fixed = row.path.substr(0, row.path.find('{'));
      if (row.method == method && (row.path == path || (fixed != row.path && path.starts_with(fixed)))) return row;
    }
    throw std::logic_error("no route " + method + " " + path);
  }

  ModelPool& pool() { return *pool_; }

  ServeOptions options_;
  NoMetrics metrics_;
  Service service_{*pool_, metrics_, options_};
  Routes routes_ = all_routes(service_);

 private:
  inline static ModelPool* pool_ = nullptr;
};

}  // namespace bittern::server::testing
