// Building the runner of an evaluation: as many blocks as one sequence needs, logits in portions that stay small.
#include "eval_model.h"

#include <bittern/error.h>

#include <algorithm>

#include "model_loader.h"
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

EvalText::EvalText(const std::string& model) : files_(open_model(model)) {
  tokenizer_ = server::load_tokenizer(*files_);
  template_ = server::load_chat_template(*files_, *tokenizer_, std::nullopt);
  made_for_ = load_config(*files_).max_positions;
}

std::vector<std::int32_t> EvalText::encode_chat(const OrderedJson& messages) const {
  if (!template_) {
    throw Error(ErrorCode::unsupported, files_->origin() + " has no chat template", "ask with plain prompts");
  }
  text::ChatRequest request;
  request.messages = messages;
  return text::encode_chat(*tokenizer_, *template_, request);
}

std::int32_t EvalText::bos() const {
  const std::vector<std::int32_t> opening = tokenizer_->encode("");
  const std::optional<std::int32_t> bos = tokenizer_->special_ids().bos;
  return bos && !opening.empty() && opening.front() == *bos ? *bos : -1;
}

EvalModel::EvalModel(const RunOptions& options, std::int64_t context)
    : EvalModel(options, EvalText(options.model), context) {}

EvalModel::EvalModel(const RunOptions& given, EvalText text, std::int64_t context)
    : text_(std::move(text)), backend_(make_backend(given.backend, given.device)) {
  const RunOptions options = with_run_settings(given, *text_.files());
  model_ = load_model(text_.files(), *backend_);
  const ModelConfig& config = model_->config();
  const std::int64_t longest = context > 0 ? context : config.max_positions;
  const int block_tokens = options.engine.block_tokens;
  RunnerLimits limits;
  limits.max_sequences = 1;
  limits.max_tokens = static_cast<int>(std::min<std::int64_t>(longest, options.engine.max_step_tokens));
  limits.max_logit_rows = std::min(limits.max_tokens, logit_rows(config.vocab));
  KvSpec kv = model_->kv_spec(parse_kv_format(options.kv_cache, *backend_), block_tokens);
  kv.static_params = load_kv_params(options.kv_cache, options.kv_params, *text_.files(), config);
  runner_ = std::make_unique<Runner>(*model_, *backend_, kv, (longest + block_tokens - 1) / block_tokens, limits);
  source_ = std::make_unique<quant::RunnerSource>(*runner_);
}

std::string EvalModel::kv_cache() const { return std::string(kv_format_name(runner_->kv().spec().format)); }

std::string EvalModel::description() const {
  return text_.files()->origin() + ", " + backend_->description() + ", KV " + kv_cache();
}

void add_reference_options(CLI::App& command, ReferenceOptions& o, const std::string& absent) {
  const char* group = "Reference";
  add_option(
      command, "--reference", o.model,
      std::string("the reference MODEL, or ") + kSameWeights +
          ": MODEL itself on the ref backend in f32, which shows what the fast kernels add (slow); without it, " +
          absent)
      ->group(group);
  add_option(
      command, "--reference-kv-cache", o.kv_cache,
      "KV cache format of the reference; without it auto, for same-weights the candidate's. Alone it makes MODEL "
      "itself the reference")
      ->group(group);
  add_option(command, "--reference-kv-params", o.kv_params,
             "file for int8-static of the reference; without it, the model's own")
      ->check(CLI::ExistingFile)
      ->group(group);
  add_option(command, "--reference-backend", o.backend,
             "backend of the reference; without it the candidate's, for same-weights ref")
      ->group(group);
  add_option(command, "--reference-compute", o.compute,
             "--compute of the reference; without it the candidate's, for same-weights f32")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}))
      ->group(group);
}

RunOptions reference_run(const RunOptions& candidate, const ReferenceOptions& reference,
                         const std::string& candidate_kv) {
  const bool same = reference.model == kSameWeights;
  RunOptions run = candidate;
  if (!same && !reference.model.empty()) run.model = reference.model;
  run.kv_cache = !reference.kv_cache.empty() ? reference.kv_cache : same ? candidate_kv : "auto";
  // The candidate's file is for its own format; a reference in int8-static has one in its directory or names it.
  const bool same_format = same && run.kv_cache == candidate_kv;
  run.kv_params = !reference.kv_params.empty() ? reference.kv_params : same_format ? candidate.kv_params : "";
  if (same) run.backend = "ref", run.device.compute = "f32";
  if (!reference.backend.empty()) run.backend = reference.backend;
  if (!reference.compute.empty()) run.device.compute = reference.compute;
  if (run.backend != candidate.backend) run.device.isa.clear(), run.device.kernel_pin.clear();
  return run;
}

}  // namespace bittern::cli
