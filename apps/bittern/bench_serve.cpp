// `bittern bench serve`: any OpenAI-compatible server under a load that its options describe. It needs no model: it is
// a client, and what it reports is what a client saw.
#include <bittern/error.h>
#include <fmt/core.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>

#include "base/atomic_file.h"
#include "base/progress.h"
#include "bench.h"
#include "bench_serve_client.h"
#include "bench_serve_load.h"
#include "bench_serve_stats.h"
#include "interrupt.h"
#include "options.h"

namespace bittern::cli {
namespace {

struct BenchServeOptions {
  std::string url = "http://127.0.0.1:8000", model, api = "completions", api_key;
  std::string prompt_tokens = "128-512", output_tokens = "64-128", trace, prompts = "words", id_range = "300-1500";
  std::string duration, timeout = "300s", slo_ttft, slo_gap, extra_body, html, records, ca_file;
  int concurrency = 16, requests = 0, warmup = 0, shared_prefix = 0;
  double rate = 0, replay = 0, cancel_rate = 0, temperature = 0;
  std::uint64_t seed = 0;
  bool ignore_eos = false, min_tokens = false, insecure = false, json = false;
  bool concurrency_given = false;
};

[[noreturn]] void refuse(const std::string& message, const std::string& hint = {}) {
  throw Error(ErrorCode::invalid_argument, message, hint);
}

void check(const BenchServeOptions& o) {
  if (o.api != "completions" && o.api != "chat") refuse("--api: '" + o.api + "' is neither completions nor chat");
  if (o.prompts != "words" && o.prompts != "ids") refuse("--prompts: '" + o.prompts + "' is neither words nor ids");
  if (o.prompts == "ids" && o.api == "chat") refuse("--prompts ids needs --api completions: messages are text");
  if (o.concurrency < 1) refuse("--concurrency must be at least 1");
  if (o.requests < 0 || o.warmup < 0 || o.shared_prefix < 0)
    refuse("--requests, --warmup and --shared-prefix count up");
  if (o.rate < 0 || o.replay < 0) refuse("--rate and --replay cannot be negative");
  if (o.rate > 0 && o.replay > 0) refuse("--rate and --replay exclude each other");
  if ((o.rate > 0 || o.replay > 0) && o.concurrency_given) {
    refuse("--concurrency excludes --rate and --replay", "with arrivals, as many are in flight as have come");
  }
  if (o.replay > 0 && o.trace.empty()) refuse("--replay needs --trace");
  if (o.cancel_rate < 0 || o.cancel_rate > 1) refuse("--cancel-rate is a part, between 0 and 1");
}

LoadOptions load_options(const BenchServeOptions& o) {
  LoadOptions load;
  load.prompt = parse_range("--prompt-tokens", o.prompt_tokens);
  load.output = parse_range("--output-tokens", o.output_tokens);
  if (!o.trace.empty()) load.trace = read_trace(o.trace);
  load.ids = o.prompts == "ids";
  load.id_range = parse_range("--id-range", o.id_range);
  load.shared_prefix = o.shared_prefix;
  load.cancel_rate = o.cancel_rate;
  load.rate = o.rate;
  load.replay = o.replay;
  load.seed = o.seed;
  return load;
}

OrderedJson fields(const BenchServeOptions& o) {
  OrderedJson fields = {{"temperature", o.temperature}};
  if (o.ignore_eos) fields["ignore_eos"] = true;
  if (o.extra_body.empty()) return fields;
  const Json extra = parse_json(o.extra_body, "--extra-body");
  if (!extra.is_object()) refuse("--extra-body is not a JSON object");
  for (const auto& [name, value] : extra.items()) fields[name] = value;
  return fields;
}

ClientOptions client_options(const BenchServeOptions& o) {
  ClientOptions client;
  client.url = parse_url(o.url);
  client.api_key = o.api_key;
  client.ca_file = o.ca_file;
  client.insecure = o.insecure;
  client.chat = o.api == "chat";
  client.fields = fields(o);
  client.min_tokens = o.min_tokens;
  client.timeout = parse_seconds("--timeout", o.timeout);
  client.concurrency = o.rate > 0 || o.replay > 0 ? 0 : o.concurrency;
  client.duration = o.duration.empty() ? 0 : parse_seconds("--duration", o.duration);
  client.requests = static_cast<std::size_t>(o.requests > 0 ? o.requests : o.duration.empty() ? 100 : 0);
  client.model = o.model.empty() ? first_model(client) : o.model;
  return client;
}

// What the server says of two prompts whose words are known tells how its tokenizer and template count.
void calibrate(const ClientOptions& client, LoadOptions& load) {
  constexpr int kFew = 32, kMany = 96;
  ClientOptions one = client;
  one.concurrency = one.requests = 1;
  one.duration = 0;
  const auto count = [&](int words) {
    LoadOptions probe = load;
    probe.trace.clear();
    probe.prompt = {words, words};
    probe.output = {1, 1};
    probe.shared_prefix = 0;
    probe.cancel_rate = probe.rate = probe.replay = 0;
    probe.seed = 1;
    LoadPlan plan(probe);
    const LoadResult result = run_load(
        one, plan, [] { return false; }, [] {});
    const RequestRecord& record = result.records.at(0);
    // A model may say nothing at once; that is no reason to stop.
    if (!record.error.empty() && record.error != "empty") {
      throw Error(ErrorCode::io, fmt::format("a first request failed: {}: {}", record.error, record.message));
    }
    return record.counted ? record.prompt_tokens : 0;
  };
  const int few = count(kFew), many = count(kMany);
  if (few == 0 || many <= few) {
    std::fprintf(stderr, "bittern: the server does not count prompt tokens: each word is taken for one\n");
    return;
  }
  load.tokens_per_word = static_cast<double>(many - few) / (kMany - kFew);
  load.tokens_around = few - kFew * load.tokens_per_word;
}

void warm_up(const ClientOptions& client, const LoadOptions& load, int requests, const InterruptGuard& interrupt) {
  if (requests == 0) return;
  ClientOptions warm = client;
  warm.requests = static_cast<std::size_t>(requests);
  warm.duration = 0;
  warm.concurrency = std::max(1, client.concurrency);
  LoadOptions other = load;
  other.seed = ~load.seed;  // else the server would find these prompts in its cache
  other.cancel_rate = 0;
  LoadPlan plan(other);
  run_load(
      warm, plan, [&] { return interrupt.interrupted(); }, [] {});
}

OrderedJson describe(const BenchServeOptions& o, const ClientOptions& client) {
  OrderedJson json = {{"url", o.url}, {"model", client.model}, {"api", o.api}};
  if (client.concurrency > 0) json["concurrency"] = client.concurrency;
  if (o.rate > 0) json["rate"] = o.rate;
  if (o.replay > 0) json["replay"] = o.replay;
  if (o.trace.empty()) {
    json["prompt_tokens"] = o.prompt_tokens;
    json["output_tokens"] = o.output_tokens;
  } else {
    json["trace"] = o.trace;
  }
  json["prompts"] = o.prompts;
  json["shared_prefix"] = o.shared_prefix;
  json["cancel_rate"] = o.cancel_rate;
  json["fields"] = client.fields;
  json["min_tokens"] = o.min_tokens;
  json["seed"] = o.seed;
  return json;
}

OrderedJson to_json(const RequestRecord& record) {
  return {{"start", record.start},
          {"end", record.end},
          {"prompt_tokens", record.prompt_tokens},
          {"cached_tokens", record.cached_tokens},
          {"output_tokens", record.output_tokens},
          {"cancelled", record.cancelled},
          {"error", record.error.empty() ? OrderedJson() : OrderedJson(record.error)},
          {"message", record.message},
          {"tokens", record.tokens}};
}

void write_records(const std::string& path, const LoadResult& result) {
  AtomicFile file(path);
  for (const RequestRecord& record : result.records) file.write(to_json(record).dump() + "\n");
  file.commit();
}

int run(const BenchServeOptions& o) {
  check(o);
  const ClientOptions client = client_options(o);
  LoadOptions load = load_options(o);
  const Slo slo{o.slo_ttft.empty() ? 0 : parse_seconds("--slo-ttft", o.slo_ttft),
                o.slo_gap.empty() ? 0 : parse_seconds("--slo-gap", o.slo_gap)};
  const InterruptGuard interrupt;
  if (!load.ids) calibrate(client, load);
  warm_up(client, load, o.warmup, interrupt);
  LoadPlan plan(load);
  Progress progress("requests", client.requests);
  const LoadResult result = run_load(
      client, plan, [&] { return interrupt.interrupted(); }, [&] { progress.advance(); });
  progress.finish();
  const LoadSummary summary = summarize(result, slo);
  const OrderedJson described = describe(o, client);
  if (!o.records.empty()) write_records(o.records, result);
  if (!o.html.empty()) write_file_atomically(o.html, load_page(result, summary, slo, described));
  if (o.json) {
    const OrderedJson json = {{"benchmark", "serve"}, {"options", described}, {"results", cli::to_json(summary, slo)}};
    std::printf("%s\n", json.dump(2, ' ', false, OrderedJson::error_handler_t::replace).c_str());
  } else {
    std::printf("%s", text_of(summary, slo).c_str());
  }
  return summary.complete > 0 || summary.cancelled > 0 ? 0 : exit_status(ErrorCode::io);
}

void add_target_options(CLI::App& command, BenchServeOptions& o) {
  add_option(command, "--url", o.url, "of the server");
  add_option(command, "--model", o.model, "name to ask for; the first of /v1/models without it");
  add_option(command, "--api", o.api, "completions or chat");
  add_option(command, "--api-key", o.api_key, "sent as a bearer token");
  add_option(command, "--ca-file", o.ca_file, "certificates (PEM) to trust, for https");
  add_option(command, "--insecure", o.insecure, "accept any certificate");
  add_option(command, "--timeout", o.timeout, "silence after which a request has failed");
}

void add_load_options(CLI::App& command, BenchServeOptions& o) {
  add_option(command, "--concurrency", o.concurrency, "requests in flight; each ended one is followed by another")
      ->each([&o](const std::string&) { o.concurrency_given = true; });
  add_option(command, "--rate", o.rate,
             "mean requests per second, arriving at random (Poisson), in place of --concurrency");
  add_option(command, "--trace", o.trace, "lengths from a CSV file: TIMESTAMP,ContextTokens,GeneratedTokens");
  add_option(command, "--replay", o.replay, "arrive as in the trace, this many times as fast");
  add_option(command, "--prompt-tokens", o.prompt_tokens, "length, or range of lengths, of prompts");
  add_option(command, "--output-tokens", o.output_tokens, "length, or range of lengths, of replies (max_tokens)");
  add_option(command, "--prompts", o.prompts, "words, or ids: token ids, of exact length (completions alone)");
  add_option(command, "--id-range", o.id_range, "token ids to draw from");
  add_option(command, "--shared-prefix", o.shared_prefix, "tokens before each prompt, the same for all");
  add_option(command, "--cancel-rate", o.cancel_rate, "part of requests that the client abandons");
  add_option(command, "--requests", o.requests, "requests to send (100, or until --duration)");
  add_option(command, "--duration", o.duration, "no request starts after this time");
  add_option(command, "--warmup", o.warmup, "requests before the measurement");
  add_option(command, "--seed", o.seed, "of everything drawn");
}

void add_request_options(CLI::App& command, BenchServeOptions& o) {
  add_option(command, "--temperature", o.temperature, "of sampling");
  add_option(command, "--ignore-eos", o.ignore_eos, "send ignore_eos: replies end by length alone");
  add_option(command, "--min-tokens", o.min_tokens, "send min_tokens, as many as max_tokens");
  add_option(command, "--extra-body", o.extra_body, "JSON object of further fields of each request");
}

}  // namespace

std::function<int()> declare_bench_serve(CLI::App& command) {
  auto options = std::make_shared<BenchServeOptions>();
  add_target_options(command, *options);
  add_load_options(command, *options);
  add_request_options(command, *options);
  add_option(command, "--slo-ttft", options->slo_ttft, "goodput: first token within this time");
  add_option(command, "--slo-gap", options->slo_gap, "goodput: mean gap between tokens within this time");
  add_option(command, "--html", options->html, "write a page with plots");
  add_option(command, "--records", options->records, "write every request with the time of each token, as JSON lines");
  add_option(command, "--json", options->json, "print JSON");
  return [options] { return run(*options); };
}

}  // namespace bittern::cli
