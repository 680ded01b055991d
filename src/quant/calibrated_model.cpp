// Hidden states of all sequences, and the calls that run pieces of a layer over them.
#include "quant/calibrated_model.h"

#include <bittern/error.h>

#include <algorithm>

namespace bittern::quant {
namespace {

constexpr std::int64_t kChunkTokens = 512;  // of one call, unless one sequence is longer

std::unique_ptr<Backend> make_cpu(int threads) {
  BackendOptions options;
  options.threads = threads;
  return make_backend("cpu", options);
}

void check(const Calibration& calibration, const ModelConfig& config) {
  const auto invalid = [](const std::string& message) {
    throw Error(ErrorCode::invalid_argument, "calibration: " + message);
  };
  if (calibration.sequences.empty()) invalid("there are no sequences");
  for (const auto& sequence : calibration.sequences) {
    if (sequence.empty()) invalid("a sequence is empty");
    if (static_cast<std::int64_t>(sequence.size()) > config.max_positions)
      invalid("a sequence has " + std::to_string(sequence.size()) + " tokens, the model's context is " +
              std::to_string(config.max_positions));
    for (const std::int32_t id : sequence) {
      if (id < 0 || id >= config.vocab) invalid("token id " + std::to_string(id) + " is outside the vocabulary");
    }
  }
}

}  // namespace

CalibratedModel::CalibratedModel(const std::shared_ptr<const ModelFiles>& files, const Calibration& calibration,
                                 int threads)
    : backend_(make_cpu(threads)), model_(files, *backend_) {
  check(calibration, model_.config());
  make_chunks(calibration);
  choose_search(calibration.search_tokens);
  std::int64_t largest = search_.tokens;
  std::size_t most = search_.lengths.size();
  for (const Chunk& chunk : chunks_) {
    largest = std::max(largest, chunk.tokens);
    most = std::max(most, chunk.lengths.size());
  }
  pass_ = std::make_unique<LayerwisePass>(model_, static_cast<int>(largest), static_cast<int>(most));
  const std::int64_t tokens = chunks_.back().first + chunks_.back().tokens;
  hidden_.resize(static_cast<std::size_t>(tokens * hidden_size()));
  model_.load_outside();
  std::size_t next = 0;
  for (const Chunk& chunk : chunks_) {
    std::vector<std::int32_t> ids;
    for (std::size_t s = 0; s < chunk.lengths.size(); ++s, ++next) {
      ids.insert(ids.end(), calibration.sequences[next].begin(), calibration.sequences[next].end());
    }
    pass_->set_sequences(chunk.lengths);
    pass_->embed(ids, hidden(chunk.first));
  }
  model_.drop_outside();
}

void CalibratedModel::make_chunks(const Calibration& calibration) {
  for (const auto& sequence : calibration.sequences) lengths_.push_back(static_cast<std::int32_t>(sequence.size()));
  std::size_t begin = 0;
  std::int64_t first = 0, tokens = 0;
  for (std::size_t i = 0; i < lengths_.size(); ++i) {
    tokens += lengths_[i];
    const bool full = i + 1 == lengths_.size() || tokens + lengths_[i + 1] > kChunkTokens;
    if (!full) continue;
    chunks_.push_back({std::span(lengths_).subspan(begin, i + 1 - begin), first, tokens});
    begin = i + 1;
    first += tokens;
    tokens = 0;
  }
}

// The last sequence is cut, which its first tokens do not notice: attention is causal. Unless angles depend on the
// length of the sequence; then it stays whole.
void CalibratedModel::choose_search(std::int64_t wanted) {
  const bool whole = model_.config().rope.depends_on_length();
  for (std::size_t i = 0; i < lengths_.size() && search_.tokens < wanted; ++i) {
    const std::int64_t length = whole ? lengths_[i] : std::min<std::int64_t>(lengths_[i], wanted - search_.tokens);
    search_lengths_.push_back(static_cast<std::int32_t>(length));
    search_.tokens += length;
  }
  search_.lengths = search_lengths_;
}

void CalibratedModel::run(const Chunk& chunk, int layer, int branch, float* out, nn::Probe* probe) {
  pass_->set_sequences(chunk.lengths);
  pass_->forward_branch(layer, branch, hidden(chunk.first), out, probe);
}

std::int64_t CalibratedModel::planned_bytes(const ModelConfig& config, const Calibration& calibration) {
  std::int64_t tokens = 0, longest = 0;
  for (const auto& sequence : calibration.sequences) {
    tokens += static_cast<std::int64_t>(sequence.size());
    longest = std::max(longest, static_cast<std::int64_t>(sequence.size()));
  }
  const std::int64_t step = std::max(
      {longest, std::min(tokens, kChunkTokens), std::min<std::int64_t>(tokens, calibration.search_tokens + longest)});
  const std::int64_t heads = (config.heads + 4LL * config.kv_heads) * config.head_dim;
  const std::int64_t widest =
      4LL * config.hidden + std::max<std::int64_t>(heads + config.heads * config.head_dim, 3LL * config.ffn);
  return 4 * (2 * tokens * config.hidden + step * (widest + config.hidden));
}

}  // namespace bittern::quant
