// Requests, a clock and a median.
#include "engine/speed.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "base/random.h"

namespace bittern::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

void check(const Engine& engine, const SpeedOptions& options) {
  const auto refuse = [](const std::string& message) { throw Error(ErrorCode::invalid_argument, message); };
  if (options.prompt < 1) refuse("speed: a prompt needs at least 1 token");
  if (options.output < 2) refuse("speed: at least 2 tokens must be generated, to tell the second from the first");
  if (options.sequences < 1 || options.repeats < 1) refuse("speed: sequences and repeats must be at least 1");
  const std::int64_t needed = std::int64_t{options.prompt} + options.output;
  if (needed <= engine.plan().context) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("speed: {} prompt and {} output tokens do not fit a context of {}", options.prompt,
                          options.output, engine.plan().context),
              "ask for shorter ones, or for a longer context");
}

class SpeedRun {
 public:
  SpeedRun(Engine& engine, std::int64_t vocab, const SpeedOptions& options)
      : engine_(engine), vocab_(static_cast<std::uint32_t>(vocab)), options_(options), random_(options.seed) {}

  Speed run() {
    alone(2);  // the first request touches memory for the first time
    std::vector<double> prefill, decode, batched;
    for (int i = 0; i < options_.repeats; ++i) {
      report(2 * i);
      const auto [first, rest] = alone(options_.output);
      prefill.push_back(options_.prompt / first);
      decode.push_back((options_.output - 1) / rest);
      report(2 * i + 1);
      batched.push_back(together());
    }
    return {median(prefill), median(decode), median(batched)};
  }

 private:
  void report(int done) const {
    if (options_.progress) options_.progress(done, 2 * options_.repeats);
  }

  /// New tokens each time: a prefix that was seen before could be reused.
  Request request(int output) {
    Request request;
    for (int i = 0; i < options_.prompt; ++i)
      request.prompt.push_back(static_cast<std::int32_t>(random_.next_below(vocab_)));
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = output;
    return request;
  }

  struct Times {
    double first, rest;  // seconds to the first token, and from there to the last
  };
  Times alone(int output) {
    const auto begin = Clock::now();
    const auto stream = engine_.submit(request(output));
    Clock::time_point first, last;
    int tokens = 0;
    while (const auto event = stream->next()) {
      check_event(*event);
      if (event->token < 0) continue;
      last = Clock::now();
      if (++tokens == 1) first = last;
    }
    return {seconds_between(begin, first), seconds_between(first, last)};
  }

  double together() {
    const auto begin = Clock::now();
    std::vector<std::unique_ptr<TokenStream>> streams;
    for (int i = 0; i < options_.sequences; ++i) streams.push_back(engine_.submit(request(options_.output)));
    std::int64_t tokens = 0;
    for (const auto& stream : streams) {
      while (const auto event = stream->next()) {
        check_event(*event);
        if (event->token >= 0) ++tokens;
      }
    }
    return static_cast<double>(tokens) / seconds_between(begin, Clock::now());
  }

  static void check_event(const TokenEvent& event) {
    if (event.finish == FinishReason::failed) throw Error(ErrorCode::internal, "speed: " + event.error);
  }

  Engine& engine_;
  std::uint32_t vocab_;
  const SpeedOptions& options_;
  Random random_;
};

}  // namespace

Speed measure_speed(Engine& engine, std::int64_t vocab, const SpeedOptions& options) {
  check(engine, options);
  return SpeedRun(engine, vocab, options).run();
}

}  // namespace bittern::engine
