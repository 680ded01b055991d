// Building BatchViews by hand.
#include "golden/step_runner.h"

#include <bittern/error.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "golden/golden_case.h"

namespace bittern::golden {
namespace {

BackendOptions options_of(const BackendChoice& choice) {
  BackendOptions options;
  options.isa = choice.isa;
  options.threads = choice.backend == "ref" ? 0 : 2;
  options.deterministic = choice.deterministic;
  return options;
}

// The arrays of one step; the view points into them.
struct StepArrays {
  std::vector<std::int32_t> ids, positions, q_start{0}, context, rope_length, tables, rows;

  void add(const Piece& piece, std::size_t max_blocks) {
    Sequence& s = piece.sequence;
    for (std::size_t i = 0; i < piece.tokens.size(); ++i) {
      ids.push_back(piece.tokens[i]);
      positions.push_back(s.length++);
      rows.push_back(static_cast<std::int32_t>(rows.size()));
    }
    q_start.push_back(static_cast<std::int32_t>(ids.size()));
    context.push_back(s.length);
    rope_length.push_back(s.rope_length > 0 ? s.rope_length : s.length);
    // A table entry past the sequence's end is never read: an absurd id would show it.
    const std::size_t used = static_cast<std::size_t>(s.length + Bench::kBlockTokens - 1) / Bench::kBlockTokens;
    for (std::size_t i = 0; i < max_blocks; ++i) tables.push_back(i < used ? s.blocks[i] : -1);
  }

  BatchView view(int max_blocks) const {
    BatchView view;
    view.tokens = static_cast<int>(ids.size());
    view.sequences = static_cast<int>(context.size());
    view.token_ids = ids;
    view.positions = positions;
    view.q_start = q_start;
    view.context = context;
    view.rope_length = rope_length;
    view.block_tables = tables;
    view.max_blocks = max_blocks;
    return view;
  }
};

constexpr int kBlocksPerSequence = Bench::kMaxLength / Bench::kBlockTokens;

}  // namespace

std::vector<BackendChoice> backend_choices() {
  return {{"ref", ""},           {"cpu", "generic"},    {"cpu", "avx2"},   {"cpu", "avx512"},
          {"cpu", "avx512vnni"}, {"cpu", "avx512bf16"}, {"cpu", "", false}};
}

std::string reason_to_skip(const BackendChoice& choice) {
  try {
    make_backend(choice.backend, options_of(choice));
    return "";
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
    return error.message();
  }
}

Bench::Bench(const std::shared_ptr<const ModelFiles>& files, const BackendChoice& choice)
    : backend_(make_backend(choice.backend, options_of(choice))), model_(load_model(files, *backend_)) {
  RunnerLimits limits;
  limits.max_tokens = kSequences * kMaxLength;
  limits.max_sequences = kSequences;
  limits.max_logit_rows = kSequences * kMaxLength;
  const KvSpec spec = model_->kv_spec(KvFormat::f32, kBlockTokens);
  runner_ = std::make_unique<Runner>(*model_, *backend_, spec, kSequences * kBlocksPerSequence, limits);
}

Sequence Bench::sequence(std::int32_t rope_length) {
  BITTERN_CHECK(sequences_ < kSequences);
  Sequence sequence;
  sequence.rope_length = rope_length;
  for (int i = kBlocksPerSequence - 1; i >= 0; --i) sequence.blocks.push_back(i * kSequences + sequences_);
  ++sequences_;
  return sequence;
}

std::vector<float> Bench::step(std::span<const Piece> pieces) {
  StepArrays arrays;
  for (const Piece& piece : pieces) arrays.add(piece, kBlocksPerSequence);
  const std::span<float> logits = runner_->step(arrays.view(kBlocksPerSequence), arrays.rows);
  return {logits.begin(), logits.end()};
}

std::vector<float> Bench::step(Sequence& sequence, std::span<const std::int32_t> tokens) {
  const Piece piece{sequence, tokens};
  return step(std::span(&piece, 1));
}

std::vector<float> Bench::feed(Sequence& sequence, std::span<const std::int32_t> tokens, std::size_t chunk) {
  std::vector<float> logits;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const std::vector<float> part = step(sequence, tokens.subspan(begin, std::min(chunk, tokens.size() - begin)));
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

std::vector<std::int32_t> Bench::greedy(Sequence& sequence, std::span<const float> last, std::size_t count) {
  std::vector<std::int32_t> ids = {argmax(last)};
  while (ids.size() < count) {
    const std::vector<std::int32_t> token = {ids.back()};
    ids.push_back(argmax(step(sequence, token)));
  }
  return ids;
}

std::span<const float> Bench::last_row(const std::vector<float>& logits) const {
  return std::span(logits).last(static_cast<std::size_t>(config().vocab));
}

}  // namespace bittern::golden
