// A Runner seen as a LogitSource: each call is a fresh sequence fed in chunks that fit the runner's limits.
#include <algorithm>

#include "models/runner.h"
#include "quant/quality.h"

namespace bittern::quant {

struct RunnerSource::Impl {
  explicit Impl(Runner& r) : runner(r), sequence(r) {}
  Runner& runner;
  SingleSequence sequence;
};

RunnerSource::RunnerSource(Runner& runner) : impl_(std::make_unique<Impl>(runner)) {}
RunnerSource::~RunnerSource() = default;

void RunnerSource::run(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink& sink) {
  impl_->sequence.reset();
  impl_->sequence.feed(tokens, want, sink);
}

std::int64_t RunnerSource::vocab() const { return impl_->runner.model().config().vocab; }

std::int64_t RunnerSource::max_context() const {
  const std::int64_t held = impl_->sequence.capacity();
  const std::int64_t made_for = impl_->runner.model().config().max_positions;
  return made_for > 0 ? std::min(held, made_for) : held;
}

}  // namespace bittern::quant
