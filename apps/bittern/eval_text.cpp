// Perplexity and divergence on text: llama.cpp's protocol or Hugging Face's, stated beside the figures. The measuring
// is quant/quality.h's; here are options, tokenizing and reports.
#include "eval_text.h"

#include <bittern/error.h>

#include <cmath>
#include <cstdio>
#include <memory>

#include "base/strings.h"
#include "eval_model.h"
#include "eval_output.h"
#include "model_loader.h"
#include "quant/eval_html.h"
#include "quant/html_page.h"
#include "quant/quality_summary.h"
#include "table.h"

namespace bittern::cli {
namespace {

using quant::figure_text;
using quant::format_number;

struct TextEvalOptions {
  RunOptions run;
  std::string data;
  std::int64_t context = 512;
  int stride = 0;
  std::int64_t limit = 0;
  std::string separator = "<|endoftext|>";
  ReferenceOptions reference;
  int buckets = 16;
  EvalOutput output;
};

quant::PplOptions ppl_options(const TextEvalOptions& options, const EvalModel& model, EvalRun& run) {
  quant::PplOptions result;
  result.context = static_cast<int>(options.context);
  result.stride = options.stride;
  result.bos = options.stride > 0 ? -1 : model.bos();
  result.max_windows = options.limit;
  result.progress = [&run](std::int64_t done, std::int64_t total, double) { run.progress(done, total); };
  result.stop = [&run] { return run.stopped(); };
  return result;
}

std::string protocol(const quant::PplResult& result) {
  return "context " + std::to_string(result.context) +
         (result.stride > 0 ? ", stride " + std::to_string(result.stride) : std::string(", second half scored")) +
         ", " + (result.bos >= 0 ? "BOS " + std::to_string(result.bos) : std::string("no BOS")) + ", " +
         std::to_string(result.windows) + " windows, " + std::to_string(result.tokens) + " tokens scored";
}

quant::EvalPage page(const std::string& title, const TextEvalOptions& options, const std::string& how, bool stopped) {
  quant::EvalPage result{.title = title, .stopped = stopped};
  result.facts = {{"Data", options.data}, {"Protocol", how}, interval_fact(options.output.bootstrap, "windows")};
  return result;
}

std::string interval_text(const quant::Interval& interval, const char* format = "%.4f", double factor = 1) {
  if (!interval.known()) return "no interval: it takes two blocks";
  return "[" + format_number(factor * interval.low, format) + ", " + format_number(factor * interval.high, format) +
         "]";
}

std::string level_text(const EvalOutput& output) {
  return "intervals: " + format_number(100 * output.bootstrap.level, "%.4g") + " %, block bootstrap";
}

// --- ppl ---

std::string ppl_csv(const quant::PplResult& result) {
  std::string csv = csv_line({"window", "tokens", "nll", "perplexity"});
  for (std::size_t w = 0; w < result.window_nll.size(); ++w) {
    const quant::BlockSum& window = result.window_nll[w];
    csv += csv_line({std::to_string(w), std::to_string(static_cast<std::int64_t>(window.weight)),
                     csv_number(window.sum), csv_number(std::exp(window.sum / window.weight))});
  }
  return csv;
}

int run_ppl(const TextEvalOptions& options) {
  EvalModel model(options.run, options.context);
  const std::vector<std::int32_t> ids = model.tokenizer().encode(read_text(options.data), {.parse_special = false});
  EvalRun run("scoring");
  const quant::PplResult result = quant::perplexity(model.source(), ids, ppl_options(options, model, run));
  const quant::Figure figure = quant::perplexity_figure(result, options.output.bootstrap);
  Json ppl = quant::to_json(result);
  ppl["perplexity_interval"] = quant::to_json(figure.interval);
  const Json json = {{"model", model.description()},
                     {"data", options.data},
                     {"ppl", std::move(ppl)},
                     {"bootstrap", to_json(options.output.bootstrap, "window")}};
  const std::string text = model.description() + "\nperplexity " + format_number(figure.value, "%.4f") + " +/- " +
                           format_number(figure.error, "%.4f") + "  " + interval_text(figure.interval) + "\n(" +
                           protocol(result) + "; " + level_text(options.output) + ")\n" + stopped_note(result.stopped);
  write_results(
      options.output, json, text, [&] { return ppl_csv(result); },
      [&] {
        quant::EvalPage head = page("Perplexity", options, protocol(result), result.stopped);
        head.model = model.description();
        return quant::ppl_page(head, result, options.output.bootstrap);
      });
  return run.exit_status();
}

// --- nll ---

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

quant::DocumentResult measure_documents(EvalModel& model, const TextEvalOptions& options) {
  std::vector<std::vector<std::int32_t>> documents;
  for (const std::string& text : documents_of(options)) {
    documents.push_back(model.tokenizer().encode(text, {.add_special = false, .parse_special = false}));
  }
  EvalRun run("scoring");
  quant::DocumentOptions document_options;
  document_options.bos = model.bos();
  document_options.context = options.context;
  document_options.progress = [&](std::int64_t done, std::int64_t total, double) {
    run.progress(done, total);
    if (run.stopped()) throw Error(ErrorCode::cancelled, "stopped after " + std::to_string(done) + " documents");
  };
  return quant::document_nll(model.source(), documents, document_options);
}

std::string nll_csv(const quant::DocumentResult& result) {
  std::string csv = csv_line({"document", "tokens", "nll", "cut"});
  for (std::size_t i = 0; i < result.documents.size(); ++i) {
    const quant::DocumentNll& document = result.documents[i];
    csv += csv_line(
        {std::to_string(i), std::to_string(document.tokens), csv_number(document.nll), document.cut ? "1" : "0"});
  }
  return csv;
}

int run_nll(const TextEvalOptions& options) {
  if (options.separator.empty()) throw Error(ErrorCode::invalid_argument, "--separator must not be empty");
  EvalModel model(options.run, options.context);
  const quant::DocumentResult result = measure_documents(model, options);
  std::vector<quant::BlockSum> blocks;
  for (const auto& document : result.documents) blocks.push_back({document.nll, static_cast<double>(document.tokens)});
  const quant::Interval interval = quant::bootstrap_ratio(blocks, options.output.bootstrap);
  Json nll = quant::to_json(result);
  nll["nll"]["interval"] = quant::to_json(interval);
  const Json json = {{"model", model.description()},
                     {"data", options.data},
                     {"nll", std::move(nll)},
                     {"bootstrap", to_json(options.output.bootstrap, "document")}};
  const std::string text = model.description() + "\nNLL " + format_number(result.nll.mean, "%.6f") + " +/- " +
                           format_number(result.nll.error, "%.6f") + "  " + interval_text(interval, "%.6f") +
                           " nats per token over " + std::to_string(result.documents.size()) + " documents (" +
                           std::to_string(result.tokens) + " tokens), perplexity " +
                           format_number(result.perplexity(), "%.4f") + "\n(" + level_text(options.output) + ")\n";
  write_results(
      options.output, json, text, [&] { return nll_csv(result); }, [] { return std::string(); });
  return 0;
}

// --- kl ---

std::string kl_csv(const quant::KlResult& result) {
  std::string csv = csv_line({"window", "position", "kl", "delta_p", "reference_nll", "candidate_nll", "same_top"});
  for (const quant::KlPosition& p : result.positions) {
    csv += csv_line({std::to_string(p.window), std::to_string(p.index), csv_number(p.kl), csv_number(p.delta_p),
                     csv_number(p.reference_nll), csv_number(p.candidate_nll), p.same_top ? "1" : "0"});
  }
  return csv;
}

std::string figure_row(const std::string& name, const quant::Figure& figure, const char* format, double factor = 1) {
  char text[160];
  std::snprintf(text, sizeof(text), "  %-22s %12s +/- %-10s %s\n", name.c_str(),
                format_number(factor * figure.value, format).c_str(),
                format_number(factor * figure.error, format).c_str(),
                interval_text(figure.interval, format, factor).c_str());
  return text;
}

/// Small divergences with their power of ten.
const char* kl_format(double kl) { return kl != 0 && kl < 1e-4 ? "%.2e" : "%.6f"; }
std::string kl_number(double kl) { return format_number(kl, kl_format(kl)); }

std::string percentile_rows(const quant::KlSummary& summary) {
  Table table({"percentile", "KL", "delta p, %"});
  const auto value = [](const std::vector<quant::Percentile>& list, double fraction) -> const double* {
    for (const quant::Percentile& p : list) {
      if (p.fraction == fraction) return &p.value;
    }
    return nullptr;
  };
  table.row({"maximum", kl_number(summary.max_kl), format_number(100 * summary.max_delta_p, "%.3f")});
  for (const quant::Percentile& p : summary.delta_p_percentiles) {
    const double* kl = value(summary.kl_percentiles, p.fraction);
    table.row(
        {quant::percent_name(p.fraction), kl == nullptr ? "" : kl_number(*kl), format_number(100 * p.value, "%.3f")});
  }
  table.row({"minimum", kl_number(summary.min_kl), format_number(100 * summary.min_delta_p, "%.3f")});
  return table.text();
}

std::string curve_rows(const quant::KlSummary& summary) {
  if (summary.curve.empty()) return "";
  Table table({"positions", "scored", "mean KL", "interval", "same top, %"});
  for (const quant::PositionBucket& bucket : summary.curve) {
    const quant::Interval& interval = bucket.kl.interval;
    table.row({std::to_string(bucket.begin) + "-" + std::to_string(bucket.end - 1), std::to_string(bucket.positions),
               format_number(bucket.kl.value, "%.6f"), interval.known() ? interval_text(interval, "%.6f") : "",
               format_number(100 * bucket.same_top.value, "%.2f")});
  }
  return table.text();
}

std::string kl_text(const TextEvalOptions& options, const quant::KlResult& result, const quant::KlSummary& summary) {
  std::string text = figure_row("perplexity, reference", summary.reference_perplexity, "%.4f");
  text += figure_row("perplexity, candidate", summary.candidate_perplexity, "%.4f");
  text += figure_row("ratio", summary.ratio, "%.6f");
  text += figure_row("ln of ratio", summary.log_ratio, "%.6f");
  text += figure_row("difference", summary.difference, "%.6f");
  text += figure_row("mean KL, nats", summary.kl, kl_format(summary.kl.value));
  text += figure_row("mean delta p, %", summary.delta_p, "%.3f", 100) +
          figure_row("RMS delta p, %", summary.rms_delta_p, "%.3f", 100);
  text += figure_row("same top token, %", summary.same_top, "%.3f", 100);
  text += percentile_rows(summary) + curve_rows(summary);
  return text + "(" + protocol(result.reference) + "; " + level_text(options.output) + " over windows)\n" +
         stopped_note(result.reference.stopped);
}

RunOptions reference_of(const TextEvalOptions& options, const EvalModel& candidate) {
  RunOptions run = reference_run(options.run, options.reference, candidate.kv_cache());
  if (!options.reference.given()) run.model.clear();  // the embedded model, whatever MODEL is
  return run;
}

int run_kl(const TextEvalOptions& options) {
  EvalModel candidate(options.run, options.context);
  const RunOptions reference_options = reference_of(options, candidate);
  EvalModel reference(reference_options, options.context);
  const std::vector<std::int32_t> ids = reference.tokenizer().encode(read_text(options.data), {.parse_special = false});
  EvalRun run("comparing");
  const quant::KlResult result =
      quant::kl_divergence(reference.source(), candidate.source(), ids, ppl_options(options, reference, run));
  const quant::KlSummary summary = quant::summarize(result, options.output.bootstrap, options.buckets);
  Json kl = quant::to_json(result);
  kl["summary"] = quant::to_json(summary);
  const Json json = {{"reference", reference.description()},
                     {"candidate", candidate.description()},
                     {"data", options.data},
                     {"kl", std::move(kl)},
                     {"bootstrap", to_json(options.output.bootstrap, "window")}};
  const std::string text = "reference  " + reference.description() + "\ncandidate  " + candidate.description() + "\n" +
                           kl_text(options, result, summary);
  write_results(
      options.output, json, text, [&] { return kl_csv(result); },
      [&] {
        quant::EvalPage head = page("KL divergence", options, protocol(result.reference), result.reference.stopped);
        head.model = candidate.description(), head.reference = reference.description();
        return quant::kl_page(head, result, summary);
      });
  return run.exit_status();
}

std::shared_ptr<TextEvalOptions> declare_text_eval(CLI::App& command, const char* limit_help, const char* csv_rows) {
  auto options = std::make_shared<TextEvalOptions>();
  add_model_argument(command, options->run.model);
  add_option(command, "--data", options->data, "text file")->required()->check(CLI::ExistingFile);
  add_option(command, "--context", options->context, "tokens of one window or document")->check(CLI::Range(2, 1 << 30));
  add_option(command, "--limit", options->limit, limit_help)->check(CLI::Range(0, 1 << 30));
  add_kv_cache_options(command, options->run);
  add_eval_output(command, options->output, csv_rows);
  add_device_options(command, options->run);
  return options;
}

void add_stride(CLI::App& command, TextEvalOptions& options) {
  add_option(command, "--stride", options.stride,
             "0: llama.cpp's protocol; otherwise Hugging Face's, windows this far apart")
      ->check(CLI::Range(0, 1 << 30));
}

}  // namespace

std::function<int()> declare_eval_ppl(CLI::App& command) {
  auto options = declare_text_eval(command, "windows to score; 0: all", "a row for each window");
  add_stride(command, *options);
  return [options] { return run_ppl(*options); };
}

std::function<int()> declare_eval_nll(CLI::App& command) {
  auto options = declare_text_eval(command, "documents to score; 0: all", "a row for each document");
  options->context = 0;
  command.get_option("--context")
      ->check(CLI::Range(0, 1 << 30))
      ->description("cut documents here; 0: at the model's context");
  command.remove_option(command.get_option("--html"));  // nll has no page
  add_option(command, "--separator", options->separator, "what stands between documents");
  return [options] { return run_nll(*options); };
}

std::function<int()> declare_eval_kl(CLI::App& command) {
  auto options = declare_text_eval(command, "windows to score; 0: all", "a row for each scored position");
  add_stride(command, *options);
  add_option(command, "--buckets", options->buckets, "parts of the window whose mean KL is shown; 0: none")
      ->check(CLI::Range(0, 4096));
  add_reference_options(command, options->reference, "the embedded model");
  return [options] { return run_kl(*options); };
}

}  // namespace bittern::cli
