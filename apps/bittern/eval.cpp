// `bittern eval`: what a model knows and what quantization cost it. ppl and kl follow llama.cpp's protocol, nll scores
// documents one by one, tasks generates answers that can be checked. Each prints its protocol beside the figures.
#include <bittern/error.h>

#include <cstdio>
#include <memory>

#include "base/strings.h"
#include "eval_model.h"
#include "eval_tasks.h"
#include "model_loader.h"
#include "verb.h"

namespace bittern::cli {
namespace {

struct TextEvalOptions {
  RunOptions run;
  std::string data;
  std::int64_t context = 512;
  int stride = 0;
  std::int64_t limit = 0;
  std::string separator = "<|endoftext|>";
  std::string reference, reference_kv_cache = "auto";
  bool json = false;
};

quant::PplOptions ppl_options(const TextEvalOptions& options, const EvalModel& model) {
  quant::PplOptions result;
  result.context = static_cast<int>(options.context);
  result.stride = options.stride;
  result.bos = options.stride > 0 ? -1 : model.bos();
  result.max_windows = options.limit;
  return result;
}

std::string protocol(const quant::PplResult& result) {
  return "context " + std::to_string(result.context) +
         (result.stride > 0 ? ", stride " + std::to_string(result.stride) : std::string(", second half scored")) +
         ", " + (result.bos >= 0 ? "BOS " + std::to_string(result.bos) : std::string("no BOS")) + ", " +
         std::to_string(result.windows) + " windows, " + std::to_string(result.tokens) + " tokens scored";
}

void print(const Json& json) { std::printf("%s\n", json.dump(2).c_str()); }

int run_ppl(const TextEvalOptions& options) {
  EvalModel model(options.run, options.run.model, options.run.kv_cache, options.context);
  const std::vector<std::int32_t> ids = model.tokenizer().encode(read_text(options.data), {.parse_special = false});
  const quant::PplResult result = quant::perplexity(model.source(), ids, ppl_options(options, model));
  if (options.json) {
    print({{"model", model.description()}, {"data", options.data}, {"ppl", quant::to_json(result)}});
    return 0;
  }
  std::printf("%s\nperplexity %.4f +/- %.4f  (%s)\n", model.description().c_str(), result.perplexity(),
              result.perplexity_error(), protocol(result).c_str());
  return 0;
}

std::vector<std::string> documents_of(const TextEvalOptions& options) {
  const std::string text = read_text(options.data);
  std::vector<std::string> documents;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(options.separator, begin), text.size());
    const std::string_view document = trim(std::string_view(text).substr(begin, end - begin));
    if (!document.empty()) documents.emplace_back(document);
    if (options.limit > 0 && static_cast<std::int64_t>(documents.size()) == options.limit) break;
    begin = end + options.separator.size();
  }
  return documents;
}

int run_nll(const TextEvalOptions& options) {
  if (options.separator.empty()) throw Error(ErrorCode::invalid_argument, "--separator must not be empty");
  EvalModel model(options.run, options.run.model, options.run.kv_cache, options.context);
  std::vector<std::vector<std::int32_t>> documents;
  for (const std::string& text : documents_of(options)) {
    documents.push_back(model.tokenizer().encode(text, {.add_special = false, .parse_special = false}));
  }
  quant::DocumentOptions document_options;
  document_options.bos = model.bos();
  document_options.context = options.context;
  const quant::DocumentResult result = quant::document_nll(model.source(), documents, document_options);
  if (options.json) {
    print({{"model", model.description()}, {"data", options.data}, {"nll", quant::to_json(result)}});
    return 0;
  }
  std::printf("%s\nNLL %.6f +/- %.6f nats per token over %zu documents (%ld tokens), perplexity %.4f\n",
              model.description().c_str(), result.nll.mean, result.nll.error, result.documents.size(),
              static_cast<long>(result.tokens), result.perplexity());
  return 0;
}

int run_kl(const TextEvalOptions& options) {
  EvalModel candidate(options.run, options.run.model, options.run.kv_cache, options.context);
  RunOptions reference_run = options.run;
  reference_run.kv_params.clear();  // the candidate's; a reference in int8-static has its own in its directory
  EvalModel reference(reference_run, options.reference, options.reference_kv_cache, options.context);
  const std::vector<std::int32_t> ids = reference.tokenizer().encode(read_text(options.data), {.parse_special = false});
  const quant::KlResult result =
      quant::kl_divergence(reference.source(), candidate.source(), ids, ppl_options(options, reference));
  if (options.json) {
    print({{"reference", reference.description()},
           {"candidate", candidate.description()},
           {"data", options.data},
           {"kl", quant::to_json(result)}});
    return 0;
  }
  std::printf("reference  %s: perplexity %.4f\ncandidate  %s: perplexity %.4f\n", reference.description().c_str(),
              result.reference.perplexity(), candidate.description().c_str(), result.candidate.perplexity());
  std::printf("KL mean %.6f +/- %.6f, max %.4f nats; same most likely token %.2f %% +/- %.2f\n(%s)\n", result.kl.mean,
              result.kl.error, result.max_kl, 100 * result.same_top.mean, 100 * result.same_top.error,
              protocol(result.reference).c_str());
  return 0;
}

std::shared_ptr<TextEvalOptions> declare_text_eval(CLI::App& command, const char* limit_help) {
  auto options = std::make_shared<TextEvalOptions>();
  add_model_argument(command, options->run.model);
  add_option(command, "--data", options->data, "text file")->required()->check(CLI::ExistingFile);
  add_option(command, "--context", options->context, "tokens of one window or document")->check(CLI::Range(2, 1 << 30));
  add_option(command, "--limit", options->limit, limit_help)->check(CLI::Range(0, 1 << 30));
  add_kv_cache_options(command, options->run);
  add_option(command, "--json", options->json, "print JSON");
  add_device_options(command, options->run);
  return options;
}

void add_stride(CLI::App& command, TextEvalOptions& options) {
  add_option(command, "--stride", options.stride,
             "0: llama.cpp's protocol; otherwise Hugging Face's, windows this far apart")
      ->check(CLI::Range(0, 1 << 30));
}

}  // namespace

std::function<int()> declare_eval(CLI::App& command) {
  command.require_subcommand(1);
  CLI::App* ppl = command.add_subcommand("ppl", "perplexity of a text");
  auto ppl_options = declare_text_eval(*ppl, "windows to score; 0: all");
  add_stride(*ppl, *ppl_options);

  CLI::App* nll = command.add_subcommand("nll", "negative log-likelihood of documents, each by itself");
  auto nll_options = declare_text_eval(*nll, "documents to score; 0: all");
  nll_options->context = 0;
  nll->get_option("--context")
      ->check(CLI::Range(0, 1 << 30))
      ->description("cut documents here; 0: at the model's context");
  add_option(*nll, "--separator", nll_options->separator, "what stands between documents");

  CLI::App* kl = command.add_subcommand("kl", "KL divergence from a reference model on the same text");
  auto kl_options = declare_text_eval(*kl, "windows to score; 0: all");
  add_stride(*kl, *kl_options);
  add_option(*kl, "--reference", kl_options->reference, "the reference MODEL; empty: the embedded model");
  add_option(*kl, "--reference-kv-cache", kl_options->reference_kv_cache, "KV cache format of the reference");

  CLI::App* tasks = command.add_subcommand("tasks", "accuracy on tasks with checkable answers");
  const std::function<int()> run_tasks = declare_eval_tasks(*tasks);

  return [=] {
    if (ppl->parsed()) return run_ppl(*ppl_options);
    if (nll->parsed()) return run_nll(*nll_options);
    if (kl->parsed()) return run_kl(*kl_options);
    return run_tasks();
  };
}

}  // namespace bittern::cli
