// Texts of completions with their log-probabilities.
#include "server/openai/completion_reply.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "server/http/error_reply.h"

namespace bittern::server {
namespace {

std::int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

OrderedJson ids_json(const std::vector<TokenEvent>& tokens) {
  OrderedJson ids = OrderedJson::array();
  for (const TokenEvent& token : tokens) ids.push_back(token.token);
  return ids;
}

/// Scores of the prompt's tokens; with the tokens alone where none were made.
void add_prompt(CompletionLogprobs& lists, const std::vector<TokenEvent>& scores) {
  for (std::size_t i = 0; i < scores.size(); ++i) lists.add(scores[i], i == 0);
}

/// The end token that was drawn has its log-probability too, as other servers give it: lm-evaluation-harness takes the
/// last entry for a drawn token and would otherwise lose one of the prompt's.
void add_end(CompletionLogprobs& lists, TokenEvent end) {
  if (end.stop_token < 0) return;
  end.token = end.stop_token;
  lists.add(end);
}

class CompletionStream final : public StreamWriter<Generation> {
 public:
  CompletionStream(const Generation& generation, CompletionOptions options)
      : options_(std::move(options)), speller_(generation.model().tokenizer(), options_.settings.tokens_as_ids) {
    for (int i = 0; i < generation.choices(); ++i) {
      choices_.push_back({CompletionLogprobs(speller_, options_.settings.skip_special), {}, false});
    }
  }

  void event(const Generation& generation, const TextEvent& event, std::string& out) override {
    if (event.finish == FinishReason::failed || event.finish == FinishReason::cancelled) {
      append_sse(out, {}, error_body(ErrorShape::openai, choice_failure(event.token, finish_name(event.finish))));
      failed_ = true;
      return;
    }
    Choice& choice = choices_[static_cast<std::size_t>(event.sample)];
    if (!choice.begun) begin_choice(generation, event.sample, choice, out);
    if (event.token.token >= 0) {
      if (options_.logprobs) choice.logprobs.add(event.token);
      choice.tokens.push_back(event.token);
    }
    if (options_.logprobs) add_end(choice.logprobs, event.token);
    if (event.text.empty() && event.finish == FinishReason::none) return;
    write(generation, event, choice, out);
  }

  void end(const Generation& generation, std::string& out) override {
    if (options_.settings.stream.include_usage) {
      OrderedJson chunk = to_json(options_.head);
      chunk["choices"] = OrderedJson::array();
      chunk["usage"] = to_json(generation.usage());
      append_sse(out, {}, chunk);
    }
    out += "data: [DONE]\n\n";
  }

  bool stopped() const override { return failed_; }

 private:
  struct Choice {
    CompletionLogprobs logprobs;
    std::vector<TokenEvent> tokens;  // that no chunk has told of yet
    bool begun = false;
  };

  // The echo is a chunk of its own; prompts are scored by the time the first token comes.
  void begin_choice(const Generation& generation, int index, Choice& choice, std::string& out) {
    choice.begun = true;
    if (!options_.echo) return;
    const int prompt = index / generation.samples_of_prompt();
    if (options_.logprobs) add_prompt(choice.logprobs, generation.prompt_logprobs(prompt));
    TextEvent echo;
    echo.sample = index;
    echo.text = options_.prompt_texts[static_cast<std::size_t>(prompt)];
    write(generation, echo, choice, out);
  }

  void write(const Generation& generation, const TextEvent& event, Choice& state, std::string& out) {
    OrderedJson chunk = to_json(options_.head);
    OrderedJson choice = {{"index", event.sample}, {"text", event.text}};
    choice["logprobs"] = options_.logprobs ? state.logprobs.take() : OrderedJson(nullptr);
    const bool ended = event.finish != FinishReason::none;
    choice["finish_reason"] = ended ? OrderedJson(finish_name(event.finish)) : OrderedJson(nullptr);
    if (ended) choice["stop_reason"] = stop_reason(event.stop, event.token, options_.settings);
    if (options_.settings.return_token_ids) choice["token_ids"] = ids_json(state.tokens);
    state.tokens.clear();
    chunk["choices"] = OrderedJson::array({std::move(choice)});
    if (options_.settings.stream.continuous_usage) {
      chunk["usage"] = to_json(generation.usage());
    } else if (options_.settings.stream.include_usage) {
      chunk["usage"] = nullptr;
    }
    append_sse(out, {}, chunk);
  }

  CompletionOptions options_;
  TokenSpeller speller_;
  std::vector<Choice> choices_;
  bool failed_ = false;
};

}  // namespace

void CompletionLogprobs::add(const TokenEvent& token, bool first) {
  const std::string name = speller_.name(token.token);
  tokens_.push_back(name);
  logprobs_.push_back(first ? OrderedJson(nullptr) : OrderedJson(token.logprob));
  OrderedJson top = first ? OrderedJson(nullptr) : OrderedJson::object();
  if (!first) {
    for (const TokenLogprob& one : token.top) top.emplace(speller_.name(one.token), one.logprob);
    top.emplace(name, token.logprob);
  }
  top_.push_back(std::move(top));
  offsets_.push_back(offset_);
  const bool hidden = skip_special_ && speller_.tokenizer().is_special(token.token);
  if (!hidden) offset_ += characters(speller_.bytes(token.token));
}

OrderedJson CompletionLogprobs::take() {
  OrderedJson lists;
  for (auto [key, list] : {std::pair("tokens", &tokens_), std::pair("token_logprobs", &logprobs_),
                           std::pair("top_logprobs", &top_), std::pair("text_offset", &offsets_)}) {
    lists[key] = std::exchange(*list, OrderedJson::array());
  }
  return lists;
}

CompletionReply::CompletionReply(const Generation& generation, CompletionOptions options)
    : options_(std::move(options)),
      speller_(generation.model().tokenizer(), options_.settings.tokens_as_ids),
      choices_(static_cast<std::size_t>(generation.choices())) {}

void CompletionReply::collect(const TextEvent& event) {
  Choice& choice = choices_[static_cast<std::size_t>(event.sample)];
  choice.text += event.text;
  if (event.token.token >= 0) choice.tokens.push_back(event.token);
  if (event.finish == FinishReason::none) return;
  if (event.finish == FinishReason::failed || event.finish == FinishReason::cancelled) {
    throw choice_failure(event.token, finish_name(event.finish));
  }
  choice.finish = event.finish;
  choice.stop = event.stop;
  choice.end = event.token;
}

double CompletionReply::Choice::score() const {
  if (tokens.empty()) return -std::numeric_limits<double>::infinity();
  const double sum = std::accumulate(tokens.begin(), tokens.end(), 0.0,
                                     [](double total, const TokenEvent& token) { return total + token.logprob; });
  return sum / static_cast<double>(tokens.size());
}

std::vector<int> CompletionReply::best_of(int prompt, int samples) const {
  std::vector<int> order(static_cast<std::size_t>(samples));
  std::iota(order.begin(), order.end(), prompt * samples);
  if (options_.shown == samples) return order;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return choices_[static_cast<std::size_t>(a)].score() > choices_[static_cast<std::size_t>(b)].score();
  });
  order.resize(static_cast<std::size_t>(options_.shown));
  return order;
}

OrderedJson CompletionReply::choice_json(const Generation& generation, int which, int index) const {
  const Choice& choice = choices_[static_cast<std::size_t>(which)];
  const int prompt = which / generation.samples_of_prompt();
  const auto& scores = generation.prompt_logprobs(prompt);
  OrderedJson json = {{"index", index}};
  json["text"] = (options_.echo ? options_.prompt_texts[static_cast<std::size_t>(prompt)] : "") + choice.text;
  json["logprobs"] = nullptr;
  if (options_.logprobs) {
    CompletionLogprobs lists(speller_, options_.settings.skip_special);
    if (options_.echo) add_prompt(lists, scores);
    for (const TokenEvent& token : choice.tokens) lists.add(token);
    add_end(lists, choice.end);
    json["logprobs"] = lists.take();
  }
  json["finish_reason"] = finish_name(choice.finish);
  json["stop_reason"] = stop_reason(choice.stop, choice.end, options_.settings);
  if (options_.settings.return_token_ids) {
    json["token_ids"] = ids_json(choice.tokens);
    json["prompt_token_ids"] = generation.prompt(prompt);
  }
  const bool wants_scores = options_.settings.sampling.prompt_logprobs >= 0 && !options_.echo;
  if (wants_scores) json["prompt_logprobs"] = prompt_logprobs_json(speller_, scores);
  return json;
}

OrderedJson CompletionReply::finish(const Generation& generation) {
  OrderedJson reply = to_json(options_.head);
  reply["choices"] = OrderedJson::array();
  const int samples = generation.samples_of_prompt();
  for (int prompt = 0; prompt < generation.choices() / samples; ++prompt) {
    for (int which : best_of(prompt, samples)) {
      reply["choices"].push_back(choice_json(generation, which, static_cast<int>(reply["choices"].size())));
    }
  }
  reply["usage"] = to_json(generation.usage());
  return reply;
}

std::unique_ptr<StreamWriter<Generation>> make_completion_stream(const Generation& generation,
                                                                 CompletionOptions options) {
  return std::make_unique<CompletionStream>(generation, std::move(options));
}

}  // namespace bittern::server
