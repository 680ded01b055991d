// Recall over a grid of lengths and depths. Prompts are made once, with the candidate's tokenizer, so that the
// reference reads the same texts; one run of a model answers one prompt (quant/recall.h).
#include "eval_recall.h"

#include <bittern/error.h>

#include <algorithm>
#include <memory>

#include "eval_model.h"
#include "quant/accuracy.h"
#include "quant/eval_html.h"
#include "quant/html_page.h"
#include "quant/recall.h"
#include "table.h"

namespace bittern::cli {
namespace {

using quant::figure_text;
using quant::format_number;

struct RecallEvalOptions {
  RunOptions run;
  quant::RecallOptions recall;
  bool plain = false;
  ReferenceOptions reference;
  EvalOutput output;
};

// Lengths where none are asked for: quarters of the context, which is cut where answers would take long; not so short
// that a vocabulary of few words fills them with the names alone.
std::vector<std::int64_t> usual_lengths(std::int64_t made_for) {
  const std::int64_t longest = std::min<std::int64_t>(made_for > 0 ? made_for : 2048, 4096);
  std::vector<std::int64_t> lengths;
  for (const std::int64_t quarters : {1, 2, 3}) {
    if (longest * quarters / 4 >= 256) lengths.push_back(longest * quarters / 4);
  }
  lengths.push_back(longest);
  return lengths;
}

void check_lengths(const quant::RecallOptions& recall, std::int64_t made_for) {
  for (const std::int64_t length : recall.lengths) {
    if (made_for > 0 && length > made_for) {
      throw Error(
          ErrorCode::invalid_argument,
          "--lengths: " + std::to_string(length) + " tokens, this model was made for " + std::to_string(made_for),
          "choose shorter ones");
    }
  }
}

// --- prompts ---

/// The tokens of `reply` + `value` whose bytes belong to the value.
void add_scored(const text::Encoding& encoding, std::size_t begin, std::size_t end, std::size_t offset,
                std::vector<std::int64_t>& scored) {
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    const text::ByteRange& range = encoding.offsets[i];
    if (range.begin < end && range.end > begin && range.begin < range.end) {
      scored.push_back(static_cast<std::int64_t>(offset + i));
    }
  }
}

quant::RecallPrompt encode_as_chat(const EvalText& model, const quant::RecallText& text) {
  quant::RecallPrompt prompt;
  prompt.ids =
      model.encode_chat(OrderedJson::array({{{"role", "user"}, {"content", text.context + "\n" + text.question}}}));
  const text::Encoding reply = model.tokenizer().encode_with_offsets(text.reply + text.value, {.add_special = false});
  add_scored(reply, text.reply.size(), text.reply.size() + text.value.size(), prompt.ids.size(), prompt.scored);
  prompt.ids.insert(prompt.ids.end(), reply.ids.begin(), reply.ids.end());
  return prompt;
}

quant::RecallPrompt encode_plain(const EvalText& model, const quant::RecallText& text) {
  const std::string before = text.context + "\nQuestion: " + text.question + "\nAnswer: " + text.reply;
  const text::Encoding all = model.tokenizer().encode_with_offsets(before + text.value, {.parse_special = false});
  quant::RecallPrompt prompt;
  add_scored(all, before.size(), before.size() + text.value.size(), 0, prompt.scored);
  prompt.ids = all.ids;
  return prompt;
}

quant::RecallPrompt encode_recall(const EvalText& model, const quant::RecallText& text, bool plain) {
  return plain || !model.has_chat_template() ? encode_plain(model, text) : encode_as_chat(model, text);
}

std::vector<quant::RecallText> make_texts(const EvalText& model, const std::vector<quant::RecallPlace>& places,
                                          std::uint64_t seed, bool plain, const EvalRun& run) {
  const auto count = [&](const quant::RecallText& text) { return std::ssize(encode_recall(model, text, plain).ids); };
  std::vector<quant::RecallText> texts;
  for (const quant::RecallPlace& place : places) {
    if (run.stopped()) throw Error(ErrorCode::cancelled, "stopped before a prompt was answered");
    texts.push_back(quant::make_recall_text(place, seed, count));
  }
  return texts;
}

// --- running ---

struct Answered {
  std::string description, kv_cache;
  std::vector<quant::RecallAnswer> answers;  // fewer than prompts where the run was stopped
};

Answered ask_all(const RunOptions& run_options, EvalText text, const std::vector<quant::RecallText>& texts, bool plain,
                 std::int64_t& done, std::int64_t total, EvalRun& run) {
  std::vector<quant::RecallPrompt> prompts;
  std::size_t longest = 0;
  for (const quant::RecallText& one : texts) {
    prompts.push_back(encode_recall(text, one, plain));
    longest = std::max(longest, prompts.back().ids.size());
  }
  EvalModel model(run_options, std::move(text), static_cast<std::int64_t>(longest));
  Answered answered{model.description(), model.kv_cache(), {}};
  for (const quant::RecallPrompt& prompt : prompts) {
    if (run.stopped()) break;
    answered.answers.push_back(quant::ask_recall(model.source(), prompt));
    run.progress(++done, total);
  }
  return answered;
}

// --- results ---

std::string percent_name(double depth) { return format_number(100 * depth, "%.3g") + " %"; }

using GroupName = std::string (*)(const quant::RecallPlace&);

std::vector<quant::Answer> answers_by(const std::vector<quant::RecallPlace>& places,
                                      const std::vector<quant::RecallAnswer>& answers, std::size_t count,
                                      GroupName name) {
  std::vector<quant::Answer> list;
  for (std::size_t i = 0; i < std::min(count, answers.size()); ++i) {
    list.push_back({name(places[i]), answers[i].recalled, answers[i].nll});
  }
  return list;
}

struct Results {
  quant::RecallScores scores;
  std::size_t counted = 0;
};

Results make_results(const RecallEvalOptions& options, const std::vector<quant::RecallPlace>& places,
                     const Answered& candidate, const Answered& reference) {
  Results results;
  // A stopped run counts the prompts that every model answered.
  results.counted = reference.description.empty() ? candidate.answers.size()
                                                  : std::min(candidate.answers.size(), reference.answers.size());
  if (results.counted == 0) throw Error(ErrorCode::cancelled, "stopped before a prompt was answered");
  const auto groups = [&](GroupName name) {
    return quant::score_groups(answers_by(places, candidate.answers, results.counted, name),
                               answers_by(places, reference.answers, results.counted, name), options.output.bootstrap);
  };
  quant::RecallScores& scores = results.scores;
  scores.lengths = options.recall.lengths, scores.depths = options.recall.depths;
  scores.cells = groups([](const quant::RecallPlace& place) {
    return std::to_string(place.length) + " tokens, " + percent_name(place.depth);
  });
  scores.by_length = groups([](const quant::RecallPlace& place) { return std::to_string(place.length); });
  scores.by_depth = groups([](const quant::RecallPlace& place) { return percent_name(place.depth); });
  const GroupName all = [](const quant::RecallPlace&) { return std::string("all"); };
  scores.all = quant::score_all(answers_by(places, candidate.answers, results.counted, all),
                                answers_by(places, reference.answers, results.counted, all), options.output.bootstrap);
  scores.cells.resize(scores.lengths.size() * scores.depths.size(), [&] {
    quant::GroupScore empty;  // cells that a stopped run did not reach
    if (scores.all.change) empty.change.emplace();
    return empty;
  }());
  return results;
}

Json groups_json(const std::vector<quant::GroupScore>& groups) {
  Json json = Json::object();
  for (const quant::GroupScore& group : groups) {
    if (group.accuracy.total > 0) json[group.group] = quant::to_json(group);
  }
  return json;
}

Json cells_json(const quant::RecallScores& scores) {
  Json cells = Json::array();
  for (std::size_t i = 0; i < scores.cells.size(); ++i) {
    if (scores.cells[i].accuracy.total == 0) continue;
    Json cell = quant::to_json(scores.cells[i]);
    cell["length"] = scores.lengths[i / scores.depths.size()];
    cell["depth"] = scores.depths[i % scores.depths.size()];
    cells.push_back(std::move(cell));
  }
  return cells;
}

std::string csv(const std::vector<quant::RecallPlace>& places, const std::vector<quant::RecallText>& texts,
                const Answered& candidate, const Answered& reference, std::size_t counted) {
  std::vector<std::string> header = {"length", "depth", "sample", "value", "tokens", "recalled", "nll"};
  const bool pairs = !reference.description.empty();
  if (pairs) header.insert(header.end(), {"reference_recalled", "reference_nll"});
  std::string text = csv_line(header);
  for (std::size_t i = 0; i < counted; ++i) {
    const quant::RecallAnswer& answer = candidate.answers[i];
    std::vector<std::string> row = {std::to_string(places[i].length),
                                    csv_number(places[i].depth),
                                    std::to_string(places[i].sample),
                                    texts[i].value.substr(1),
                                    std::to_string(answer.tokens),
                                    answer.recalled ? "1" : "0",
                                    csv_number(answer.nll)};
    if (pairs) {
      row.push_back(reference.answers[i].recalled ? "1" : "0");
      row.push_back(csv_number(reference.answers[i].nll));
    }
    text += csv_line(row);
  }
  return text;
}

/// Rows by depth, columns by length, in percent.
std::string grid_text(const quant::RecallScores& scores, bool reference) {
  std::vector<std::string> header = {reference ? "depth, reference" : "depth, candidate"};
  for (const std::int64_t length : scores.lengths) header.push_back(std::to_string(length));
  Table table(header);
  for (std::size_t d = 0; d < scores.depths.size(); ++d) {
    std::vector<std::string> row = {percent_name(scores.depths[d])};
    for (std::size_t l = 0; l < scores.lengths.size(); ++l) {
      const quant::GroupScore& cell = scores.cells[l * scores.depths.size() + d];
      const quant::Accuracy& accuracy = reference ? cell.change->reference : cell.accuracy;
      row.push_back(accuracy.total > 0 ? format_number(100 * accuracy.value(), "%.0f %%") : "");
    }
    table.row(std::move(row));
  }
  return table.text();
}

std::string summary_text(const quant::GroupScore& all) {
  std::string text = "recalled " + std::to_string(all.accuracy.right) + " of " + std::to_string(all.accuracy.total) +
                     ": " + figure_text(all.accuracy.value(), all.accuracy.interval, "%.1f", 100) +
                     " %; NLL of the name " + figure_text(all.nll->value, all.nll->interval, "%.4f") + " nats\n";
  if (!all.change) return text;
  const quant::AccuracyChange& change = *all.change;
  text += "reference " + figure_text(change.reference.value(), change.reference.interval, "%.1f", 100) +
          " %; difference " + figure_text(change.difference.value, change.difference.interval, "%+.1f", 100) +
          " points, " + std::to_string(change.gained) + " gained and " + std::to_string(change.lost) + " lost; NLL " +
          figure_text(change.nll_difference->value, change.nll_difference->interval, "%+.4f") + " nats\n";
  return text;
}

void write(const RecallEvalOptions& options, const std::vector<quant::RecallPlace>& places,
           const std::vector<quant::RecallText>& texts, const Answered& candidate, const Answered& reference,
           const std::string& how, bool stopped) {
  const Results results = make_results(options, places, candidate, reference);
  const quant::RecallScores& scores = results.scores;
  Json json = {{"model", candidate.description},
               {"protocol", how},
               {"seed", options.recall.seed},
               {"recall", quant::to_json(scores.all)},
               {"by_length", groups_json(scores.by_length)},
               {"by_depth", groups_json(scores.by_depth)},
               {"cells", cells_json(scores)},
               {"stopped", stopped},
               {"bootstrap", to_json(options.output.bootstrap, "prompt")}};
  std::string text = "candidate  " + candidate.description + "\n";
  if (!reference.description.empty()) {
    json["reference_model"] = reference.description;
    text += "reference  " + reference.description + "\n";
  }
  text += grid_text(scores, false) + (scores.all.change ? grid_text(scores, true) : "") + summary_text(scores.all) +
          "(" + how + ")\n" + stopped_note(stopped);
  write_results(
      options.output, json, text, [&] { return csv(places, texts, candidate, reference, results.counted); },
      [&] {
        return quant::recall_page({.title = "Recall from the context",
                                   .model = candidate.description,
                                   .reference = reference.description,
                                   .facts = {{"Prompts", how}, interval_fact(options.output.bootstrap, "prompts")},
                                   .stopped = stopped},
                                  scores);
      });
}

int run_recall(RecallEvalOptions options) {
  EvalText text(options.run.model);
  if (options.recall.lengths.empty()) options.recall.lengths = usual_lengths(text.made_for());
  check_lengths(options.recall, text.made_for());
  const std::vector<quant::RecallPlace> places = quant::recall_places(options.recall);
  EvalRun run("recalling");
  const std::vector<quant::RecallText> texts = make_texts(text, places, options.recall.seed, options.plain, run);
  const bool plain = options.plain || !text.has_chat_template();
  const std::string how = std::string(plain ? "plain prompts" : "chat template") + ", " +
                          std::to_string(options.recall.samples) + " prompts for each length and depth, seed " +
                          std::to_string(options.recall.seed) + ", greedy";
  const std::int64_t total = std::ssize(places) * (options.reference.given() ? 2 : 1);
  std::int64_t done = 0;
  const Answered candidate = ask_all(options.run, std::move(text), texts, options.plain, done, total, run);
  Answered reference;
  if (options.reference.given() && !run.stopped()) {
    const RunOptions reference_options = reference_run(options.run, options.reference, candidate.kv_cache);
    reference = ask_all(reference_options, EvalText(reference_options.model), texts, options.plain, done, total, run);
  }
  if (reference.answers.empty()) reference = {};  // stopped before it began
  write(options, places, texts, candidate, reference, how, run.stopped());
  return run.exit_status();
}

}  // namespace

std::vector<quant::RecallAnswer> answer_recall(const RunOptions& options, const quant::RecallOptions& recall,
                                               EvalRun& run) {
  EvalText text(options.model);
  const std::vector<quant::RecallText> texts = make_texts(text, quant::recall_places(recall), recall.seed, false, run);
  std::int64_t done = 0;
  return ask_all(options, std::move(text), texts, false, done, std::ssize(texts), run).answers;
}

std::function<int()> declare_eval_recall(CLI::App& command) {
  auto options = std::make_shared<RecallEvalOptions>();
  add_model_argument(command, options->run.model);
  add_option(command, "--lengths", options->recall.lengths,
             "tokens of the prompts, as 256,512; without it, quarters of the model's context, at most 4096")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 30));
  add_option(command, "--depths", options->recall.depths, "where the name stands, 0: first to 1: last")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0));
  add_option(command, "--samples", options->recall.samples, "prompts for each length and depth")
      ->check(CLI::Range(1, 100000));
  add_option(command, "--seed", options->recall.seed, "same seed, same prompts");
  add_option(command, "--plain", options->plain, "ask with plain prompts although the model has a chat template");
  add_reference_options(command, options->reference, "none");
  add_kv_cache_options(command, options->run);
  add_eval_output(command, options->output, "a row for each prompt");
  add_device_options(command, options->run);
  return [options] { return run_recall(*options); };
}

}  // namespace bittern::cli
