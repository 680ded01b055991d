// `bittern bench start`: from the start of a process to the first token of a model, and the memory it holds then beside
// its weights and KV cache. Each repeat is a process of its own, `bittern generate`; the first one may find the files
// on disk alone, later ones find them in the page cache, so it is reported apart.
#include <bittern/error.h>
#include <fmt/core.h>

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>

#include "base/strings.h"
#include "bench.h"
#include "bench_report.h"
#include "table.h"

namespace bittern::cli {
namespace {

struct StartOptions {
  RunOptions run;
  int repeats = 3;
  bool json = false;
};

// One option of the command line for the child; an empty text is an option that was not given.
template <class T>
void pass_on(std::vector<std::string>& words, const char* flag, const T& value) {
  std::string text = fmt::format("{}", value);
  if (text.empty()) return;
  words.emplace_back(flag);
  words.push_back(std::move(text));
}

// Everything is passed on, defaults too: a variable or a section of --config for `generate` must not decide here.
std::vector<std::string> child_command(const StartOptions& o) {
  std::vector<std::string> words = {"generate", "--prompt",      "Hello", "--raw", "--max-tokens",
                                    "1",        "--temperature", "0",     "--json"};
  if (!o.run.model.empty()) words.insert(words.begin() + 1, o.run.model);
  const BackendOptions& device = o.run.device;
  const EngineOptions& engine = o.run.engine;
  pass_on(words, "--backend", o.run.backend);
  pass_on(words, "--threads", device.threads);
  pass_on(words, "--isa", device.isa);
  pass_on(words, "--compute", device.compute);
  pass_on(words, "--kernel", device.kernel_pin);
  if (device.deterministic) words.emplace_back("--deterministic");
  pass_on(words, "--kv-cache", o.run.kv_cache);
  pass_on(words, "--kv-params", o.run.kv_params);
  pass_on(words, "--kv-cache-memory", o.run.kv_cache_memory);
  if (o.run.memory_plan) words.emplace_back("--memory-plan");
  pass_on(words, "--prefix-cache", o.run.prefix_cache);
  pass_on(words, "--max-queued", engine.max_queued);
  pass_on(words, "--max-queued-tokens", engine.max_queued_tokens);
  pass_on(words, "--stall-seconds", engine.stall_seconds);
  pass_on(words, "--context", engine.context);
  pass_on(words, "--max-sequences", engine.max_sequences);
  pass_on(words, "--max-step-tokens", engine.max_step_tokens);
  pass_on(words, "--block-tokens", engine.block_tokens);
  pass_on(words, "--speculate", o.run.speculate);
  return words;
}

[[noreturn]] void become(const std::vector<std::string>& words, int out) {
  dup2(out, STDOUT_FILENO);
  std::string name = "bittern";
  std::vector<char*> arguments = {name.data()};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  execv("/proc/self/exe", arguments.data());
  _exit(127);
}

std::string read_all(int file) {
  std::string text;
  std::array<char, 4096> part;
  for (ssize_t n; (n = read(file, part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<std::size_t>(n));
  return text;
}

/// Standard output of this program run with `words`. Error(internal) when it fails; its message is on standard error.
std::string run_child(const std::vector<std::string>& words) {
  int ends[2];
  if (pipe(ends) != 0) throw Error(ErrorCode::io, "cannot make a pipe");
  const pid_t child = fork();
  if (child < 0) throw Error(ErrorCode::io, "cannot start a process");
  if (child == 0) become(words, ends[1]);
  close(ends[1]);
  const std::string text = read_all(ends[0]);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return text;
  throw Error(ErrorCode::internal, "bench start: `bittern generate` failed; its message is above");
}

std::vector<Json> measure(const StartOptions& options) {
  std::vector<Json> starts;
  for (int i = 0; i < options.repeats; ++i) {
    starts.push_back(parse_json(run_child(child_command(options)), "the output of bittern generate"));
  }
  return starts;
}

double number(const Json& start, const char* key) { return start.at("start").at(key).get<double>(); }

Spread spread(const std::vector<Json>& starts, const char* key) {
  std::vector<double> values;
  for (std::size_t i = starts.size() > 1 ? 1 : 0; i < starts.size(); ++i) values.push_back(number(starts[i], key));
  return spread_of(values);
}

std::string bytes(double value) { return human_bytes(static_cast<std::uint64_t>(value)); }

void print_text(const std::vector<Json>& starts) {
  const Json& last = starts.back();
  Table table({"", "first", "then"});
  const auto seconds = [&](const char* name, const char* key) {
    table.row({name, fmt::format("{:.3f} s", number(starts.front(), key)), text_of(spread(starts, key), 3) + " s"});
  };
  seconds("model loaded", "load_seconds");
  seconds("first token", "first_token_seconds");
  fmt::print("\n{}\n  weights {}, {} of them mapped; KV cache {}\n  resident beside them {}\n", table.text(),
             bytes(number(last, "weights")), bytes(number(last, "weights_mapped")),
             bytes(last.at("memory").at("kv_cache").get<double>()),
             bytes(spread(starts, "resident_own_beside_weights").median));
}

OrderedJson results_json(const std::vector<Json>& starts) {
  OrderedJson json = {{"first_load_seconds", number(starts.front(), "load_seconds")},
                      {"first_first_token_seconds", number(starts.front(), "first_token_seconds")}};
  for (const char* key : {"load_seconds", "first_token_seconds", "resident_own_beside_weights"}) {
    json[key] = to_json(spread(starts, key));
  }
  json["weights"] = number(starts.back(), "weights");
  json["weights_mapped"] = number(starts.back(), "weights_mapped");
  json["memory_plan"] = OrderedJson::parse(starts.back().at("memory").dump());
  return json;
}

int run_start(const StartOptions& options) {
  if (!options.json) print_machine(options.run.device);
  const std::vector<Json> starts = measure(options);
  if (!options.json) {
    print_text(starts);
    return 0;
  }
  const OrderedJson asked = {{"model", options.run.model.empty() ? "embedded" : options.run.model},
                             {"repeats", options.repeats}};
  print_report_json("start", options.run.device, nullptr, asked, results_json(starts));
  return 0;
}

}  // namespace

std::function<int()> declare_bench_start(CLI::App& command) {
  auto options = std::make_shared<StartOptions>();
  add_model_argument(command, options->run.model);
  add_option(command, "--repeats", options->repeats, "processes; the first is reported apart")
      ->check(CLI::Range(1, 100));
  add_option(command, "--json", options->json, "print JSON");
  add_engine_options(command, options->run);
  add_device_options(command, options->run);
  return [options] { return run_start(*options); };
}

}  // namespace bittern::cli
