// Runner and SingleSequence: steps of one model with memory taken once.
#include "models/runner.h"

#include <algorithm>
#include <numeric>

#include "backend/measure.h"
#include "base/check.h"
#include "tensor/convert.h"

namespace bittern {
namespace {

// A step of the largest shape `limits` allows, all in one place so that its spans stay valid.
struct LargestStep {
  explicit LargestStep(const RunnerLimits& limits)
      : zeros(static_cast<std::size_t>(std::max({limits.max_tokens, limits.max_sequences, limits.max_logit_rows}) + 1),
              0) {
    view.tokens = limits.max_tokens;
    view.sequences = 1;
    starts = {0, limits.max_tokens};
    view.token_ids = std::span(zeros).first(static_cast<std::size_t>(limits.max_tokens));
    view.positions = view.token_ids;
    view.q_start = starts;
    view.context = std::span(zeros).first(1);
    view.rope_length = view.context;
    view.block_tables = view.context;
    view.max_blocks = 1;
    rows = std::span(zeros).first(static_cast<std::size_t>(limits.max_logit_rows));
  }

  std::vector<std::int32_t> zeros, starts;
  BatchView view;
  std::span<const std::int32_t> rows;
};

}  // namespace

std::int64_t Runner::plan_arena(Model& model, Backend& backend, const KvSpec& kv, const RunnerLimits& limits) {
  MeasureBackend measure(backend);
  Arena counting;
  KvPool no_pool(kv, 0);
  const LargestStep largest(limits);
  nn::Ctx ctx{measure, counting, largest.view, no_pool};
  model.forward(ctx, largest.rows);
  return counting.peak();
}

Runner::Runner(Model& model, Backend& backend, KvSpec kv, std::int64_t kv_blocks, RunnerLimits limits)
    : model_(model),
      backend_(backend),
      kv_(backend.make_kv_pool(kv, kv_blocks)),
      limits_(limits),
      arena_(backend, plan_arena(model, backend, kv, limits)) {}

std::span<float> Runner::step(const BatchView& batch, std::span<const std::int32_t> logit_rows, nn::Probe* probe) {
  BITTERN_CHECK(batch.tokens <= limits_.max_tokens && batch.sequences <= limits_.max_sequences &&
                static_cast<int>(logit_rows.size()) <= limits_.max_logit_rows);
  arena_.reset();
  nn::Ctx ctx{backend_, arena_, batch, *kv_};
  ctx.probe = probe;
  const Tensor logits = model_.forward(ctx, logit_rows);
  states_ = ctx.states;
  backend_.synchronize();
  const auto count = static_cast<std::size_t>(logits.size());
  if (backend_.host_memory()) return {logits.as<float>(), count};
  host_logits_.resize(count);
  backend_.copy_to_host(host_logits_.data(), logits.data, static_cast<std::int64_t>(count * sizeof(float)));
  return host_logits_;
}

void Runner::read_states(std::int64_t first, std::int64_t rows, std::span<float> out) {
  const std::int64_t hidden = states_.cols();
  BITTERN_CHECK(first >= 0 && first + rows <= states_.rows() && static_cast<std::int64_t>(out.size()) == rows * hidden);
  const auto width = static_cast<std::int64_t>(dtype_size(states_.dtype));
  const std::byte* begin = static_cast<const std::byte*>(states_.data) + first * hidden * width;
  std::vector<std::byte> copy(static_cast<std::size_t>(rows * hidden * width));
  backend_.copy_to_host(copy.data(), begin, static_cast<std::int64_t>(copy.size()));
  convert_to_f32(copy.data(), states_.dtype, rows * hidden, out.data());
}

SingleSequence::SingleSequence(Runner& runner)
    : runner_(runner), blocks_(static_cast<std::size_t>(runner.kv().blocks())) {
  std::iota(blocks_.begin(), blocks_.end(), 0);
}

void SingleSequence::reset() {
  length_ = 0;
  rope_length_ = 0;
}

std::int64_t SingleSequence::capacity() const { return runner_.kv().blocks() * runner_.kv().spec().block_tokens; }

void SingleSequence::feed(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink& sink,
                          nn::Probe* probe) {
  BITTERN_CHECK(want.empty() || want.size() == tokens.size());
  BITTERN_CHECK(length_ + static_cast<std::int64_t>(tokens.size()) <= capacity());
  if (rope_length_ == 0) rope_length_ = static_cast<std::int64_t>(tokens.size());
  // A chunk is cut where its logits would not fit, so that any `want` works with any limits.
  std::size_t begin = 0;
  while (begin < tokens.size()) {
    std::vector<std::int32_t> rows;
    std::size_t end = begin;
    while (end < tokens.size() && end - begin < static_cast<std::size_t>(runner_.limits().max_tokens)) {
      const bool wanted = want.empty() ? end + 1 == tokens.size() : want[end];
      if (wanted && rows.size() == static_cast<std::size_t>(runner_.limits().max_logit_rows)) break;
      if (wanted) rows.push_back(static_cast<std::int32_t>(end - begin));
      ++end;
    }
    feed_chunk(tokens.subspan(begin, end - begin), rows, begin, sink, probe);
    begin = end;
  }
}

void SingleSequence::feed_chunk(std::span<const std::int32_t> tokens, const std::vector<std::int32_t>& rows,
                                std::size_t offset, const Sink& sink, nn::Probe* probe) {
  std::vector<std::int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(length_));
  length_ += static_cast<std::int64_t>(tokens.size());
  const std::vector<std::int32_t> q_start = {0, static_cast<std::int32_t>(tokens.size())};
  const std::vector<std::int32_t> context = {static_cast<std::int32_t>(length_)};
  const std::vector<std::int32_t> rope_length = {static_cast<std::int32_t>(rope_length_)};

  BatchView batch;
  batch.tokens = static_cast<int>(tokens.size());
  batch.sequences = 1;
  batch.token_ids = tokens;
  batch.positions = positions;
  batch.q_start = q_start;
  batch.context = context;
  batch.rope_length = rope_length;
  batch.block_tables = blocks_;
  batch.max_blocks = static_cast<int>(blocks_.size());
  const std::span<float> logits = runner_.step(batch, rows, probe);
  const auto vocab = static_cast<std::size_t>(runner_.model().config().vocab);
  for (std::size_t i = 0; i < rows.size() && sink; ++i) {
    sink(static_cast<std::int64_t>(offset) + rows[i], logits.subspan(i * vocab, vocab));
  }
}

}  // namespace bittern
