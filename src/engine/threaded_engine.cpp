// The engine thread's loop, and the reader's view of a request.
#include "engine/threaded_engine.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <exception>
#include <random>
#include <utility>

#include "base/sysinfo.h"
#include "engine/memory_plan.h"
#include "engine/model_step_runner.h"
#include "engine/validate.h"

namespace bittern {
namespace engine {
namespace {

class ChannelStream final : public TokenStream {
 public:
  ChannelStream(std::shared_ptr<RequestChannel> channel, std::shared_ptr<Inbox> inbox)
      : channel_(std::move(channel)), inbox_(std::move(inbox)) {}

  ~ChannelStream() override {
    channel_->abandon();
    inbox_->announce_cancel();
  }

  std::optional<TokenEvent> next() override {
    bool timed_out = false;
    return channel_->next(std::nullopt, timed_out);
  }

  std::optional<TokenEvent> next_for(std::chrono::milliseconds timeout, bool& timed_out) override {
    return channel_->next(std::chrono::steady_clock::now() + timeout, timed_out);
  }

  void on_events(std::function<void()> wake) override { channel_->on_events(std::move(wake)); }

  void cancel(int sample) override {
    const int n = channel_->request().n;
    if (sample < -1 || sample >= n) {
      throw Error(ErrorCode::invalid_argument, fmt::format("sample {} of a request with n = {}", sample, n));
    }
    channel_->request_cancel(sample);
    inbox_->announce_cancel();
  }

  std::uint64_t seed() const override { return channel_->seed(); }
  const std::vector<TokenEvent>& prompt_logprobs() const override { return channel_->prompt_logprobs(); }
  const std::vector<float>& embedding() const override { return channel_->embedding(); }
  RequestProgress progress() const override { return channel_->progress(); }

 private:
  std::shared_ptr<RequestChannel> channel_;
  std::shared_ptr<Inbox> inbox_;
};

std::uint64_t draw_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

}  // namespace

ThreadedEngine::ThreadedEngine(const CoreConfig& config, std::unique_ptr<StepRunner> runner, const MemoryPlan& plan,
                               const EngineOptions& options)
    : plan_(plan),
      vocab_(config.vocab),
      runner_(std::move(runner)),
      inbox_(std::make_shared<Inbox>(options.max_queued, options.max_queued_tokens)),
      core_(config, *runner_, *inbox_),
      stall_seconds_(options.stall_seconds),
      watchdog_(core_, options.stall_seconds, options.on_stall),
      thread_([this] { run(); }) {}

ThreadedEngine::~ThreadedEngine() {
  inbox_->close();
  thread_.join();
}

EngineStats ThreadedEngine::stats() const {
  EngineStats stats = core_.stats();
  stats.step_seconds = core_.running_step().seconds;
  if (stall_seconds_ > 0 && stats.step_seconds > stall_seconds_) stats.stalled_seconds = stats.step_seconds;
  return stats;
}

std::unique_ptr<TokenStream> ThreadedEngine::submit(Request request) {
  validate_request(request, vocab_, plan_.context);
  const std::uint64_t seed = request.sampling.seed ? *request.sampling.seed : draw_seed();
  auto channel = std::make_shared<RequestChannel>(std::move(request), seed);
  inbox_->submit(channel);
  return std::make_unique<ChannelStream>(std::move(channel), inbox_);
}

// A step throws only when our own bookkeeping runs out of memory: those who wait for answers are told, and it goes on.
void ThreadedEngine::run() {
  while (inbox_->wait(!core_.idle())) {
    try {
      core_.step();
    } catch (const std::exception& error) {
      core_.end_all(FinishReason::failed, error.what());
    }
    if (core_.idle()) core_.check_integrity();
  }
  core_.end_all(FinishReason::cancelled, {});
}

}  // namespace engine

std::unique_ptr<Engine> make_engine(Model& model, Backend& backend, const EngineOptions& options) {
  const auto available = static_cast<std::int64_t>(memory_info().available);
  const engine::ResolvedOptions resolved = engine::resolve_options(model, backend, options, available);
  engine::check_free_memory(resolved.plan, mapped_weight_bytes(model), available);
  if (options.on_plan) options.on_plan(resolved.plan);
  const ModelConfig& facts = model.config();
  engine::CoreConfig config;
  config.vocab = facts.vocab;
  config.hidden = facts.hidden;
  config.context = resolved.plan.context;
  config.kv_blocks = resolved.plan.kv_blocks;
  config.block_tokens = resolved.kv.block_tokens;
  config.eos_ids = facts.eos_ids;
  config.limits.max_sequences = resolved.limits.max_sequences;
  config.limits.max_step_tokens = resolved.limits.max_tokens;
  config.limits.max_logit_rows = resolved.limits.max_logit_rows;
  config.limits.max_draft = options.speculate;
  config.limits.prefix_cache = resolved.plan.prefix_cache;
  if (facts.rope.depends_on_length()) config.limits.rope_threshold = facts.rope.original_max_positions;
  auto runner =
      std::make_unique<engine::ModelStepRunner>(model, backend, resolved.kv, resolved.plan.kv_blocks, resolved.limits);
  return std::make_unique<engine::ThreadedEngine>(config, std::move(runner), resolved.plan, options);
}

}  // namespace bittern
