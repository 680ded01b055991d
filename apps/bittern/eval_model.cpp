// Building the runner of an evaluation: as many blocks as one sequence needs, logits in portions that stay small.
#include "eval_model.h"

#include <algorithm>

#include "model_source.h"
#include "models/kv_params.h"
#include "server/model_text.h"

namespace bittern::cli {
namespace {

// Rows of logits held at once: 64 MiB of f32, which a vocabulary of 150,000 fills with about 100 rows.
int logit_rows(std::int64_t vocab) {
  return static_cast<int>(std::clamp<std::int64_t>((64LL << 20) / (vocab * 4), 1, 512));
}

}  // namespace

EvalModel::EvalModel(const RunOptions& options, const std::string& model, const std::string& kv_cache,
                     std::int64_t context)
    : files_(open_model(model)), backend_(make_backend(options.backend, options.device)) {
  model_ = load_model(files_, *backend_);
  tokenizer_ = server::load_tokenizer(*files_);
  const ModelConfig& config = model_->config();
  const std::int64_t longest = context > 0 ? context : config.max_positions;
  const int block_tokens = options.engine.block_tokens;
  RunnerLimits limits;
  limits.max_sequences = 1;
  limits.max_tokens = static_cast<int>(std::min<std::int64_t>(longest, options.engine.max_step_tokens));
  limits.max_logit_rows = std::min(limits.max_tokens, logit_rows(config.vocab));
  KvSpec kv = model_->kv_spec(parse_kv_format(kv_cache, *backend_), block_tokens);
  kv.static_params = load_kv_params(kv_cache, options.kv_params, *files_, config);
  runner_ = std::make_unique<Runner>(*model_, *backend_, kv, (longest + block_tokens - 1) / block_tokens, limits);
  source_ = std::make_unique<quant::RunnerSource>(*runner_);
}

std::int32_t EvalModel::bos() const {
  const std::vector<std::int32_t> opening = tokenizer_->encode("");
  const std::optional<std::int32_t> bos = tokenizer_->special_ids().bos;
  return bos && !opening.empty() && opening.front() == *bos ? *bos : -1;
}

std::string EvalModel::description() const {
  return files_->origin() + ", " + backend_->description() + ", KV " +
         std::string(kv_format_name(runner_->kv().spec().format));
}

}  // namespace bittern::cli
