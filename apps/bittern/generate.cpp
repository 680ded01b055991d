// `bittern generate`: one prompt in, its completion out, streamed to standard output. With a chat template the prompt
// is a user's message unless --raw is given.
#include <bittern/error.h>

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/json.h"
#include "base/strings.h"
#include "base/sysinfo.h"
#include "finish_name.h"
#include "guided_options.h"
#include "interrupt.h"
#include "model_loader.h"
#include "server/text_generation.h"
#include "start_report.h"
#include "verb.h"

namespace bittern::cli {
namespace {

struct GenerateOptions {
  RunOptions run;
  SamplingOptions sampling;
  GuidedOptions guided;
  std::string prompt, prompt_file, system;
  bool raw = false;
  bool json = false;
  bool stats = false;
  int n = 1;
  int logprobs = -1;
};

std::string read_prompt(const GenerateOptions& options) {
  if (!options.prompt.empty()) return options.prompt;
  if (!options.prompt_file.empty()) return read_text(options.prompt_file);
  if (isatty(STDIN_FILENO)) {
    throw Error(ErrorCode::invalid_argument, "no prompt", "give -p TEXT, --prompt-file FILE or standard input");
  }
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

std::vector<std::int32_t> encode(server::LoadedModel& model, const GenerateOptions& options,
                                 const std::string& prompt) {
  if (options.raw || !model.has_chat_template()) {
    if (!options.system.empty()) {
      throw Error(ErrorCode::invalid_argument, "--system needs a chat template",
                  options.raw ? "leave out --raw" : "give --chat-template FILE");
    }
    return model.encode_prompt(prompt);
  }
  OrderedJson messages = OrderedJson::array();
  if (!options.system.empty()) messages.push_back({{"role", "system"}, {"content", options.system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  return model.encode_chat(messages);
}

struct SampleResult {
  std::string text;
  std::vector<TokenEvent> tokens;
  FinishReason finish = FinishReason::none;
  std::string stop, error;
};

// The token's own bytes, which need not be whole characters; dump() replaces what is not UTF-8.
std::string token_text(const text::Tokenizer& tokenizer, std::int32_t id) {
  return tokenizer.token_bytes(id).value_or("");
}

OrderedJson token_json(const TokenEvent& token, const text::Tokenizer& tokenizer) {
  OrderedJson json = {{"id", token.token}, {"token", token_text(tokenizer, token.token)}, {"logprob", token.logprob}};
  json["top"] = OrderedJson::array();
  for (const TokenLogprob& top : token.top) {
    json["top"].push_back({{"id", top.token}, {"token", token_text(tokenizer, top.token)}, {"logprob", top.logprob}});
  }
  return json;
}

OrderedJson sample_json(const SampleResult& sample, const GenerateOptions& options, const text::Tokenizer& tokenizer) {
  OrderedJson json = {
      {"text", sample.text}, {"finish_reason", finish_name(sample.finish)}, {"token_ids", OrderedJson::array()}};
  for (const TokenEvent& token : sample.tokens) json["token_ids"].push_back(token.token);
  if (!sample.stop.empty()) json["stop"] = sample.stop;
  if (!sample.error.empty()) json["error"] = sample.error;
  if (options.logprobs >= 0) {
    json["logprobs"] = OrderedJson::array();
    for (const TokenEvent& token : sample.tokens) json["logprobs"].push_back(token_json(token, tokenizer));
  }
  return json;
}

OrderedJson memory_json(const MemoryPlan& plan) {
  return {
      {"weights", plan.weights}, {"kv_cache", plan.kv_total()}, {"kv_format", plan.kv_format}, {"step", plan.arena}};
}

void print_json(const std::vector<SampleResult>& samples, const server::TextGeneration& generation,
                const GenerateOptions& options, server::LoadedModel& model, const StartReport& start) {
  const server::GenerationStats& stats = generation.stats();
  OrderedJson json = {{"samples", OrderedJson::array()},
                      {"seed", generation.seed()},
                      {"prompt_tokens", stats.prompt_tokens},
                      {"generated_tokens", stats.generated_tokens},
                      {"first_token_seconds", stats.first_token_seconds},
                      {"prefill_tokens_per_second", stats.prefill_rate()},
                      {"decode_tokens_per_second", stats.decode_rate()},
                      {"drafted_tokens", model.engine().stats().drafted_tokens},
                      {"accepted_tokens", model.engine().stats().accepted_tokens},
                      {"load_seconds", model.load_seconds()},
                      {"memory", memory_json(model.engine().plan())},
                      {"start", to_json(start, model)}};
  for (const SampleResult& sample : samples) json["samples"].push_back(sample_json(sample, options, model.tokenizer()));
  std::printf("%s\n", json.dump(2, ' ', false, OrderedJson::error_handler_t::replace).c_str());
}

void print_start(const StartReport& start, server::LoadedModel& model) {
  const std::int64_t mapped = mapped_weight_bytes(model.model());
  std::fprintf(stderr,
               "start: loaded in %.2f s, first token %.2f s after the process began; weights %s%s; resident beside "
               "them %s\n",
               model.load_seconds(), start.seconds,
               human_bytes(static_cast<std::uint64_t>(model.engine().plan().weights)).c_str(),
               mapped > 0 ? (", " + human_bytes(static_cast<std::uint64_t>(mapped)) + " of them mapped").c_str() : "",
               human_bytes(static_cast<std::uint64_t>(other_memory(start, model))).c_str());
}

void print_stats(const server::TextGeneration& generation, const EngineStats& engine) {
  const server::GenerationStats& stats = generation.stats();
  std::fprintf(stderr, "prompt %ld tokens, %.1f tok/s; generated %ld tokens, %.1f tok/s; seed %lu\n",
               static_cast<long>(stats.prompt_tokens), stats.prefill_rate(), static_cast<long>(stats.generated_tokens),
               stats.decode_rate(), static_cast<unsigned long>(generation.seed()));
  if (engine.drafted_tokens == 0) return;
  std::fprintf(stderr, "guessed %ld tokens ahead, %ld of them right; %ld steps\n",
               static_cast<long>(engine.drafted_tokens), static_cast<long>(engine.accepted_tokens),
               static_cast<long>(engine.steps));
}

void take(const server::TextEvent& event, SampleResult& sample) {
  sample.text += event.text;
  if (event.token.token >= 0) sample.tokens.push_back(event.token);
  if (event.finish == FinishReason::none) return;
  sample.finish = event.finish;
  sample.stop = event.stop;
  sample.error = event.token.error;
}

// Several samples arrive interleaved, so only a single one is printed as it comes.
std::vector<SampleResult> collect(server::TextGeneration& generation, const GenerateOptions& options,
                                  StartReport& start) {
  std::vector<SampleResult> samples(static_cast<std::size_t>(options.n));
  const InterruptGuard interrupt;
  bool timed_out = false, cancelled = false;
  while (true) {
    const auto event = generation.next_for(std::chrono::milliseconds(100), timed_out);
    if (!event && !timed_out) return samples;
    if (interrupt.interrupted() && !cancelled) {
      generation.cancel();
      cancelled = true;
    }
    if (!event) continue;
    if (start.seconds == 0) start = {process_seconds(), resident_parts()};
    take(*event, samples[static_cast<std::size_t>(event->sample)]);
    if (options.json || options.n > 1) continue;
    std::fwrite(event->text.data(), 1, event->text.size(), stdout);
    std::fflush(stdout);
  }
}

int exit_status_of(const std::vector<SampleResult>& samples) {
  for (const SampleResult& sample : samples) {
    if (sample.finish == FinishReason::failed) throw Error(ErrorCode::internal, sample.error);
    if (sample.finish == FinishReason::cancelled) return exit_status(ErrorCode::cancelled);
  }
  return 0;
}

int run_generate(const GenerateOptions& options) {
  const std::string prompt = read_prompt(options);
  const std::unique_ptr<server::LoadedModel> model = load(options.run);
  server::TextRequest request;
  request.request.prompt = encode(*model, options, prompt);
  request.request.sampling = options.sampling.resolved();
  request.request.sampling.logprobs = options.logprobs;
  request.request.n = options.n;
  request.request.mask = options.guided.mask(*model);
  request.stop = options.sampling.stop;
  request.include_stop = options.sampling.include_stop;
  server::TextGeneration generation(*model, std::move(request));
  StartReport start;
  const std::vector<SampleResult> samples = collect(generation, options, start);
  if (options.json) {
    print_json(samples, generation, options, *model, start);
  } else if (options.n > 1) {
    for (std::size_t i = 0; i < samples.size(); ++i) std::printf("[%zu] %s\n", i, samples[i].text.c_str());
  } else {
    std::printf("\n");
  }
  if (options.stats) {
    print_start(start, *model);
    print_stats(generation, model->engine().stats());
  }
  return exit_status_of(samples);
}

}  // namespace

std::function<int()> declare_generate(CLI::App& command) {
  auto options = std::make_shared<GenerateOptions>();
  add_model_argument(command, options->run.model);
  add_option(command, "--prompt,-p", options->prompt, "the prompt; without it, --prompt-file or standard input");
  add_option(command, "--prompt-file", options->prompt_file, "read the prompt from a file")->check(CLI::ExistingFile);
  add_option(command, "--system", options->system, "system message");
  add_option(command, "--raw", options->raw, "complete the text as it is, without the chat template");
  add_option(command, "--chat-template", options->run.chat_template, "Jinja file that replaces the model's own")
      ->check(CLI::ExistingFile);
  add_option(command, "--n", options->n, "how many samples")->check(CLI::Range(1, 128));
  add_option(command, "--logprobs", options->logprobs,
             "with --json: log-probabilities, and this many alternatives a token")
      ->check(CLI::Range(-1, 100));
  add_option(command, "--json", options->json, "print one JSON document at the end");
  add_option(command, "--stats", options->stats, "print counts, speeds, start-up time and memory to standard error");
  add_sampling_options(command, options->sampling);
  add_guided_options(command, options->guided);
  add_engine_options(command, options->run);
  add_device_options(command, options->run);
  return [options] { return run_generate(*options); };
}

}  // namespace bittern::cli
