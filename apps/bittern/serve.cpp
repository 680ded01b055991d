// `bittern serve`: one or more models behind an OpenAI-compatible HTTP server. The listener opens first, so that health
// checks see the model load; SIGTERM drains, a second one cuts; SIGHUP reads certificates anew and reopens the log.
#include <bittern/error.h>
#include <fmt/core.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>

#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"
#include "base/sysinfo.h"
#include "model_loader.h"
#include "model_source.h"
#include "serve_options.h"
#include "server/access_log.h"
#include "server/checkpoint_source.h"
#include "server/http/http_server.h"
#include "server/model_pool.h"
#include "server/routes/routes.h"
#include "server/server_metrics.h"
#include "verb.h"

namespace bittern::cli {
namespace {

/// The signals that this verb handles, kept from every thread so that take() alone sees them.
class Signals {
 public:
  Signals() {
    sigemptyset(&wanted_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&wanted_, signal);
    pthread_sigmask(SIG_BLOCK, &wanted_, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }
  /// The next signal, or 0 when none came within `seconds`.
  int take(int seconds) const {
    const timespec limit{seconds, 0};
    const int taken = sigtimedwait(&wanted_, nullptr, &limit);
    return taken > 0 ? taken : 0;
  }
  /// From here on they end the program at once: tearing down may have to wait for a model that loads.
  void release() const {
    for (const int number : {SIGINT, SIGTERM}) signal(number, SIG_DFL);
    signal(SIGHUP, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, &wanted_, nullptr);
  }

 private:
  sigset_t wanted_;
};

server::PoolEntry entry_of(const ServedModel& model, const RunOptions& common) {
  RunOptions options = common;
  options.model = model.source;
  return {model.name, server::make_checkpoint_source([options] {
            server::OpenedModel opened;
            opened.files = open_model(options.model);
            opened.options = loaded_model_options(with_run_settings(options, *opened.files));
            return opened;
          })};
}

/// What would be served where, without loading anything; weights are read to learn what they take.
OrderedJson dry_run(const ServeArguments& arguments) {
  OrderedJson models = OrderedJson::array();
  std::int64_t total = 0;
  for (const ServedModel& model : served_models(arguments)) {
    const server::PoolEntry entry = entry_of(model, arguments.run);
    const server::ModelNeeds needs = entry.source->plan(0);
    total += needs.memory;
    models.push_back({{"name", model.name},
                      {"source", model.source.empty() ? "embedded" : model.source},
                      {"memory_bytes", needs.memory},
                      {"context", needs.context}});
  }
  const server::ServeOptions& serve = arguments.serve;
  return {{"host", serve.host},
          {"port", serve.port},
          {"tls", !serve.tls_certificate.empty()},
          {"api_keys", serve.api_keys.size()},
          {"max_body_bytes", serve.max_body_bytes},
          {"max_connections", serve.max_connections},
          {"max_queued", arguments.run.engine.max_queued},
          {"max_sequences", arguments.run.engine.max_sequences},
          {"models", std::move(models)},
          {"memory_bytes", total},
          {"free_memory_bytes", memory_info().available}};
}

int print_dry_run(const ServeArguments& arguments) {
  const OrderedJson plan = dry_run(arguments);
  if (arguments.json) {
    std::printf("%s\n", plan.dump(2).c_str());
    return 0;
  }
  std::printf("would listen on %s:%d, %s, %s\n", arguments.serve.host.c_str(), arguments.serve.port,
              plan["tls"] ? "TLS" : "no TLS", plan["api_keys"] == 0 ? "no key asked for" : "with API keys");
  for (const auto& model : plan["models"]) {
    std::printf("%-20s context %lld, %s\n", model["name"].get<std::string>().c_str(), model["context"].get<long long>(),
                human_bytes(model["memory_bytes"].get<std::uint64_t>()).c_str());
  }
  std::printf("together %s of %s free\n", human_bytes(plan["memory_bytes"].get<std::uint64_t>()).c_str(),
              human_bytes(plan["free_memory_bytes"].get<std::uint64_t>()).c_str());
  return 0;
}

std::unique_ptr<server::ModelPool> make_pool(const ServeArguments& arguments) {
  std::vector<server::PoolEntry> entries;
  for (const ServedModel& model : served_models(arguments)) entries.push_back(entry_of(model, arguments.run));
  server::PoolOptions options;
  if (!arguments.models_memory.empty()) options.memory = parse_bytes("--models-memory", arguments.models_memory);
  return server::make_model_pool(std::move(entries), options);
}

class Serve {
 public:
  explicit Serve(ServeArguments arguments)
      : arguments_(std::move(arguments)),
        pool_(make_pool(arguments_)),
        metrics_(server::make_server_metrics(arguments_.serve.vllm_metrics)),
        log_(arguments_.log_file, [this] { metrics_->log_failed(); }),
        http_(arguments_.serve, server::all_routes(service_), observer()) {}

  int run() {
    const std::vector<server::ModelCard> cards = pool_->list();
    for (std::size_t i = 0; i < (arguments_.load_all ? cards.size() : 1); ++i) pool_->start_load(cards[i].name);
    http_.start();
    std::printf("bittern: listening on %s, loading %s\n", http_.url().c_str(), cards.front().name.c_str());
    std::fflush(stdout);
    watch_first_load();
    return wait_for_end();
  }

 private:
  server::HttpObserver observer() {
    server::HttpObserver observer;
    observer.exchange = [this](const server::ExchangeRecord& record) {
      metrics_->http(record.route, record.status, record.seconds);
      if (!record.complete) metrics_->disconnected(record.route);
      log_.add(record);
    };
    observer.accept_failed = [this] { metrics_->accept_failed(); };
    return observer;
  }

  void watch_first_load() {
    const std::string name = pool_->list().front().name;
    pool_->when_settled(name, [this, name] {
      if (draining_) return;  // the server may be half gone when a load ends so late
      const server::ModelCard card = pool_->list().front();
      if (card.loaded) return announce(card);
      std::fprintf(stderr, "bittern: %s could not be loaded: %s\n", name.c_str(), card.error.c_str());
      status_ = status_of_failure(name);
      kill(getpid(), SIGTERM);
    });
  }

  /// The pool keeps the error of a load that failed, and throws it to who asks.
  int status_of_failure(const std::string& name) {
    try {
      pool_->acquire(name);
    } catch (const Error& error) {
      return exit_status(error.code());
    }
    return exit_status(ErrorCode::internal);
  }

  void announce(const server::ModelCard& card) {
    const std::string url = http_.url();
    std::printf("bittern: %s is ready: context %lld, %s; %s\n", card.name.c_str(), static_cast<long long>(card.context),
                human_bytes(static_cast<std::uint64_t>(card.memory)).c_str(), memory_line(card.name).c_str());
    std::printf(
        "bittern: curl %s/v1/chat/completions -H 'content-type: application/json' -d '{\"model\": \"%s\", "
        "\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'\n",
        url.c_str(), card.name.c_str());
    std::fflush(stdout);
  }

  std::string memory_line(const std::string& name) {
    for (const auto& [loaded, model] : pool_->loaded()) {
      if (loaded != name) continue;
      const MemoryPlan& plan = model->engine().plan();
      const auto bytes = [](std::int64_t n) { return human_bytes(static_cast<std::uint64_t>(n)); };
      return fmt::format("weights {}, KV cache {} ({}, {} blocks), step {}", bytes(plan.weights),
                         bytes(plan.kv_total()), plan.kv_format, plan.kv_blocks, bytes(plan.arena));
    }
    return {};
  }

  int wait_for_end() {
    for (;;) {
      const int signal = signals_.take(3600);
      if (signal == SIGHUP) reload();
      if (signal == SIGTERM || signal == SIGINT) return drain();
    }
  }

  void reload() {
    try {
      log_.reopen();
      http_.reload_tls();
      log_info("reread the certificate and reopened the log");
    } catch (const Error& error) {
      log_error("{}", error.what());
    }
  }

  int drain() {
    draining_ = true;
    http_.drain();
    const auto end = std::chrono::steady_clock::now() + arguments_.serve.drain_timeout;
    if (http_.connections() > 0) log_info("draining {} connections", http_.connections());
    while (!http_.wait_until_idle(std::chrono::milliseconds(0)) && std::chrono::steady_clock::now() < end) {
      const int again = signals_.take(0);
      if (again == SIGTERM || again == SIGINT) break;
      http_.wait_until_idle(std::chrono::milliseconds(100));
    }
    signals_.release();
    http_.stop();
    return status_;
  }

  const ServeArguments arguments_;
  const Signals signals_;  // before anything that starts a thread
  // Before the pool, whose loading thread may look at them to the end.
  std::atomic<bool> draining_{false};
  std::atomic<int> status_{0};
  std::unique_ptr<server::ModelPool> pool_;
  std::unique_ptr<server::ServerMetrics> metrics_;
  server::Service service_{*pool_, *metrics_, arguments_.serve, &draining_};
  server::AccessLog log_;
  server::HttpServer http_;
};

}  // namespace

std::function<int()> declare_serve(CLI::App& command) {
  auto arguments = std::make_shared<ServeArguments>();
  add_serve_options(command, *arguments);
  return [arguments] {
    resolve(*arguments);
    if (arguments->dry_run) return print_dry_run(*arguments);
    return Serve(*arguments).run();
  };
}

}  // namespace bittern::cli
